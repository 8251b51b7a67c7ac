"""What of a run is done, in a file that survives anything: a line each, written through to the disk before going on."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson

from tools.annotate.errors import CannotRun

VERSION = 1


class Journal:
    """The journal of one run over one task or folder.

    done: frames whose annotations are where they belong. bad: frame -> why it could not be annotated.
    found: frame -> a result that is not anywhere else yet. facts: what else was noted, by name; the last value counts.
    """

    def __init__(self, path: Path):
        self.path = path
        self.settings: dict[str, Any] = {}
        self.done: set[int] = set()
        self.bad: dict[int, str] = {}
        self.found: dict[int, Any] = {}
        self.facts: dict[str, Any] = {}
        self.finished = False
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise CannotRun(f"{path}: another run is writing it at this moment") from error
        self._read()

    @property
    def unfinished(self) -> bool:
        """Whether a run was begun, has come to anything, and did not come to its end."""
        begun = self.done or self.bad or self.found or "newest" in self.facts
        return bool(self.settings and begun) and not self.finished

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Starts over: nothing of what was is left."""
        self._file.truncate(0)
        self.settings, self.finished = dict(settings), False
        self.done, self.bad, self.found, self.facts = set(), {}, {}, {}
        self._write({"journal": VERSION, "settings": settings})

    def go_on(self, settings: Mapping[str, Any]) -> None:
        """Takes up what was begun. Raises CannotRun when that was begun with other settings."""
        # As text: what is read has no tuples and the like.
        given = orjson.loads(orjson.dumps(settings))
        changed = [name for name in {**self.settings, **given} if self.settings.get(name) != given.get(name)]
        if changed:
            lines = [f"  {name}: was {self.settings.get(name)!r}, is {given.get(name)!r}" for name in changed]
            raise CannotRun(
                f"{self.path} belongs to a run with other settings, and this one can't go on with it:\n"
                + "\n".join(lines)
            )
        self.finished = False
        self._write({"resumed": True})
        self.bad = {}  # they get another chance

    def note(self, **facts: Any) -> None:
        self.facts.update(facts)
        self._write({"facts": facts})

    def note_done(self, frames: Iterable[int]) -> None:
        new = sorted(frames)
        self.done.update(new)
        self._write({"done": new})

    def note_bad(self, frame: int, why: str) -> None:
        self.bad[frame] = why
        self._write({"bad": frame, "why": why}, now=False)

    def note_found(self, frame: int, value: Any) -> None:
        self.found[frame] = value
        self._write({"found": frame, "value": value}, now=False)

    def finish(self) -> None:
        self.finished = True
        self._write({"finished": True})

    def close(self) -> None:
        self._file.close()

    def _read(self) -> None:
        self._file.seek(0)
        whole = 0
        for line in self._file:
            try:
                record = orjson.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                record = None
            if not isinstance(record, dict):
                break  # the last line of a run that was killed while it wrote
            whole += len(line)
            if "settings" in record:
                if record["journal"] != VERSION:
                    raise CannotRun(f"{self.path} was written by another version of this tool: remove it")
                self.settings = record["settings"]
            self.facts.update(record.get("facts", {}))
            self.done.update(record.get("done", ()))
            if "bad" in record:
                self.bad[record["bad"]] = record["why"]
            if "found" in record:
                self.found[record["found"]] = record["value"]
            if "resumed" in record:
                self.bad, self.finished = {}, False
            self.finished = self.finished or bool(record.get("finished"))
        self._file.truncate(whole)
        self._file.seek(0, os.SEEK_END)

    def _write(self, record: Mapping[str, Any], now: bool = True) -> None:
        self._file.write(orjson.dumps(record) + b"\n")
        self._file.flush()
        if now:
            os.fsync(self._file.fileno())


def write_whole(path: Path, content: bytes) -> None:
    """Puts a file in its place so that it is there whole or not at all, whatever happens."""
    temporary = path.with_name(f".{path.name}.part")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    with contextlib.suppress(OSError):  # not every file system can
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
