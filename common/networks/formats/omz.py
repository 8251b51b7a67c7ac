"""Layouts of models of OpenVINO's Open Model Zoo, besides SSD's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from common.networks.engine import Array
from common.networks.formats.box_masks import paste
from common.networks.formats.detections import Candidates, Detections
from common.networks.formats.layout import OutputLayout
from common.networks.formats.preparation import Placement, Preparation
from common.networks.formats.signature import Dimensions, Signature
from common.networks.formats.ssd import OPENVINO_PREPARATION, image_info, prepare_openvino, read_rows
from common.shapes import Mask
from common.vision.letterbox import Letterbox


def _match_boxes(file: Signature) -> Dimensions | None:
    if set(file.names) != {"boxes", "labels"} or file.hints.task not in (None, "detect"):
        return None
    boxes, labels = file.names.index("boxes"), file.names.index("labels")
    table, classes = file.shapes[boxes], file.shapes[labels]
    # With a batch in front they are other networks', whose inputs differ.
    fits = len(table) == 2 or (file.by_hand and len(table) == 3)
    return Dimensions(None, parts=(boxes, labels)) if fits and table[-1] == 5 and classes == table[:-1] else None


def _read_boxes(outputs: Sequence[Array], dimensions: Dimensions) -> Candidates:
    boxes, labels = (outputs[i] for i in dimensions.parts)
    if boxes.ndim == 3:
        boxes, labels = boxes[0], labels[0]
    return Candidates(boxes=boxes[:, :4], scores=boxes[:, 4], classes=labels)


BOXES = OutputLayout(
    name="omz-boxes",
    task="detect",
    outputs="boxes (N, 5): corners in pixels of the input, score; labels (N); face-detection-0205 and others of the Open Model Zoo",
    match=_match_boxes,
    read=_read_boxes,
    box_format="xyxy",
    preparation=OPENVINO_PREPARATION,
    prepare_for=prepare_openvino,
)


def _match_mask_rcnn(file: Signature) -> Dimensions | None:
    if set(file.names) != {"reshape_do_2d", "masks"} or file.hints.task not in (None, "segment"):
        return None
    rows, masks = file.names.index("reshape_do_2d"), file.names.index("masks")
    if len(file.shapes[rows]) != 2 or file.shapes[rows][1] != 7 or len(file.shapes[masks]) != 4:
        return None
    return Dimensions(file.shapes[masks][1] + 1, masks=masks, parts=(rows,), first_class=1)


def _read_mask_rcnn(outputs: Sequence[Array], dimensions: Dimensions) -> Candidates:
    return read_rows(outputs[dimensions.parts[0]])


def _masks_of_classes(
    output: NDArray[np.floating], found: Detections, boxes_xyxy: NDArray[np.float64], letterbox: Letterbox
) -> list[Mask]:
    """From the maps of all classes but the background, (N, C, h, w), that of each detection's class."""
    boxes = letterbox.to_image(found.boxes.reshape(-1, 2, 2)).reshape(
        -1, 4
    )  # not clipped: the whole map has to lie in them
    rows = found.extra[:, 0].astype(int)
    return [
        paste(output[row, index - 1], box, letterbox.image_hw, rounded=True)
        if 1 <= index <= output.shape[1]
        else Mask(bitmap=np.zeros((0, 0), np.bool_))
        for row, index, box in zip(rows, found.classes.tolist(), boxes.tolist(), strict=True)
    ]


MASK_RCNN = OutputLayout(
    name="mask-rcnn",
    task="segment",
    outputs="reshape_do_2d (N, 7): image, class, score, corners, normalised; masks (N, classes, h, w); TensorFlow's Mask R-CNN",
    match=_match_mask_rcnn,
    read=_read_mask_rcnn,
    box_format="xyxy",
    normalised=True,
    masks=_masks_of_classes,
    # As in training, and as OpenVINO's accuracy checker measured it: the proportions kept, zeros to the right or below.
    preparation=Preparation(placement=Placement.CORNER, bgr=True, mean=(0, 0, 0), deviation=(1, 1, 1)),
    further_inputs={"image_info": image_info},
)
