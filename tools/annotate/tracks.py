"""A reid function on a task: the boxes of its frames become tracks, as CVAT itself makes them.

The function matches the boxes of each frame with those of the next; chains of matches become tracks, and a box without a
match a track of its own. All boxes are replaced in one request; other shapes and tracks stay.
"""

from __future__ import annotations

import hashlib
import itertools
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
from tqdm import tqdm

from tools.annotate import pipeline
from tools.annotate.console import count, say
from tools.annotate.cvat_client import Annotations, CvatClient, Task
from tools.annotate.errors import CannotRun
from tools.annotate.image_files import ImageFile, parse_frames
from tools.annotate.journal import Journal, write_whole
from tools.annotate.predictor import FrameInput, FrameResult
from tools.annotate.predictor_spec import PredictorSpec
from tools.annotate.run import Run, open_journal

_BLOCK = 16  # pairs in a block: each of their frames is decoded once

Boxes = Mapping[int, Sequence[dict[str, Any]]]
"""Frame -> its rectangles, as in the server's JSON."""


def make_tracks(cvat: CvatClient, task: Task, run: Run) -> bool:
    """Turns the boxes of a task into tracks.

    Args:
        cvat: the server.
        task: one of its tasks.
        run: the reid function and the options.

    Returns:
        Whether all pairs of frames could be compared.

    Raises:
        CannotRun: when the run can't begin or go on.
    """
    options, function = run.options, run.function
    frames = [frame for frame in parse_frames(options.frames, len(task.names)) if frame not in task.deleted]
    before = cvat.annotations(task)
    boxes = _boxes_by_frame(before, frames)
    number = sum(map(len, boxes.values()))
    say(
        f"Task {task.id}, {task.name!r}: {count(number, 'box', 'boxes')} on {len(boxes)} of "
        f"{count(len(frames), 'frame')}, function {function.name}"
    )
    pairs = [(a, b) for a, b in itertools.pairwise(frames) if boxes.get(a) and boxes.get(b)]
    settings = {
        "url": cvat.url, "task": task.id, **function.settings(), "frames": options.frames,
        "boxes": _digest(_facts(boxes)),
    }  # fmt: skip
    path = options.journals / f"{cvat.file_stem(task)}-tracks.journal"
    if not number:
        return _nothing_left(path, options.resume)
    with closing(open_journal(path, settings, options.resume, start_over=True)) as journal:
        todo = [pair for pair in pairs if pair[0] not in journal.found]
        workers = run.workers(PredictorSpec(function, workers=run.pool.size), journal) if todo else ()
        with tqdm(total=len(pairs), initial=len(pairs) - len(todo), unit="pair", file=sys.stderr) as bar:

            def take(result: FrameResult) -> None:
                if result.partners is None:
                    journal.note_bad(result.frame, result.error)
                else:
                    journal.note_found(result.frame, list(result.partners))
                bar.update()

            if workers:
                wanted = sorted({frame for pair in todo for frame in pair})
                images = cvat.images(task, wanted, run.stop, in_order=True)
                pipeline.run(_blocks(images, todo, boxes), workers, run.stop, take)
        if run.stop.is_set():
            say("The run was interrupted before anything was changed; --resume continues it.")
            return False
        for frame, why in sorted(journal.bad.items()):
            say(f"  frame {frame} ({task.names[frame]}) and the next: {why}; their boxes are not matched")
        tracks = join_boxes(boxes, frames, journal.found, _mutable(task))
        say(f"{count(number, 'box', 'boxes')} in {count(len(tracks), 'track')}.")
        if options.dry_run:
            say("Dry run: nothing was changed.")
            return not journal.bad
        _replace(cvat, task, before, boxes, tracks, journal)
        return not journal.bad


def join_boxes(
    boxes: Boxes, frames: Sequence[int], partners: Mapping[int, Sequence[int]], mutable: frozenset[int]
) -> list[dict[str, Any]]:
    """Joins boxes to tracks, in the server's JSON.

    Args:
        boxes: of each frame.
        frames: in order.
        partners: frame -> for each of its boxes the index of the same object on the next of `frames`, or -1: then its
            track ends.
        mutable: ids of the attributes that belong to the shapes of a track; the others belong to the track.
    """
    paths: list[list[dict[str, Any]]] = []
    open_paths: dict[int, int] = {}  # index of a box on the frame -> its path
    for frame in frames:
        for i, box in enumerate(boxes.get(frame) or ()):
            if i not in open_paths:
                open_paths[i] = len(paths)
                paths.append([])
            paths[open_paths[i]].append(box)
        open_paths = {partner: open_paths[i] for i, partner in enumerate(partners.get(frame) or ()) if partner >= 0}
    return [_track(path, frames[-1], mutable) for path in paths]


