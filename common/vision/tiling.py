"""Small objects in large images: the image is searched in tiles and as a whole, and the results are merged.

Tiles overlap, so an object is found more than once, and one on a tile's edge in parts. Of the same object one shape is kept;
parts that no whole shape covers are joined.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from common.protocol import Image
from common.shapes import BoxXyxy, Mask, Rectangle, Shape, Skeleton, Tag
from common.vision.geometry import bounds_xyxy, box_area, intersection_xyxy, shared_areas, shifted, union_xyxy
from common.vision.mask import combined

_SAME = 0.5  # intersection over union from which two shapes show the same object
_PART = 0.7  # share of a cut shape inside another one, from which it is a part of it
_EDGE = 0.01  # of a tile's side: how near to its edge a shape counts as cut by it

Box = tuple[int, int, int, int]


def tiles(image_hw: tuple[int, int], size: int, overlap: float) -> list[Box]:
    """Tiles that cover an image.

    Args:
        image_hw: Height and width of the image.
        size: The side of a tile in pixels.
        overlap: How much of its side each tile shares with the next at least, 0 to 1.

    Returns:
        (left, top, right, bottom) of each; none for an image that is no larger than a tile.
    """
    height, width = image_hw
    if height <= size and width <= size:
        return []
    return [
        (left, top, min(left + size, width), min(top + size, height))
        for top in _starts(height, size, overlap)
        for left in _starts(width, size, overlap)
    ]


def find_in_tiles(find: Callable[[Image], Sequence[Shape]], image: Image, boxes: Sequence[Box]) -> list[Shape]:
    """What a detector finds in the whole image and in its tiles, each object once.

    Tags are those of the whole image. Shapes of different labels never displace each other.

    Args:
        find: The detector: shapes of an image (H, W, 3), in pixels of that image.
        image: (H, W, 3) uint8 RGB.
        boxes: The tiles.

    Returns:
        Shapes in pixels of the whole image.
    """
    height, width = image.shape[:2]
    whole = (0, 0, width, height)
    sources = [_Source(whole, list(find(image)), whole)]
    for left, top, right, bottom in boxes:
        found = find(np.ascontiguousarray(image[top:bottom, left:right]))
        moved = [shifted(shape, left, top) for shape in found if not isinstance(shape, Tag)]
        sources.append(_Source((left, top, right, bottom), moved, whole))
    return _merge(sources)


@dataclass(frozen=True, slots=True)
class _Source:
    """What was found in one tile, in pixels of the image."""

    tile: Box
    shapes: list[Shape]
    whole: Box

    def cuts(self, bounds: BoxXyxy) -> bool:
        """Whether a shape with these bounds touches an edge of the tile that is not an edge of the image."""
        left, top, right, bottom = self.tile
        near = max(2.0, _EDGE * max(right - left, bottom - top))
        inner = [edge != outer for edge, outer in zip(self.tile, self.whole, strict=True)]
        gaps = (bounds[0] - left, bounds[1] - top, right - bounds[2], bottom - bounds[3])
        return any(is_inner and gap <= near for is_inner, gap in zip(inner, gaps, strict=True))


@dataclass(slots=True, eq=False)
class _Object:
    shape: Shape
    bounds: BoxXyxy
    cut: bool
    """Whether a tile's edge cuts it."""
    parts: list[tuple[int, BoxXyxy]]
    """The tiles that it was found in, by their place in the list, with the bounds of what each showed of it."""


