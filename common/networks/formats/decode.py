"""The outputs of a network to detections, in pixels of its input; one function for each layout.

Everything under the threshold goes before anything else is computed: of some ten thousand places a few are left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.networks.formats.layout import Layout
from common.networks.formats.nms import best_first, nms, rotated_nms, rotated_nms_exact

Array = NDArray[Any]
_MMROTATE_SCORES = 0.05  # mmdeploy's own limit before its suppression


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """boxes: (N, 4) float32 pixels of the input: corners x1, y1, x2, y2, or centre and size where there are angles.

    scores: (N,) float32. classes: (N,) int64. angles: (N,) float32 in radians, clockwise, or None.
    extra: (N, E) float32, mask coefficients or joints.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    classes: NDArray[np.int64]
    extra: NDArray[np.float32]
    angles: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, index: NDArray[Any]) -> Detections:
        """Those at an index, or where a mask is true."""
        return Detections(
            boxes=self.boxes[index],
            scores=self.scores[index],
            classes=self.classes[index],
            extra=self.extra[index],
            angles=None if self.angles is None else self.angles[index],
        )

    @property
    def boxes_xywhr(self) -> NDArray[np.float32]:
        angles = np.zeros(len(self), np.float32) if self.angles is None else self.angles
        return np.concatenate([self.boxes, angles[:, None]], axis=1)


def decode(
    layout: Layout,
    outputs: Sequence[Array],
    size_hw: tuple[int, int],
    threshold: float,
    *,
    iou: float,
    most: int,
    agnostic: bool = False,
) -> Detections:
    """The detections of the first image, each object once, the highest score first.

    outputs: of the network, in the file's order. size_hw: of its input. threshold: the lowest score.
    iou, agnostic: for layouts that are not final: how much two boxes of one class, or of any, may overlap.
    """
    found = _DECODERS[layout.name](layout, outputs, size_hw, threshold)
    found = found.take(np.flatnonzero(np.isfinite(found.boxes).all(axis=1)))
    if layout.task == "obb" and found.angles is None:
        found = replace(found, angles=found.extra[:, -1], extra=found.extra[:, :-1])
    if layout.suppressed:
        return found.take(best_first(found.scores)[:most])
    classes = None if agnostic else found.classes
    if layout.name == "mmrotate-raw":
        groups = np.zeros_like(found.classes) if agnostic else found.classes
        return found.take(rotated_nms_exact(found.boxes_xywhr, found.scores, groups, iou, most))
    if layout.task == "obb":
        return found.take(rotated_nms(found.boxes_xywhr, found.scores, classes, iou, most))
    return found.take(nms(found.boxes, found.scores, classes, iou, most))


def _columns(layout: Layout, outputs: Sequence[Array], size_hw: tuple[int, int], threshold: float) -> Detections:
    """yolov8: a column for each place: centre and size, a score for each class, the rest."""
    assert layout.classes is not None  # the layout's rule counts them
    table = _floats(outputs[layout.main][0])
    by_class = table[4 : 4 + layout.classes]
    found = table[:, np.flatnonzero(by_class.max(axis=0) >= threshold)].T
    scores = found[:, 4 : 4 + layout.classes]
    boxes = found[:, :4] if layout.task == "obb" else _corners(found[:, :4])
    return _best_classes(boxes, scores, found[:, 4 + layout.classes :])


def _rows_with_objectness(
    layout: Layout, outputs: Sequence[Array], size_hw: tuple[int, int], threshold: float
) -> Detections:
    """yolov5, yolov7: a row for each place: centre and size, objectness, a score for each class, the rest."""
    assert layout.classes is not None  # the layout's rule counts them
    table = outputs[layout.main][0]
    found = _floats(table[table[:, 4] >= threshold])  # no class is surer than that there is an object
    scores = found[:, 4:5] * found[:, 5 : 5 + layout.classes]
    if layout.name == "yolov7" and layout.classes == 1:
        scores = found[:, 4:5]  # with one class its score is not trained
    detections = _best_classes(_corners(found[:, :4]), scores, found[:, 5 + layout.classes :])
    return detections.take(detections.scores >= threshold)


def _final_rows(layout: Layout, outputs: Sequence[Array], size_hw: tuple[int, int], threshold: float) -> Detections:
    """end2end: a row for each detection: corners (or centre and size, of turned boxes), score, class, the rest."""
    table = outputs[layout.main][0]
    found = _floats(table[table[:, 4] >= threshold])
    return Detections(found[:, :4], found[:, 4], found[:, 5].astype(np.int64), found[:, 6:])


