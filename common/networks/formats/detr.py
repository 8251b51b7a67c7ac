"""What is exported of DETR and its successors: a row for each query, nothing to suppress.

Hugging Face's exports (optimum, torch.onnx.export) don't say what their logits mean, nor how images are prepared: the files
beside them do (`hub_settings`), or options set by hand.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from common.errors import StartupError
from common.networks.engine import Array, Tensor
from common.networks.formats.coco import COCO_CATEGORIES
from common.networks.formats.detections import Candidates
from common.networks.formats.full_masks import masks_of_rows
from common.networks.formats.hub_settings import HubSettings
from common.networks.formats.layout import OutputLayout, UnreadableOutputs
from common.networks.formats.preparation import Placement, Preparation
from common.networks.formats.signature import Dimensions, Signature
from common.networks.normalisation import IMAGENET_DEVIATION, IMAGENET_MEAN
from common.vision.letterbox import Letterbox

_SOFTMAX_TYPES = ("detr", "yolos", "table-transformer")
_SIGMOID_TYPES = (
    "conditional_detr",
    "dab-detr",
    "d_fine",
    "deformable_detr",
    "deimv2",
    "deta",
    "lw_detr",
    "rf_detr",
    "rt_detr",
    "rt_detr_v2",
)
_OF_BEST_100 = ("conditional_detr", "deformable_detr", "lw_detr")  # their processors return so many, others one a query
_BEST_100 = 100
_TASKS = ("detect", "segment")


def _match_hub(kind: str, task: str, file: Signature) -> Dimensions | None:
    parts = _hub_parts(file)
    if parts is None or _task(file, parts) != task or (task == "segment" and len(parts) < 3):
        return None
    if not file.by_hand and _hub_kind(file, parts) != kind:
        return None
    columns = file.shapes[parts[0]][2]
    classes = columns - 1 if kind == "softmax" else columns
    if classes < 1 or len(_names(file) or ()) > classes:
        return None
    return Dimensions(
        classes,
        masks=parts[2] if task == "segment" else None,
        extra=1,
        parts=parts[:2],
        most=_BEST_100 if file.hints.model_type in _OF_BEST_100 else file.shapes[parts[0]][1],
        names=file.hints.names,
    )


def _hub_parts(file: Signature) -> tuple[int, ...] | None:
    """Indices of logits, boxes and, where there are any, masks; None for another file."""
    places = {name: i for i, name in enumerate(file.names)}
    if not {"logits", "pred_boxes"} <= set(places):
        return None
    logits, boxes, masks = places["logits"], places["pred_boxes"], places.get("pred_masks")
    if not _are_queries(file, logits, boxes, masks):
        return None
    return (logits, boxes) if masks is None else (logits, boxes, masks)


def _are_queries(file: Signature, logits: int, boxes: int, masks: int | None) -> bool:
    """Whether outputs have a row of classes, four numbers and, where there are any, a map for each query."""
    scored, placed = file.shapes[logits], file.shapes[boxes]
    floating = all(np.issubdtype(file.outputs[i].dtype, np.floating) for i in (logits, boxes))
    if not floating or len(scored) != 3 or placed != (*scored[:2], 4):
        return False
    return masks is None or (len(file.shapes[masks]) == 4 and file.shapes[masks][1] == scored[1])


def _task(file: Signature, parts: Sequence[int]) -> str:
    """What to read: masks where the file has them, unless the task is set by hand."""
    return file.hints.task or ("segment" if len(parts) == 3 else "detect")


def _hub_kind(file: Signature, parts: Sequence[int]) -> str | None:
    """Whether the logits are of a softmax or of sigmoids; None when nothing says so."""
    if file.hints.model_type in _SOFTMAX_TYPES:
        return "softmax"
    if file.hints.model_type in _SIGMOID_TYPES:
        return "sigmoid"
    names = _names(file)
    # A softmax has one logit more, the last, for "no object".
    return {1: "softmax", 0: "sigmoid"}.get(file.shapes[parts[0]][2] - len(names)) if names else None


def _names(file: Signature) -> tuple[str, ...] | None:
    return file.metadata.names or file.hints.names


def _read_softmax(outputs: Sequence[Array], dimensions: Dimensions) -> Candidates:
    logits, boxes = _first_image(outputs, dimensions)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    scores = powers / powers.sum(axis=1, keepdims=True)
    return Candidates(boxes=boxes, scores=scores[:, :-1], extra=_rows(boxes))


def _read_sigmoid(outputs: Sequence[Array], dimensions: Dimensions) -> Candidates:
    logits, boxes = _first_image(outputs, dimensions)
    scores = 1 / (1 + np.exp(-np.clip(logits, -80, 80)))
    return Candidates(boxes=boxes, scores=scores, extra=_rows(boxes))


def _first_image(outputs: Sequence[Array], dimensions: Dimensions) -> tuple[NDArray[np.float32], Array]:
    """(Q, C) logits and (Q, 4) boxes."""
    logits, boxes = (outputs[i][0] for i in dimensions.parts)
    return np.asarray(logits, np.float32), boxes


def _rows(boxes: Array) -> NDArray[np.float32]:
    """(Q, 1): the index of each query, by which its mask is found."""
    return np.arange(len(boxes), dtype=np.float32)[:, None]


def _prepare_for(model: Path) -> Preparation:
    preparation = HubSettings.beside(model).preparation()
    if preparation is None:
        raise StartupError(
            f"{model}: nothing says how images are prepared for the network: put the model's preprocessor_config.json "
            "beside the file, as it is published with the model, or set MEAN and STD (values from 0 to 1: MEAN=0,0,0 STD=255,255,255; "
            "ImageNet's: MEAN=123.675,116.28,103.53 STD=58.395,57.12,57.375), and RESIZE if images are not stretched"
        )
    return preparation


def _pixel_mask(letterbox: Letterbox, port: Tensor) -> Array:
    """(1, h, w): 1 where the image lies in the input, 0 in the padding; of the port's size, or of the input's."""
    height, width = (side or own for side, own in zip(port.shape[1:], letterbox.size_hw, strict=True))
    rows = (np.arange(height) + 0.5) * letterbox.size_hw[0] / height - letterbox.top
    columns = (np.arange(width) + 0.5) * letterbox.size_hw[1] / width - letterbox.left
    rows_inside, columns_inside = (
        (places > 0) & (places < size) for places, size in zip((rows, columns), letterbox.inner_hw, strict=True)
    )
    return (rows_inside[:, None] & columns_inside)[None].astype(port.dtype)


_STRETCHED = Preparation(placement=Placement.STRETCHED, resampling=PillowImage.Resampling.BILINEAR)
_NORMALISED = replace(_STRETCHED, mean=IMAGENET_MEAN, deviation=IMAGENET_DEVIATION)
_SOFTMAX = tuple(
    OutputLayout(
        name="detr",
        task=task,
        outputs="logits (1, N, classes + 1), pred_boxes (1, N, 4), pred_masks: a softmax; DETR, YOLOS of transformers",
        match=partial(_match_hub, "softmax", task),
        read=_read_softmax,
        normalised=True,
        masks=masks_of_rows(0.0),
        preparation=_STRETCHED,
        prepare_for=_prepare_for,
        further_inputs={"pixel_mask": _pixel_mask},
        optional_inputs=frozenset({"pixel_mask"}),
    )
    for task in _TASKS
)
_SIGMOID = tuple(
    replace(
        layout,
        name="detr-sigmoid",
        outputs=(
            "logits (1, N, classes), pred_boxes (1, N, 4), pred_masks: sigmoids; RT-DETR, D-FINE, RF-DETR, Deformable and "
            "Conditional DETR of transformers"
        ),
        match=partial(_match_hub, "sigmoid", layout.task),
        read=_read_sigmoid,
        multiple_classes=True,
    )
    for layout in _SOFTMAX
)
HUB = (*_SOFTMAX, *_SIGMOID)


def _is_uncertain(file: Signature) -> bool:
    parts = _hub_parts(file)
    return parts is not None and not file.by_hand and _hub_kind(file, parts) is None


UNCERTAIN = UnreadableOutputs(
    match=_is_uncertain,
    remedy=(
        "a DETR exported from transformers, of an unknown kind: put its config.json and preprocessor_config.json beside the "
        "file, or set LAYOUT: detr (DETR, YOLOS: a softmax) or detr-sigmoid (RT-DETR, D-FINE, RF-DETR, Deformable DETR)"
    ),
)


def _match_upstream(file: Signature) -> Dimensions | None:
    places = {name: i for i, name in enumerate(file.names)}
    if set(places) != {"labels", "boxes", "scores"} or file.further_inputs != {"orig_target_sizes"}:
        return None
    parts = tuple(places[name] for name in ("labels", "boxes", "scores"))
    labels, boxes, scores = (file.shapes[i] for i in parts)
    if len(labels) != 2 or scores != labels or boxes != (*labels, 4) or file.task not in ("detect", None):
        return None
    return Dimensions(file.classes, parts=parts)


def _read_upstream(outputs: Sequence[Array], dimensions: Dimensions) -> Candidates:
    labels, boxes, scores = (outputs[i][0] for i in dimensions.parts)
    return Candidates(boxes=boxes, scores=scores, classes=labels)


def _prepare_upstream(model: Path) -> Preparation:
    """DEIMv2's networks whose backbone is DINOv3, after which the file names its parts, take normalised values."""
    with model.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return _NORMALISED if content.find(b"/dinov3/") >= 0 else _STRETCHED


