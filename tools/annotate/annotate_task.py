"""A detector on the frames of a task."""

from __future__ import annotations

from contextlib import closing
from functools import partial

from tools.annotate.annotation_encoder import AnnotationEncoder
from tools.annotate.console import count, say
from tools.annotate.cvat_client import CvatClient, Task
from tools.annotate.image_files import parse_frames
from tools.annotate.label_mapping import match_labels
from tools.annotate.predictor_spec import PredictorSpec
from tools.annotate.run import Run, annotate_frames, dry_run, open_journal
from tools.annotate.upload import Uploader


def annotate_task(cvat: CvatClient, task: Task, run: Run) -> bool:
    """Annotates a task with a detector.

    Args:
        cvat: the server.
        task: one of its tasks.
        run: the function and the options.

    Returns:
        Whether all frames are annotated.

    Raises:
        CannotRun: when the run can't begin or go on.
    """
    options, function = run.options, run.function
    mapping = match_labels(
        function.labels,
        task.labels,
        options.given_labels,
        allow_unmatched=options.allow_unmatched,
        convert_masks=options.convert_masks,
    )
    say(f"Task {task.id}, {task.name!r}: {count(len(task.names), 'frame')}, function {function.name}")
    rows = mapping.rows()
    width = max((len(name) for name, _ in rows), default=0)
    for name, target in rows:
        say(f"  {name:<{width}}  -> {target}")
    spec = PredictorSpec(function, AnnotationEncoder(mapping, options.convert_masks), run.pool.size)
    frames = [frame for frame in parse_frames(options.frames, len(task.names)) if frame not in task.deleted]
    read = partial(cvat.images, task, stop=run.stop)
    stem = cvat.file_stem(task)
    if options.dry_run:
        return dry_run(run, read, frames, spec, task.labels, options.journals / f"{stem}-pictures")
    settings = {
        "url": cvat.url,
        "task": task.id,
        **function.settings(),
        "frames": options.frames,
        "mapping": options.given_labels,
        "allow_unmatched": options.allow_unmatched,
        "convert_masks": options.convert_masks,
    }
    path = options.journals / f"{stem}.journal"
    with closing(open_journal(path, settings, options.resume, options.clear_existing)) as journal:
        left = any(frame not in journal.done for frame in frames)
        if not left:
            say("Nothing is left to do.")
        workers = run.workers(spec, journal) if left else ()
        uploader = Uploader(cvat, task, journal, options.chunk)
        if "newest" in journal.facts:
            uploader.settle()
        else:
            journal.note(clear=options.clear_existing or journal.facts.get("clear", False))
            uploader.begin(journal.facts["clear"], frames, whole=len(frames) + len(task.deleted) == len(task.names))
        return annotate_frames(run, read, frames, task.names, workers, uploader, journal)
