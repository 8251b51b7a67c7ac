"""Uploads annotations to a task in chunks, each exactly once, whatever is lost, killed or started again.

Adding annotations is the only request that must not be made twice. So each chunk is saved before it is sent, and its file
is removed when the server has answered. When it is not known whether a chunk has arrived, the server is asked for its
annotations: those that are there are not sent again, and those that arrived twice nevertheless, because the server was
still busy with the first request, are removed when the run ends.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from tools.annotate.annotation_encoder import FrameAnnotations
from tools.annotate.console import count, say
from tools.annotate.cvat_client import Annotations, CvatClient, Refused, Task, Unanswered
from tools.annotate.errors import CannotRun
from tools.annotate.journal import Journal, write_whole

_LARGEST = 8 * 2**20  # bytes in a chunk
_OLDEST_S = 20.0  # how long an annotation waits for its chunk to be full
_TRIES = 4
_FIRST_PAUSE_S = 2.0  # doubled after each try
_SETTLED_S = 5.0  # after which a server has finished a request
_KINDS = ("tags", "shapes")


class Uploader:
    """Uploads the results of a task's frames; see `ResultWriter`."""

    def __init__(self, cvat: CvatClient, task: Task, journal: Journal, chunk: int):
        """Uploads nothing yet; `begin` or `settle` comes next.

        Args:
            cvat: the server.
            task: the task.
            journal: of the run; files beside it have the chunk that is being sent, and copies.
            chunk: the most frames in a request.
        """
        self.tags = self.shapes = 0
        self._cvat, self._task, self._journal, self._chunk = cvat, task, journal, chunk
        self._pending = journal.path.with_suffix(".pending")
        self._collected: list[FrameAnnotations] = []
        self._bytes, self._since = 0, 0.0
        self._prepare: Callable[[], None] | None = None

    def begin(self, clear: bool, frames: Iterable[int], whole: bool) -> None:
        """Prepares a new run; the task is only changed when the first frame is annotated.

        Args:
            clear: remove the annotations that the frames have.
            frames: of the run.
            whole: whether they are all frames of the task.
        """
        for left_over in (self._pending, *self._doubtful_files()):
            left_over.unlink(missing_ok=True)
        self._prepare = partial(self._note_and_clear, clear, set(frames), whole)

    def _note_and_clear(self, clear: bool, frames: set[int], whole: bool) -> None:
        before = self._cvat.annotations(self._task)
        number = sum(len(items) for items in before.values())
        if clear and number:
            removed = _free(self._journal.path, "removed")
            write_whole(removed, orjson.dumps(before))
            say(f"The task had {count(number, 'annotation')}, kept in {removed}")
            if whole:
                self._cvat.replace(self._task, {})
            else:  # tracks stay: they go over many frames
                theirs = {kind: [a for a in before[kind] if a["frame"] in frames] for kind in _KINDS}
                self._cvat.delete(self._task, theirs)
            before = {kind: [] for kind in before} if whole else self._cvat.annotations(self._task)
        elif number:
            say(
                f"The task already has {count(number, 'annotation')}, which {'stays' if number == 1 else 'stay'}; --clear-existing removes them"
            )
        newest = {kind: max((item["id"] for item in before[kind]), default=0) for kind in _KINDS}
        self._journal.note(newest=newest)

    def settle(self) -> None:
        """Prepares a run that is resumed: uploads what is missing of the chunk that was being sent."""
        try:
            content = orjson.loads(self._pending.read_bytes())
        except FileNotFoundError:
            return
        frames = set(content["frames"])
        doubtful = not frames <= self._journal.done
        if doubtful:
            say(f"A chunk of {count(len(frames), 'frame')} was being sent when the last run ended; looking for it")
            self._send(frames, content["annotations"], doubtful)
        self._mark_sent(doubtful)

    def __call__(self, found: FrameAnnotations, size_wh: tuple[int, int]) -> None:
        """Takes the annotations of a frame; uploads a chunk when it is full."""
        if self._prepare is not None:
            self._prepare()
            self._prepare = None
        self._since = self._since or time.monotonic()
        self._collected.append(found)
        self._bytes += sum(len(text) for text in (*found.tags, *found.shapes))
        full = len(self._collected) >= self._chunk or self._bytes >= _LARGEST
        if full or time.monotonic() - self._since > _OLDEST_S:
            self.flush()

    def flush(self) -> None:
        """Uploads the results that are waiting."""
        if not self._collected:
            return
        collected, self._collected = self._collected, []
        self._bytes, self._since = 0, 0.0
        frames = {item.frame for item in collected}
        annotations = {
            "tags": [orjson.Fragment(text) for item in collected for text in item.tags],
            "shapes": [orjson.Fragment(text) for item in collected for text in item.shapes],
        }
        write_whole(self._pending, orjson.dumps({"frames": sorted(frames), "annotations": annotations}))
        self._mark_sent(self._send(frames, annotations, doubtful=False))

    def finish(self) -> None:
        """Uploads the rest, and removes what has arrived twice."""
        self.flush()
        self._remove_doubles()

    def _mark_sent(self, doubtful: bool) -> None:
        """The chunk has arrived; `finish` looks whether a doubtful one has arrived twice."""
        if doubtful:
            self._pending.rename(_free(self._journal.path, "doubtful"))
        else:
            self._pending.unlink()

    def _send(self, frames: set[int], annotations: dict[str, list[Any]], doubtful: bool) -> bool:
        """Sends the annotations of frames until the server has them; returns whether they may be there twice.

        doubtful: some may be there already. Raises CannotRun when the server does not answer.
        """
        for attempt in range(_TRIES):
            try:
                if doubtful:
                    annotations = self._missing(frames, orjson.loads(orjson.dumps(annotations)))
                if annotations["tags"] or annotations["shapes"]:
                    self._cvat.create(self._task, annotations)
                break
            except Refused as error:
                if error.status in (400, 413):
                    return self._send_apart(frames, annotations, error) or doubtful
                raise CannotRun(f"task {self._task.id}: the server refuses the annotations: {error}") from error
            except Unanswered as error:
                if attempt + 1 == _TRIES:
                    raise CannotRun(
                        f"{self._cvat.url}: {error}; the results so far are kept, continue with --resume"
                    ) from error
                say(f"{error}; checking whether the chunk has arrived")
                doubtful = True
                time.sleep(_FIRST_PAUSE_S * 2**attempt)
        self.tags += len(annotations["tags"])
        self.shapes += len(annotations["shapes"])
        self._journal.note_done(frames)
        return doubtful

    def _send_apart(self, frames: set[int], annotations: dict[str, list[Any]], error: Refused) -> bool:
        """Sends a chunk that the server refuses in halves, to find the frames that it refuses."""
        if len(frames) == 1:
            self._journal.note_bad(min(frames), f"the server refuses its annotations: {error}")
            return False
        parsed = orjson.loads(orjson.dumps(annotations))
        ordered, half = sorted(frames), len(frames) // 2
        doubtful = False
        for part in (set(ordered[:half]), set(ordered[half:])):
            theirs = {kind: [a for a in parsed[kind] if a["frame"] in part] for kind in _KINDS}
            doubtful |= self._send(part, theirs, doubtful=False)
        return doubtful

    def _missing(self, frames: set[int], wanted: Annotations) -> Annotations:
        """Those of the wanted annotations that the server does not have."""
        there = {kind: Counter(_key(a) for a in items) for kind, items in self._ours(frames).items()}
        missing: Annotations = {kind: [] for kind in _KINDS}
        for kind in _KINDS:
            for annotation in wanted[kind]:
                if there[kind][_key(annotation)]:
                    there[kind][_key(annotation)] -= 1
                else:
                    missing[kind].append(annotation)
        return missing

    def _ours(self, frames: set[int]) -> Annotations:
        """The server's annotations of these frames that came from a function since the run began."""
        newest = self._journal.facts.get("newest", {})
        now = self._cvat.annotations(self._task)
        return {
            kind: [
                a for a in now[kind]
                if a["frame"] in frames and a["id"] > newest.get(kind, 0) and a.get("source") == "auto"
            ]
            for kind in _KINDS
        }  # fmt: skip

    def _doubtful_files(self) -> list[Path]:
        return sorted(self._journal.path.parent.glob(f"{self._journal.path.stem}.doubtful*.json"))

    def _remove_doubles(self) -> None:
        files = self._doubtful_files()
        if not files:
            return
        # By then, a server that was still busy with the first request has finished it.
        newest = max(file.stat().st_mtime for file in files)
        time.sleep(max(0.0, min(_SETTLED_S, newest + _SETTLED_S - time.time())))
        contents = [orjson.loads(file.read_bytes()) for file in files]
        frames = {frame for content in contents for frame in content["frames"]}
        doubles: Annotations = {}
        for kind, items in self._ours(frames).items():
            wanted = Counter(_key(a) for content in contents for a in content["annotations"][kind])
            doubles[kind] = []
            for annotation in sorted(items, key=lambda a: a["id"]):
                wanted[_key(annotation)] -= 1
                if wanted[_key(annotation)] < 0:
                    doubles[kind].append(annotation)
        if number := sum(map(len, doubles.values())):
            say(f"{count(number, 'annotation')} had arrived twice; removing the second copies")
            self._cvat.delete(self._task, doubles)
        for file in files:
            file.unlink()


def _free(journal: Path, what: str) -> Path:
    """The path of a new file beside the journal."""
    names = (journal.with_suffix(f".{what}{number or ''}.json") for number in itertools.count())
    return next(path for path in names if not path.exists())


def _key(annotation: Mapping[str, Any]) -> Any:
    """Equal for copies of an annotation; the server adds attributes and renumbers groups."""

    def numbers(values: Iterable[float]) -> tuple[float, ...]:
        return tuple(round(float(v), 2) for v in values)

    elements = tuple(
        (e["label_id"], numbers(e.get("points") or ()), bool(e.get("outside")))
        for e in sorted(annotation.get("elements") or (), key=lambda e: e["label_id"])
    )
    rotation = round(float(annotation.get("rotation") or 0), 2)
    points = numbers(annotation.get("points") or ())
    return annotation["frame"], annotation["label_id"], annotation.get("type"), points, rotation, elements
