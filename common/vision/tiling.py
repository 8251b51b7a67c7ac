"""Small objects in large images: the image looked at in tiles and as a whole, and all that was found put together.

Tiles overlap, so an object is found more than once, and one on a tile's edge in parts. Of the same object one shape stays;
parts that no whole one covers are joined.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from common.protocol import Image
from common.shapes import Cuboid, Ellipse, Mask, Points, Polygon, Polyline, Rectangle, Shape, Skeleton, Tag

_SAME = 0.5  # intersection over union from which two shapes show the same object
_PART = 0.7  # share of a cut shape inside another one, from which it is a part of it
_EDGE = 0.01  # of a tile's side: how near to its edge a shape counts as cut by it

Box = tuple[int, int, int, int]


def tiles(image_hw: tuple[int, int], size: int, overlap: float) -> list[Box]:
    """(left, top, right, bottom) of tiles of `size` pixels that cover an image, each overlapping the next by at least
    `overlap` of its side; [] for an image that is no larger than a tile."""
    height, width = image_hw
    if height <= size and width <= size:
        return []
    return [
        (left, top, min(left + size, width), min(top + size, height))
        for top in _starts(height, size, overlap)
        for left in _starts(width, size, overlap)
    ]


def find_in_tiles(find: Callable[[Image], Sequence[Shape]], image: Image, boxes: Sequence[Box]) -> list[Shape]:
    """What `find` finds in the whole image and in its tiles, each object once.

    Tags are those of the whole image. Shapes of different labels never displace each other.
    """
    height, width = image.shape[:2]
    whole = (0, 0, width, height)
    sources = [_Source(whole, list(find(image)), whole)]
    for left, top, right, bottom in boxes:
        found = find(np.ascontiguousarray(image[top:bottom, left:right]))
        moved = [shifted(shape, left, top) for shape in found if not isinstance(shape, Tag)]
        sources.append(_Source((left, top, right, bottom), moved, whole))
    return _merge(sources)


def shifted(shape: Shape, dx: int, dy: int) -> Shape:
    """The shape moved by whole pixels, as from a part of an image to the image."""
    if isinstance(shape, Rectangle):
        left, top, right, bottom = shape.box_xyxy
        return replace(shape, box_xyxy=(left + dx, top + dy, right + dx, bottom + dy))
    if isinstance(shape, Ellipse):
        return replace(shape, center_xy=(shape.center_xy[0] + dx, shape.center_xy[1] + dy))
    if isinstance(shape, (Polygon, Polyline, Points, Cuboid)):
        return replace(shape, points_xy=shape.points_xy + (dx, dy))
    if isinstance(shape, Mask):
        outline = None if shape.outline_xy is None else shape.outline_xy + (dx, dy)
        return replace(shape, left=shape.left + dx, top=shape.top + dy, outline_xy=outline)
    if isinstance(shape, Skeleton):
        return replace(shape, joints=tuple(replace(joint, x=joint.x + dx, y=joint.y + dy) for joint in shape.joints))
    return shape


@dataclass(frozen=True, slots=True)
class _Source:
    """What was found in one tile, in pixels of the image."""

    tile: Box
    shapes: list[Shape]
    whole: Box

    def cuts(self, bounds: NDArray[np.float64]) -> bool:
        """Whether a shape with these bounds touches an edge of the tile that is not an edge of the image."""
        left, top, right, bottom = self.tile
        near = max(2.0, _EDGE * max(right - left, bottom - top))
        inner = [edge != outer for edge, outer in zip(self.tile, self.whole, strict=True)]
        gaps = (bounds[0] - left, bounds[1] - top, right - bounds[2], bottom - bounds[3])
        return any(is_inner and gap <= near for is_inner, gap in zip(inner, gaps, strict=True))


@dataclass(slots=True, eq=False)
class _Object:
    """parts: the tiles that the shape comes from, by their place, with the bounds of what each showed of it."""

    shape: Shape
    bounds: NDArray[np.float64]
    cut: bool
    parts: list[tuple[int, NDArray[np.float64]]]


def _merge(sources: Sequence[_Source]) -> list[Shape]:
    objects = []
    groups = 0
    for place, source in enumerate(sources):
        highest = max((shape.group for shape in source.shapes), default=0)
        for shape in source.shapes:
            numbered = replace(shape, group=shape.group + groups) if shape.group else shape
            box = bounds_of(numbered)
            objects.append(_Object(numbered, box, source.cuts(box), [(place, box)]))
        groups += highest
    # Whole ones first, then by score: what is kept is better than what is compared with it.
    objects.sort(key=lambda found: (found.cut, -1.0 if found.shape.score is None else -found.shape.score))
    kept: list[_Object] = []
    tables: dict[str, tuple[list[_Object], list[NDArray[np.float64]]]] = {}
    for candidate in objects:
        same_label, bounds = tables.setdefault(candidate.shape.label, ([], []))
        partner = None if isinstance(candidate.shape, Tag) else _partner(candidate, same_label, bounds, sources)
        if partner is None:
            kept.append(candidate)
            same_label.append(candidate)
            bounds.append(candidate.bounds)
        elif partner.cut and candidate.cut:
            _join(partner, candidate)
            bounds[same_label.index(partner)] = partner.bounds
    return [found.shape for found in kept]


def _partner(
    candidate: _Object, kept: Sequence[_Object], bounds: Sequence[NDArray[np.float64]], sources: Sequence[_Source]
) -> _Object | None:
    """The object among those kept that the candidate shows too, found in another tile."""
    if not kept:
        return None
    table = np.array(bounds)
    width = np.minimum(table[:, 2], candidate.bounds[2]) - np.maximum(table[:, 0], candidate.bounds[0])
    height = np.minimum(table[:, 3], candidate.bounds[3]) - np.maximum(table[:, 1], candidate.bounds[1])
    place = candidate.parts[0][0]
    for i in np.flatnonzero((width > 0) & (height > 0)).tolist():
        other = kept[i]
        # The network itself has told apart what it found in one tile.
        if any(place == its for its, _ in other.parts):
            continue
        shared, own, its_own = overlap(candidate.shape, other.shape)
        if shared > _SAME * (own + its_own - shared) or (candidate.cut and shared > _PART * own):
            return other
        if candidate.cut and other.cut and _continues(candidate, other, sources):
            return other
    return None


def _continues(candidate: _Object, other: _Object, sources: Sequence[_Source]) -> bool:
    """Whether two cut shapes show the same where their tiles overlap."""
    place, bounds = candidate.parts[0]
    for its_place, its_bounds in other.parts:
        mine, its = sources[place].tile, sources[its_place].tile
        zone = np.array([*np.maximum(mine[:2], its[:2]), *np.minimum(mine[2:], its[2:])], np.float64)
        first, second = _intersection(bounds, zone), _intersection(its_bounds, zone)
        if _area(first) <= 0 or _area(second) <= 0:
            continue
        shared = _area(_intersection(first, second))
        if shared > _SAME * (_area(first) + _area(second) - shared):
            return True
    return False


def _join(kept: _Object, part: _Object) -> None:
    first, second = kept.shape, part.shape
    if isinstance(first, Mask) and isinstance(second, Mask):
        kept.shape = _union(first, second)
    elif isinstance(first, Rectangle) and isinstance(second, Rectangle) and not (first.rotation or second.rotation):
        (x0, y0, x1, y1), (left, top, right, bottom) = first.box_xyxy, second.box_xyxy
        kept.shape = replace(first, box_xyxy=(min(x0, left), min(y0, top), max(x1, right), max(y1, bottom)))
    elif isinstance(first, Skeleton) and isinstance(second, Skeleton):
        seen = {joint.name: joint for joint in second.joints if joint.visible}
        joints = tuple(joint if joint.visible else seen.get(joint.name, joint) for joint in first.joints)
        kept.shape = replace(first, joints=joints)
    # Of turned boxes and other shapes the better part stays as it is.
    kept.bounds = bounds_of(kept.shape)
    kept.parts += part.parts


def _union(first: Mask, second: Mask) -> Mask:
    boxes = np.array([first.box_xyxy, second.box_xyxy])
    (left, top), (right, bottom) = boxes[:, :2].min(axis=0).tolist(), boxes[:, 2:].max(axis=0).tolist()
    bitmap = np.zeros((bottom - top, right - left), np.bool_)
    for mask in (first, second):
        x0, y0, x1, y1 = mask.box_xyxy
        bitmap[y0 - top : y1 - top, x0 - left : x1 - left] |= mask.bitmap
    return replace(first, bitmap=bitmap, left=left, top=top, outline_xy=None)


def bounds_of(shape: Shape) -> NDArray[np.float64]:
    """(left, top, right, bottom) of the upright box around a shape; of a skeleton, around its visible joints."""
    if isinstance(shape, Mask):
        return np.array(shape.box_xyxy, np.float64)
    points = _points(shape)
    if not len(points):
        return np.zeros(4)
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


def overlap(first: Shape, second: Shape) -> tuple[float, float, float]:
    """The areas that two shapes share, of the first and of the second: pixels of masks, turned boxes as such, the upright
    boxes around all others."""
    if isinstance(first, Mask) and isinstance(second, Mask):
        x0, y0 = max(first.left, second.left), max(first.top, second.top)
        x1 = min(first.box_xyxy[2], second.box_xyxy[2])
        y1 = min(first.box_xyxy[3], second.box_xyxy[3])
        own, its_own = int(first.bitmap.sum()), int(second.bitmap.sum())
        if x1 <= x0 or y1 <= y0:
            return 0, own, its_own
        views = [m.bitmap[y0 - m.top : y1 - m.top, x0 - m.left : x1 - m.left] for m in (first, second)]
        return int((views[0] & views[1]).sum()), own, its_own
    turned = any(isinstance(shape, Rectangle) and shape.rotation for shape in (first, second))
    if turned and isinstance(first, Rectangle) and isinstance(second, Rectangle):
        import cv2

        shared, _ = cv2.intersectConvexConvex(_points(first).astype(np.float32), _points(second).astype(np.float32))
        return float(shared), _area(np.array(first.box_xyxy)), _area(np.array(second.box_xyxy))
    boxes = bounds_of(first), bounds_of(second)
    return _area(_intersection(*boxes)), _area(boxes[0]), _area(boxes[1])


def _points(shape: Shape) -> NDArray[np.float64]:
    if isinstance(shape, Rectangle):
        left, top, right, bottom = shape.box_xyxy
        corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float64)
        center = corners.mean(axis=0)
        cos, sin = math.cos(math.radians(shape.rotation)), math.sin(math.radians(shape.rotation))
        # Clockwise on the screen, where y grows downwards.
        turned: NDArray[np.float64] = center + (corners - center) @ np.array([[cos, sin], [-sin, cos]])
        return turned
    if isinstance(shape, Ellipse):
        (x, y), (a, b) = shape.center_xy, shape.radii_xy
        cos, sin = math.cos(math.radians(shape.rotation)), math.sin(math.radians(shape.rotation))
        reach = math.hypot(a * cos, b * sin), math.hypot(a * sin, b * cos)
        return np.array([[x - reach[0], y - reach[1]], [x + reach[0], y + reach[1]]])
    if isinstance(shape, (Polygon, Polyline, Points, Cuboid)):
        return shape.points_xy
    if isinstance(shape, Skeleton):
        return np.array([(joint.x, joint.y) for joint in shape.joints if joint.visible], np.float64).reshape(-1, 2)
    return np.zeros((0, 2))


def _intersection(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([np.maximum(first[:2], second[:2]), np.minimum(first[2:], second[2:])])


def _area(box_xyxy: NDArray[np.float64]) -> float:
    width, height = box_xyxy[2] - box_xyxy[0], box_xyxy[3] - box_xyxy[1]
    return float(max(width, 0) * max(height, 0))


def _starts(length: int, size: int, overlap_share: float) -> list[int]:
    """Where tiles begin along one side: evenly, from one edge of the image to the other."""
    if length <= size:
        return [0]
    step = max(1, math.floor(size * (1 - overlap_share)))
    count = math.ceil((length - size) / step) + 1
    return [round(i * (length - size) / (count - 1)) for i in range(count)]
