"""What all runs of a detector have in common, over a task or a folder: options, journal, progress and summary."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import orjson
from tqdm import tqdm

from tools.annotate import pipeline
from tools.annotate.annotation_encoder import FrameAnnotations
from tools.annotate.console import count, say
from tools.annotate.errors import CannotRun
from tools.annotate.function import Function
from tools.annotate.image_files import ImageFile
from tools.annotate.journal import Journal
from tools.annotate.label_mapping import TaskLabel
from tools.annotate.overlays import write_overlay
from tools.annotate.predictor import FrameInput, FrameResult
from tools.annotate.predictor_spec import PredictorSpec
from tools.annotate.workers import Worker, WorkerPool

_MOST_LISTED = 20  # bad frames in the summary; the journal has all
_DRY_RUN_PICTURES = 4
FORMATS = ("cvat", "coco", "yolo")  # of a folder's annotations; see `export`

ImageReader = Callable[[Sequence[int]], Iterator[ImageFile]]
"""The image files of the frames with these numbers, in any order."""


@dataclass(frozen=True)
class RunOptions:
    """How to run; the command line's help describes each."""

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
    formats: Sequence[str] = FORMATS


@dataclass(frozen=True)
class Run:
    """One call of the program: what annotates, and how."""

    function: Function
    pool: WorkerPool
    options: RunOptions
    stop: threading.Event
    """Set when no more frames are to be started."""

    def workers(self, spec: PredictorSpec, journal: Journal) -> Sequence[Worker]:
        """The workers, ready; a run that is resumed uses the library that its journal names, as results differ a little.

        Args:
            spec: makes their predictors.
            journal: of the run.

        Raises:
            CannotRun: when the function can't start.
        """
        workers = self.pool.start(spec, journal.facts.get("library", ""))
        if "library" not in journal.facts:
            journal.note(library=workers[0].library)
        return workers


class ResultWriter(Protocol):
    """Where results go."""

    tags: int
    """How many tags this run has stored there."""
    shapes: int
    """How many shapes this run has stored there."""

    def __call__(self, found: FrameAnnotations, size_wh: tuple[int, int]) -> None:
        """Takes the annotations of a frame.

        Args:
            found: the annotations.
            size_wh: of the frame's image in pixels.
        """
        ...

    def flush(self) -> None:
        """Stores what has been taken so far."""
        ...

    def finish(self) -> None:
        """Stores the rest, at the end."""
        ...


def open_journal(path: Path, settings: Mapping[str, Any], resume: bool, start_over: bool) -> Journal:
    """The journal of a new run, or of the one to resume.

    Args:
        path: its file.
        settings: what must be the same when a run is resumed.
        resume: resume the run of this journal, if there is one.
        start_over: replace the journal of a run that was interrupted.

    Raises:
        CannotRun: when a run was interrupted and neither is asked for, or the settings are not the same.
    """
    journal = Journal(path)
    try:
        if resume and journal.settings:
            journal.resume(settings)
            return journal
        if resume:
            say(f"There is no run to resume ({path}); starting a new one.")
        elif journal.unfinished and not start_over:
            raise CannotRun(
                f"a run was interrupted here ({_are_done(len(journal.done))}): continue it with --resume. To start over, "
                f"remove {path}; annotations that are in the task already stay there, unless --clear-existing is given"
            )
        journal.begin(settings)
        return journal
    except BaseException:
        journal.close()
        raise


