"""Geometry against truths worked out by hand, against OpenCV's own rotated boxes, and against the pixels that are drawn."""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest

from common.cvat.conform import conform_geometry
from common.errors import ModelError
from common.shapes import Cuboid, Ellipse, Joint, Mask, Points, Polygon, Polyline, Rectangle, Shape, Skeleton, Tag
from common.vision.geometry import (
    FEWEST_POINTS,
    bounds_xyxy,
    box_area,
    box_corners,
    box_iou,
    clip_box,
    clip_point,
    clip_points,
    ellipse_points,
    intersection_xyxy,
    outline_xy,
    pixels_of_box,
    points_bounds_xyxy,
    rotated_bounds_xyxy,
    rotated_corners,
    rotated_size_wh,
    shared_areas,
    shifted,
    union_xyxy,
)

CUBOID = [(0, 0), (0, 9), (8, 1), (8, 8), (12, 2), (12, 7), (4, 1), (4, 8)]
SHAPES: list[tuple[Shape, tuple[float, float, float, float] | None]] = [
    (Tag(), None),
    (Rectangle(box_xyxy=(1, 2, 3, 4)), (1, 2, 3, 4)),
    (Rectangle(box_xyxy=(10, 20, 50, 30), rotation=90), (25, 5, 35, 45)),
    (Rectangle(box_xyxy=(-1, -1, 1, 1), rotation=45), (-math.sqrt(2), -math.sqrt(2), math.sqrt(2), math.sqrt(2))),
    (Ellipse(center_xy=(5, 6), radii_xy=(4, 1)), (1, 5, 9, 7)),
    (Ellipse(center_xy=(5, 6), radii_xy=(4, 1), rotation=90), (4, 2, 6, 10)),
    (Ellipse(center_xy=(0, 0), radii_xy=(4, 1), rotation=45), (*[-math.sqrt(8.5)] * 2, *[math.sqrt(8.5)] * 2)),
    (Polygon(points_xy=[(0, 0), (4, 0), (0, 3)]), (0, 0, 4, 3)),
    (Polygon(points_xy=[]), None),
    (Polyline(points_xy=[(5, 1), (2, 8)]), (2, 1, 5, 8)),
    (Points(points_xy=[(3, 4)]), (3, 4, 3, 4)),
    (Cuboid(points_xy=CUBOID), (0, 0, 12, 9)),
    (Mask(bitmap=np.ones((2, 3), np.bool_), left=1, top=5), (1, 5, 4, 7)),
    (Skeleton(joints=(Joint("a", 1, 2), Joint("b", 90, 90, visible=False), Joint("c", 0, 5))), (0, 2, 1, 5)),
    (Skeleton(joints=(Joint("a", 1, 2, visible=False),)), None),
]
ANGLES = [0, 1, 30, 45, 89.5, 90, 133, 180, 270, 359, -20, 400]


@pytest.mark.parametrize("degrees", ANGLES)
def test_corners_are_those_of_opencv(degrees: float) -> None:
    center, size = (100.5, 60.25), (80.0, 30.0)
    ours = rotated_corners(center, size, degrees)
    theirs = cv2.boxPoints((center, size, degrees))
    apart = np.linalg.norm(ours[:, None] - theirs[None], axis=2)
    assert apart.min(axis=1).max() < 1e-3
    assert sorted(apart.argmin(axis=1).tolist()) == [0, 1, 2, 3]


def test_corners_start_top_left_and_go_clockwise_on_the_screen() -> None:
    assert box_corners((10, 20, 50, 30)).tolist() == [[10, 20], [50, 20], [50, 30], [10, 30]]
    # By 90 degrees clockwise: what was at the top left comes to the top right.
    np.testing.assert_allclose(box_corners((10, 20, 50, 30), 90), [[35, 5], [35, 45], [25, 45], [25, 5]], atol=1e-12)
    # By 30: the right end goes down, where y is larger.
    top_left, top_right, *_ = box_corners((0, 0, 40, 20), 30)
    np.testing.assert_allclose(top_right - top_left, [40 * math.cos(math.pi / 6), 20], atol=1e-12)


