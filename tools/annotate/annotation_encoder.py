"""Encodes the shapes that a function found on a frame as annotations of the task, in the server's JSON, and reads them back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from common.cvat.annotation import as_polygon, from_annotation, to_annotation
from common.cvat.conform import attribute_text
from common.errors import ModelError
from common.shapes import Mask, Shape, Skeleton, Tag
from tools.annotate.errors import FrameError
from tools.annotate.label_mapping import LabelMapping, Target, TaskLabel, mask_hint


@dataclass(frozen=True, slots=True)
class FrameAnnotations:
    """The annotations of a frame."""

    frame: int
    tags: Sequence[bytes] = ()
    """The JSON text of each tag."""
    shapes: Sequence[bytes] = ()
    """The JSON text of each shape."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """What had no place in the task -> how often."""


@dataclass(frozen=True)
class AnnotationEncoder:
    """Encodes shapes for one task."""

    mapping: LabelMapping
    """The task's labels by those of the function."""
    convert_masks: bool = False
    """Whether masks become polygons."""
    tolerance: float = 1.0
    """How far, in pixels, such a polygon may leave the mask's edge."""

    def __call__(self, frame: int, shapes: Sequence[Shape]) -> FrameAnnotations:
        """The annotations of a frame.

        Args:
            frame: its number.
            shapes: as `common.cvat.conform` returns them.

        Raises:
            FrameError: when the task has no place for a shape, unless the mapping leaves out such shapes.
        """
        tags: list[bytes] = []
        texts: list[bytes] = []
        left_out: dict[str, int] = {}
        for shape in shapes:
            annotation = self._annotation(frame, shape, left_out)
            if annotation is not None:
                (tags if isinstance(shape, Tag) else texts).append(orjson.dumps(annotation))
        return FrameAnnotations(frame, tags, texts, left_out)

    def _annotation(self, frame: int, shape: Shape, left_out: dict[str, int]) -> dict[str, Any] | None:
        def leave_out(what: str) -> None:
            left_out[what] = left_out.get(what, 0) + 1

        target = self.mapping.targets.get(shape.label)
        if target is None:
            if shape.label not in self.mapping.targets and not self.mapping.leave_out_unknown:
                raise FrameError(f"the function returned the label {shape.label!r}, which the task does not have")
            leave_out(f"label {shape.label!r}")
            return None
        if self.convert_masks and isinstance(shape, Mask):
            shape = as_polygon(shape, self.tolerance)
        if target.label.type not in ("any", shape.type):
            problem = f"label {shape.label!r} as {shape.type}, the task's is {target.label.type}"
            if not self.mapping.leave_out_unknown:
                raise FrameError(f"the function returned the {problem}{mask_hint(shape.type, target.label.type)}")
            leave_out(problem)
            return None
        if isinstance(shape, Skeleton) and not _any_visible(shape, target):
            leave_out(f"label {shape.label!r} without a visible joint")
            return None
        attributes = {}
        for name, value in shape.attributes.items():
            if name in target.attributes:
                try:
                    attributes[name] = attribute_text(target.attributes[name], value, shape.label)
                except ModelError:
                    leave_out(f"label {shape.label!r}, attribute {name!r}: values that the task does not allow")
        annotation = to_annotation(replace(shape, attributes=attributes), target.ids, frame)
        annotation["source"] = "auto"
        for element in annotation.get("elements", ()):
            element["source"] = "auto"
        return annotation


def read_shapes(annotations: Sequence[Mapping[str, Any]], labels: Sequence[TaskLabel]) -> list[Shape]:
    """The shapes of annotations, with the task's names.

    Args:
        annotations: as `AnnotationEncoder` writes them.
        labels: of the task.
    """
    by_id = {label.label.id: label for label in labels}
    found = [(annotation, by_id[annotation["label_id"]]) for annotation in annotations]
    return [from_annotation(annotation, label.label.name, label.ids) for annotation, label in found]


def _any_visible(shape: Skeleton, target: Target) -> bool:
    kept = {name for _, name in target.ids.joints}
    return any(joint.visible and joint.name in kept for joint in shape.joints)