def _merge(sources: Sequence[_Source]) -> list[Shape]:
    objects = []
    groups = 0
    for place, source in enumerate(sources):
        highest = max((shape.group for shape in source.shapes), default=0)
        for shape in source.shapes:
            numbered = replace(shape, group=shape.group + groups) if shape.group else shape
            box = _bounds(numbered)
            objects.append(_Object(numbered, box, source.cuts(box), [(place, box)]))
        groups += highest
    # Whole ones first, then by score: what is kept is better than what is compared with it.
    objects.sort(key=lambda found: (found.cut, -1.0 if found.shape.score is None else -found.shape.score))
    kept: list[_Object] = []
    counts = Counter(found.shape.label for found in objects)
    by_label: dict[str, tuple[list[_Object], NDArray[np.float64]]]
    by_label = {label: ([], np.empty((count, 4))) for label, count in counts.items()}
    for candidate in objects:
        same_label, bounds = by_label[candidate.shape.label]
        partner = None if isinstance(candidate.shape, Tag) else _partner(candidate, same_label, bounds, sources)
        if partner is None:
            kept.append(candidate)
            bounds[len(same_label)] = candidate.bounds
            same_label.append(candidate)
        elif partner.cut and candidate.cut:
            _join(partner, candidate)
            bounds[same_label.index(partner)] = partner.bounds
    return [found.shape for found in kept]


def _partner(
    candidate: _Object, kept: Sequence[_Object], bounds: NDArray[np.float64], sources: Sequence[_Source]
) -> _Object | None:
    """The object among those kept, with their `bounds` in the first rows, that the candidate shows too in another tile."""
    left, top, right, bottom = bounds[: len(kept)].T
    width = np.minimum(right, candidate.bounds[2]) - np.maximum(left, candidate.bounds[0])
    height = np.minimum(bottom, candidate.bounds[3]) - np.maximum(top, candidate.bounds[1])
    place = candidate.parts[0][0]
    for i in np.flatnonzero((width > 0) & (height > 0)).tolist():
        other = kept[i]
        # The network itself has told apart what it found in one tile.
        if any(place == its for its, _ in other.parts):
            continue
        shared, own, its_own = shared_areas(candidate.shape, other.shape)
        if shared > _SAME * (own + its_own - shared) or (candidate.cut and shared > _PART * own):
            return other
        if candidate.cut and other.cut and _continues(candidate, other, sources):
            return other
    return None


def _continues(candidate: _Object, other: _Object, sources: Sequence[_Source]) -> bool:
    """Whether two cut shapes show the same where their tiles overlap."""
    place, bounds = candidate.parts[0]
    for its_place, its_bounds in other.parts:
        zone = intersection_xyxy(sources[place].tile, sources[its_place].tile)
        first, second = intersection_xyxy(bounds, zone), intersection_xyxy(its_bounds, zone)
        if not box_area(first) or not box_area(second):
            continue
        shared = box_area(intersection_xyxy(first, second))
        if shared > _SAME * (box_area(first) + box_area(second) - shared):
            return True
    return False


def _join(kept: _Object, part: _Object) -> None:
    first, second = kept.shape, part.shape
    if isinstance(first, Mask) and isinstance(second, Mask):
        both = combined([first, second], np.logical_or)
        kept.shape = replace(first, bitmap=both.bitmap, left=both.left, top=both.top, outline_xy=None)
    elif isinstance(first, Rectangle) and isinstance(second, Rectangle) and not (first.rotation or second.rotation):
        kept.shape = replace(first, box_xyxy=union_xyxy(first.box_xyxy, second.box_xyxy))
    elif isinstance(first, Skeleton) and isinstance(second, Skeleton):
        seen = {joint.name: joint for joint in second.joints if joint.visible}
        joints = tuple(joint if joint.visible else seen.get(joint.name, joint) for joint in first.joints)
        kept.shape = replace(first, joints=joints)
    # Of turned boxes and other shapes the better part stays as it is.
    kept.bounds = _bounds(kept.shape)
    kept.parts += part.parts


def _bounds(shape: Shape) -> BoxXyxy:
    return bounds_xyxy(shape) or (0, 0, 0, 0)


def _starts(length: int, size: int, overlap_share: float) -> list[int]:
    """Where tiles begin along one side: evenly, from one edge of the image to the other."""
    if length <= size:
        return [0]
    step = max(1, math.floor(size * (1 - overlap_share)))
    count = math.ceil((length - size) / step) + 1
    return [round(i * (length - size) / (count - 1)) for i in range(count)]