@pytest.mark.parametrize("degrees", ANGLES)
def test_rotating_back_gives_the_box_again(degrees: float) -> None:
    box = (10.0, 20.0, 50.0, 30.0)
    corners = box_corners(box, degrees)
    center = corners.mean(axis=0)
    angle = math.radians(-degrees)
    back = (corners - center) @ np.array(
        [[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]
    ) + center
    np.testing.assert_allclose(points_bounds_xyxy(back), box, atol=1e-9)


@pytest.mark.parametrize("degrees", ANGLES)
def test_the_upright_box_around_a_rotated_one_touches_its_corners(degrees: float) -> None:
    box = (10.0, 20.0, 50.0, 30.0)
    around = rotated_bounds_xyxy(box, degrees)
    np.testing.assert_allclose(around, points_bounds_xyxy(box_corners(box, degrees)), atol=1e-9)
    np.testing.assert_allclose(rotated_size_wh((40, 10), degrees), (around[2] - around[0], around[3] - around[1]))


def test_a_box_that_is_not_rotated_stays_the_same_to_the_last_bit() -> None:
    box = (0.1, 0.2, 0.7, 1e9 / 3)
    assert rotated_bounds_xyxy(box, 0) == box == bounds_xyxy(Rectangle(box_xyxy=box))
    assert rotated_size_wh((0.7, 0.1), 0) == (0.7, 0.1)


@pytest.mark.parametrize("degrees", ANGLES)
def test_points_of_an_ellipse_lie_on_it(degrees: float) -> None:
    points = ellipse_points((7, 9), (4, 2), degrees, count=24)
    angle = math.radians(degrees)
    along = (points - (7, 9)) @ (math.cos(angle), math.sin(angle))
    across = (points - (7, 9)) @ (-math.sin(angle), math.cos(angle))
    np.testing.assert_allclose((along / 4) ** 2 + (across / 2) ** 2, 1)
    assert len(points) == 24
    # The box around the true ellipse holds them all; its sides are touched within the gap between points.
    left, top, right, bottom = bounds_xyxy(Ellipse(center_xy=(7, 9), radii_xy=(4, 2), rotation=degrees))
    around = points_bounds_xyxy(ellipse_points((7, 9), (4, 2), degrees, count=10_000))
    np.testing.assert_allclose(around, (left, top, right, bottom), atol=1e-5)


@pytest.mark.parametrize(("shape", "bounds"), SHAPES, ids=lambda v: getattr(v, "type", ""))
def test_bounds_of_every_shape(shape: Shape, bounds: tuple[float, ...] | None) -> None:
    found = bounds_xyxy(shape)
    assert (found is None) == (bounds is None)
    if bounds is not None:
        assert found == pytest.approx(bounds)


@pytest.mark.parametrize(("shape", "bounds"), SHAPES, ids=lambda v: getattr(v, "type", ""))
def test_shifting_moves_the_bounds_and_back_again(shape: Shape, bounds: tuple[float, ...] | None) -> None:
    moved = shifted(shape, 10, -20)
    assert moved.type == shape.type
    if bounds is not None:
        left, top, right, bottom = bounds
        assert bounds_xyxy(moved) == pytest.approx((left + 10, top - 20, right + 10, bottom - 20))
        assert bounds_xyxy(shifted(moved, -10, 20)) == pytest.approx(bounds)


def test_shifting_takes_along_the_outline_of_a_mask_and_hidden_joints() -> None:
    outlined = Mask(bitmap=np.ones((1, 1), np.bool_), outline_xy=np.array([[0.0, 0], [1, 0], [1, 1]]))
    assert shifted(outlined, 3, 4).outline_xy.tolist() == [[3, 4], [4, 4], [4, 5]]
    (joint,) = shifted(Skeleton(joints=(Joint("a", 1, 2, visible=False),)), 3, 4).joints
    assert joint == Joint("a", 4, 6, visible=False)


@pytest.mark.parametrize(
    "shape",
    [
        Rectangle(box_xyxy=(20, 30, 90, 60), rotation=30),
        Ellipse(center_xy=(60, 50), radii_xy=(40, 20), rotation=70),
        Polygon(points_xy=[(10, 10), (80, 20), (30, 70)]),
        Mask(bitmap=np.tri(40, dtype=np.bool_), left=20, top=30),
    ],
    ids=lambda shape: shape.type,
)
def test_the_outline_surrounds_what_opencv_draws(shape: Shape) -> None:
    canvas = np.zeros((100, 120), np.uint8)
    if isinstance(shape, Rectangle):
        left, top, right, bottom = shape.box_xyxy
        box = ((left + right) / 2, (top + bottom) / 2), (right - left, bottom - top), shape.rotation
        cv2.fillPoly(canvas, [np.round(cv2.boxPoints(box)).astype(np.int32)], 1)
    elif isinstance(shape, Ellipse):
        cv2.ellipse(canvas, (shape.center_xy, [2 * r for r in shape.radii_xy], shape.rotation), 1, cv2.FILLED)
    elif isinstance(shape, Polygon):
        cv2.fillPoly(canvas, [shape.points_xy.astype(np.int32)], 1)
    else:
        canvas[30:70, 20:60] = shape.bitmap
    outline = outline_xy(shape)
    covered = np.array(
        [[cv2.pointPolygonTest(outline.astype(np.float32), (x + 0.5, y + 0.5), False) >= 0 for x in range(120)] for y in range(100)]
    )  # fmt: skip
    differing = np.count_nonzero(covered != (canvas > 0))
    perimeter = cv2.arcLength(outline.astype(np.float32), True)
    assert differing < perimeter  # less than one pixel of the edge
    assert np.count_nonzero(covered & (canvas > 0)) > 0.9 * canvas.sum()


def test_the_outline_of_a_mask_is_its_own_when_it_has_one() -> None:
    own = np.array([(0.0, 0), (9, 0), (9, 9)])
    assert outline_xy(Mask(bitmap=np.ones((9, 9), np.bool_), outline_xy=own)) is own
    assert outline_xy(Mask(bitmap=np.ones((9, 9), np.bool_), left=1), 0).tolist() == [[1, 0], [1, 9], [10, 9], [10, 0]]
    assert len(outline_xy(Mask(bitmap=np.zeros((0, 0), np.bool_)))) == 0


@pytest.mark.parametrize(
    "shape",
    [Tag(), Polyline(points_xy=[(0, 0), (1, 1), (2, 0)]), Points(points_xy=[(0, 0)] * 3), Cuboid(points_xy=CUBOID)],
    ids=lambda shape: shape.type,
)
def test_shapes_without_an_area_have_no_outline(shape: Shape) -> None:
    assert outline_xy(shape) is None


def test_clipping_to_an_image() -> None:
    assert clip_point((-1, 3), (10, 20)) == (0, 3)
    assert clip_point((21, 11), (10, 20)) == (20, 10)
    assert clip_box((-5, 4, 25, 8), (10, 20)) == (0, 4, 20, 8)
    assert box_area(clip_box((30, 4, 40, 8), (10, 20))) == 0
    points = np.array([[[-1, -1], [5, 5]], [[99, 5], [5, 99]]])
    assert clip_points(points, (10, 20)).tolist() == [[[0, 0], [5, 5]], [[20, 5], [5, 10]]]


@pytest.mark.parametrize(
    ("box", "pixels"),
    [
        ((1.2, 2.0, 3.0, 3.1), (1, 2, 3, 4)),
        ((1.0, 2.0, 1.0, 2.0), (1, 2, 2, 3)),
        ((-9, -9, -5, -5), (0, 0, 1, 1)),
        ((50, 50, 60, 60), (19, 9, 20, 10)),
        ((-5, -5, 50, 50), (0, 0, 20, 10)),
        ((20, 10, 20, 10), (19, 9, 20, 10)),
    ],
)
def test_pixels_that_a_box_touches(box: tuple[float, ...], pixels: tuple[int, ...]) -> None:
    found = pixels_of_box(np.array(box), (10, 20))
    assert found == pixels
    assert all(type(v) is int for v in found)


def test_what_boxes_share_and_span() -> None:
    a, b, c = (0, 0, 10, 10), (5, 5, 20, 8), (30, 30, 31, 31)
    assert intersection_xyxy(a, b) == (5, 5, 10, 8)
    assert union_xyxy(a, b) == (0, 0, 20, 10)
    assert [box_area(box) for box in (a, b, intersection_xyxy(a, b), intersection_xyxy(a, c))] == [100, 45, 15, 0]
    assert [box_iou(a, box) for box in (a, b, c)] == [1, 15 / 130, 0]


def test_overlap_of_rotated_boxes_is_that_of_their_areas() -> None:
    square = Rectangle(box_xyxy=(0, 0, 10, 10))
    diamond = replace(square, rotation=45.0)
    shared, own, its_own = shared_areas(square, diamond)
    # A square and the same one rotated by 45 degrees share a regular octagon: 2 (sqrt(2) - 1) of the square.
    assert shared == pytest.approx(200 * (2**0.5 - 1), abs=1e-2) and own == its_own == 100


def test_overlap_of_masks_counts_pixels_and_of_others_their_upright_boxes() -> None:
    corner = Mask(bitmap=np.tri(4, dtype=np.bool_))
    block = Mask(bitmap=np.ones((2, 2), np.bool_), left=1, top=1)
    assert shared_areas(corner, block) == (3, 10, 4)
    assert shared_areas(corner, shifted(block, 10, 0)) == (0, 10, 4)
    triangle = Polygon(points_xy=[(0, 0), (4, 0), (0, 4)])
    assert shared_areas(triangle, Rectangle(box_xyxy=(2, 2, 6, 6))) == (4, 16, 16)
    assert shared_areas(Tag(), triangle) == (0, 0, 16)


def test_fewest_points_are_those_with_which_a_shape_has_what_its_type_says() -> None:
    for made_of in (Polygon, Polyline, Points, Cuboid):
        fewest = FEWEST_POINTS[made_of.type]
        points = [(10 + 3 * i, 10 + i * i) for i in range(fewest)]
        conform_geometry(made_of(points_xy=points), (100, 100))
        with pytest.raises(ModelError, match=f"expected {fewest}"):
            conform_geometry(made_of(points_xy=points[1:]), (100, 100))
