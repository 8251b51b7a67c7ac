"""The functions of the collection: where they are, and what each lacks to run here."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from common.networks import weights

ROOT = Path(__file__).resolve().parent.parent
COLLECTION = ROOT / "serverless"


def function_directories(root: Path = COLLECTION) -> list[Path]:
    """All directories below `root` that hold a function.yaml, in alphabetical order."""
    return sorted(path.parent for path in root.rglob("function.yaml"))


def resolve(name: str) -> Path:
    """A function's directory from a path, a path below serverless/, or the function's name such as opencv-grabcut.

    Raises ValueError when there is none.
    """
    for path in (Path(name), COLLECTION / name):
        if (path / "function.yaml").is_file():
            return path.resolve()
    for directory in function_directories():
        if name in (name_of(directory), str(directory.relative_to(ROOT))):
            return directory
    raise ValueError(f"{name}: there is no such function: expected a directory with a function.yaml, or its name")


def name_of(directory: Path) -> str:
    """The name of a function of the collection, which follows its path: lower-case letters, digits and dashes."""
    return "-".join(directory.relative_to(COLLECTION).parts).lower().replace("_", "-")


def lacks(directory: Path, environment: Mapping[str, str]) -> list[str]:
    """What keeps a function from running here, a sentence each: packages and weights that are missing.

    environment: the function's options, as far as they say where its weights are.
    """
    found = []
    missing = [name for name in required_packages(directory) if not _installed(name)]
    if missing:
        found.append(f"packages {', '.join(missing[:4])}" + (f" and {len(missing) - 4} more" if missing[4:] else ""))
    found.extend(weights.missing(directory, environment))
    return found


def requirement_files(directory: Path) -> list[Path]:
    """The requirement files of a function: its framework's, if it is in the collection, and its own."""
    files = []
    if directory.is_relative_to(COLLECTION):
        framework = directory.relative_to(COLLECTION).parts[0]
        files.append(COLLECTION / framework / "base" / "requirements.txt")
    files.append(directory / "requirements.txt")
    return [path for path in files if path.is_file()]


def required_packages(directory: Path) -> Iterator[str]:
    """The names of the packages that a function's requirement files list."""
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
