import base64
import json
from typing import Any

import numpy as np
import pytest
from cvat_sdk.masks import encode_mask

from common.cvat.reply import blob_reply, detector_reply, interactor_reply, reid_reply, shape_points, tracker_reply
from common.shapes import (
    Cuboid,
    Ellipse,
    Joint,
    Mask,
    Points,
    Polygon,
    Polyline,
    Rectangle,
    Shape,
    Skeleton,
    Tag,
)
from common.vision.mask import flat_to_mask, mask_to_bitmap, outline_to_mask, rle_to_mask
from tests.ascii import bitmap, drawn

PIXELS = bitmap("......\n.####.\n.##...\n......")


def detected(shape: Shape, **options: Any) -> dict[str, Any]:
    (annotation,) = json.loads(detector_reply([shape], **options))
    return annotation


class TestDetectorReply:
    @pytest.mark.parametrize(
        ("shape", "fields"),
        [
            (Tag(label="a"), {"type": "tag"}),
            (Rectangle(label="a", box_xyxy=(1, 2, 3.456, 4.999)), {"type": "rectangle", "points": [1, 2, 3.46, 5]}),
            (
                Rectangle(label="a", box_xyxy=(1, 2, 3, 4), rotation=33.333),
                {"type": "rectangle", "points": [1, 2, 3, 4], "rotation": 33.33},
            ),
            (
                Ellipse(label="a", center_xy=(50, 40), radii_xy=(10, 5), rotation=90),
                {"type": "ellipse", "points": [50, 40, 60, 35], "rotation": 90},
            ),
            (
                Polygon(label="a", points_xy=[[0, 0], [5, 0], [5, 5.128]]),
                {"type": "polygon", "points": [0, 0, 5, 0, 5, 5.13]},
            ),
            (Polyline(label="a", points_xy=[[0, 0], [5, 1]]), {"type": "polyline", "points": [0, 0, 5, 1]}),
            (Points(label="a", points_xy=[[7, 8]]), {"type": "points", "points": [7, 8]}),
            (Cuboid(label="a", points_xy=np.arange(16)), {"type": "cuboid", "points": list(range(16))}),
            (
                Skeleton(label="a", joints=(Joint("hand", 1.234, 2), Joint("elbow", 3, 4, visible=False))),
                {
                    "type": "skeleton",
                    "elements": [
                        {"label": "hand", "type": "points", "points": [1.23, 2], "outside": 0},
                        {"label": "elbow", "type": "points", "points": [3, 4], "outside": 1},
                    ],
                },
            ),
            (
                Mask.from_full(PIXELS, label="a"),
                {
                    "type": "mask",
                    "mask": [1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 4, 2],
                    "points": [1, 1, 1, 3, 3, 3, 3, 2, 5, 2, 5, 1],
                },
            ),
        ],
        ids=lambda value: type(value).__name__ if isinstance(value, Shape) else "",
    )
    def test_each_type(self, shape: Shape, fields: dict[str, Any]) -> None:
        annotation = detected(shape, **({"tolerance": 0} if isinstance(shape, Mask) else {}))
        assert annotation == {"label": "a", **fields}

    def test_common_fields(self) -> None:
        tag = Tag(label="a", score=0.123456, group=7, attributes={"text": 'Ü "x" 漢', "parked": "true"})
        assert detected(tag) == {
            "label": "a",
            "type": "tag",
            "confidence": "0.1235",
            "group_id": 7,
            "attributes": [{"name": "text", "value": 'Ü "x" 漢'}, {"name": "parked", "value": "true"}],
        }

    def test_what_has_no_value_is_left_out(self) -> None:
        assert detected(Rectangle(label="a", box_xyxy=(1, 2, 3, 4), rotation=0.0, score=None, group=0)).keys() == {
            "label",
            "type",
            "points",
        }
        assert detected(Tag(label="a", score=0.0))["confidence"] == "0.0000"

    def test_order_is_kept_and_nothing_is_an_empty_list(self) -> None:
        assert detector_reply([]) == "[]"
        labels = [f"label {i}" for i in range(50)]
        assert [a["label"] for a in json.loads(detector_reply(Tag(label=label) for label in labels))] == labels

    def test_text_survives_the_way_through_utf_8(self) -> None:
        text = '漢字 ü \u2028 \U0001f600 \\ " \x07 </script>'
        reply = detector_reply([Tag(label="a", attributes={"text": text})])
        assert json.loads(reply.encode())[0]["attributes"][0]["value"] == text

    def test_mask_and_polygon_are_the_same_pixels(self) -> None:
        y, x = np.mgrid[:60, :80]
        full = ((x - 40) / 30) ** 2 + ((y - 30) / 20) ** 2 < 1
        annotation = detected(Mask.from_full(full, label="a"), tolerance=0)
        assert drawn(mask_to_bitmap(flat_to_mask(annotation["mask"]), full.shape)) == drawn(full)
        outline = np.array(annotation["points"]).reshape(-1, 2)
        assert drawn(mask_to_bitmap(outline_to_mask(outline, full.shape), full.shape)) == drawn(full)
        assert len(detected(Mask.from_full(full, label="a"), tolerance=2)["points"]) < len(annotation["points"]) / 2

    def test_the_polygon_may_leave_the_mask_by_a_pixel_unless_told_otherwise(self) -> None:
        y, x = np.mgrid[:60, :80]
        mask = Mask.from_full(((x - 40) / 30) ** 2 + ((y - 30) / 20) ** 2 < 1, label="a")
        assert detector_reply([mask]) == detector_reply([mask], 1.0) != detector_reply([mask], 2.0)
        assert interactor_reply(mask) == interactor_reply(mask, 1.0) != interactor_reply(mask, 2.0)

    def test_a_given_outline_goes_out_as_it_is(self) -> None:
        mask = Mask.from_full(PIXELS, label="a", outline_xy=np.array([[1, 1], [5, 1], [1.005, 3.339]]))
        assert detected(mask)["points"] == [1, 1, 5, 1, 1.0, 3.34]


