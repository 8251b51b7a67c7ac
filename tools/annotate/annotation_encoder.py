"""What a function found on a frame -> annotations of the task, as the JSON text that the server takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from common.cvat.annotation import as_polygon, to_annotation
from common.cvat.conform import attribute_text
from common.errors import ModelError
from common.shapes import Mask, Shape, Skeleton, Tag
from tools.annotate.errors import FrameError
from tools.annotate.label_mapping import Goal, LabelMapping, mask_hint


@dataclass(frozen=True, slots=True)
class FrameAnnotations:
    """The annotations of a frame. tags, shapes: the JSON text of each.

    left_out: what had no place in the task -> how often.
    """

    frame: int
    tags: Sequence[bytes] = ()
    shapes: Sequence[bytes] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class AnnotationEncoder:
    """mapping: where labels go. convert_masks: masks become polygons, within `tolerance` pixels of their edge."""

    mapping: LabelMapping
    convert_masks: bool = False
    tolerance: float = 1.0

    def __call__(self, frame: int, shapes: Sequence[Shape]) -> FrameAnnotations:
        """The annotations of a frame. shapes: as from `common.cvat.conform`. Raises FrameError for what can't be one."""
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

        goal = self.mapping.goals.get(shape.label)
        if goal is None:
            if shape.label not in self.mapping.goals and not self.mapping.leave_out_unknown:
                raise FrameError(f"the function gave the label {shape.label!r}, which the task does not have")
            leave_out(f"label {shape.label!r}")
            return None
        if self.convert_masks and isinstance(shape, Mask):
            shape = as_polygon(shape, self.tolerance)
        if goal.label.type not in ("any", shape.type):
            problem = f"label {shape.label!r} as {shape.type}, the task's is {goal.label.type}"
            if not self.mapping.leave_out_unknown:
                raise FrameError(f"the function gave the {problem}{mask_hint(shape.type, goal.label.type)}")
            leave_out(problem)
            return None
        if isinstance(shape, Skeleton) and not _any_visible(shape, goal):
            leave_out(f"label {shape.label!r} without a visible joint")
            return None
        attributes = {}
        for name, value in shape.attributes.items():
            if name in goal.attributes:
                try:
                    attributes[name] = attribute_text(goal.attributes[name], value, shape.label)
                except ModelError:
                    leave_out(f"label {shape.label!r}, attribute {name!r}: values that the task does not allow")
        annotation = to_annotation(replace(shape, attributes=attributes), goal.ids, frame)
        annotation["source"] = "auto"
        for element in annotation.get("elements", ()):
            element["source"] = "auto"
        return annotation


def _any_visible(shape: Skeleton, goal: Goal) -> bool:
    kept = {name for _, name in goal.ids.joints}
    return any(joint.visible and joint.name in kept for joint in shape.joints)
