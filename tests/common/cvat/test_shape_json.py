"""The geometry of shapes as JSON and back. What a request's shapes must be is tested with the requests."""

from __future__ import annotations

import numpy as np
import pytest
from cvat_sdk.masks import decode_mask, encode_mask

from common.cvat.shape_json import parse_shape, shape_of_points, shape_points, write_shape
from common.shapes import Cuboid, Ellipse, Mask, Points, Polygon, Polyline, Rectangle, Shape, Skeleton, Tag
from tests.ascii import bitmap

PIXELS = bitmap("......\n.####.\n.##...\n......")
WRITTEN: list[tuple[Shape, dict]] = [
    (Rectangle(box_xyxy=(1, 2, 3.456, 4.999)), {"type": "rectangle", "points": [1, 2, 3.46, 5]}),
    (
        Rectangle(box_xyxy=(1, 2, 3, 4), rotation=33.333),
        {"type": "rectangle", "points": [1, 2, 3, 4], "rotation": 33.33},
    ),
    (
        Ellipse(center_xy=(50, 40), radii_xy=(10, 5), rotation=90),
        {"type": "ellipse", "points": [50, 40, 60, 35], "rotation": 90},
    ),
    (Polygon(points_xy=[(0, 0), (5, 0), (5, 5.128)]), {"type": "polygon", "points": [0, 0, 5, 0, 5, 5.13]}),
    (Polyline(points_xy=[(0, 0), (5, 1)]), {"type": "polyline", "points": [0, 0, 5, 1]}),
    (Points(points_xy=[(7, 8)]), {"type": "points", "points": [7, 8]}),
    (Cuboid(points_xy=np.arange(16)), {"type": "cuboid", "points": list(range(16))}),
    (Mask.from_full(PIXELS), {"type": "mask", "points": encode_mask(PIXELS)}),
]


@pytest.mark.parametrize(("shape", "written"), WRITTEN, ids=lambda v: getattr(v, "type", ""))
def test_there_and_back(shape: Shape, written: dict) -> None:
    assert write_shape(shape) == written
    again = parse_shape(written, "shape")
    assert type(again) is type(shape)
    assert write_shape(again) == written
    assert getattr(again, "rotation", 0) == pytest.approx(getattr(shape, "rotation", 0), abs=0.005)
    for field in ("box_xyxy", "center_xy", "radii_xy", "points_xy"):
        if hasattr(shape, field):
            np.testing.assert_allclose(getattr(again, field), getattr(shape, field), atol=0.005)


def test_a_mask_is_what_the_sdk_makes_of_it() -> None:
    again = parse_shape({"type": "mask", "points": encode_mask(PIXELS)}, "shape")
    assert again.box_xyxy == (1, 1, 5, 3)
    np.testing.assert_array_equal(decode_mask(shape_points(again), image_width=6, image_height=4), PIXELS)


@pytest.mark.parametrize(("shape", "written"), WRITTEN, ids=lambda v: getattr(v, "type", ""))
def test_points_and_back(shape: Shape, written: dict) -> None:
    again = shape_of_points(shape.type, shape_points(shape), getattr(shape, "rotation", 0.0))
    assert write_shape(again) == written


@pytest.mark.parametrize(
    ("kind", "points"), [("rectangle", [1, 2, 3]), ("polygon", [1, 2, 3]), ("tag", [1, 2, 3, 4]), ("mask", [1, 2])]
)
def test_points_of_no_such_shape_are_refused(kind: str, points: list[float]) -> None:
    with pytest.raises(ValueError, match=r"."):
        shape_of_points(kind, points)


@pytest.mark.parametrize("shape", [Tag(), Skeleton(joints=())], ids=lambda shape: shape.type)
def test_shapes_without_points_are_refused(shape: Shape) -> None:
    with pytest.raises(TypeError, match=f"a {shape.type} has no points"):
        write_shape(shape)