class TestInteractorReply:
    def test_rows_of_the_box_with_its_inclusive_bounds_and_the_outline(self) -> None:
        reply = json.loads(interactor_reply(Mask.from_full(PIXELS), 0))
        assert reply == {
            "mask": [[1, 1, 1, 1], [1, 1, 0, 0]],
            "bounds": [1, 1, 4, 2],
            "points": [[1, 1], [1, 3], [3, 3], [3, 2], [5, 2], [5, 1]],
        }

    def test_of_nothing_is_one_background_pixel(self) -> None:
        for empty in (Mask.from_full(np.zeros((5, 5), bool)), Mask(bitmap=np.zeros((3, 3), bool), left=7)):
            assert json.loads(interactor_reply(empty)) == {"mask": [[0]], "bounds": [0, 0, 0, 0], "points": []}

    def test_rows_lie_in_the_bounds(self) -> None:
        rng = np.random.default_rng(1)
        for _ in range(20):
            full = rng.random((12, 17)) < 0.1
            full[5, 5] = True
            reply = json.loads(interactor_reply(Mask.from_full(full)))
            left, top, right, bottom = reply["bounds"]
            again = np.zeros_like(full)
            again[top : bottom + 1, left : right + 1] = reply["mask"]
            assert drawn(again) == drawn(full)


class TestBlobReply:
    def test_is_little_endian_float32(self) -> None:
        embedding = np.random.default_rng(2).normal(size=(1, 256, 64, 64)).astype(np.float32)
        blob = json.loads(blob_reply(embedding[:, :, ::-1]))["blob"]
        again = np.frombuffer(base64.b64decode(blob), "<f4").reshape(1, 256, 64, 64)
        np.testing.assert_array_equal(again, embedding[:, :, ::-1])


class TestTrackerReply:
    def test_typed_bare_and_lost(self) -> None:
        box = Rectangle(box_xyxy=(1, 2, 3, 4))
        reply = json.loads(
            tracker_reply(
                [
                    (box, False),
                    (box, True),
                    (None, False),
                    (Rectangle(box_xyxy=(1, 2, 3, 4), rotation=45), False),
                    (Polygon(points_xy=[[0, 0], [5, 0], [5, 5]]), False),
                ],
                ["a", "b", "c", "d", "e"],
            )
        )
        assert reply == {
            "shapes": [
                {"type": "rectangle", "points": [1, 2, 3, 4]},
                [1, 2, 3, 4],
                None,
                {"type": "rectangle", "points": [1, 2, 3, 4], "rotation": 45},
                {"type": "polygon", "points": [0, 0, 5, 0, 5, 5]},
            ],
            "states": ["a", "b", "c", "d", "e"],
        }

    def test_mask_is_run_lengths_as_the_cvat_sdk_writes_them(self) -> None:
        shape = json.loads(tracker_reply([(Mask.from_full(PIXELS), False)], ["a"]))["shapes"][0]
        assert shape == {"type": "mask", "points": encode_mask(PIXELS)}
        assert drawn(mask_to_bitmap(rle_to_mask(shape["points"]), PIXELS.shape)) == drawn(PIXELS)


class TestReidReply:
    def test_is_a_list_of_integers(self) -> None:
        assert reid_reply([]) == "[]"
        assert reid_reply(np.array([2, -1, 0])) == "[2,-1,0]"


class TestShapePoints:
    def test_of_what_has_none(self) -> None:
        with pytest.raises(TypeError, match="a tag has no points"):
            shape_points(Tag())
