"""`python -m training.shapes.measure FILE...`: how good trained networks are on pictures that they have not seen.

Runs each file (.onnx, .pt) with Ultralytics' predictor on freshly drawn scenes of several sizes, none of them the size that
the network was trained on, and prints one row of a table for it.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.shapes import Rectangle
from common.vision.geometry import shared_areas
from training.shapes.draw import Scene, Thing
from training.shapes.train import TASKS

SIZES_HW = ((480, 640), (600, 800), (720, 1280), (800, 600))
CONFIDENCE = 0.25
NEAR = 0.05  # of a figure's size: a joint that is not farther from its place counts as found

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What a network says is there: a thing without its truth. rotated is (cx, cy, w, h, degrees), joints (K, 3)."""

    class_id: int
    score: float
    box_xyxy: Floats
    mask: NDArray[np.bool_] | None = None
    rotated: Floats | None = None
    joints: Floats | None = None


@dataclass(slots=True)
class Tally:
    """Numbers gathered over pictures. hits: (score, right) of everything found, for the average precision."""

    things: int = 0
    extra: int = 0
    right_tags: list[bool] = field(default_factory=list)
    hits: dict[int, list[tuple[float, bool]]] = field(default_factory=dict)
    counts: dict[int, int] = field(default_factory=dict)
    box_ious: list[float] = field(default_factory=list)
    mask_ious: list[float] = field(default_factory=list)
    rotated_ious: list[float] = field(default_factory=list)
    joint_errors: list[float] = field(default_factory=list)
    visibility: list[bool] = field(default_factory=list)

    def add(self, truth: Sequence[Thing], found: Sequence[Found]) -> None:
        """Adds a picture: the most certain first, each takes the best free thing of its class with an IoU over 0.5.

        Args:
            truth: What was drawn.
            found: What the network found.
        """
        free = list(truth)
        for thing in truth:
            self.counts[thing.class_id] = self.counts.get(thing.class_id, 0) + 1
        for one in sorted(found, key=lambda f: -f.score):
            ious = [overlap(thing, one) if thing.class_id == one.class_id else 0.0 for thing in free]
            best = int(np.argmax(ious)) if ious else -1
            right = best >= 0 and ious[best] > 0.5
            self.hits.setdefault(one.class_id, []).append((one.score, right))
            if one.score < CONFIDENCE:
                if right:
                    free.pop(best)
                continue
            if right:
                self._compare(free.pop(best), one)
            else:
                self.extra += 1
        self.things += len(truth)

    def _compare(self, thing: Thing, one: Found) -> None:
        self.box_ious.append(box_iou(np.array(thing.box_xyxy), one.box_xyxy))
        if one.mask is not None:
            self.mask_ious.append(mask_iou(thing.mask, one.mask))
        if one.rotated is not None and thing.rotated is not None:
            self.rotated_ious.append(rotated_iou(np.array(thing.rotated), one.rotated))
        if one.joints is not None:
            for joint, (x, y, visible) in zip(thing.joints, one.joints, strict=True):
                self.visibility.append(joint.visible == (visible > 0.5))
                if joint.visible:
                    self.joint_errors.append(float(np.hypot(joint.x - x, joint.y - y)) / thing.size)

    @property
    def map50(self) -> float:
        """Mean over the classes of the area under the curve of precision over recall."""
        return float(np.mean([average_precision(self.hits.get(c, []), n) for c, n in self.counts.items()]))


def average_precision(hits: Sequence[tuple[float, bool]], count: int) -> float:
    """The area under the curve of precision over recall.

    Args:
        hits: (score, right) of everything found of a class.
        count: How many there were to find.
    """
    right = np.array([r for _, r in sorted(hits, key=lambda hit: -hit[0])], np.float64)
    recall = np.cumsum(right) / count
    precision = np.cumsum(right) / np.arange(1, len(right) + 1)
    # At each recall the best precision that is had at that recall or a greater one.
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * best))


def overlap(thing: Thing, one: Found) -> float:
    """The IoU that decides whether a thing was found: of rotated boxes where there are any.

    Args:
        thing: What was drawn.
        one: What was found.
    """
    if one.rotated is not None and thing.rotated is not None:
        return rotated_iou(np.array(thing.rotated), one.rotated)
    return box_iou(np.array(thing.box_xyxy), one.box_xyxy)


def box_iou(a_xyxy: Floats, b_xyxy: Floats) -> float:
    """Intersection over union of two boxes.

    Args:
        a_xyxy: (left, top, right, bottom).
        b_xyxy: (left, top, right, bottom).
    """
    sides = np.minimum(a_xyxy[2:], b_xyxy[2:]) - np.maximum(a_xyxy[:2], b_xyxy[:2])
    shared = float(np.prod(np.maximum(sides, 0)))
    union = float(np.prod(a_xyxy[2:] - a_xyxy[:2]) + np.prod(b_xyxy[2:] - b_xyxy[:2])) - shared
    return shared / union if union > 0 else 0.0


