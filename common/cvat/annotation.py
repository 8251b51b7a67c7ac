"""Shapes as CVAT's annotations and back: plain objects as in its REST API and in its SDK's models.

Labels, attributes and joints are numbers there; the caller says which. Masks are run lengths, all other geometry is as in a
function's reply.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from common.cvat.labels import Label
from common.cvat.shape_json import parse_shape, rounded, write_shape
from common.shapes import Joint, Mask, Polygon, Shape, Skeleton, Tag
from common.vision.mask import outline_beside


@dataclass(frozen=True, slots=True)
class LabelIds:
    """The numbers by which CVAT knows a label of a function."""

    label: int
    """The id of the label."""
    attributes: Mapping[str, int] = field(default_factory=dict)
    """Attribute's name -> the id of its spec."""
    joints: Sequence[tuple[int, str | None]] = ()
    """The id of each sublabel, in order, with the name of the function's joint for it, or None."""

    @classmethod
    def own(cls, label: Label) -> LabelIds:
        """The ids in function.yaml; attributes have none there and are counted.

        Args:
            label: A label of the function.
        """
        return cls(
            label=label.id,
            attributes={attribute.name: i for i, attribute in enumerate(label.attributes)},
            joints=[(sublabel.id, sublabel.name) for sublabel in label.sublabels],
        )


def to_annotation(shape: Shape, ids: LabelIds, frame: int = 0) -> dict[str, Any]:
    """A tag (without `type`) or a shape as CVAT stores it on a frame.

    Attributes that `ids` doesn't have are left out. A skeleton gets all joints of `ids`: those that the shape lacks lie at
    the centre of the others, outside.

    Args:
        shape: One that went through `common.cvat.conform`.
        ids: The ids of its label.
        frame: The frame's number.
    """
    annotation: dict[str, Any] = {"frame": frame, "label_id": ids.label}
    if not isinstance(shape, Tag):
        # Skeletons have no points of their own.
        annotation |= {"type": shape.type, "points": []} if isinstance(shape, Skeleton) else write_shape(shape)
        if shape.score is not None:
            annotation["score"] = round(float(shape.score), 4)
    if isinstance(shape, Skeleton):
        annotation["elements"] = _elements(shape.joints, ids.joints, frame)
    if shape.group:
        annotation["group"] = shape.group
    annotation["attributes"] = [
        {"spec_id": ids.attributes[name], "value": str(value)}
        for name, value in shape.attributes.items()
        if name in ids.attributes
    ]
    return annotation


def from_annotation(annotation: Mapping[str, Any], label: str, ids: LabelIds) -> Shape:
    """The inverse of `to_annotation`.

    Args:
        annotation: A tag or a shape as CVAT stores it.
        label: The name of its label.
        ids: The ids of that label.

    Raises:
        BadRequest: The geometry is invalid.
    """
    kind = annotation.get("type")
    shape: Shape
    if kind is None:
        shape = Tag()
    elif kind == "skeleton":
        names = dict(ids.joints)
        shape = Skeleton(
            joints=tuple(
                Joint(str(names[e["label_id"]]), e["points"][0], e["points"][1], not e.get("outside"))
                for e in annotation["elements"]
            )
        )
    else:
        shape = parse_shape(annotation, "annotation")
    attributes = {identifier: name for name, identifier in ids.attributes.items()}
    return replace(
        shape,
        label=label,
        score=annotation.get("score"),
        group=annotation.get("group") or 0,
        attributes={attributes[a["spec_id"]]: a["value"] for a in annotation.get("attributes") or ()},
    )


def as_polygon(mask: Mask, tolerance: float) -> Polygon:
    """The polygon that goes beside a mask in a reply, as a shape of its own.

    Args:
        mask: The mask.
        tolerance: How far, in pixels, the polygon may leave the mask's edge.
    """
    outline = outline_beside(mask, tolerance)
    return Polygon(points_xy=outline, label=mask.label, score=mask.score, attributes=mask.attributes, group=mask.group)


def _elements(joints: Sequence[Joint], wanted: Sequence[tuple[int, str | None]], frame: int) -> list[dict[str, Any]]:
    by_name = {joint.name: joint for joint in joints}
    center = Joint(
        "",
        sum(joint.x for joint in joints) / len(joints),
        sum(joint.y for joint in joints) / len(joints),
        visible=False,
    )
    elements = []
    for label_id, name in wanted:
        joint = by_name.get(name, center) if name is not None else center
        point = rounded((joint.x, joint.y))
        elements.append(
            {"frame": frame, "label_id": label_id, "type": "points", "points": point, "outside": not joint.visible}
        )
    return elements
