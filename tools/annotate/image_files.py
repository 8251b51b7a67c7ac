"""Which frames, and the pictures on them: from a folder here, or (see `cvat`) from a server."""

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
    """An image file. data: None when it could not be had, for the reason `error`."""

    frame: int
    name: str
    data: bytes | None
    error: str = ""


def parse_frames(text: str | None, count: int) -> list[int]:
    """Frame numbers of a text such as "0-99,150,200-"; None for all of `count`. Raises CannotRun.

    A range has both its ends; one without an end goes to the last frame.
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


def find_images(folder: Path) -> list[str]:
    """The image files below a folder, as paths relative to it, in alphabetical order. Raises CannotRun for none."""
    if not folder.is_dir():
        raise CannotRun(f"{folder}: there is no such folder")
    found = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix.lower() in EXTENSIONS and path.is_file()
    )
    if not found:
        raise CannotRun(f"{folder}: there are no images ({', '.join(EXTENSIONS)})")
    return found


def read_images(
    folder: Path, names: Sequence[str], frames: Sequence[int], stop: threading.Event
) -> Iterator[ImageFile]:
    """The chosen images of a folder in order."""
    for frame in frames:
        if stop.is_set():
            return
        try:
            yield ImageFile(frame, names[frame], (folder / names[frame]).read_bytes())
        except OSError as error:
            yield ImageFile(frame, names[frame], None, f"can't be read: {error.strerror}")