def _facts(boxes: Boxes) -> list[Any]:
    """What the matching of boxes depends on."""
    return [
        [f, [[b["id"], b["label_id"], b["points"], b.get("rotation")] for b in found]] for f, found in boxes.items()
    ]


def _track(path: Sequence[Mapping[str, Any]], last_frame: int, mutable: frozenset[int]) -> dict[str, Any]:
    def shape(box: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        kept = {key: box[key] for key in ("type", "occluded", "z_order", "rotation", "points", "frame") if key in box}
        attributes = [_value(a) for a in box.get("attributes") or () if a["spec_id"] in mutable]
        return {**kept, "outside": False, "attributes": attributes, **more}

    shapes = [shape(box) for box in path]
    if shapes[-1]["frame"] != last_frame:
        # The object is out of sight from the next frame on.
        shapes.append({**shapes[-1], "outside": True, "frame": shapes[-1]["frame"] + 1})
    first = path[0]
    return {
        "label_id": first["label_id"],
        "frame": first["frame"],
        "group": 0,
        "source": "auto",
        "attributes": [_value(a) for a in first.get("attributes") or () if a["spec_id"] not in mutable],
        "shapes": shapes,
        "elements": [],
    }


def _value(attribute: Mapping[str, Any]) -> dict[str, Any]:
    return {"spec_id": attribute["spec_id"], "value": attribute["value"]}


def _boxes_by_frame(annotations: Annotations, frames: Sequence[int]) -> Boxes:
    chosen = set(frames)
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for shape in sorted(annotations["shapes"], key=lambda s: (s["frame"], s["id"])):
        if shape["type"] == "rectangle" and shape["frame"] in chosen:
            found[shape["frame"]].append(shape)
    return dict(found)


def _mutable(task: Task) -> frozenset[int]:
    return frozenset(
        label.attribute_ids[attribute.name]
        for label in task.labels
        for attribute in label.label.attributes
        if attribute.mutable
    )


def _blocks(
    images: Iterator[ImageFile], pairs: Sequence[tuple[int, int]], boxes: Boxes
) -> Iterator[Sequence[FrameInput] | FrameResult]:
    """Blocks of consecutive frames: each frame and the next are a pair."""
    follows = dict(pairs)
    block: list[FrameInput] = []
    for image in images:
        if image.data is None or (block and follows.get(block[-1].frame) != image.frame):
            if len(block) > 1:
                yield block
            block = []
        if image.data is None:
            # The pair before it and the one after it lack it.
            for first, second in pairs:
                if image.frame in (first, second):
                    yield FrameResult(first, error=f"frame {image.frame}: {image.error}")
            continue
        block.append(FrameInput(image.frame, image.data, boxes[image.frame]))
        if len(block) > _BLOCK:
            yield block
            block = [block[-1]]
    if len(block) > 1:
        yield block


def _replace(
    cvat: CvatClient,
    task: Task,
    before: Annotations,
    boxes: Boxes,
    tracks: list[dict[str, Any]],
    journal: Journal,
) -> None:
    if _digest(cvat.annotations(task)) != _digest(before):
        raise CannotRun(f"the annotations of task {task.id} were changed during the run: run it again")
    kept = journal.path.with_suffix(".before.json")
    write_whole(kept, orjson.dumps(before))
    gone = {box["id"] for found in boxes.values() for box in found}
    shapes = [shape for shape in before["shapes"] if shape["id"] not in gone]
    journal.note(replacing=True)
    cvat.replace(task, {"tags": before["tags"], "shapes": shapes, "tracks": [*before["tracks"], *tracks]})
    journal.finish()
    say(f"The tracks are in task {task.id}; the annotations before the run are in {kept}")


def _nothing_left(path: Path, resume: bool) -> bool:
    with closing(Journal(path)) as journal:
        if resume and journal.facts.get("replacing"):
            journal.finish()
            say("The tracks are already in the task.")
            return not journal.bad
    raise CannotRun("these frames have no boxes to make tracks of")


def _digest(content: object) -> str:
    return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]
