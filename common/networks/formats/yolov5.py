"""What YOLOv5's own exporter writes: a row for each anchor, with objectness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from common.networks.engine import Array
from common.networks.formats import ultralytics
from common.networks.formats.detections import Candidates
from common.networks.formats.layout import OutputLayout, Suppression
from common.networks.formats.nms import nms
from common.networks.formats.preparation import Placement, Preparation
from common.networks.formats.signature import Dimensions, Signature

TASKS = ("detect", "segment")


def match_rows(task: str, file: Signature) -> Dimensions | None:
    """The dimensions of a file with a row for each anchor: box, objectness, classes, mask coefficients.

    Args:
        task: The layout's task.
        file: What the file shows.

    Returns:
        The dimensions, or None when it has no such rows.
    """
    # Ultralytics' package, which writes the task, exports no such rows.
    if file.table is None or (file.task or "detect") != task or (file.metadata.task and not file.by_hand):
        return None
    index, rows, columns = file.table
    classes = file.class_count(columns - 5)
    if classes is None or (file.classes is None and not file.by_hand and rows not in file.cells(3)):
        return None
    return file.dimensions(index, classes, columns - 5 - classes)


def read_rows(outputs: Sequence[Array], dimensions: Dimensions) -> Candidates:
    """The rows' parts.

    Args:
        outputs: The network's outputs in the file's order.
        dimensions: Of the file.
    """
    table = outputs[dimensions.table][0]
    end = 5 + (dimensions.classes or 0)
    return Candidates(boxes=table[:, :4], scores=table[:, 5:end], objectness=table[:, 4], extra=table[:, end:])


def _match(task: str, file: Signature) -> Dimensions | None:
    # This exporter writes the class names; those of YOLOv7 and YOLOR write nothing.
    return match_rows(task, file) if file.by_hand or file.metadata.names else None


ROWS = tuple(
    OutputLayout(
        name="yolov5",
        task=task,
        outputs="(1, N, 5 + classes + more): centre, size, objectness, a score for each class",
        match=partial(_match, task),
        read=read_rows,
        suppression=Suppression(nms, iou=0.45),
    )
    for task in TASKS
)


def _match_classify(file: Signature) -> Dimensions | None:
    # Its exporter's own files give logits and don't say what they are: these are from `tools.checkpoints`.
    said = file.by_hand or file.metadata.layout == "yolov5"
    return ultralytics.CLASSIFY.match(file) if said else None


CLASSIFY = replace(
    ultralytics.CLASSIFY,
    name="yolov5",
    outputs="(1, classes): probabilities; YOLOv5's classifiers by make new",
    match=_match_classify,
    preparation=Preparation(placement=Placement.SQUARE),
)
