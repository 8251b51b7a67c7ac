"""Plane geometry of shapes, boxes and points, in floating-point pixels of the image: x to the right, y down.

A box is (left, top, right, bottom). Rotations are in degrees, clockwise on the screen, about the centre of the box.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from common.shapes import BoxXyxy, Ellipse, Mask, PointShape, Polygon, Rectangle, Shape, Skeleton
from common.vision.mask import outline_beside

FEWEST_POINTS: Mapping[str, int] = {"polygon": 3, "polyline": 2, "points": 1, "cuboid": 8}
"""The fewest points of each type of shape that is made of points; a cuboid has exactly that many."""

_ELLIPSE_CORNERS = 72


def rotated_corners(
    center_xy: tuple[float, float], size_wh: tuple[float, float], degrees: float
) -> NDArray[np.float64]:
    """The corners of a rotated box.

    Args:
        center_xy: The centre of the box.
        size_wh: Width and height before the rotation.
        degrees: The rotation.

    Returns:
        (4, 2): the corners that are top left, top right, bottom right and bottom left before the rotation.
    """
    width, height = size_wh
    corners = np.array([(-width, -height), (width, -height), (width, height), (-width, height)]) / 2
    return _rotated(corners, degrees) + center_xy


def box_corners(box_xyxy: BoxXyxy, degrees: float = 0.0) -> NDArray[np.float64]:
    """The corners of a box, rotated about its centre.

    Args:
        box_xyxy: The box before the rotation.
        degrees: The rotation.

    Returns:
        (4, 2) in the order of `rotated_corners`.
    """
    left, top, right, bottom = box_xyxy
    if not degrees:
        return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float64)
    return rotated_corners(((left + right) / 2, (top + bottom) / 2), (right - left, bottom - top), degrees)


def ellipse_points(
    center_xy: tuple[float, float], radii_xy: tuple[float, float], degrees: float = 0.0, count: int = _ELLIPSE_CORNERS
) -> NDArray[np.float64]:
    """Points on an ellipse, a polygon of equal angles.

    Args:
        center_xy: The centre.
        radii_xy: Half axes along x and y before the rotation.
        degrees: The rotation.
        count: How many points.

    Returns:
        (count, 2), clockwise on the screen.
    """
    angles = np.linspace(0, 2 * math.pi, count, endpoint=False)
    return _rotated(np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii_xy, degrees) + center_xy


def rotated_size_wh(size_wh: tuple[float, float], degrees: float) -> tuple[float, float]:
    """Width and height of the upright box around a rotated one.

    Args:
        size_wh: Width and height before the rotation.
        degrees: The rotation.
    """
    width, height = size_wh
    cos, sin = abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees)))
    return width * cos + height * sin, width * sin + height * cos


def rotated_bounds_xyxy(box_xyxy: BoxXyxy, degrees: float) -> BoxXyxy:
    """The upright box around a box that is rotated about its centre.

    Args:
        box_xyxy: The box before the rotation.
        degrees: The rotation.
    """
    if not degrees:
        return box_xyxy
    left, top, right, bottom = box_xyxy
    x, y = (left + right) / 2, (top + bottom) / 2
    width, height = rotated_size_wh((right - left, bottom - top), degrees)
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def points_bounds_xyxy(points_xy: ArrayLike) -> BoxXyxy:
    """The upright box around points.

    Args:
        points_xy: (N, 2), N of 1 or more.
    """
    points = np.asarray(points_xy, np.float64)
    (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return left, top, right, bottom


def bounds_xyxy(shape: Shape) -> BoxXyxy | None:
    """The upright box around a shape.

    Args:
        shape: Any shape; of a skeleton the visible joints count.

    Returns:
        The box, or None for a shape that is nowhere: a tag, a skeleton without a visible joint, a shape without points.
    """
    if isinstance(shape, Rectangle):
        return rotated_bounds_xyxy(shape.box_xyxy, shape.rotation)
    if isinstance(shape, Ellipse):
        (x, y), (a, b) = shape.center_xy, shape.radii_xy
        cos, sin = math.cos(math.radians(shape.rotation)), math.sin(math.radians(shape.rotation))
        reach_x, reach_y = math.hypot(a * cos, b * sin), math.hypot(a * sin, b * cos)
        return x - reach_x, y - reach_y, x + reach_x, y + reach_y
    if isinstance(shape, Mask):
        return shape.box_xyxy
    if isinstance(shape, Skeleton):
        points = np.array([(joint.x, joint.y) for joint in shape.joints if joint.visible], np.float64)
    elif isinstance(shape, PointShape):
        points = shape.points_xy
    else:
        return None
    return points_bounds_xyxy(points) if len(points) else None


def outline_xy(shape: Shape, tolerance: float = 1.0) -> NDArray[np.float64] | None:
    """The polygon around what a shape covers.

    Args:
        shape: Any shape.
        tolerance: How far, in pixels, the polygon may leave the edge of a mask that has no outline of its own.

    Returns:
        (N, 2) corners, N of 3 or more (0 for an empty mask), or None for a shape that covers no area of its own: a tag,
        polyline, points, skeleton or cuboid.
    """
    if isinstance(shape, Rectangle):
        return box_corners(shape.box_xyxy, shape.rotation)
    if isinstance(shape, Ellipse):
        return ellipse_points(shape.center_xy, shape.radii_xy, shape.rotation)
    if isinstance(shape, Mask):
        return outline_beside(shape, tolerance)
    return shape.points_xy if isinstance(shape, Polygon) else None


def shifted(shape: Shape, dx: int, dy: int) -> Shape:
    """A shape moved by whole pixels, as from a part of an image to the image.

    Args:
        shape: Any shape.
        dx: How far to the right.
        dy: How far down.
    """
    if isinstance(shape, Rectangle):
        left, top, right, bottom = shape.box_xyxy
        return replace(shape, box_xyxy=(left + dx, top + dy, right + dx, bottom + dy))
    if isinstance(shape, Ellipse):
        return replace(shape, center_xy=(shape.center_xy[0] + dx, shape.center_xy[1] + dy))
    if isinstance(shape, PointShape):
        return replace(shape, points_xy=shape.points_xy + (dx, dy))
    if isinstance(shape, Mask):
        outline = None if shape.outline_xy is None else shape.outline_xy + (dx, dy)
        return replace(shape, left=shape.left + dx, top=shape.top + dy, outline_xy=outline)
    if isinstance(shape, Skeleton):
        return replace(shape, joints=tuple(replace(joint, x=joint.x + dx, y=joint.y + dy) for joint in shape.joints))
    return shape


def clip_points(points_xy: ArrayLike, size_hw: tuple[int, int]) -> NDArray[np.float64]:
    """Points moved onto an image, each to the nearest place in it.

    Args:
        points_xy: (..., 2).
        size_hw: Height and width of the image.
    """
    clipped: NDArray[np.float64] = np.clip(np.asarray(points_xy, np.float64), 0, (size_hw[1], size_hw[0]))
    return clipped


def clip_point(point_xy: tuple[float, float], size_hw: tuple[int, int]) -> tuple[float, float]:
    """One point moved onto an image, to the nearest place in it.

    Args:
        point_xy: The point.
        size_hw: Height and width of the image.
    """
    return min(max(point_xy[0], 0.0), float(size_hw[1])), min(max(point_xy[1], 0.0), float(size_hw[0]))


def clip_box(box_xyxy: BoxXyxy, size_hw: tuple[int, int]) -> BoxXyxy:
    """The part of an upright box that lies in an image; without an area when nothing does.

    Args:
        box_xyxy: The box.
        size_hw: Height and width of the image.
    """
    return (*clip_point(box_xyxy[:2], size_hw), *clip_point(box_xyxy[2:], size_hw))


def pixels_of_box(box_xyxy: ArrayLike, size_hw: tuple[int, int]) -> tuple[int, int, int, int]:
    """The pixels of an image that an upright box touches: at least one, the nearest if the box lies outside.

    Args:
        box_xyxy: The box, 4 numbers.
        size_hw: Height and width of the image.

    Returns:
        (left, top, right, bottom) in whole pixels, right and bottom exclusive.
    """
    left, top, right, bottom = np.asarray(box_xyxy, np.float64).tolist()
    column, row = (min(max(math.floor(v), 0), side - 1) for v, side in ((left, size_hw[1]), (top, size_hw[0])))
    return (
        column,
        row,
        min(max(math.ceil(right), column + 1), size_hw[1]),
        min(max(math.ceil(bottom), row + 1), size_hw[0]),
    )


def intersection_xyxy(first_xyxy: BoxXyxy, second_xyxy: BoxXyxy) -> BoxXyxy:
    """The box that two upright boxes share; its `box_area` is 0 when they share none.

    Args:
        first_xyxy: One box.
        second_xyxy: The other.
    """
    (x0, y0, x1, y1), (left, top, right, bottom) = first_xyxy, second_xyxy
    return max(x0, left), max(y0, top), min(x1, right), min(y1, bottom)


def union_xyxy(first_xyxy: BoxXyxy, second_xyxy: BoxXyxy) -> BoxXyxy:
    """The upright box around two upright boxes.

    Args:
        first_xyxy: One box.
        second_xyxy: The other.
    """
    (x0, y0, x1, y1), (left, top, right, bottom) = first_xyxy, second_xyxy
    return min(x0, left), min(y0, top), max(x1, right), max(y1, bottom)


def box_area(box_xyxy: BoxXyxy) -> float:
    """The area of a box in square pixels; 0 when its right is not beyond its left, or its bottom not below its top.

    Args:
        box_xyxy: The box.
    """
    left, top, right, bottom = box_xyxy
    return max(right - left, 0) * max(bottom - top, 0)


def box_iou(first_xyxy: BoxXyxy, second_xyxy: BoxXyxy) -> float:
    """Intersection over union of two upright boxes, 0 to 1.

    Args:
        first_xyxy: One box, with an area.
        second_xyxy: The other.
    """
    shared = box_area(intersection_xyxy(first_xyxy, second_xyxy))
    return shared / (box_area(first_xyxy) + box_area(second_xyxy) - shared)


def shared_areas(first: Shape, second: Shape) -> tuple[float, float, float]:
    """How much of the image two shapes share: the pixels of masks, rotated boxes as such, of all others the upright boxes.

    Args:
        first: Any shape.
        second: Any shape.

    Returns:
        The areas, in square pixels, that both cover, that the first and that the second covers.
    """
    if isinstance(first, Mask) and isinstance(second, Mask):
        own, its_own = int(first.bitmap.sum()), int(second.bitmap.sum())
        zone = intersection_xyxy(first.box_xyxy, second.box_xyxy)
        if not box_area(zone):
            return 0, own, its_own
        x0, y0, x1, y1 = (int(v) for v in zone)
        views = [m.bitmap[y0 - m.top : y1 - m.top, x0 - m.left : x1 - m.left] for m in (first, second)]
        return int((views[0] & views[1]).sum()), own, its_own
    rotated = any(isinstance(shape, Rectangle) and shape.rotation for shape in (first, second))
    if rotated and isinstance(first, Rectangle) and isinstance(second, Rectangle):
        import cv2

        one, other = (box_corners(shape.box_xyxy, shape.rotation).astype(np.float32) for shape in (first, second))
        shared, _ = cv2.intersectConvexConvex(one, other)
        return float(shared), box_area(first.box_xyxy), box_area(second.box_xyxy)
    box, its_box = bounds_xyxy(first), bounds_xyxy(second)
    if box is None or its_box is None:
        return 0, 0 if box is None else box_area(box), 0 if its_box is None else box_area(its_box)
    return box_area(intersection_xyxy(box, its_box)), box_area(box), box_area(its_box)


def _rotated(points_xy: NDArray[np.float64], degrees: float) -> NDArray[np.float64]:
    """Points (N, 2) rotated about the origin."""
    if not degrees:
        return points_xy
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    rotated: NDArray[np.float64] = points_xy @ np.array([[cos, sin], [-sin, cos]])
    return rotated