def mask_iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Intersection over union of two bitmaps.

    Args:
        a: (H, W) bool.
        b: (H, W) bool.
    """
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 0.0


def rotated_iou(a: Floats, b: Floats) -> float:
    """Intersection over union of two rotated boxes.

    Args:
        a: (cx, cy, w, h, degrees).
        b: (cx, cy, w, h, degrees).
    """
    shared, own, its_own = shared_areas(*(_rectangle(*box.tolist()) for box in (a, b)))
    union = own + its_own - shared
    return shared / union if union > 0 else 0.0


def _rectangle(cx: float, cy: float, width: float, height: float, degrees: float) -> Rectangle:
    box_xyxy = cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2
    return Rectangle(box_xyxy=box_xyxy, rotation=degrees)


def fresh_scenes(task: str, count: int) -> Iterator[Scene]:
    """Scenes with the seeds 0, 1, ... and the sizes of SIZES_HW in turn.

    Args:
        task: A key of TASKS.
        count: How many scenes.
    """
    for seed in range(count):
        yield TASKS[task].draw(seed, SIZES_HW[seed % len(SIZES_HW)])


def tally(path: Path, count: int) -> tuple[str, Tally]:
    """What a network finds in fresh scenes.

    Args:
        path: Its file, .onnx or .pt.
        count: How many scenes.

    Returns:
        Its task, and the numbers.
    """
    model = _open(path)
    numbers = Tally()
    for scene in fresh_scenes(model.task, count):
        result = model.predict(scene.image[..., ::-1], conf=0.001, verbose=False, retina_masks=True)[0]
        if result.probs is not None:
            numbers.right_tags.append(result.probs.top1 == scene.things[0].class_id)
        else:
            numbers.add(scene.things, list(_found(result)))
    return model.task, numbers


HEADER = (
    "| file | pictures | things | found | extra | mAP50 | box IoU | mask IoU | rotated IoU | joint error | joints within 5% "
    "| visibility right | top-1 |\n|" + "---|" * 13
)


def row(path: Path, count: int) -> str:
    """One row of the table for a model file.

    Args:
        path: The file, .onnx or .pt.
        count: How many scenes to measure on.
    """
    task, numbers = tally(path, count)

    def mean(values: Sequence[float], form: Callable[[float], str] = "{:.3f}".format) -> str:
        return form(float(np.mean(values))) if values else ""

    ious = numbers.rotated_ious if task == "obb" else numbers.box_ious
    near = [error <= NEAR for error in numbers.joint_errors]
    cells = [
        f"`{path.name}`",
        str(count),
        *(
            [str(numbers.things), str(len(ious)), str(numbers.extra), f"{numbers.map50:.3f}"]
            if numbers.things
            else [""] * 4
        ),
        "" if task == "obb" else mean(numbers.box_ious),
        mean(numbers.mask_ious),
        mean(numbers.rotated_ious),
        mean(numbers.joint_errors, "{:.2%}".format),
        mean(near, "{:.1%}".format),
        mean(numbers.visibility, "{:.1%}".format),
        mean(numbers.right_tags, "{:.1%}".format),
    ]
    return f"| {' | '.join(cells)} |"


def _open(path: Path) -> Any:
    from ultralytics import YOLO

    if path.suffix == ".pt":
        return YOLO(path)
    import onnx

    metadata = {p.key: p.value for p in onnx.load(path).metadata_props}
    return YOLO(path, task=metadata["task"])


def _found(result: Any) -> Iterator[Found]:
    boxes = result.obb if result.obb is not None else result.boxes
    for i in range(len(boxes)):
        rotated = None
        if result.obb is not None:
            rotated = boxes.xywhr[i].numpy().astype(np.float64)
            rotated[4] = np.degrees(rotated[4])
        yield Found(
            class_id=int(boxes.cls[i]),
            score=float(boxes.conf[i]),
            box_xyxy=boxes.xyxy[i].numpy().astype(np.float64),
            mask=None if result.masks is None else result.masks.data[i].numpy().astype(bool),
            rotated=rotated,
            joints=None if result.keypoints is None else result.keypoints.data[i].numpy().astype(np.float64),
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table.

    Args:
        arguments: Of the command line; None for those of this process.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(prog="python -m training.shapes.measure", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a network that training.shapes has made")
    parser.add_argument("--count", type=int, default=200, help="pictures for each file (default: 200)")
    chosen = parser.parse_args(arguments)
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    print(HEADER)
    for path in chosen.files:
        print(row(path, chosen.count), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
