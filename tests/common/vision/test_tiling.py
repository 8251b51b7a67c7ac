"""Tiling with a finder that sees what a network would: the parts of known objects that lie in the picture it is given."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from common.shapes import Joint, Mask, Rectangle, Shape, Skeleton, Tag
from common.vision.geometry import bounds_xyxy
from common.vision.tiling import find_in_tiles, tiles

SIZE = (300, 400)


def numbered(size_hw: tuple[int, int] = SIZE) -> np.ndarray:
    """An image whose pixels tell their place, so that a finder knows which part it is given."""
    rows, columns = np.mgrid[: size_hw[0], : size_hw[1]]
    return np.stack([columns % 256, rows % 256, (columns // 256) * 16 + rows // 256], axis=-1).astype(np.uint8)


def corner(part: np.ndarray) -> tuple[int, int]:
    column, row, high = (int(v) for v in part[0, 0])
    return column + 256 * (high // 16), row + 256 * (high % 16)


def finder(
    objects: list[tuple[str, tuple[int, int, int, int]]],
    make: Callable[[str, tuple[float, float, float, float], float], Shape],
    *,
    whole: bool = True,
    least: float = 0.2,
) -> Callable[[np.ndarray], list[Shape]]:
    """Finds in each part of the picture what is seen there of each object, if it is at least the share `least` of it."""

    def find(part: np.ndarray) -> list[Shape]:
        (x, y), (height, width) = corner(part), part.shape[:2]
        if (height, width) == SIZE and not whole:
            return []
        found = []
        for label, (left, top, right, bottom) in objects:
            seen = max(left, x), max(top, y), min(right, x + width), min(bottom, y + height)
            area = max(seen[2] - seen[0], 0) * max(seen[3] - seen[1], 0)
            share = area / ((right - left) * (bottom - top))
            if share >= least:
                found.append(make(label, (seen[0] - x, seen[1] - y, seen[2] - x, seen[3] - y), 0.9 * share))
        return found

    return find


def rectangle(label: str, box: tuple[float, float, float, float], score: float) -> Shape:
    return Rectangle(label=label, box_xyxy=box, score=score)


def mask(label: str, box: tuple[float, float, float, float], score: float) -> Shape:
    left, top, right, bottom = (int(v) for v in box)
    return Mask(label=label, bitmap=np.ones((bottom - top, right - left), np.bool_), left=left, top=top, score=score)


@pytest.mark.parametrize(
    ("size_hw", "size", "overlap_share", "count"),
    [((300, 400), 200, 0.2, 6), ((200, 200), 200, 0.2, 0), ((100, 1000), 200, 0.0, 5), ((3000, 4000), 640, 0.2, 48)],
)
def test_tiles_cover_the_image(size_hw: tuple[int, int], size: int, overlap_share: float, count: int) -> None:
    boxes = tiles(size_hw, size, overlap_share)
    assert len(boxes) == count
    seen = np.zeros(size_hw, int)
    for left, top, right, bottom in boxes:
        assert right - left == min(size, size_hw[1]) and bottom - top == min(size, size_hw[0])
        seen[top:bottom, left:right] += 1
    assert not boxes or seen.min() >= 1
    lefts = sorted({box[0] for box in boxes})
    assert all(b - a <= size * (1 - overlap_share) for a, b in itertools.pairwise(lefts))


@pytest.mark.parametrize("make", [rectangle, mask])
def test_every_object_once_with_its_whole_extent(make: Callable[..., Shape]) -> None:
    objects = [
        ("car", (10, 10, 40, 30)),  # in one tile
        ("car", (150, 90, 190, 120)),  # where tiles overlap
        ("car", (195, 200, 235, 240)),
        ("person", (152, 92, 188, 118)),  # another label in the same place
        ("bus", (50, 40, 390, 280)),  # larger than a tile
    ]
    find = finder(objects, make)
    found = find_in_tiles(find, numbered(), tiles(SIZE, 200, 0.25))
    assert sorted((s.label, *bounds_xyxy(s)) for s in found) == sorted((n, *map(float, b)) for n, b in objects)


@pytest.mark.parametrize("make", [rectangle, mask])
def test_parts_are_joined_when_the_whole_was_not_found(make: Callable[..., Shape]) -> None:
    long = ("bus", (20, 100, 380, 140))
    found = find_in_tiles(finder([long], make, whole=False, least=0.1), numbered(), tiles(SIZE, 200, 0.25))
    assert [list(bounds_xyxy(shape)) for shape in found] == [[20, 100, 380, 140]]
    if make is mask:
        assert found[0].bitmap.shape == (40, 360) and found[0].bitmap.all()


def test_neighbours_stay_apart() -> None:
    # Side by side across the tiles' edges, each cut by an edge or not: no two of them may be joined.
    row = [("car", (x, 100, x + 38, 130)) for x in range(0, 400, 40)]
    found = find_in_tiles(finder(row, rectangle, least=0.05), numbered(), tiles(SIZE, 200, 0.3))
    assert sorted(list(bounds_xyxy(s)) for s in found) == [[float(v) for v in box] for _, box in row]


def test_what_the_network_tells_apart_in_one_tile_stays_apart() -> None:
    pair = [rectangle("car", (10, 10, 60, 60), 0.9), rectangle("car", (15, 12, 66, 61), 0.8)]
    found = find_in_tiles(lambda part: pair if corner(part) == (0, 0) else [], numbered(), tiles(SIZE, 200, 0.2))
    assert len(found) == 2


def test_the_surest_of_two_stays() -> None:
    def find(part: np.ndarray) -> list[Shape]:
        whole = part.shape[:2] == SIZE
        x, y = corner(part)
        if not whole and (x, y) != (0, 0):
            return []
        return [rectangle("car", (20, 20, 60, 50) if whole else (22, 21, 61, 50), 0.4 if whole else 0.95)]

    (shape,) = find_in_tiles(find, numbered(), tiles(SIZE, 200, 0.2))
    assert shape.score == 0.95 and shape.box_xyxy == (22, 21, 61, 50)


def test_turned_boxes_are_compared_as_such() -> None:
    # Crossed bars have the same upright box around them, but are two things.
    crossed = [
        Rectangle(label="bar", box_xyxy=(60, 95, 140, 105), rotation=45, score=0.9),
        Rectangle(label="bar", box_xyxy=(60, 95, 140, 105), rotation=135, score=0.8),
    ]

    def find(part: np.ndarray) -> list[Shape]:
        if part.shape[:2] == SIZE:
            return crossed[:1]
        return [replace(crossed[1], score=0.7), replace(crossed[0], score=0.6)] if corner(part) == (0, 0) else []

    found = find_in_tiles(find, numbered(), tiles(SIZE, 200, 0.2))
    assert [(s.rotation, s.score) for s in found] == [(45, 0.9), (135, 0.7)]


def test_skeletons_are_joined_joint_by_joint() -> None:
    head, foot = (200, 100), (200, 250)

    def find(part: np.ndarray) -> list[Shape]:
        (x, y), (height, width) = corner(part), part.shape[:2]
        if (height, width) == SIZE:
            return []
        joints = []
        for name, (px, py) in {"head": head, "hip": (205, 180), "knee": (195, 195), "foot": foot}.items():
            inside = x <= px < x + width and y <= py < y + height
            joints.append(Joint(name, float(np.clip(px - x, 0, width)), float(np.clip(py - y, 0, height)), inside))
        visible = sum(joint.visible for joint in joints)
        return [Skeleton(label="person", joints=tuple(joints), score=visible / 4)] if visible >= 2 else []

    boxes = [(0, 0, 400, 200), (0, 170, 400, 300)]
    found = find_in_tiles(find, numbered(), boxes)
    # The lower half's joints touch no edge, so it is whole; the upper half is another sight of it or a part.
    names = [{j.name: (j.x, j.y) for j in s.joints if j.visible} for s in found]
    assert {"head": head, "foot": foot}.items() <= {k: v for part in names for k, v in part.items()}.items()


def test_tags_come_from_the_whole_image_and_groups_stay_distinct() -> None:
    def find(part: np.ndarray) -> list[Shape]:
        x, _ = corner(part)
        box = Rectangle(label="box", box_xyxy=(50, 50, 80, 80), group=1, score=0.5)
        return [Tag(label=f"tag {x} {part.shape[1]}"), *([box] if x in (0, 200) and part.shape[0] < 300 else [])]

    found = find_in_tiles(find, numbered(), tiles(SIZE, 200, 0.2))
    assert [s.label for s in found if isinstance(s, Tag)] == ["tag 0 400"]
    groups = [s.group for s in found if isinstance(s, Rectangle)]
    assert len(groups) == len(set(groups)) >= 2 and 0 not in groups
