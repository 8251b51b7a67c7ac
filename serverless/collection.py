"""The functions of the collection: their directories and names."""

from __future__ import annotations

import difflib
from pathlib import Path

COLLECTION = Path(__file__).resolve().parent
ROOT = COLLECTION.parent


def function_directories(root: Path = COLLECTION) -> list[Path]:
    """All directories that hold a function.yaml, in alphabetical order.

    Args:
        root: Where to look; everything below it counts.
    """
    return sorted(path.parent for path in root.rglob("function.yaml"))


def resolve(name: str) -> Path:
    """The directory of a function.

    Args:
        name: Its path, its path below serverless/, or its name such as opencv-grabcut.

    Raises:
        ValueError: There is no such function.
    """
    for path in (Path(name), COLLECTION / name):
        if (path / "function.yaml").is_file():
            return path.resolve()
    for directory in function_directories():
        if name in (name_of(directory), str(directory.relative_to(ROOT))):
            return directory
    known = [known for directory in function_directories() for known in (name_of(directory), path_of(directory))]
    nearest = difflib.get_close_matches(name, known, n=1)
    meant = f"; did you mean {nearest[0]}?" if nearest else ": expected a directory with a function.yaml, or its name"
    raise ValueError(f"{name}: there is no such function{meant}")


def path_of(directory: Path) -> str:
    """The path of a function of the collection below serverless/, such as opencv/grabcut.

    Args:
        directory: The function's.
    """
    return directory.relative_to(COLLECTION).as_posix()


def name_of(directory: Path) -> str:
    """The name of a function of the collection, which follows its path: lower-case letters, digits and dashes.

    Args:
        directory: The function's, below serverless/.
    """
    return "-".join(directory.relative_to(COLLECTION).parts).lower().replace("_", "-")
