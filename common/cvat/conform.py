"""Shapes as a model returns them, made into shapes that CVAT keeps, or refused.

CVAT silently drops what it does not understand, so an invalid shape would look like "nothing found". What has one right
correction is corrected (a box that sticks out of the image, a float for a whole number); the rest is a ModelError.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.cvat.labels import Attribute, Label, Labels
from common.errors import ModelError, NothingInside, describe, listed
from common.shapes import AttributeValue, Cuboid, Ellipse, Joint, Mask, PointShape, Polygon, Rectangle, Shape, Skeleton
from common.vision.geometry import FEWEST_POINTS, clip_box, clip_point, clip_points, points_bounds_xyxy
from common.vision.mask import clipped


def conform(shapes: Iterable[Shape], labels: Labels, size_hw: tuple[int, int]) -> list[Shape]:
    """The shapes of a detector, with their labels, attributes and geometry as CVAT takes them.

    Args:
        shapes: What the handler returned.
        labels: The labels of the function.
        size_hw: Height and width of the image.

    Raises:
        ModelError: A shape can't be corrected; the message names it and what is wrong with it.
    """
    return [_conform_labelled(shape, labels, size_hw, f"shape {i}") for i, shape in enumerate(shapes)]


def conform_geometry(shape: Shape, size_hw: tuple[int, int], where: str = "shape") -> Shape:
    """One shape with its geometry clipped to the image.

    Args:
        shape: Any shape.
        size_hw: Height and width of the image.
        where: The shape's name in errors.

    Raises:
        NothingInside: Nothing of it is left.
        ModelError: Its geometry is invalid, whatever the image.
    """
    height, width = size_hw
    if isinstance(shape, Rectangle):
        box = _finite(shape.box_xyxy, f"{where}: box")
        rotation = float(_finite((shape.rotation,), f"{where}: rotation")[0]) % 360
        left, top, right, bottom = (float(v) for v in box)
        if not (right > left and bottom > top):
            raise ModelError(f"{where}: expected a box with an area, got {_brief(box)}")
        if rotation % 180 == 0:
            # CVAT's points are the corners before the rotation; a box that lies straight is clipped, a turned one can't be.
            left, top, right, bottom = clip_box((left, top, right, bottom), size_hw)
        center_x, center_y = (left + right) / 2, (top + bottom) / 2
        if not (right > left and bottom > top and 0 <= center_x <= width and 0 <= center_y <= height):
            raise NothingInside(f"{where}: the box {_brief(box)} is outside the image of {width} x {height} pixels")
        return replace(shape, box_xyxy=(left, top, right, bottom), rotation=rotation)
    if isinstance(shape, Ellipse):
        numbers = _finite((*shape.center_xy, *shape.radii_xy, shape.rotation), f"{where}: ellipse")
        cx, cy, rx, ry, rotation = (float(v) for v in numbers)
        if not (rx > 0 and ry > 0):
            raise ModelError(f"{where}: expected an ellipse with an area, got radii {_brief((rx, ry))}")
        if not (0 <= cx <= width and 0 <= cy <= height):
            raise NothingInside(
                f"{where}: the centre {_brief((cx, cy))} is outside the image of {width} x {height} pixels"
            )
        return replace(shape, rotation=rotation % 360)
    if isinstance(shape, PointShape):
        points = _finite(shape.points_xy, f"{where}: points")
        fewest = FEWEST_POINTS[shape.type]
        if len(points) < fewest or (isinstance(shape, Cuboid) and len(points) != fewest):
            more = "" if isinstance(shape, Cuboid) else " or more"
            raise ModelError(f"{where}: expected {fewest}{more} points for type {shape.type}, got {len(points)}")
        if isinstance(shape, Cuboid):  # its edges are parallel in pairs: clipping one corner would bend it
            return shape
        return replace(shape, points_xy=_clip_points(points, size_hw, where, has_area=isinstance(shape, Polygon)))
    if isinstance(shape, Mask):
        if not shape.bitmap.any():
            raise NothingInside(f"{where}: the mask is empty")
        inside = clipped(shape, size_hw)
        if not inside.bitmap.size:
            raise NothingInside(f"{where}: the mask is outside the image of {width} x {height} pixels")
        return inside if inside.outline_xy is None else replace(inside, outline_xy=_outline(inside, size_hw, where))
    if isinstance(shape, Skeleton):
        return replace(shape, joints=tuple(_conform_joint(joint, size_hw, where) for joint in shape.joints))
    return shape


def attribute_text(attribute: Attribute, value: AttributeValue, where: str) -> str:
    """The text that CVAT takes for a value of an attribute.

    Args:
        attribute: The attribute.
        value: The value; a number is rounded to the attribute's nearest step.
        where: The shape's name in errors.

    Raises:
        ModelError: The attribute does not allow the value.
    """
    name = f"{where}: attribute {attribute.name}"
    if attribute.input_type == "number":
        return _number_text(attribute, value, name)
    if isinstance(value, (bool, np.bool_)):
        text = "true" if value else "false"
    elif isinstance(value, (int, float, np.integer, np.floating)):
        if not math.isfinite(value):
            raise ModelError(f"{name}: expected a value, got {value}")
        text = str(int(value)) if float(value).is_integer() else str(float(value))
    elif isinstance(value, str):
        text = value
    else:
        raise ModelError(f"{name}: expected a text, got {describe(value)}")
    allowed = {"checkbox": ("true", "false"), "select": attribute.values, "radio": attribute.values}
    if attribute.input_type in allowed and text not in allowed[attribute.input_type]:
        raise ModelError(f"{name}: expected one of {', '.join(allowed[attribute.input_type])}, got {describe(value)}")
    return text


def _conform_labelled(shape: Shape, labels: Labels, size_hw: tuple[int, int], where: str) -> Shape:
    label = labels.get(shape.label)
    if label is None:
        raise ModelError(f"{where}: the label {shape.label!r} is not in the function's spec: {listed(list(labels), 8)}")
    where = f"{where} ({label.name})"
    if label.type not in ("any", shape.type):
        raise ModelError(f"{where}: the label is of type {label.type}, the shape a {shape.type}")
    if isinstance(shape, Skeleton):
        _check_joints(shape, label, where)
    shape = conform_geometry(shape, size_hw, where)
    score = shape.score
    if score is not None:
        if not math.isfinite(score):
            raise ModelError(f"{where}: expected a confidence from 0 to 1, got {score}")
        score = min(max(float(score), 0.0), 1.0)
    if isinstance(shape.group, bool) or not isinstance(shape.group, (int, np.integer)) or shape.group < 0:
        raise ModelError(f"{where}: expected a group number of 0 or more, got {describe(shape.group)}")
    return replace(shape, score=score, group=int(shape.group), attributes=_texts(shape.attributes, label, where))


def _texts(values: Any, label: Label, where: str) -> dict[str, str]:
    texts = {}
    for name, value in values.items():
        attribute = label.attribute(name)
        if attribute is None:
            known = listed([a.name for a in label.attributes], 8)
            raise ModelError(f"{where}: the attribute {name!r} is not in the function's spec: {known}")
        texts[name] = attribute_text(attribute, value, where)
    return texts


def _number_text(attribute: Attribute, value: Any, name: str) -> str:
    minimum, maximum, step = attribute.number_range
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, (bool, np.bool_)) or not math.isfinite(number):
        raise ModelError(f"{name}: expected a number, got {describe(value)}")
    # The step is the resolution in which the label's author wants the value: the nearest one is right.
    nearest = minimum + round((number - minimum) / step) * step
    if nearest > maximum >= number:  # the range ends between two steps
        nearest -= step
    if not minimum <= nearest <= maximum:
        raise ModelError(f"{name}: expected a number from {minimum} to {maximum}, got {describe(value)}")
    return str(nearest)


def _check_joints(shape: Skeleton, label: Label, where: str) -> None:
    known = [sublabel.name for sublabel in label.sublabels]
    given = [joint.name for joint in shape.joints]
    if unknown := sorted(set(given) - set(known)):
        raise ModelError(f"{where}: the joints {listed(unknown, 8)} are not in the function's spec: {listed(known, 8)}")
    if len(set(given)) != len(given):
        raise ModelError(f"{where}: a joint is given more than once")
    if not any(joint.visible for joint in shape.joints):
        raise ModelError(f"{where}: expected at least one visible joint; CVAT drops a skeleton without one")


def _conform_joint(joint: Joint, size_hw: tuple[int, int], where: str) -> Joint:
    if not (math.isfinite(joint.x) and math.isfinite(joint.y)):
        raise ModelError(f"{where}: joint {joint.name}: expected a point, got [{joint.x}, {joint.y}]")
    x, y = clip_point((float(joint.x), float(joint.y)), size_hw)
    return replace(joint, x=x, y=y)


def _finite(values: Any, what: str) -> NDArray[np.float64]:
    array = np.asarray(values, np.float64)
    if not np.isfinite(array).all():
        raise ModelError(f"{what}: expected finite numbers, got {_brief(array)}")
    return array


def _clip_points(
    points: NDArray[np.float64], size_hw: tuple[int, int], where: str, *, has_area: bool
) -> NDArray[np.float64]:
    """Points (N, 2) moved onto the image; `has_area`: what only touches the image's border is outside of it."""
    height, width = size_hw
    left, top, right, bottom = points_bounds_xyxy(points)
    if has_area and not (right > left and bottom > top):
        raise ModelError(f"{where}: expected a polygon with an area, got {_brief(points)}")
    outside = right < 0 or bottom < 0 or left > width or top > height
    if outside or (has_area and (right == 0 or bottom == 0 or left == width or top == height)):
        raise NothingInside(f"{where}: all points are outside the image of {width} x {height} pixels")
    return clip_points(points, size_hw)


def _outline(mask: Mask, size_hw: tuple[int, int], where: str) -> NDArray[np.float64]:
    outline = _finite(mask.outline_xy, f"{where}: outline").reshape(-1, 2)
    if len(outline) < 3:
        raise ModelError(f"{where}: the outline of a mask needs 3 points, got {len(outline)}")
    return clip_points(outline, size_hw)


def _brief(values: Any) -> str:
    numbers = np.ravel(np.asarray(values, np.float64))
    return "[" + ", ".join(f"{v:g}" for v in numbers[:4]) + (", ..." if numbers.size > 4 else "") + "]"
