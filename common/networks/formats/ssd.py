"""SSD's output, (1, 1, N, 7): what the operation DetectionOutput of Caffe and OpenVINO gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from common.networks.engine import Array, Tensor
from common.networks.formats.detections import Candidates
from common.networks.formats.layout import OutputLayout
from common.networks.formats.preparation import Placement, Preparation
from common.networks.formats.signature import Dimensions, Signature
from common.vision.letterbox import Letterbox

OPENVINO_PREPARATION = Preparation(placement=Placement.STRETCHED, bgr=True, mean=(0, 0, 0), deviation=(1, 1, 1))
"""How the models of the Open Model Zoo take an image; their converter writes mean and scale into the file."""


def prepare_openvino(path: Path) -> Preparation | None:
    """How an OpenVINO file takes an image; nothing says so for another file.

    Args:
        path: The model file.
    """
    return OPENVINO_PREPARATION if path.suffix == ".xml" else None


def image_info(letterbox: Letterbox, port: Tensor) -> Array:
    """What an input `image_info` takes: (1, 3) height and width of the network's input, and a scale of 1.

    Args:
        letterbox: How the image lies in the input.
        port: The input `image_info`.
    """
    return np.array([[*letterbox.size_hw, 1]], np.float32)


def read_rows(rows: Array) -> Candidates:
    """Detections from rows of image index, class, score and normalised corners; those from an index of -1 on are no detections.

    Args:
        rows: (N, 7).

    Returns:
        The candidates, the index of its row as the extra value of each.
    """
    ends = np.flatnonzero(rows[:, 0] < 0)
    rows = rows[: ends[0]] if len(ends) else rows
    return Candidates(
        boxes=rows[:, 3:7],
        scores=rows[:, 2],
        classes=rows[:, 1],
        images=rows[:, 0],
        extra=np.arange(len(rows), dtype=np.float32)[:, None],
    )


def _match(file: Signature) -> Dimensions | None:
    if len(file.outputs) != 1 or file.hints.task not in (None, "detect"):
        return None
    shape, operation = file.shapes[0], file.metadata.detection_output
    if len(shape) != 4 or shape[:2] != (1, 1) or shape[3] != 7:
        return None
    if not (file.by_hand or operation or file.names == ["detection_out"]):
        return None
    # Without a word about it, class 0 is the background, as in SSD's own models.
    first = 0 if operation and not operation.background_first else 1
    return Dimensions(operation.classes if operation else None, first_class=first)


def _read(outputs: Sequence[Array], dimensions: Dimensions) -> Candidates:
    return read_rows(outputs[0][0, 0])


SSD = OutputLayout(
    name="ssd",
    task="detect",
    outputs="detection_out (1, 1, N, 7): image, class, score, corners, normalised; SSD, and others of the Open Model Zoo",
    match=_match,
    read=_read,
    box_format="xyxy",
    normalised=True,
    preparation=OPENVINO_PREPARATION,
    prepare_for=prepare_openvino,
)
# Two-stage networks converted from TensorFlow are told the size of their input.
SSD_WITH_SIZE = replace(SSD, further_inputs={"image_info": image_info})
