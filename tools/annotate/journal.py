"""The journal of a run: a file with a JSON line for each thing done, on the disk before the run goes on."""

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
    """The journal of one run over one task or folder, locked while it is open."""

    def __init__(self, path: Path):
        """Opens and reads it.

        Args:
            path: its file; made if it is not there.

        Raises:
            CannotRun: when another run has it open.
        """
        self.path = path
        self.settings: dict[str, Any] = {}
        """What must be the same when the run is resumed."""
        self.done: set[int] = set()
        """The frames whose annotations are stored."""
        self.bad: dict[int, str] = {}
        """Frame -> why it could not be annotated."""
        self.found: dict[int, Any] = {}
        """Frame -> a result that is not stored elsewhere yet."""
        self.facts: dict[str, Any] = {}
        """What else was noted, by name; the last value counts."""
        self.finished = False
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise CannotRun(f"{path}: another run is using it") from error
        self._read()

    @property
    def unfinished(self) -> bool:
        """Whether it belongs to a run that was interrupted after its first result."""
        begun = self.done or self.bad or self.found or "newest" in self.facts
        return bool(self.settings and begun) and not self.finished

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Empties it for a new run.

        Args:
            settings: what must be the same when the run is resumed.
        """
        self._file.truncate(0)
        self.settings, self.finished = dict(settings), False
        self.done, self.bad, self.found, self.facts = set(), {}, {}, {}
        self._write({"journal": VERSION, "settings": settings})

    def resume(self, settings: Mapping[str, Any]) -> None:
        """Continues the run; frames that failed get another try.

        Args:
            settings: must be those of the run.

        Raises:
            CannotRun: when they are not.
        """
        # As JSON, which has no tuples.
        given = orjson.loads(orjson.dumps(settings))
        changed = [name for name in {**self.settings, **given} if self.settings.get(name) != given.get(name)]
        if changed:
            lines = [f"  {name}: was {self.settings.get(name)!r}, is {given.get(name)!r}" for name in changed]
            raise CannotRun(
                f"{self.path} belongs to a run with other settings, which can't be resumed with these:\n"
                + "\n".join(lines)
            )
        self.finished = False
        self._write({"resumed": True})
        self.bad = {}

    def note(self, **facts: Any) -> None:
        """Adds to `facts`.

        Args:
            **facts: values by name.
        """
        self.facts.update(facts)
        self._write({"facts": facts})

    def note_done(self, frames: Iterable[int]) -> None:
        """Adds to `done`.

        Args:
            frames: their numbers.
        """
        new = sorted(frames)
        self.done.update(new)
        self._write({"done": new})

    def note_bad(self, frame: int, why: str) -> None:
        """Adds to `bad`.

        Args:
            frame: its number.
            why: the error.
        """
        self.bad[frame] = why
        self._write({"bad": frame, "why": why}, now=False)

    def note_found(self, frame: int, value: Any) -> None:
        """Adds to `found`.

        Args:
            frame: its number.
            value: the result, of values that JSON has.
        """
        self.found[frame] = value
        self._write({"found": frame, "value": value}, now=False)

    def finish(self) -> None:
        """Notes that the run has come to its end."""
        self.finished = True
        self._write({"finished": True})

    def close(self) -> None:
        """Closes and unlocks the file."""
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
                    raise CannotRun(f"{self.path} was written by another version of this program: remove it")
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
    """Writes a file so that either all of it is there or nothing, even after a crash.

    Args:
        path: replaced if it is there.
        content: of the file.
    """
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
