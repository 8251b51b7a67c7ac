"""Runs over a task or a folder: what is done with a detector from its first picture to the last word."""

from __future__ import annotations

import hashlib
import shutil
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import orjson
from tqdm import tqdm

from common.config import FunctionConfig
from common.cvat.labels import Label, Labels
from tools.annotate import export, folder_results, pipeline
from tools.annotate.annotation_encoder import AnnotationEncoder
from tools.annotate.engines import (
    FrameInput,
    FrameResult,
    LocalDetector,
    LocalReid,
    PredictorSpec,
    RemoteDetector,
    RemoteReid,
)
from tools.annotate.errors import CannotRun
from tools.annotate.image_files import ImageFile, find_images, parse_frames, read_images
from tools.annotate.journal import Journal
from tools.annotate.label_mapping import LabelMapping, TaskLabel, match_labels
from tools.annotate.overlays import OverlayWriter, parsed
from tools.annotate.workers import ThreadWorker, Worker, start_processes

if TYPE_CHECKING:  # CVAT's SDK is not needed without a server, nor in the workers' processes
    from tools.annotate.cvat_client import CvatClient, Task

_LISTED = 20  # bad frames that are named on the screen; the journal has all
_PICTURES = 4  # of a dry run


@dataclass(frozen=True)
class Function:
    """What annotates: a function's directory, or addresses, or both, the directory then only saying what it is.

    kind: detector or reid. threshold, max_distance: None for the function's own. timeout_s: for one picture.
    """

    kind: str
    directory: Path | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    urls: tuple[str, ...] = ()
    threshold: float | None = None
    max_distance: float | None = None
    timeout_s: float = 120.0

    @property
    def name(self) -> str:
        return FunctionConfig.load(self.directory).name if self.directory else " ".join(self.urls)

    @property
    def labels(self) -> Labels | None:
        """None when nobody knows them."""
        return FunctionConfig.load(self.directory).labels if self.directory else None

    def detector(self, translate: AnnotationEncoder, workers: int) -> PredictorSpec:
        if self.urls:
            return RemoteDetector(self.urls, self.threshold, translate, self.labels, self.timeout_s)
        assert self.directory is not None
        return LocalDetector(self.directory, self.options, self.threshold, translate, workers)

    def reid(self, workers: int) -> PredictorSpec:
        if self.urls:
            return RemoteReid(self.urls, self.threshold, self.max_distance, self.timeout_s)
        assert self.directory is not None
        return LocalReid(self.directory, self.options, self.threshold, self.max_distance, workers)

    def settings(self) -> dict[str, Any]:
        """What a run has to have in common with the one that it goes on with."""
        return {
            "function": FunctionConfig.load(self.directory).name if self.directory else "at an address",
            "options": dict(self.options),
            "threshold": self.threshold,
            "max_distance": self.max_distance,
        }


class WorkerPool:
    """The workers, started when they are first needed and again only for another recipe.

    count: 0 for a function in this process itself.
    """

    def __init__(self, function: Function, count: int):
        self._function, self.count = function, count
        self._recipe: PredictorSpec | None = None
        self._workers: Sequence[Worker] = ()

    def ready(self, recipe: PredictorSpec, journal: Journal | None = None) -> Sequence[Worker]:
        """The workers, started. Raises CannotRun when the function can't start.

        journal: where it stands, and is noted, what the model runs in: a run that goes on has to compute as before.
        """
        if journal is not None and journal.facts.get("library"):
            recipe = recipe.with_library(journal.facts["library"])
        if recipe != self._recipe:
            self.close()
            if self._function.urls or not self.count:
                self._workers = [ThreadWorker(recipe) for _ in range(max(self.count, 1))]
            else:
                self._workers = start_processes(recipe, self.count, self._function.timeout_s)
            self._recipe = recipe
        if journal is not None and "library" not in journal.facts:
            journal.note(library=self._workers[0].library)
        return self._workers

    def close(self) -> None:
        for worker in self._workers:
            worker.close()
        self._workers, self._recipe = (), None


