"""Downloads the weights that functions lack, and resumes interrupted downloads.

Without a function: those of the whole collection. With OFFLINE=1 in the environment nothing is downloaded.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from common.config import FunctionConfig
from common.errors import StartupError
from common.networks import weights
from common.networks.weights import Missing
from serverless.collection import function_directories, resolve
from tools.weights.fetching import Sizes, fetch_with_bar, table

_LONGEST_WAIT_S = 10.0  # for the sizes


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: of the command line; None for this process's own.

    Returns:
        The exit status: 1 when weights are still missing at the end.
    """
    parser = argparse.ArgumentParser(prog="python -m tools.weights", description=__doc__)
    parser.add_argument("functions", nargs="*", metavar="FUNCTION", help="directories or names; default: all")
    parser.add_argument("--variant", default=os.environ.get("VARIANT", ""), help="default: as function.yaml says")
    parser.add_argument("--list", action="store_true", help="only list what is missing and its size")
    options = parser.parse_args(arguments)
    try:
        lacking, failed = _lacking([resolve(name) for name in options.functions], options.variant)
    except (StartupError, ValueError) as error:
        print(f"tools.weights: {error}", file=sys.stderr)
        return 2
    for config, missing in failed:
        print(f"{config.name}: {missing.problem}", file=sys.stderr)
    if not lacking:
        if not failed:
            print("No weights are missing.")
        return 1 if failed else 0
    everything = list({file: None for _, missing in lacking for file in missing.files})
    sizes = Sizes(everything)
    sizes.wait(_LONGEST_WAIT_S)
    rows = [("FUNCTION", "WEIGHTS", "TO DOWNLOAD")]
    rows += [(config.name, missing.variant, sizes.words(missing.files)) for config, missing in lacking]
    print(f"{table(rows)}\n\nTotal: {sizes.words(everything)}.", flush=True)
    if options.list:
        return 0
    if weights.is_offline():
        print("Nothing is fetched: OFFLINE is set.", file=sys.stderr)
        return 1
    try:
        return 1 if _fetch(lacking) or failed else 0
    except KeyboardInterrupt:
        print("\nStopped. What was downloaded is kept; run the command again to resume.", file=sys.stderr)
        return 130


def _lacking(
    named: Sequence[Path], variant: str
) -> tuple[list[tuple[FunctionConfig, Missing]], list[tuple[FunctionConfig, Missing]]]:
    """The functions whose weights can be fetched, and those that need weights of the user's own."""
    settings = {"VARIANT": variant} if variant else {}
    found = []
    for directory in named or function_directories():
        config = FunctionConfig.load(directory)
        if missing := weights.missing(config.directory, settings):
            found.append((config, missing))
    return [each for each in found if each[1].files], [each for each in found if not each[1].files]


def _fetch(lacking: Sequence[tuple[FunctionConfig, Missing]]) -> int:
    """Fetches one function's weights after the other, and returns how many could not be fetched."""
    failures = []
    for config, missing in lacking:
        print(f"\n{config.name}", flush=True)
        try:
            fetch_with_bar(config.directory, missing.variant)
        except StartupError as error:
            failures.append(config.name)
            print(f"  {error}", file=sys.stderr, flush=True)
    if failures:
        print(f"\nNot fetched: {', '.join(failures)}; see above.", file=sys.stderr)
    else:
        print("\nNo weights are missing.")
    return len(failures)


if __name__ == "__main__":
    sys.exit(main())