def annotate_frames(
    run: Run,
    read: ImageReader,
    frames: Sequence[int],
    names: Sequence[str],
    workers: Sequence[Worker],
    writer: ResultWriter,
    journal: Journal,
) -> bool:
    """Annotates the frames that are not done yet, with a progress bar, and says what has been done.

    Args:
        run: how.
        read: gives their images.
        frames: all frames of the run.
        names: the file name of each frame of the task or folder.
        workers: annotate them; none when nothing is left to do.
        writer: takes the results.
        journal: of the run.

    Returns:
        Whether all frames are annotated.
    """
    todo = [frame for frame in frames if frame not in journal.done]
    total = len(frames)
    left_out: Counter[str] = Counter()
    with tqdm(total=total, initial=total - len(todo), unit="frame", file=sys.stderr, smoothing=0.1) as bar:
        found = 0

        def take(result: FrameResult) -> None:
            nonlocal found
            if result.annotations is None:
                journal.note_bad(result.frame, result.error)
            else:
                found += len(result.annotations.shapes) + len(result.annotations.tags)
                left_out.update(result.annotations.left_out)
                writer(result.annotations, result.size_wh)
            bar.set_postfix(shapes=found, bad=len(journal.bad), refresh=False)
            bar.update()

        try:
            if workers:
                pipeline.run(in_blocks(read(todo), run.options.batch), workers, run.stop, take)
        except BaseException:
            writer.flush()  # results from before the error are kept
            raise
        writer.finish()
    if not run.stop.is_set():
        journal.finish()
    done = sum(frame in journal.done for frame in frames)
    added = f"{count(writer.shapes, 'shape')} and {count(writer.tags, 'tag')}"
    say(f"{done} of {count(total, 'frame')} annotated; this run added {added}.")
    for what, number in sorted(left_out.items()):
        say(f"  left out {count(number, 'time')}: {what}")
    if journal.bad:
        say(f"{count(len(journal.bad), 'frame')} could not be annotated; --resume tries again:")
        for frame, why in sorted(journal.bad.items())[:_MOST_LISTED]:
            say(f"  frame {frame} ({names[frame]}): {why}")
        if len(journal.bad) > _MOST_LISTED:
            say(f"  and {len(journal.bad) - _MOST_LISTED} more, listed in {journal.path}")
    if run.stop.is_set():
        say("The run was interrupted; --resume continues it.")
    return done == total


def in_blocks(images: Iterable[ImageFile], size: int) -> Iterator[Sequence[FrameInput] | FrameResult]:
    """Groups images into blocks; one that could not be read becomes a result with its error.

    Args:
        images: in any order.
        size: the number of images in a block; the last one may have fewer.
    """
    block: list[FrameInput] = []
    for image in images:
        if image.data is None:
            yield FrameResult(image.frame, error=image.error)
            continue
        block.append(FrameInput(image.frame, image.data))
        if len(block) == size:
            yield block
            block = []
    if block:
        yield block


def dry_run(
    run: Run,
    read: ImageReader,
    frames: Sequence[int],
    spec: PredictorSpec,
    labels: Sequence[TaskLabel],
    folder: Path,
) -> bool:
    """Annotates a few frames and draws the results, without storing them.

    Args:
        run: how.
        read: gives the images.
        frames: to choose from.
        spec: makes the predictor.
        labels: of the task.
        folder: for the pictures.

    Returns:
        Whether all of them could be annotated.
    """
    wanted = _DRY_RUN_PICTURES if run.options.pictures is None else run.options.pictures
    number = min(wanted, len(frames))
    chosen = [frames[(2 * i + 1) * len(frames) // (2 * number)] for i in range(number)]
    images = {image.frame: image for image in read(chosen)}
    failed = 0

    def show(result: FrameResult) -> None:
        nonlocal failed
        image = images.pop(result.frame)
        if result.annotations is None or image.data is None:
            failed += 1
            say(f"  frame {result.frame} ({image.name}): {result.error}")
            return
        annotations = [orjson.loads(text) for text in (*result.annotations.tags, *result.annotations.shapes)]
        name = Path(image.name).with_suffix("").as_posix()
        path = write_overlay(folder, name, image.data, annotations, labels)
        say(f"  frame {result.frame} ({image.name}): {count(len(annotations), 'annotation')}, {path}")

    pipeline.run(in_blocks(list(images.values()), 1), run.pool.start(spec), run.stop, show)
    say("Dry run: nothing was changed.")
    return not failed


def _are_done(number: int) -> str:
    return f"{count(number, 'frame')} {'is' if number == 1 else 'are'} done"
