"""The collection on this machine: where its functions are, and what they need to run here: packages and weights."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from common.config import read_yaml
from common.errors import StartupError
from common.networks import weights
from serverless.collection import COLLECTION, ROOT, function_directories, name_of, resolve

__all__ = [
    "COLLECTION",
    "ROOT",
    "function_directories",
    "lacks",
    "missing_packages",
    "name_of",
    "required_packages",
    "requirement_files",
    "resolve",
    "shown",
]


def lacks(directory: Path, environment: Mapping[str, str]) -> list[str]:
    """What keeps a function from running here.

    Args:
        directory: the function's.
        environment: its options, as far as they say where its weights are.

    Returns:
        A phrase for the packages and one for the weights that are missing; nothing when it can run.
    """
    found = []
    if missing := missing_packages(directory):
        found.append(
            f"missing packages: {', '.join(missing[:4])}" + (f" and {len(missing) - 4} more" if missing[4:] else "")
        )
    if lacking := weights.missing(directory, environment):
        found.append(lacking.problem)
    return found


def shown(path: Path) -> str:
    """A path as messages show it.

    Args:
        path: An absolute path.

    Returns:
        The path relative to the current directory where it is below it, else the absolute one.
    """
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def missing_packages(directory: Path) -> list[str]:
    """The names of packages that a function needs and this environment lacks.

    Args:
        directory: the function's.
    """
    return [name for name in required_packages(directory) if not _installed(name)]


def requirement_files(directory: Path) -> list[Path]:
    """The requirement files of a function: those of the framework whose base image it has, and its own.

    Args:
        directory: the function's.
    """
    try:
        build = read_yaml(directory / "function.yaml")["spec"]["build"]
        base = re.fullmatch(r"cvat\.([^.:/]+)\.base", str(build["baseImage"]))
    except (StartupError, KeyError, TypeError):  # whoever starts the function says what is wrong with the file
        base = None
    folders = [COLLECTION / base[1] / "base", directory] if base else [directory]
    return [path for folder in folders if (path := folder / "requirements.txt").is_file()]


def required_packages(directory: Path) -> Iterator[str]:
    """The names of the packages that a function's requirement files list.

    Args:
        directory: the function's.
    """
    for path in requirement_files(directory):
        for line in path.read_text().splitlines():
            if match := re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", line):
                yield match.group()


def _installed(name: str) -> bool:
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