def _rows_of_seven(layout: Layout, outputs: Sequence[Array], size_hw: tuple[int, int], threshold: float) -> Detections:
    """yolov7-end2end: image, corners, class, score."""
    table = _floats(outputs[0])
    found = table[(table[:, 6] >= threshold) & (table[:, 0] == 0)]
    return Detections(found[:, 1:5], found[:, 6], found[:, 5].astype(np.int64), found[:, 7:])


def _scores_and_boxes(
    layout: Layout, outputs: Sequence[Array], size_hw: tuple[int, int], threshold: float
) -> Detections:
    """yolor: class scores; centres and sizes in one output or in two, as parts of the input's sides."""
    scores, *places = (_floats(output[0] if output.ndim == 3 else output) for output in outputs)
    keep = np.flatnonzero(scores.max(axis=1) >= threshold)
    boxes = np.concatenate([place[keep] for place in places], axis=1) * _sides(size_hw)
    return _best_classes(_corners(boxes), scores[keep], np.zeros((keep.size, 0), np.float32))


def _stretched_rows(layout: Layout, outputs: Sequence[Array], size_hw: tuple[int, int], threshold: float) -> Detections:
    """rtdetr: centre and size as parts of the input's sides, then score and class, or a score for each class."""
    table = _floats(outputs[layout.main][0])
    best = table[:, 4 : 4 + layout.extra].max(axis=1) if layout.extra else table[:, 4]
    found = table[best >= threshold]
    boxes = _corners(found[:, :4] * _sides(size_hw))
    none = np.zeros((len(found), 0), np.float32)
    if layout.extra:
        return _best_classes(boxes, found[:, 4 : 4 + layout.extra], none)
    return Detections(boxes, found[:, 4], found[:, 5].astype(np.int64), none)


def _rotated_rows(layout: Layout, outputs: Sequence[Array], size_hw: tuple[int, int], threshold: float) -> Detections:
    """mmrotate: centre, size, angle, score; the classes in an output of their own."""
    table, classes = _floats(outputs[0][0]), np.asarray(outputs[1][0], np.int64)
    keep = (table[:, 5] >= threshold) & (classes >= 0)
    found = table[keep]
    return Detections(
        found[:, :4], found[:, 5], classes[keep], np.zeros((len(found), 0), np.float32), angles=found[:, 4]
    )


def _rotated_raw(layout: Layout, outputs: Sequence[Array], size_hw: tuple[int, int], threshold: float) -> Detections:
    """mmrotate-raw: what its suppression would have got; a place may be of several classes."""
    boxes, scores = _floats(outputs[0][0]), _floats(outputs[1][0])
    classes, places = np.nonzero(scores >= max(threshold, _MMROTATE_SCORES))
    found = boxes[places]
    none = np.zeros((len(found), 0), np.float32)
    return Detections(found[:, :4], scores[classes, places], classes.astype(np.int64), none, angles=found[:, 4])


def _probabilities(layout: Layout, outputs: Sequence[Array], size_hw: tuple[int, int], threshold: float) -> Detections:
    """classify: all classes that are sure enough, of the whole image."""
    scores = _floats(outputs[0][0])
    classes = np.flatnonzero(scores >= threshold)
    nothing = np.zeros((classes.size, 4), np.float32)
    return Detections(nothing, scores[classes], classes.astype(np.int64), nothing[:, :0])


_DECODERS: dict[str, Callable[[Layout, Sequence[Array], tuple[int, int], float], Detections]] = {
    "yolov8": _columns,
    "yolov5": _rows_with_objectness,
    "yolov7": _rows_with_objectness,
    "end2end": _final_rows,
    "yolov7-end2end": _rows_of_seven,
    "yolor": _scores_and_boxes,
    "rtdetr": _stretched_rows,
    "mmrotate": _rotated_rows,
    "mmrotate-raw": _rotated_raw,
    "classify": _probabilities,
}


def _best_classes(boxes: NDArray[np.float32], scores: NDArray[np.float32], extra: NDArray[np.float32]) -> Detections:
    classes = scores.argmax(axis=1)
    best = np.take_along_axis(scores, classes[:, None], axis=1)[:, 0]
    return Detections(boxes, best, classes.astype(np.int64), extra)


def _corners(boxes_xywh: NDArray[np.float32]) -> NDArray[np.float32]:
    centers, halves = boxes_xywh[:, :2], boxes_xywh[:, 2:4] / 2
    return np.concatenate([centers - halves, centers + halves], axis=1)


def _sides(size_hw: tuple[int, int]) -> NDArray[np.float32]:
    height, width = size_hw
    return np.array([width, height, width, height], np.float32)


def _floats(array: Array) -> NDArray[np.float32]:
    return np.asarray(array, np.float32)