UPSTREAM = OutputLayout(
    name="rtdetr-upstream",
    task="detect",
    outputs="labels, scores (1, N), boxes (1, N, 4): corners; RT-DETR, D-FINE, DEIM of their authors, with orig_target_sizes",
    match=_match_upstream,
    read=_read_upstream,
    box_format="xyxy",
    preparation=_STRETCHED,
    prepare_for=_prepare_upstream,
    # Boxes come in pixels of the image whose size the network is told: here its input.
    further_inputs={"orig_target_sizes": lambda letterbox, port: np.array([letterbox.size_hw[::-1]], port.dtype)},
)


def _match_rfdetr(task: str, file: Signature) -> Dimensions | None:
    if file.names[:2] != ["dets", "labels"] or not 2 <= len(file.names) <= 3:
        return None
    masks = 2 if len(file.names) == 3 else None  # its name differs from version to version
    if not _are_queries(file, 1, 0, masks) or (file.hints.task or ("detect" if masks is None else "segment")) != task:
        return None
    classes = file.shapes[1][2]
    if len(file.metadata.names or ()) > classes or (task == "segment" and masks is None):
        return None
    names = COCO_CATEGORIES if classes == len(COCO_CATEGORIES) else None
    return Dimensions(
        classes,
        masks=masks if task == "segment" else None,
        extra=1,
        parts=(1, 0),
        most=file.shapes[1][1],
        names=names,
    )


RFDETR = tuple(
    replace(
        layout,
        name="rfdetr",
        outputs="dets (1, N, 4): centre, size, normalised; labels (1, N, classes): logits; masks; of the package rfdetr",
        match=partial(_match_rfdetr, layout.task),
        preparation=_NORMALISED,
        prepare_for=None,
        further_inputs={},
        optional_inputs=frozenset(),
        class_order=(
            "the package rfdetr counts classes from 0 for data sets of YOLO, and from 1 for those of COCO and Roboflow, whose "
            "class 0 is never found"
        ),
    )
    for layout in _SIGMOID
)
LAYOUTS = (*HUB, UPSTREAM, *RFDETR)
