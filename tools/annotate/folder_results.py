"""The annotations of a folder of images, in a file with a JSON line for each image while a run goes on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from tools.annotate.annotation_encoder import FrameAnnotations
from tools.annotate.journal import Journal

_CHUNK = 20  # frames that are written to the disk together


@dataclass(frozen=True, slots=True)
class AnnotatedImage:
    """An image with its annotations."""

    frame: int
    """Its index among the images of the folder."""
    name: str
    """Its path in the folder."""
    size_wh: tuple[int, int]
    """In pixels."""
    annotations: Sequence[dict[str, Any]]
    """In CVAT's JSON, with the ids of `TaskLabel.own`."""


class FolderResultWriter:
    """Stores the results of a folder's images; see `ResultWriter`."""

    def __init__(self, path: Path, names: Sequence[str], journal: Journal):
        """Opens the file.

        Args:
            path: the file; emptied unless the run is resumed.
            names: the path of each image in the folder.
            journal: of the run.
        """
        self.tags = self.shapes = 0
        self._path, self._names, self._journal = path, names, journal
        if not journal.done:
            path.unlink(missing_ok=True)
        self._file = path.open("ab")
        self._file.write(b"\n")  # ends the line that a killed run left unfinished
        self._new: list[int] = []

    def __call__(self, found: FrameAnnotations, size_wh: tuple[int, int]) -> None:
        """See `ResultWriter`."""
        record = {
            "frame": found.frame,
            "name": self._names[found.frame],
            "size": size_wh,
            "annotations": [orjson.Fragment(text) for text in (*found.tags, *found.shapes)],
        }
        self._file.write(orjson.dumps(record) + b"\n")
        self._new.append(found.frame)
        self.tags += len(found.tags)
        self.shapes += len(found.shapes)
        if len(self._new) >= _CHUNK:
            self.flush()

    def flush(self) -> None:
        """Puts the results so far on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        if self._new:
            self._journal.note_done(self._new)
        self._new = []

    def finish(self) -> None:
        """Puts the rest on the disk and closes the file."""
        self.flush()
        self._file.close()


def read_results(path: Path) -> list[AnnotatedImage]:
    """The images in a file of results, in the order of their frames; of an image that is there twice, the last.

    Args:
        path: a file that `FolderResultWriter` wrote.
    """
    found: dict[int, AnnotatedImage] = {}
    with path.open("rb") as file:
        for line in file:
            try:
                record = orjson.loads(line)
            except ValueError:  # an empty line, or one that a killed run left unfinished
                continue
            frame = record["frame"]
            found[frame] = AnnotatedImage(frame, record["name"], tuple(record["size"]), record["annotations"])
    return [found[frame] for frame in sorted(found)]
