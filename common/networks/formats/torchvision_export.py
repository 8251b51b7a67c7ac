"""What torchvision's detection models give when they are exported as they are: boxes, labels, scores; with masks or keypoints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from common.networks.engine import Array, Tensor
from common.networks.formats.detections import Candidates
from common.networks.formats.full_masks import masks_of_rows
from common.networks.formats.image_input import image_port
from common.networks.formats.layout import OutputLayout
from common.networks.formats.preparation import Placement, Preparation
from common.networks.formats.signature import Dimensions, Signature

_Kind = Callable[[Tensor], bool]


def _is(rank: int, kind: type, **sizes: int) -> _Kind:
    """Whether an output has so many axes, the last one (or the second) of a size, and values of a type."""

    def fits(port: Tensor) -> bool:
        known = {
            "last": port.shape[-1] if port.shape else None,
            "second": port.shape[1] if len(port.shape) > 1 else None,
        }
        return (
            len(port.shape) == rank
            and np.issubdtype(port.dtype, kind)
            and all(known[name] == size for name, size in sizes.items())
        )

    return fits


_COMMON: dict[str, _Kind] = {
    "boxes": _is(2, np.floating, last=4),
    "labels": _is(1, np.integer),
    "scores": _is(1, np.floating),
}
_OUTPUTS: dict[str, dict[str, _Kind]] = {
    "detect": _COMMON,
    "segment": {**_COMMON, "masks": _is(4, np.floating, second=1)},
    "pose": {**_COMMON, "keypoints": _is(3, np.floating, last=3), "keypoints_scores": _is(2, np.floating)},
}


def _match(task: str, file: Signature) -> Dimensions | None:
    roles = _OUTPUTS[task]
    if len(file.outputs) != len(roles) or file.hints.task not in (None, task):
        return None
    named = set(file.names) == set(roles)
    image = image_port(file.inputs)
    # Exporters often leave the outputs without names; a single image without a batch is torchvision's alone.
    if not (named or file.by_hand or (image is not None and len(file.inputs[image].shape) == 3)):
        return None
    places = {
        role: [i for i, port in enumerate(file.outputs) if fits(port) and (not named or port.name == role)]
        for role, fits in roles.items()
    }
    if task == "pose" and not named:  # boxes and the scores of the keypoints are both tables; boxes come first
        places["boxes"], places["keypoints_scores"] = places["boxes"][:1], places["keypoints_scores"][-1:]
    if any(len(found) != 1 for found in places.values()) or len({found[0] for found in places.values()}) != len(roles):
        return None
    parts = tuple(places[role][0] for role in roles)
    joints = (file.shapes[parts[3]][1], 3) if task == "pose" else None
    return Dimensions(
        None,
        masks=parts[3] if task == "segment" else None,
        extra=joints[0] * 3 if joints else 0,
        joints=joints,
        parts=parts,
        first_class=1,
    )


def _read(outputs: Sequence[Array], dimensions: Dimensions) -> Candidates:
    boxes, labels, scores, *more = (outputs[i] for i in dimensions.parts)
    rows = np.arange(len(boxes), dtype=np.float32)[:, None]
    extra = more[0].reshape(len(boxes), -1) if dimensions.joints else rows
    return Candidates(boxes=boxes, scores=scores, classes=labels, extra=extra)


LAYOUTS = tuple(
    OutputLayout(
        name="torchvision",
        task=task,
        outputs=f"{', '.join(roles)}: corners in pixels of the input; torchvision's models",
        match=partial(_match, task),
        read=_read,
        box_format="xyxy",
        masks=masks_of_rows(0.5),
        preparation=Preparation(placement=Placement.CORNER, padding=0),
        any_size=True,
    )
    for task, roles in _OUTPUTS.items()
)
