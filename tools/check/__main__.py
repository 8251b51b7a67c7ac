"""`python -m tools.check FUNCTION... [--json] [--no-run]`; ends with status 1 when there is an error."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tools import collection
from tools.check.findings import Finding, error
from tools.check.function import Report, inspect_function
from tools.check.report import Printer, print_progress, to_json, wants_colour
from tools.collection import shown


def main(arguments: list[str] | None = None) -> int:
    """Checks the functions that the command line names.

    Args:
        arguments: The command line without the program's name; None for this process's own.

    Returns:
        The exit status: 1 when there is an error, else 0.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        directories = [directory for name in options.function for directory in _directories(name)]
        environment = dict(_variable(setting) for setting in options.env)
    except ValueError as error:
        parser.error(str(error))
    printer = Printer(sys.stdout, colour=wants_colour(sys.stdout, dict(os.environ)))
    reports: list[Report] = []
    for directory in dict.fromkeys(directories):
        print_progress(f"checking {shown(directory)} ...")
        report = inspect_function(directory, run=not options.no_run, environment=environment, timeout=options.timeout)
        print_progress("")
        report.findings.extend(_name_taken(report, reports))
        reports.append(report)
        if not options.json:
            printer.write(report)
    if options.json:
        print(json.dumps(to_json(reports), indent=2))
    else:
        printer.write_summary(reports)
    return 1 if any(report.errors for report in reports) else 0


def _name_taken(report: Report, others: Sequence[Report]) -> Iterator[Finding]:
    for other in others:
        if report.kind and other.name == report.name:
            got, why = f"{report.name}, as {shown(other.directory)} has", "deploying one of them replaces the other"
            yield error("metadata.name-taken", "metadata.name", "a name of its own", got, why, file="function.yaml")


def _directories(name: str) -> list[Path]:
    """The directory that a name or path means, or those of all functions below a path."""
    path = Path(name)
    if path.is_file() and path.suffix in (".yaml", ".yml"):
        path = path.parent
    if path.is_dir():
        if any(path.glob("function*.y*ml")):
            return [path.resolve()]
        return collection.function_directories(path.resolve()) or [path.resolve()]
    return [collection.resolve(name)]


def _variable(setting: str) -> tuple[str, str]:
    name, separator, value = setting.partition("=")
    if not name or not separator:
        raise ValueError(f"--env: expected NAME=VALUE, got {setting!r}")
    return name, value


def _seconds(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise ValueError(text)
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.check",
        description="Checks functions for CVAT: function.yaml, files, then the function itself with good and bad requests.",
        epilog="Ends with status 1 when there is an error; warnings alone end with 0.",
    )
    parser.add_argument(
        "function",
        nargs="+",
        help="a directory with a function.yaml, one above several, or a name such as opencv-grabcut",
    )
    parser.add_argument("--json", action="store_true", help="write the findings as JSON")
    parser.add_argument("--no-run", action="store_true", help="read the files only, don't start the function")
    parser.add_argument(
        "--env", metavar="NAME=VALUE", action="append", default=[], help="a variable for the function; can be repeated"
    )
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=_seconds, help="for one request; default: eventTimeout of function.yaml"
    )
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # whoever read the report has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
