"""What a network found in an image, and the shapes that a function's labels make of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.cvat.labels import Label, Labels
from common.errors import StartupError, listed
from common.networks.formats.metadata import class_names
from common.shapes import Joint, Mask, Polygon, Rectangle, Shape, Skeleton, Tag
from common.vision.geometry import rotated_corners
from common.vision.mask import mask_to_outline

LABEL_TYPES = {
    "detect": ("rectangle", "any"),
    "segment": ("mask", "polygon", "rectangle", "any"),
    "pose": ("skeleton", "rectangle"),
    "obb": ("rectangle", "polygon", "any"),
    "classify": ("tag", "any"),
}
"""Task -> types of labels that its results can have."""


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """N results, all in pixels of the image."""

    scores: NDArray[np.float32]
    """(N,), 0 to 1."""
    classes: NDArray[np.int64]
    """(N,) the model's class indices."""
    boxes_xyxy: NDArray[np.float64] | None = None
    """(N, 4) left, top, right, bottom, inside the image; None for a classification."""
    rotated_xywhr: NDArray[np.float64] | None = None
    """(N, 5) centre x, y, width, height, angle in radians, clockwise on the screen; for rotated boxes."""
    masks: tuple[Mask, ...] | None = None
    """N masks, none empty; for segmentation."""
    joints: NDArray[np.float64] | None = None
    """(N, K, 3) x, y, visibility from 0 to 1; for poses."""


def class_labels(labels: Labels, names: tuple[str, ...] | None, count: int | None, by_id: bool) -> dict[int, Label]:
    """Which label each class of the model has; classes without one are left out of the results.

    Args:
        labels: The function's labels.
        names: The names of the model's classes, None where its file has none.
        count: How many classes the model has, None where its file doesn't say.
        by_id: Whether the id of a label is its class index, whatever the names.

    Returns:
        Class index -> label.

    Raises:
        StartupError: Labels and model don't belong together.
    """
    if names is None or by_id:
        highest = len(names) if names is not None else count
        beyond = [
            label.name for label in labels.values() if label.id < 0 or (highest is not None and label.id >= highest)
        ]
        if beyond:
            raise StartupError(
                f"the model has {highest} classes, but the ids of these labels are not among 0 to {(highest or 0) - 1}: "
                f"{listed(beyond, 6)}. {_REMEDY}"
            )
        return {label.id: label for label in labels.values()}
    exact = {name: i for i, name in enumerate(class_names(names))}
    alike = {loose_name(name): i for name, i in exact.items()}
    places = {name: exact.get(name, alike.get(loose_name(name))) for name in labels}
    if unknown := [name for name, place in places.items() if place is None]:
        raise StartupError(
            f"the model has no class named {listed(unknown, 6)}; its {len(names)} classes: {listed(list(exact), 6)}. {_REMEDY} "
            "(or set LABELS_BY=id if the labels are other names for the model's classes)"
        )
    return {place: labels[name] for name, place in places.items() if place is not None}


def check_types(labels: Labels, task: str, joints: tuple[int, int] | None = None) -> None:
    """Checks that results of a task can be returned as the labels' types.

    Args:
        labels: The function's labels.
        task: One of LABEL_TYPES.
        joints: (How many joints, values of each) of a pose, None where that is unknown.

    Raises:
        StartupError: A label has another type, or another number of joints.
    """
    allowed = LABEL_TYPES[task]
    if wrong := [label.name for label in labels.values() if label.type not in allowed]:
        raise StartupError(
            f"the model's task is {task}; function.yaml's labels for it are of type {' or '.join(allowed)}, but these are "
            f"not: {listed(wrong, 6)}. {_REMEDY}"
        )
    for label in labels.values():
        if label.type == "skeleton" and joints is not None and len(label.sublabels) != joints[0]:
            raise StartupError(
                f"the model finds {joints[0]} joints, the label {label.name} has {len(label.sublabels)} sublabels. {_REMEDY}"
            )


def to_shapes(found: Found, labels: Mapping[int, Label], joint_threshold: float) -> list[Shape]:
    """The results whose class has a label, as shapes of that label's type.

    Args:
        found: The results.
        labels: Class index -> label.
        joint_threshold: The lowest visibility of a joint; other joints are outside. A skeleton without a visible joint is
            left out.
    """
    shapes: list[Shape] = []
    for i, index in enumerate(found.classes.tolist()):
        if index in labels:
            shapes += _shape(found, i, labels[index], joint_threshold)
    return shapes


def _shape(found: Found, i: int, label: Label, joint_threshold: float) -> Iterator[Shape]:
    score = float(found.scores[i])
    if label.type == "tag" or found.boxes_xyxy is None:
        yield Tag(label=label.name, score=score)
    elif found.rotated_xywhr is not None:
        x, y, w, h, angle = found.rotated_xywhr[i].tolist()
        rotation = float(np.degrees(angle)) % 360
        if label.type == "polygon":
            yield Polygon(label=label.name, score=score, points_xy=rotated_corners((x, y), (w, h), rotation))
        else:
            box = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
            yield Rectangle(label=label.name, score=score, box_xyxy=box, rotation=rotation)
    elif found.masks is not None and label.type in ("mask", "any"):
        mask = found.masks[i]
        yield Mask(label=label.name, score=score, bitmap=mask.bitmap, left=mask.left, top=mask.top)
    elif found.masks is not None and label.type == "polygon":
        outline = mask_to_outline(found.masks[i])
        if len(outline) >= 3:
            yield Polygon(label=label.name, score=score, points_xy=outline)
    elif found.joints is not None and label.type == "skeleton":
        joints = tuple(
            Joint(name=part.name, x=x, y=y, visible=visibility >= joint_threshold)
            for part, (x, y, visibility) in zip(label.sublabels, found.joints[i].tolist(), strict=True)
        )
        if any(joint.visible for joint in joints):
            yield Skeleton(label=label.name, score=score, joints=joints)
    else:
        left, top, right, bottom = found.boxes_xyxy[i].tolist()
        yield Rectangle(label=label.name, score=score, box_xyxy=(left, top, right, bottom))


_REMEDY = "Make a function for this model: make new WEIGHTS=<file> NAME=<name>"


# Names of COCO's classes in PASCAL VOC's words, which mmdetection's list has and with it many models of transformers.
_COCO_NAMES = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}


def loose_name(name: str) -> str:
    """A name without what differs between lists of the same classes: capitals, underscores, dashes, spaces, VOC's words.

    Args:
        name: Of a class.
    """
    plain = " ".join(name.replace("_", " ").replace("-", " ").casefold().split())
    return _COCO_NAMES.get(plain, plain)
