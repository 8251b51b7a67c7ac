"""Which functions can be served here, and what the others lack."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.config import FunctionConfig
from common.errors import StartupError
from common.networks import weights
from common.networks.weights import Missing, WeightFile
from tools.collection import missing_packages, requirement_files, shown
from tools.serve.pool import Limits
from tools.serve.settings import Settings
from tools.weights.fetching import Sizes, fetch_with_bar, table


@dataclass(frozen=True)
class NotServed:
    """A function that can't run here."""

    config: FunctionConfig
    """The function."""
    packages: tuple[str, ...]
    """Names of packages that are not installed."""
    weights: Missing | None
    """Weights that are not there."""

    @property
    def to_fetch(self) -> tuple[WeightFile, ...]:
        """The files that a download would bring."""
        return self.weights.files if self.weights else ()

    @property
    def awaits_own_weights(self) -> bool:
        """Whether MODEL_PATH is still that of its function.yaml, a folder that is mounted into containers."""
        mounted = self.config.environment.get("MODEL_PATH")
        return bool(
            mounted and self.weights and f"there is no {self.config.directory / mounted};" in self.weights.problem
        )

    @property
    def words(self) -> str:
        """What the function lacks, in a few words."""
        parts = []
        if self.packages:
            more = len(self.packages) - 2
            parts.append("packages " + ", ".join(self.packages[:2]) + (f" and {more} more" if more > 0 else ""))
        if self.weights:
            own = "MODEL_PATH" if self.awaits_own_weights else "see below"
            parts.append(f"weights {self.weights.variant}" if self.weights.files else f"weights of your own ({own})")
        return "; ".join(parts)


def load_configs(directories: Sequence[Path], *, named: bool) -> list[FunctionConfig]:
    """The configurations of functions, of which each name may occur once.

    Args:
        directories: the functions'.
        named: whether each was asked for. A function.yaml of the collection that can't be read is reported, and the others
            are served; one that was asked for ends the program.

    Raises:
        StartupError: A function.yaml is wrong, or two functions have one name.
    """
    configs: dict[str, FunctionConfig] = {}
    for directory in directories:
        try:
            config = FunctionConfig.load(directory)
            Limits.load(directory)
        except StartupError as error:
            if named:
                raise
            print(f"Not served: {error}\n")
            continue
        if config.name in configs:
            raise StartupError(f"{config.name}: both {configs[config.name].directory} and {directory} have this name")
        configs[config.name] = config
    return list(configs.values())


def select(
    configs: Sequence[FunctionConfig], settings: Settings, *, named: bool
) -> tuple[list[FunctionConfig], list[NotServed]]:
    """The functions that can run here, and the others.

    Args:
        configs: those to be served.
        settings: what `--env` sets; it may say where weights are.
        named: whether each was asked for. Then weights that are missing are fetched, unless OFFLINE is set.

    Raises:
        StartupError: Weights could not be fetched.
    """
    left_out = [each for config in configs if (each := _lacks(config, settings))]
    if named and not weights.is_offline() and not any(each.packages for each in left_out):
        for each in left_out:
            if each.weights and each.to_fetch:
                print(f"Fetching the weights of {each.config.name}:", flush=True)
                fetch_with_bar(each.config.directory, each.weights.variant)
        left_out = [again for each in left_out if (again := _lacks(each.config, settings))]
    names = {each.config.name for each in left_out}
    return [config for config in configs if config.name not in names], left_out


def report(left_out: Sequence[NotServed], sizes: Sizes) -> str:
    """What functions lack as a table, and the commands to get it.

    Args:
        left_out: the functions.
        sizes: of all that would be fetched.
    """
    rows = [("FUNCTION", "LACKS", "TO DOWNLOAD")]
    rows += [(each.config.name, each.words, sizes.words(each.to_fetch) if each.to_fetch else "") for each in left_out]
    lines = ["Not served:", table(rows), ""]
    lines += [f"{e.config.name}: {e.weights.problem}" for e in left_out if e.weights and "see below" in e.words]
    if fetchable := [each.config.name for each in left_out if each.to_fetch]:
        names = "" if len(fetchable) > 3 else f' FUNCTIONS="{" ".join(fetchable)}"'
        lines.append(f"Fetch the weights: make weights{names}")
    if own := [each.config.name for each in left_out if each.awaits_own_weights]:
        lines.append(f'With weights of your own: make serve FUNCTIONS={own[0]} ARGS="--env MODEL_PATH=/path/to/them"')
    if without := {
        path: None for each in left_out if each.packages for path in requirement_files(each.config.directory)
    }:
        files = " ".join(f"-r {shlex.quote(shown(path))}" for path in without)
        lines.append(
            f"Install the packages: {shlex.quote(shown(Path(sys.executable)))} -m pip install --no-deps {files}"
        )
    return "\n".join(lines).rstrip()


def _lacks(config: FunctionConfig, settings: Settings) -> NotServed | None:
    packages = tuple(missing_packages(config.directory))
    absent = weights.missing(config.directory, settings.of(config.directory))
    return NotServed(config, packages, absent) if packages or absent else None