@dataclass(frozen=True)
class Options:
    """How to run; see the command line's help."""

    frames: str | None = None
    given_labels: Mapping[str, Any] = field(default_factory=dict)
    allow_unmatched: bool = False
    convert_masks: bool = False
    clear_existing: bool = False
    batch: int = 4
    chunk: int = 100
    resume: bool = False
    journals: Path = Path("out/annotate")
    dry_run: bool = False
    pictures: int | None = None
    formats: Sequence[str] = export.FORMATS


class ResultWriter(Protocol):
    """Where outcomes go. tags, shapes: how many annotations have arrived there; left_out: what had no place -> how often."""

    tags: int
    shapes: int
    left_out: Counter[str]

    def __call__(self, outcome: FrameResult) -> None: ...

    def flush(self) -> None: ...

    def finish(self) -> None: ...


def say(text: str) -> None:
    """A line for the user that does not get into the progress bar's way."""
    tqdm.write(text, file=sys.stderr)


@contextmanager
def stopping() -> Iterator[pipeline.Stop]:
    """An event that the first Ctrl-C, or SIGTERM, sets; the second one ends the program at once."""
    stop = pipeline.Stop()

    def on_signal(number: int, frame: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        say("Stopping: what is in work is finished and kept. Again to end at once.")

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def annotate_task(
    cvat: CvatClient, task: Task, function: Function, crew: WorkerPool, options: Options, stop: pipeline.Stop
) -> bool:
    """Annotates a task with a detector; whether all frames are done. Raises CannotRun."""
    from tools.annotate.upload import Uploader

    mapping = match_labels(
        function.labels,
        task.labels,
        options.given_labels,
        allow_unmatched=options.allow_unmatched,
        convert_masks=options.convert_masks,
    )
    say(f"Task {task.id}, {task.name!r}, {len(task.names)} frames, by {function.name}")
    _say_mapping(mapping)
    recipe = function.detector(AnnotationEncoder(mapping, options.convert_masks), crew.count)
    frames = [frame for frame in parse_frames(options.frames, len(task.names)) if frame not in task.deleted]

    def pictures(wanted: Sequence[int]) -> Iterator[ImageFile]:
        return cvat.pictures(task, wanted, stop)

    if options.dry_run:
        target = options.journals / f"{run_name(cvat, task)}-pictures"
        return _dry_run(pictures, frames, crew.ready(recipe), options, OverlayWriter(task.labels, target), stop)
    settings = {
        "url": cvat.url,
        "task": task.id,
        **function.settings(),
        "frames": options.frames,
        "mapping": options.given_labels,
        "allow_unmatched": options.allow_unmatched,
        "convert_masks": options.convert_masks,
    }
    path = options.journals / f"{run_name(cvat, task)}.journal"
    journal = open_journal(path, settings, options.resume, options.clear_existing)
    with closing(journal):
        todo = [frame for frame in frames if frame not in journal.done]
        if not todo:
            say("Nothing is left to do.")
        workers = crew.ready(recipe, journal) if todo else ()
        uploader = Uploader(cvat, task, journal, options.chunk, say)
        if "newest" in journal.facts:
            uploader.settle()
            todo = [frame for frame in todo if frame not in journal.done]
        else:
            journal.note(clear=options.clear_existing or journal.facts.get("clear", False))
            uploader.begin(journal.facts["clear"], frames, whole=len(frames) + len(task.deleted) == len(task.names))
        _run(pictures, todo, len(frames), workers, options.batch, uploader, journal, stop)
        return _report(journal, uploader, frames, task.names, stop)


def annotate_folder(
    images: Path, output: Path, function: Function, crew: WorkerPool, options: Options, stop: pipeline.Stop
) -> bool:
    """Annotates the images of a folder with a detector; whether all are done. Raises CannotRun."""
    if function.labels is None:
        raise CannotRun("for a folder the function's labels must be known: add --function to --endpoint")
    kept_as = Labels(tuple(_as_kept(label, options.convert_masks) for label in function.labels.values()))
    labels = [TaskLabel.own(label) for label in kept_as.values()]
    mapping = match_labels(
        function.labels, labels, {}, allow_unmatched=options.allow_unmatched, convert_masks=options.convert_masks
    )
    names = find_images(images)
    frames = parse_frames(options.frames, len(names))
    say(f"{images}: {len(names)} images, by {function.name}")
    recipe = function.detector(AnnotationEncoder(mapping, options.convert_masks), crew.count)

    def pictures(wanted: Sequence[int]) -> Iterator[ImageFile]:
        return read_images(images, names, wanted, stop)

    if options.dry_run:
        painter = OverlayWriter(labels, output / "pictures")
        return _dry_run(pictures, frames, crew.ready(recipe), options, painter, stop)
    settings = {
        "images": str(images.resolve()),
        "names": hashlib.sha256("\n".join(names).encode()).hexdigest(),
        **function.settings(),
        "frames": options.frames,
        "convert_masks": options.convert_masks,
    }
    journal = open_journal(output / "annotate.journal", settings, options.resume, start_over=False)
    with closing(journal):
        todo = [frame for frame in frames if frame not in journal.done]
        workers = crew.ready(recipe, journal) if todo else ()
        kept = output / "results.jsonl"
        results = folder_results.FolderResultWriter(kept, names, journal)
        _run(pictures, todo, len(frames), workers, options.batch, results, journal, stop)
        done = _report(journal, results, frames, names, stop)
        if not stop.is_set():
            items = list(folder_results.read_results(kept))
            for made in export.export(items, images, kept_as, options.formats, output):
                say(f"Written: {made}")
            shutil.rmtree(output / "overlays", ignore_errors=True)  # like the formats: in the place of older ones
            _paint(items[: options.pictures], images, OverlayWriter(labels, output / "overlays"))
        return done


def _as_kept(label: Label, convert_masks: bool) -> Label:
    return replace(label, type="polygon") if convert_masks and label.type == "mask" else label


def open_journal(path: Path, settings: Mapping[str, Any], resume: bool, start_over: bool) -> Journal:
    """The journal of a new run, or of the one to go on with. Raises CannotRun when it is not clear which."""
    journal = Journal(path)
    try:
        if resume and journal.settings:
            journal.go_on(settings)
            return journal
        if resume:
            say(f"There is no run to go on with ({path}); starting one.")
        elif journal.unfinished and not start_over:
            raise CannotRun(
                f"a run was cut off here ({len(journal.done)} frames are done): go on with --resume. To start over, "
                f"remove {path}; annotations that are in a task already stay there, or go with --clear-existing"
            )
        journal.begin(settings)
        return journal
    except BaseException:
        journal.close()
        raise


def _run(
    pictures: Callable[[Sequence[int]], Iterator[ImageFile]],
    todo: Sequence[int],
    total: int,
    workers: Sequence[Worker],
    batch: int,
    sink: ResultWriter,
    journal: Journal,
    stop: pipeline.Stop,
) -> None:
    with tqdm(total=total, initial=total - len(todo), unit="frame", file=sys.stderr, smoothing=0.1) as bar:
        found = 0

        def take(outcome: FrameResult) -> None:
            nonlocal found
            if outcome.annotations is not None:
                found += len(outcome.annotations.shapes) + len(outcome.annotations.tags)
            sink(outcome)
            bar.set_postfix(shapes=found, bad=len(journal.bad), refresh=False)
            bar.update()

        try:
            if workers:
                pipeline.run(blocks(pictures(todo), batch), workers, stop, take)
        except BaseException:
            sink.flush()  # what was found before it went wrong is not found in vain
            raise
        sink.finish()
    if not stop.is_set():
        journal.finish()


def blocks(pictures: Iterable[ImageFile], batch: int) -> Iterator[Sequence[FrameInput] | FrameResult]:
    """Pictures by the batch; one that could not be had is an outcome already."""
    block: list[FrameInput] = []
    for picture in pictures:
        if picture.data is None:
            yield FrameResult(picture.frame, error=picture.error)
            continue
        block.append(FrameInput(picture.frame, picture.data))
        if len(block) == batch:
            yield block
            block = []
    if block:
        yield block


def _dry_run(
    pictures: Callable[[Sequence[int]], Iterator[ImageFile]],
    frames: Sequence[int],
    workers: Sequence[Worker],
    options: Options,
    painter: OverlayWriter,
    stop: pipeline.Stop,
) -> bool:
    count = min(_PICTURES if options.pictures is None else options.pictures, len(frames))
    chosen = [frames[(2 * i + 1) * len(frames) // (2 * count)] for i in range(count)]
    data: dict[int, ImageFile] = {}
    failed = []

    def seen() -> Iterator[ImageFile]:
        for picture in pictures(chosen):
            data[picture.frame] = picture
            yield picture

    def show(outcome: FrameResult) -> None:
        picture = data.pop(outcome.frame)
        if outcome.annotations is None or picture.data is None:
            failed.append(outcome.frame)
            say(f"  frame {outcome.frame} ({picture.name}): {outcome.error}")
            return
        annotations = parsed(outcome.annotations)
        path = painter(Path(picture.name).with_suffix("").as_posix(), picture.data, annotations)
        say(f"  frame {outcome.frame} ({picture.name}): {len(annotations)} annotations, {path}")

    pipeline.run(blocks(seen(), 1), workers, stop, show)
    say("Nothing was changed: this was a dry run.")
    return not failed


def _paint(items: Sequence[folder_results.AnnotatedImage], images: Path, painter: OverlayWriter) -> None:
    def paint(item: folder_results.AnnotatedImage) -> None:
        painter(item.name, (images / item.name).read_bytes(), item.annotations)

    with ThreadPoolExecutor() as pool:
        done = pool.map(paint, items)
        for _ in tqdm(done, total=len(items), desc="overlays", unit="picture", file=sys.stderr):
            pass


def _report(
    journal: Journal, sink: ResultWriter, frames: Sequence[int], names: Sequence[str], stop: threading.Event
) -> bool:
    done = sum(frame in journal.done for frame in frames)
    say(f"{done} of {len(frames)} frames are annotated; {sink.shapes} shapes and {sink.tags} tags came in this run.")
    for what, count in sorted(sink.left_out.items()):
        say(f"  left out {count} times: {what}")
    if journal.bad:
        say(f"{len(journal.bad)} frames could not be annotated; they are tried again with --resume:")
        for frame, why in sorted(journal.bad.items())[:_LISTED]:
            say(f"  frame {frame} ({names[frame]}): {why}")
        if len(journal.bad) > _LISTED:
            say(f"  and {len(journal.bad) - _LISTED} more: {journal.path}")
    if stop.is_set():
        say("The run was cut off; it goes on with --resume.")
    return done == len(frames)


def _say_mapping(mapping: LabelMapping) -> None:
    rows = mapping.rows()
    width = max((len(name) for name, _ in rows), default=0)
    for name, goal in rows:
        say(f"  {name:<{width}}  -> {goal}")


def run_name(cvat: CvatClient, task: Task) -> str:
    """The beginning of the names of files about a task."""
    parts = urlsplit(cvat.url if "://" in cvat.url else f"//{cvat.url}")
    host = f"{parts.hostname}-{parts.port}" if parts.port else parts.hostname
    return f"{host}-task-{task.id}"


def digest(content: Any) -> str:
    """A short text that changes with the content."""
    return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]
