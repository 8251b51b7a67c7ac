"""Says what is wrong with a running installation, and what to do: `python -m tools.doctor`, or `make doctor`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict

from deploy.host.containers import ask_docker
from tools.doctor.cvat_functions import ask_cvat, compare
from tools.doctor.dashboard import Trial
from tools.doctor.examine import examine
from tools.doctor.report import Finding, Report
from tools.doctor.waiting import WAIT_S


def main(arguments: Sequence[str] | None = None) -> int:
    """Examines the installation on this host.

    Args:
        arguments: of the command line; None for this process's own.

    Returns:
        The exit status: 1 when there is an error, else 0.
    """
    options = _parser().parse_args(arguments)
    show = sys.stderr.isatty() and not options.json
    report, dashboard = examine(
        None if options.no_docker else ask_docker,
        options.dashboard,
        options.namespace,
        send=not options.no_send,
        wait_s=options.wait,
        progress=lambda words: print(f"\r\033[K{words} ...", end="", file=sys.stderr) if show else None,
    )
    if show:
        print("\r\033[K", end="", file=sys.stderr)
    if options.cvat:
        listed = ask_cvat(options.cvat, options.token)
        if isinstance(listed, Finding):
            report.findings.append(listed)
        else:
            report.lines.append(f"CVAT at {options.cvat} lists {_count(len(listed), 'function')}")
            if dashboard is not None:
                report.findings += compare((row.name for row in report.rows), listed, dashboard.address)
    errors = sum(finding.severity == "error" for finding in report.findings)
    try:
        if options.json:
            print(json.dumps({**asdict(report), "errors": errors}, indent=2))
        else:
            _print(report, errors)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as head, has seen enough; nothing is left to write at the exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1 if errors else 0


def _print(report: Report, errors: int) -> None:
    for line in report.lines:
        print(line)
    if report.rows:
        rows = [("FUNCTION", "KIND", "STATE", "PORT", "ON ITS PORT", "BY DASHBOARD")]
        rows += [
            (r.name, r.kind, r.state, str(r.port or "-"), _word(r.direct), _word(r.dashboard)) for r in report.rows
        ]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        print()
        for row in rows:
            print("  " + "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    for finding in sorted(report.findings, key=lambda f: (f.severity, f.subject)):
        print(f"\n{finding.severity:8}{finding.subject}: {finding.what}")
        if finding.remedy:
            print(f"        {finding.remedy}")
    warnings = len(report.findings) - errors
    print(f"\n{_count(errors, 'error')}, {_count(warnings, 'warning')}" if report.findings else "\nAll is well.")


def _word(trial: Trial | None) -> str:
    if trial is None:
        return "-"
    return "FAILED" if trial.problem else f"{trial.seconds:.2f} s"


def _count(number: int, one: str) -> str:
    return f"{number} {one}{'' if number == 1 else 's'}"


def _address(text: str) -> str:
    return text if "://" in text else f"http://{text}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.doctor",
        description="Says what is wrong with a running installation of Nuclio or make serve for CVAT, and what to do.",
        epilog="Ends with status 1 when there is an error; warnings alone end with 0.",
    )
    parser.add_argument(
        "--dashboard",
        type=_address,
        help="Nuclio's dashboard, or make serve; default: found by its container, or port 8070 of this host",
    )
    parser.add_argument("--namespace", default="nuclio", help="of the functions in Nuclio (default: nuclio)")
    parser.add_argument(
        "--cvat",
        metavar="URL",
        type=_address,
        default=os.environ.get("CVAT_URL"),
        help="CVAT's address, to see its own list",
    )
    token = os.environ.get("CVAT_ACCESS_TOKEN") or os.environ.get("CVAT_TOKEN", "")
    parser.add_argument("--token", default=token, help="a CVAT access token; safer in the variable CVAT_ACCESS_TOKEN")
    parser.add_argument("--no-send", action="store_true", help="don't send sample images to the functions")
    parser.add_argument(
        "--wait",
        metavar="SECONDS",
        type=float,
        default=WAIT_S,
        help=f"for containers that were started a moment ago, until Nuclio has looked at them (default: {WAIT_S})",
    )
    parser.add_argument("--no-docker", action="store_true", help="don't ask Docker: for a cluster")
    parser.add_argument("--json", action="store_true", help="write the report as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
