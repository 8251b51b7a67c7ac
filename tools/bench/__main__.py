"""Measures the collection against plain ways of doing the same, and prints ratios of one run."""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures what the command line names.

    Args:
        arguments: The command line, without the program's name; None for that of the process.

    Returns:
        The exit status.
    """
    parts = sorted(
        p.stem for p in Path(__file__).parent.glob("*.py") if p.stem not in ("__init__", "__main__", "compare")
    )
    parser = argparse.ArgumentParser(prog="python -m tools.bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"what to measure: {', '.join(parts)} (default: all)")
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.parts) - set(parts)):
        parser.error(f"there is no {', '.join(unknown)}; choose from {', '.join(parts)}")
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; medians of turns in one run"
    )
    for part in options.parts or parts:
        importlib.import_module(f"tools.bench.{part}").run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
