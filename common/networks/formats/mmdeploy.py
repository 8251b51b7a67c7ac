"""What mmdeploy exports of mmdetection's networks: final boxes, with masks of the boxes or of the whole input."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from common.networks.engine import Array
from common.networks.formats.box_masks import paste
from common.networks.formats.detections import Candidates, Detections
from common.networks.formats.full_masks import masks_of_rows
from common.networks.formats.layout import MaskDecoder, OutputLayout
from common.networks.formats.mmdeploy_pipeline import IMAGENET, read_pipeline
from common.networks.formats.signature import Dimensions, Signature
from common.shapes import Mask
from common.vision.letterbox import Letterbox


def _match(kind: str, file: Signature) -> Dimensions | None:
    expected = {"dets", "labels"} if kind == "boxes" else {"dets", "labels", "masks"}
    task = "detect" if kind == "boxes" else "segment"
    if set(file.names) != expected or len(file.names) != len(expected) or file.hints.task not in (None, task):
        return None
    dets, labels = file.names.index("dets"), file.names.index("labels")
    table = file.shapes[dets]
    if len(table) != 3 or table[2] != 5 or file.shapes[labels] != table[:2]:
        return None
    if kind == "boxes":
        return Dimensions(file.classes, parts=(dets, labels))
    masks = file.names.index("masks")
    shape = file.shapes[masks]
    if len(shape) != 4 or shape[:2] != table[:2] or (shape[2:] == file.size_hw) != (kind == "full masks"):
        return None
    return Dimensions(file.classes, masks=masks, parts=(dets, labels))


def _read(outputs: Sequence[Array], dimensions: Dimensions) -> Candidates:
    dets, labels = (outputs[i][0] for i in dimensions.parts)
    rows = np.arange(len(dets), dtype=np.float32)[:, None]
    return Candidates(boxes=dets[:, :4], scores=dets[:, 4], classes=labels, extra=rows)


def _masks_of_boxes(
    output: NDArray[np.floating], found: Detections, boxes_xyxy: NDArray[np.float64], letterbox: Letterbox
) -> list[Mask]:
    boxes = letterbox.to_image(found.boxes.reshape(-1, 2, 2)).reshape(
        -1, 4
    )  # not clipped: the whole map has to lie in them
    rows = found.extra[:, 0].astype(int)
    return [paste(output[0, row], box, letterbox.image_hw) for row, box in zip(rows, boxes.tolist(), strict=True)]


def _layout(kind: str, masks: MaskDecoder) -> OutputLayout:
    more = {
        "boxes": "",
        "box masks": "; masks (1, N, 28, 28) of the boxes",
        "full masks": "; masks (1, N, height, width)",
    }
    return OutputLayout(
        name="mmdeploy",
        task="detect" if kind == "boxes" else "segment",
        outputs=f"dets (1, N, 5): corners, score; labels (1, N){more[kind]}; mmdetection's networks, exported by mmdeploy",
        match=partial(_match, kind),
        read=_read,
        box_format="xyxy",
        masks=masks,
        preparation=IMAGENET,
        prepare_for=read_pipeline,
    )


LAYOUTS = (
    _layout("boxes", _masks_of_boxes),
    _layout("box masks", _masks_of_boxes),
    _layout("full masks", masks_of_rows(0.5)),
)
