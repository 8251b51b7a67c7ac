"""A detector on a folder of images."""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

from tqdm import tqdm

from common.cvat.labels import Labels
from tools.annotate.annotation_encoder import AnnotationEncoder
from tools.annotate.console import count, say
from tools.annotate.errors import CannotRun
from tools.annotate.folder_results import AnnotatedImage, FolderResultWriter, read_results
from tools.annotate.image_files import find_images, parse_frames, read_images
from tools.annotate.label_mapping import TaskLabel, match_labels, stored_type
from tools.annotate.overlays import write_overlay
from tools.annotate.predictor_spec import PredictorSpec
from tools.annotate.run import Run, annotate_frames, dry_run, open_journal


def annotate_folder(images: Path, output: Path, run: Run) -> bool:
    """Annotates the images of a folder with a detector.

    Args:
        images: the folder.
        output: a folder for the annotations and the overlay pictures.
        run: the function and the options.

    Returns:
        Whether all images are annotated.

    Raises:
        CannotRun: when the run can't begin or go on.
    """
    options, function = run.options, run.function
    if function.labels is None:
        raise CannotRun("for a folder the function's labels must be known: add --function to --endpoint")
    as_stored = [replace(label, type=stored_type(label, options.convert_masks)) for label in function.labels.values()]
    written = Labels(tuple(as_stored))
    labels = [TaskLabel.own(label) for label in written.values()]
    mapping = match_labels(
        function.labels, labels, {}, allow_unmatched=options.allow_unmatched, convert_masks=options.convert_masks
    )
    names = find_images(images, output)
    frames = parse_frames(options.frames, len(names))
    say(f"{images}: {count(len(names), 'image')}, function {function.name}")
    spec = PredictorSpec(function, AnnotationEncoder(mapping, options.convert_masks), run.pool.size)
    read = partial(read_images, images, names, stop=run.stop)
    if options.dry_run:
        return dry_run(run, read, frames, spec, labels, output / "pictures")
    settings = {
        "images": str(images.resolve()),
        "names": hashlib.sha256("\n".join(names).encode()).hexdigest(),
        **function.settings(),
        "frames": options.frames,
        "convert_masks": options.convert_masks,
    }
    with closing(open_journal(output / "annotate.journal", settings, options.resume, start_over=False)) as journal:
        workers = run.workers(spec, journal) if any(frame not in journal.done for frame in frames) else ()
        path = output / "results.jsonl"
        writer = FolderResultWriter(path, names, journal)
        done = annotate_frames(run, read, frames, names, workers, writer, journal)
        if not run.stop.is_set():
            from tools.annotate.export import export  # here: Datumaro takes a moment to load

            items = read_results(path)
            for made in export(items, images, written, options.formats, output):
                say(f"Written: {made}")
            shutil.rmtree(output / "overlays", ignore_errors=True)  # of an earlier run
            _draw(items[: options.pictures], images, labels, output / "overlays")
        return done


def _draw(items: Sequence[AnnotatedImage], images: Path, labels: Sequence[TaskLabel], folder: Path) -> None:
    def draw(item: AnnotatedImage) -> None:
        write_overlay(folder, item.name, (images / item.name).read_bytes(), item.annotations, labels)

    with ThreadPoolExecutor() as pool:
        for _ in tqdm(pool.map(draw, items), total=len(items), desc="overlays", unit="picture", file=sys.stderr):
            pass
