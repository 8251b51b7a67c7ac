"""Image files of frames: which frames are wanted, and reading them from a folder; `cvat_client` downloads them."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.annotate.errors import CannotRun

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")


@dataclass(frozen=True, slots=True)
class ImageFile:
    """The image file of a frame."""

    frame: int
    """Its number in the task or folder."""
    name: str
    """Its path in the task or folder."""
    data: bytes | None
    """Its content; None when it could not be read."""
    error: str = ""
    """Why it could not be read."""


def parse_frames(text: str | None, count: int) -> list[int]:
    """The frame numbers that a text such as "0-99,150,200-" names, in ascending order.

    Args:
        text: numbers and ranges, both ends included; a range without an end goes to the last frame. None for all.
        count: the number of frames.

    Raises:
        CannotRun: when it is something else, or names frames that there are not.
    """
    if not text:
        return list(range(count))
    chosen: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(?:(-)\s*(\d+)?\s*)?", part)
        if match is None:
            raise CannotRun(f"--frames: expected numbers and ranges such as 0-99,150,200-, got {part.strip()!r}")
        first = int(match[1])
        last = first if match[2] is None else int(match[3]) if match[3] else count - 1
        if first > last or last >= count:
            raise CannotRun(f"--frames: {part.strip()} is not within the frames 0 to {count - 1}")
        chosen.update(range(first, last + 1))
    return sorted(chosen)


def find_images(folder: Path, output: Path) -> list[str]:
    """The image files in a folder and its subfolders.

    Args:
        folder: where to look.
        output: where the results go; what is in it is left out.

    Returns:
        Their paths relative to the folder, in alphabetical order.

    Raises:
        CannotRun: The folder holds no images, or the results would be written among them.
    """
    if not folder.is_dir():
        raise CannotRun(f"{folder}: no such folder")
    root, output = folder.resolve(), output.resolve()
    if root == output or root.is_relative_to(output / "overlays"):
        raise CannotRun(f"--output {output}: expected another folder than that of the images")
    found = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix.lower() in EXTENSIONS
        and path.is_file()
        and not (root / path.relative_to(folder)).is_relative_to(output)
    )
    if not found:
        raise CannotRun(f"{folder}: no images ({', '.join(EXTENSIONS)})")
    return found


def read_images(
    folder: Path, names: Sequence[str], frames: Sequence[int], stop: threading.Event
) -> Iterator[ImageFile]:
    """Reads images of a folder, in order; one that can't be read comes with its error.

    Args:
        folder: the folder.
        names: the path of each image, relative to the folder.
        frames: the indices of the wanted ones in `names`.
        stop: ends the iteration when it is set.
    """
    for frame in frames:
        if stop.is_set():
            return
        try:
            yield ImageFile(frame, names[frame], (folder / names[frame]).read_bytes())
        except OSError as error:
            yield ImageFile(frame, names[frame], None, f"can't be read: {error.strerror}")
