"""What the exporters of YOLOv7 and YOLOR write."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from common.networks.engine import Array
from common.networks.formats.detections import Candidates
from common.networks.formats.layout import OutputLayout, Suppression, UnreadableOutputs
from common.networks.formats.nms import nms
from common.networks.formats.signature import Dimensions, Signature
from common.networks.formats.yolov5 import TASKS, match_rows, read_rows


def _match_rows(task: str, file: Signature) -> Dimensions | None:
    # Their exporters write no class names.
    said = file.metadata.layout == "yolov7" or not file.metadata.names
    return match_rows(task, file) if file.by_hand or said else None


def _read_rows(outputs: Sequence[Array], dimensions: Dimensions) -> Candidates:
    rows = read_rows(outputs, dimensions)
    # The score of an only class is not trained.
    return (
        replace(rows, scores=outputs[dimensions.table][0][:, 4:5], objectness=None) if dimensions.classes == 1 else rows
    )


ROWS = tuple(
    OutputLayout(
        name="yolov7",
        task=task,
        outputs="as yolov5, but with one class the objectness alone is the score; YOLOv7 --grid, YOLOR",
        match=partial(_match_rows, task),
        read=_read_rows,
        suppression=Suppression(nms, iou=0.45),
    )
    for task in TASKS
)


def _match_end2end(file: Signature) -> Dimensions | None:
    fits = len(file.outputs) == 1 and len(file.shapes[0]) == 2 and file.shapes[0][1] == 7
    # Other detectors have rows of seven in another order, which an example without detections can't tell apart.
    known = file.by_hand or (file.names == ["output"] and [port.name for port in file.inputs] == ["images"])
    return Dimensions(file.classes) if fits and known and file.task in ("detect", None) else None


def _read_end2end(outputs: Sequence[Array], dimensions: Dimensions) -> Candidates:
    table = outputs[0]
    return Candidates(boxes=table[:, 1:5], scores=table[:, 6], classes=table[:, 5], images=table[:, 0])


END2END = OutputLayout(
    name="yolov7-end2end",
    task="detect",
    outputs="(n, 7): image, corners, class, score; YOLOv7 --end2end --max-wh",
    match=_match_end2end,
    read=_read_end2end,
    box_format="xyxy",
)


def _match_yolor(file: Signature) -> Dimensions | None:
    shapes = [shape[1:] if len(shape) == 3 and shape[0] == 1 else shape for shape in file.shapes]
    if not all(len(shape) == 2 for shape in shapes) or [shape[1] for shape in shapes[1:]] not in ([2, 2], [4]):
        return None
    places, count = shapes[0]
    if any(shape[0] != places for shape in shapes) or file.classes not in (None, count):
        return None
    # Exports of the DETR family have tables of the same shapes, but a row for each query, and other names.
    if not file.by_hand and (places not in file.cells(3) or file.names[0] not in ("classes", "scores", "output")):
        return None
    return Dimensions(count) if file.task in ("detect", None) else None


def _read_yolor(outputs: Sequence[Array], dimensions: Dimensions) -> Candidates:
    scores, *places = (output[0] if output.ndim == 3 else output for output in outputs)
    return Candidates(boxes=places[0] if len(places) == 1 else np.concatenate(places, axis=1), scores=scores)


YOLOR = OutputLayout(
    name="yolor",
    task="detect",
    outputs="(N, classes) scores, then (N, 2) centres and (N, 2) sizes or (N, 4), normalised; YOLOR ONNX_EXPORT",
    match=_match_yolor,
    read=_read_yolor,
    normalised=True,
    suppression=Suppression(nms, iou=0.45),
)

TENSORRT = UnreadableOutputs(
    match=lambda file: set(file.names) >= {"num_dets", "det_boxes", "det_scores", "det_classes"},
    remedy=(
        "the model ends in an operation that only TensorRT has (num_dets, det_boxes, ...) and can't run in ONNX Runtime or "
        "OpenVINO; export again: python export.py --weights best.pt --grid --end2end --max-wh 640 (YOLOv7), "
        "or yolo export model=best.pt format=onnx (Ultralytics)"
    ),
    operations=re.compile(rb"(EfficientNMS|BatchedNMS\w*)_TRT|TRT\w*NMS"),
)


def _match_maps(file: Signature) -> bool:
    maps = all(len(shape) >= 4 for shape in file.shapes)
    return maps and (len(file.shapes) > 1 or len(file.shapes[0]) == 5)


UNDECODED_MAPS = UnreadableOutputs(
    match=_match_maps,
    remedy=(
        "the outputs are maps that are not decoded into boxes; export again: python export.py --weights best.pt --grid "
        "(YOLOv7), python export.py --weights best.pt --include onnx (YOLOv5), yolo export model=best.pt format=onnx "
        "(Ultralytics)"
    ),
)
