"""The geometry of a shape as JSON, both directions: `{"type", "points", "rotation"?}`, as in a tracker's requests and replies.

A detector's reply and the annotations of CVAT's REST API hold the same, except for masks and skeletons in the former.
Coordinates are written in hundredths of a pixel, which is what CVAT's UI keeps; a mask is a list of run lengths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from common.cvat.fields import coordinates, number_field
from common.errors import MISSING, BadRequest
from common.shapes import Cuboid, Ellipse, Mask, Points, PointShape, Polygon, Polyline, Rectangle, Shape
from common.vision.geometry import FEWEST_POINTS
from common.vision.image import max_pixels
from common.vision.mask import cropped, mask_to_rle, rle_to_mask

DECIMALS = 2
"""Of coordinates and rotations in JSON."""

_POINT_SHAPES = {kind.type: kind for kind in (Polygon, Polyline, Points, Cuboid)}


def write_shape(shape: Shape) -> dict[str, Any]:
    """The JSON of a shape's geometry.

    Args:
        shape: Any shape but a tag or a skeleton, inside an image.

    Raises:
        TypeError: The shape has no points.
    """
    written: dict[str, Any] = {"type": shape.type, "points": shape_points(shape)}
    if isinstance(shape, (Rectangle, Ellipse)) and shape.rotation:
        written["rotation"] = round(shape.rotation, DECIMALS)
    return written


def parse_shape(value: Any, name: str) -> Shape:
    """The inverse of `write_shape`; a bare list of four numbers is a rectangle.

    Args:
        value: The parsed JSON.
        name: The field, as errors name it.

    Returns:
        The shape, without label and score; the box of a rectangle is ordered, a mask cropped to its pixels.

    Raises:
        BadRequest: It is not a shape, or one without an area or a pixel.
    """
    if isinstance(value, Mapping):
        kind, where = value.get("type", MISSING), f"{name}.points"
        points = coordinates(value.get("points", MISSING), where, "a list of numbers")
        rotation = number_field(value, "rotation", where=f"{name}.") or 0.0
    else:
        kind, where, rotation = "rectangle", name, 0.0
        points = coordinates(value, name, 'a shape {"type", "points"} or a box [xtl, ytl, xbr, ybr]')
    if kind == "mask":
        return _mask(points, where)
    if kind == "rectangle":
        BadRequest.check(len(points) == 4, where, "4 numbers, xtl, ytl, xbr, ybr", points)
        (left, right), (top, bottom) = sorted(points[0::2]), sorted(points[1::2])
        BadRequest.check(right > left and bottom > top, where, "a box with an area", points)
        points = [left, top, right, bottom]
    elif kind == "ellipse":
        BadRequest.check(len(points) == 4, where, "4 numbers, cx, cy, right x, top y", points)
        BadRequest.check(points[2] > points[0] and points[3] < points[1], where, "an ellipse with an area", points)
    elif isinstance(kind, str) and kind in FEWEST_POINTS:
        fewest = FEWEST_POINTS[kind]
        expected = f"x and y of {fewest} point{'s' if fewest > 1 else ''} or more"
        BadRequest.check(len(points) % 2 == 0 and len(points) >= 2 * fewest, where, expected, points)
    else:
        raise BadRequest.field(f"{name}.type", "rectangle, ellipse, polygon, polyline, points, cuboid or mask", kind)
    return shape_of_points(kind, points, rotation)


def shape_points(shape: Shape) -> list[float]:
    """The flat list of numbers by which CVAT stores a shape's geometry.

    Args:
        shape: Any shape but a tag or a skeleton.

    Returns:
        [xtl, ytl, xbr, ybr] of a rectangle and [cx, cy, right x, top y] of an ellipse, both before the rotation; run
        lengths and the box, inclusive, of a mask; x and y of the points of all others.

    Raises:
        TypeError: The shape has no points.
    """
    if isinstance(shape, Rectangle):
        return rounded(shape.box_xyxy)
    if isinstance(shape, Ellipse):
        (cx, cy), (rx, ry) = shape.center_xy, shape.radii_xy
        return rounded((cx, cy, cx + rx, cy - ry))
    if isinstance(shape, PointShape):
        return rounded(shape.points_xy)
    if isinstance(shape, Mask):
        return [float(v) for v in mask_to_rle(shape)]
    raise TypeError(f"a {shape.type} has no points")


def shape_of_points(kind: str, points: Sequence[float], rotation: float = 0.0) -> Shape:
    """The inverse of `shape_points`.

    Args:
        kind: The type of the shape.
        points: What `shape_points` returned.
        rotation: Of a rectangle or an ellipse, in degrees.

    Raises:
        ValueError: They are not the points of a shape of that type.
    """
    if kind == "mask":
        return rle_to_mask(points)
    if kind in _POINT_SHAPES:
        return _POINT_SHAPES[kind](points_xy=np.array(points, np.float64))
    a, b, c, d = points
    if kind == "rectangle":
        return Rectangle(box_xyxy=(a, b, c, d), rotation=rotation)
    if kind == "ellipse":
        return Ellipse(center_xy=(a, b), radii_xy=(c - a, b - d), rotation=rotation)
    raise ValueError(f"a {kind} has no points")


def rounded(values: ArrayLike) -> list[float]:
    """Coordinates as JSON has them: flat, in hundredths.

    Args:
        values: Numbers of any shape.
    """
    numbers: list[float] = np.round(np.asarray(values, np.float64).ravel(), DECIMALS).tolist()
    return numbers


def _mask(points: list[float], where: str) -> Mask:
    BadRequest.check(len(points) > 4, where, "run lengths and a box", points)
    left, top, right, bottom = points[-4:]
    # Checked before anything of the box's size is allocated.
    BadRequest.check(
        (right - left + 1) * (bottom - top + 1) <= max_pixels(), where, "a mask no larger than an image", points
    )
    try:
        mask = cropped(rle_to_mask(points))
    except ValueError as error:
        raise BadRequest(f"{where}: {error}") from error
    BadRequest.check(mask.bitmap.size > 0, where, "a mask with at least one pixel", points)
    return mask
