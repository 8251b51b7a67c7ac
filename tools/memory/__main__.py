"""Measures the memory of functions through their main.py: `python -m tools.memory [FUNCTION...] [--env NAME=VALUE]`.

A worker gets the requests of tools.check and some with a large image. LIMIT is the spec.resources.limits.memory
that follows from it, GIVEN the one in function.yaml. What is measured is resident memory, as Linux counts it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from common.config import FunctionConfig, read_yaml, section
from common.errors import StartupError
from tools import collection
from tools.memory.measure import Measured, measure
from tools.weights.fetching import table
from tools.workers.memory import suggested_limit

_HEADINGS = ("FUNCTION", "IMPORT", "START", "SMALL", "LARGE", "WORKERS", "LIMIT", "GIVEN")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures the functions of the command line, and prints a table.

    Args:
        arguments: The command line without the program's name; None for that of the process.

    Returns:
        The exit status: 1 when a function could not be measured.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        named = [collection.resolve(name) for name in options.functions]
        environment = dict(_variable(text) for text in options.env)
    except ValueError as error:
        parser.error(str(error))
    directories = named or collection.function_directories()
    if not named and (lacking := [each for each in directories if collection.lacks(each, environment)]):
        directories = [each for each in directories if each not in lacking]
        print(
            "Left out, as packages or weights are missing: " + ", ".join(map(collection.name_of, lacking)),
            file=sys.stderr,
        )
    rows: list[tuple[str, ...]] = [_HEADINGS]
    failed = False
    for directory in directories:
        try:
            measured = measure(directory, environment, options.megapixels)
        except StartupError as error:
            print(error, file=sys.stderr)
            failed = True
            continue
        for refused in measured.refused:
            print(f"{collection.shown(directory)}: {refused}", file=sys.stderr)
        rows.append(_row(directory, measured))
    if len(rows) > 1:
        print(
            f"MiB that a worker holds: after import and start, at most with small images and {options.megapixels:g} megapixels"
        )
        print(table(rows))
    return int(failed)


def _row(directory: Path, measured: Measured) -> tuple[str, ...]:
    config = FunctionConfig.load(directory)
    path = directory / "function.yaml"
    limits = (section(read_yaml(path), "spec", path).get("resources") or {}).get("limits") or {}
    values = (measured.imported, measured.started, measured.most_small, measured.most_large)
    return (
        config.name,
        *(f"{value / 2**20:.0f}" for value in values),
        str(config.workers),
        suggested_limit(config.workers, measured.most_large),
        str(limits.get("memory", "")),
    )


def _variable(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not name or not separator:
        raise ValueError(f"--env: expected NAME=VALUE, got {text!r}")
    return name, value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.memory", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "functions", nargs="*", metavar="FUNCTION", help="directories or names; default: all that can run here"
    )
    parser.add_argument("--env", metavar="NAME=VALUE", action="append", default=[], help="a variable; can be repeated")
    parser.add_argument("--megapixels", type=float, default=24.0, help="size of the large image (default: %(default)g)")
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
