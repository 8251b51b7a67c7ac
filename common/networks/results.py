"""What a network found in an image, and the shapes that a function's labels make of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.cvat.labels import Label, Labels
from common.errors import StartupError
from common.networks.formats.metadata import class_names
from common.shapes import Joint, Mask, Polygon, Rectangle, Shape, Skeleton, Tag
from common.vision.geometry import rotated_corners
from common.vision.mask import mask_to_outline

# Task -> label types that its results can be given as.
LABEL_TYPES = {
    "detect": ("rectangle", "any"),
    "segment": ("mask", "polygon", "rectangle", "any"),
    "pose": ("skeleton", "rectangle"),
    "obb": ("rectangle", "polygon", "any"),
    "classify": ("tag", "any"),
}


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """N results, all in pixels of the image.

    scores: (N,). classes: (N,) the model's class indices.
    boxes_xyxy: (N, 4) inside the image; None of a classification.
    rotated_xywhr: (N, 5) centre, size, angle in radians, clockwise on the screen; of oriented boxes.
    masks: N of the image, none empty. joints: (N, K, 3) x, y, visibility from 0 to 1.
    """

    scores: NDArray[np.float32]
    classes: NDArray[np.int64]
    boxes_xyxy: NDArray[np.float64] | None = None
    rotated_xywhr: NDArray[np.float64] | None = None
    masks: tuple[Mask, ...] | None = None
    joints: NDArray[np.float64] | None = None


def class_labels(labels: Labels, names: tuple[str, ...] | None, count: int | None, by_id: bool) -> dict[int, Label]:
    """Which label each class of the model has; classes without one are left out of the results.

    names, count: of the model's classes, None where its file doesn't say. by_id: take a label's id as the class, whatever
    the names. Raises StartupError when labels and model don't belong together.
    """
    if names is None or by_id:
        highest = len(names) if names is not None else count
        beyond = [
            label.name for label in labels.values() if label.id < 0 or (highest is not None and label.id >= highest)
        ]
        if beyond:
            raise StartupError(
                f"the model has {highest} classes, but the ids of these labels are not among 0 to {(highest or 0) - 1}: "
                f"{_list(beyond)}. {_REMEDY}"
            )
        return {label.id: label for label in labels.values()}
    exact = {name: i for i, name in enumerate(class_names(names))}
    alike = {_loose(name): i for name, i in exact.items()}
    places = {name: exact.get(name, alike.get(_loose(name))) for name in labels}
    if unknown := [name for name, place in places.items() if place is None]:
        raise StartupError(
            f"the model has no class named {_list(unknown)}; its {len(names)} classes: {_list(list(exact))}. {_REMEDY} "
            "(or set LABELS_BY=id if the labels are other names for the model's classes)"
        )
    return {place: labels[name] for name, place in places.items() if place is not None}


def check_types(labels: Labels, task: str, joints: tuple[int, int] | None = None) -> None:
    """Raises StartupError when results of a task can't be given as the labels' types."""
    allowed = LABEL_TYPES[task]
    if wrong := [label.name for label in labels.values() if label.type not in allowed]:
        raise StartupError(
            f"the model's task is {task}; function.yaml's labels for it are of type {' or '.join(allowed)}, but these are "
            f"not: {_list(wrong)}. {_REMEDY}"
        )
    for label in labels.values():
        if label.type == "skeleton" and joints is not None and len(label.sublabels) != joints[0]:
            raise StartupError(
                f"the model finds {joints[0]} joints, the label {label.name} has {len(label.sublabels)} sublabels. {_REMEDY}"
            )


def to_shapes(found: Found, labels: Mapping[int, Label], joint_threshold: float, tolerance: float = 1.0) -> list[Shape]:
    """The results whose class has a label, as shapes of that label's type.

    joint_threshold: the lowest visibility of a joint; others are outside. A skeleton without a visible joint is left out.
    tolerance: in pixels, of the polygons made of masks.
    """
    return [
        shape for i, label in _labelled(found, labels) for shape in _shape(found, i, label, joint_threshold, tolerance)
    ]


def _labelled(found: Found, labels: Mapping[int, Label]) -> Iterator[tuple[int, Label]]:
    for i, index in enumerate(found.classes.tolist()):
        if index in labels:
            yield i, labels[index]


def _shape(found: Found, i: int, label: Label, joint_threshold: float, tolerance: float) -> Iterator[Shape]:
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
        outline = mask_to_outline(found.masks[i], tolerance)
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


def _loose(name: str) -> str:
    """A name without what differs between lists of the same classes: capitals, underscores, dashes, spaces."""
    return " ".join(name.replace("_", " ").replace("-", " ").casefold().split())


def _list(names: list[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
