"""What Ultralytics' package exports: YOLOv5u, 8, 9, 10, 11, 12 and 26 for every task, and RT-DETR."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from common.networks.engine import Array
from common.networks.formats.detections import Candidates
from common.networks.formats.layout import OutputLayout, Suppression
from common.networks.formats.nms import nms, rotated_nms
from common.networks.formats.preparation import Placement, Preparation
from common.networks.formats.signature import Dimensions, Signature

_RTDETR_HEAD = "RTDETRDecoder"
_TABLE_TASKS = ("detect", "segment", "pose", "obb")


def _match_raw(task: str, file: Signature) -> Dimensions | None:
    if file.table is None or (file.task or "detect") != task:
        return None
    if not file.by_hand and (file.metadata.end2end is True or file.metadata.head == _RTDETR_HEAD):
        return None
    index, rows, columns = file.table
    classes = file.class_count(rows - 4)
    if classes is None or (file.classes is None and not file.by_hand and columns not in file.cells(1)):
        return None
    return file.dimensions(index, classes, rows - 4 - classes)


def _read_raw(outputs: Sequence[Array], dimensions: Dimensions) -> Candidates:
    table = outputs[dimensions.table][0].T
    end = 4 + (dimensions.classes or 0)
    return Candidates(boxes=table[:, :4], scores=table[:, 4:end], extra=table[:, end:])


RAW = tuple(
    OutputLayout(
        name="yolov8",
        task=task,
        outputs="(1, 4 + classes + more, N): centre, size, a score for each class; YOLOv5u, 8, 9, 11, 12, 26",
        match=partial(_match_raw, task),
        read=_read_raw,
        suppression=Suppression(rotated_nms if task == "obb" else nms, iou=0.7),
    )
    for task in _TABLE_TASKS
)


def _match_end2end(task: str, file: Signature) -> Dimensions | None:
    if file.table is None or (file.task or "detect") != task:
        return None
    index, rows, columns = file.table
    metadata = file.metadata
    if file.extra_values(columns - 6) != columns - 6 or (not file.by_hand and metadata.head == _RTDETR_HEAD):
        return None
    # Unless the file says that it is final, a row or column for each cell of the grids is the network's raw output.
    final = file.by_hand or metadata.end2end or metadata.nms
    if not final and (rows in file.cells(1, 3) or columns in file.cells(1)):
        return None
    return file.dimensions(index, file.classes, columns - 6)


def _read_end2end(outputs: Sequence[Array], dimensions: Dimensions) -> Candidates:
    table = outputs[dimensions.table][0]
    return Candidates(boxes=table[:, :4], scores=table[:, 4], classes=table[:, 5], extra=table[:, 6:])


END2END = tuple(
    OutputLayout(
        name="end2end",
        task=task,
        outputs="(1, n, 6 + more): corners, score, class; YOLOv10, 26, or exported with nms=True",
        match=partial(_match_end2end, task),
        read=_read_end2end,
        box_format="xyxy",
    )
    for task in _TABLE_TASKS
)


def _match_classify(file: Signature) -> Dimensions | None:
    # Any classifier or embedding has such an output: a file is taken for Ultralytics' only when something says so.
    if len(file.outputs) != 1 or len(file.shapes[0]) != 2 or not file.shapes[0][0]:
        return None
    if not file.by_hand and "classify" not in (file.hints.task, file.metadata.task):
        return None
    count = file.shapes[0][1]
    agrees = file.task in ("classify", None) and file.classes in (None, count)
    return Dimensions(count) if agrees else None


def _read_classify(outputs: Sequence[Array], dimensions: Dimensions) -> Candidates:
    scores = outputs[0][0]
    # Each class is a candidate, for the whole image.
    nowhere = np.zeros((scores.size, 4), np.float32)
    return Candidates(boxes=nowhere, scores=scores, classes=np.arange(scores.size))


CLASSIFY = OutputLayout(
    name="classify",
    task="classify",
    outputs="(1, classes): probabilities",
    match=_match_classify,
    read=_read_classify,
    box_format="xyxy",
    distribution=True,
    preparation=Preparation(placement=Placement.CROPPED),
)


def _match_rtdetr(file: Signature) -> Dimensions | None:
    if file.table is None or file.table[2] != 6 or file.task not in ("detect", None):
        return None
    index, rows, columns = file.table
    metadata = file.metadata
    # Rows of six without a word about them can be these as well as final rows of corners.
    unknown = not (metadata.names or metadata.task or metadata.nms) and metadata.end2end is None
    unknown = unknown and rows not in file.cells(1, 3) and columns not in file.cells(1)
    known = file.by_hand or metadata.head == _RTDETR_HEAD
    return Dimensions(file.classes, index) if known or unknown else None


RTDETR = OutputLayout(
    name="rtdetr",
    task="detect",
    outputs="(1, n, 6) or (1, n, 4 + classes): centre and size, normalised, of the stretched image",
    match=_match_rtdetr,
    read=_read_end2end,
    normalised=True,
    preparation=Preparation(placement=Placement.STRETCHED),
)


def _match_rtdetr_older(file: Signature) -> Dimensions | None:
    if file.table is None or file.task not in ("detect", None):
        return None
    index, rows, columns = file.table
    if columns <= 4 or file.classes not in (None, columns - 4) or rows in file.cells(1, 3):
        return None
    # Files of older exporters don't say what head they have; those that do have rows of six with a class index.
    silent = file.metadata.head is None and file.metadata.end2end is None and not file.metadata.nms
    known = file.by_hand or (file.metadata.head == _RTDETR_HEAD and columns != 6)
    return Dimensions(columns - 4, index) if known or (silent and file.classes is not None) else None


def _read_rtdetr_older(outputs: Sequence[Array], dimensions: Dimensions) -> Candidates:
    table = outputs[dimensions.table][0]
    return Candidates(boxes=table[:, :4], scores=table[:, 4:])


RTDETR_OLDER = replace(RTDETR, match=_match_rtdetr_older, read=_read_rtdetr_older)
