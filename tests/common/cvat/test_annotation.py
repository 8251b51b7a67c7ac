"""Shapes to CVAT's annotations and back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cvat_sdk.masks import decode_mask, encode_mask

from common.config import FunctionConfig
from common.cvat.annotation import LabelIds, as_polygon, from_annotation, to_annotation
from common.cvat.conform import conform
from common.cvat.shape_json import shape_points
from common.errors import BadRequest
from common.shapes import Joint, Mask, Shape, Skeleton, Tag
from common.vision.mask import mask_to_bitmap, mask_to_rle, outline_to_mask, rle_to_mask
from tests.ascii import bitmap
from tests.sample_functions.everything.model_handler import shapes_at
from tests.scenes import red_box
from tools.collection import ROOT

LABELS = FunctionConfig.load(ROOT / "tests/sample_functions/everything").labels
SIZE_HW = (60, 90)
SHAPES = conform(shapes_at(red_box((20, 12, 50, 42), SIZE_HW), note="a"), LABELS, SIZE_HW)


def facts(shape: Shape) -> dict:
    geometry = None if isinstance(shape, (Tag, Skeleton)) else shape_points(shape)
    return {
        "type": shape.type, "label": shape.label, "score": shape.score, "attributes": dict(shape.attributes),
        "group": shape.group, "geometry": geometry, "rotation": getattr(shape, "rotation", 0),
    }  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: s.label)
def test_there_and_back(shape: Shape) -> None:
    label = LABELS[shape.label]
    annotation = to_annotation(shape, LabelIds.own(label), frame=7)
    assert annotation["frame"] == 7
    assert annotation["label_id"] == label.id
    back = from_annotation(annotation, label.name, LabelIds.own(label))
    expected = facts(shape)
    if isinstance(shape, Tag):
        expected["score"] = None  # a tag has no place for it
    assert facts(back) == expected
    if isinstance(shape, Mask):
        np.testing.assert_array_equal(mask_to_bitmap(shape, SIZE_HW), mask_to_bitmap(back, SIZE_HW))


def test_every_type_is_tried() -> None:
    assert {shape.type for shape in SHAPES} == {
        "tag", "rectangle", "ellipse", "polygon", "polyline", "points", "mask", "cuboid", "skeleton",
    }  # fmt: skip


def test_a_rectangle_in_full() -> None:
    box = next(shape for shape in SHAPES if shape.label == "box")
    assert to_annotation(box, LabelIds(label=70, attributes={"wide": 5, "note": 6}), 3) == {
        "frame": 3,
        "label_id": 70,
        "type": "rectangle",
        "points": [20.0, 12.0, 50.0, 42.0],
        "score": 0.9,
        "group": 1,
        "attributes": [{"spec_id": 5, "value": "false"}, {"spec_id": 6, "value": "a"}],
    }


def test_a_skeleton_gets_all_joints_of_the_label_and_of_none_else() -> None:
    skeleton = Skeleton(joints=(Joint("a", 10, 20), Joint("b", 30, 40, visible=False), Joint("gone", 80, 90)))
    ids = LabelIds(label=1, joints=[(11, None), (12, "b"), (13, "a"), (14, "c")])
    elements = to_annotation(skeleton, ids, 5)["elements"]
    assert [(e["label_id"], e["points"], e["outside"]) for e in elements] == [
        (11, [40.0, 50.0], True),
        (12, [30.0, 40.0], True),
        (13, [10.0, 20.0], False),
        (14, [40.0, 50.0], True),
    ]
    assert {e["frame"] for e in elements} == {5}
    assert {e["type"] for e in elements} == {"points"}


MASKS = {
    "a ring": """
        .....
        .###.
        .#.#.
        .###.
    """,
    "full": """
        ##
        ##
    """,
    "begins and ends set": """
        #.#
        ...
        #.#
    """,
    "one pixel": """
        ...
        ..#
    """,
}


@pytest.mark.parametrize("name", MASKS)
def test_run_lengths_are_those_of_the_sdk(name: str) -> None:
    full = bitmap(MASKS[name])
    ours = mask_to_rle(Mask.from_full(full))
    assert ours == encode_mask(full)
    height, width = full.shape
    np.testing.assert_array_equal(decode_mask(ours, image_width=width, image_height=height), full)
    np.testing.assert_array_equal(mask_to_bitmap(rle_to_mask(encode_mask(full)), full.shape), full)


def test_run_lengths_of_random_masks_are_those_of_the_sdk() -> None:
    rng = np.random.default_rng(6)
    for _ in range(50):
        full = rng.random(rng.integers(1, 40, 2)) < rng.uniform(0.02, 0.98)
        if full.any():
            assert mask_to_rle(Mask.from_full(full)) == encode_mask(full)


def test_a_polygon_of_a_mask_covers_its_pixels_and_keeps_the_rest() -> None:
    mask = Mask.from_full(bitmap(MASKS["full"]), label="x", score=0.4, attributes={"a": "b"}, group=3)
    polygon = as_polygon(mask, 0)
    assert (polygon.label, polygon.score, polygon.attributes, polygon.group) == ("x", 0.4, {"a": "b"}, 3)
    assert outline_to_mask(polygon.points_xy, (2, 2)).bitmap.all()
    given = np.array([[0, 0], [1, 0], [1, 1.0]])
    np.testing.assert_array_equal(as_polygon(replace(mask, outline_xy=given), 0).points_xy, given)


def test_geometry_that_is_none_is_refused() -> None:
    with pytest.raises(BadRequest, match=r"annotation\.points: expected x and y of 3 points or more"):
        from_annotation({"label_id": 13, "type": "polygon", "points": [1, 2, 3, 4]}, "outline", LabelIds(13))
