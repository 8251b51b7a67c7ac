import base64
import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from cvat_sdk.masks import encode_mask

from common.cvat.reply import (
    blob_reply,
    detector_reply,
    interactor_reply,
    read_blob_reply,
    read_detector_reply,
    read_interactor_reply,
    read_reid_reply,
    read_tracker_reply,
    reid_reply,
    tracker_reply,
)
from common.errors import ModelError
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


SHAPES = [
    Tag(label="a", score=0.5, group=3, attributes={"text": 'Ü "x" 漢', "parked": "true"}),
    Rectangle(label="a", box_xyxy=(1.25, 2, 30.5, 40), score=1.0),
    Rectangle(label="b", box_xyxy=(1.25, 2, 30.5, 40), rotation=33.33),
    Ellipse(label="a", center_xy=(50.11, 40.07), radii_xy=(10.3, 5.9), rotation=271.5, group=1),
    Polygon(label="a", points_xy=[(0, 0), (5.01, 0), (5, 5.13)], attributes={"n": "7"}),
    Polyline(label="a", points_xy=[(0, 0), (5, 1)]),
    Points(label="a", points_xy=[(7.77, 8)]),
    Cuboid(label="a", points_xy=np.arange(16) * 1.01),
    Skeleton(label="a", joints=(Joint("hand", 1.23, 2), Joint("elbow", 3, 4, visible=False)), score=0.25),
    Mask.from_full(PIXELS, label="a", score=0.75),
    Mask.from_full(PIXELS, label="a", outline_xy=np.array([(1, 1), (5, 1), (1, 3.34)])),
]


def assert_same(first: Shape, second: Shape) -> None:
    """Equal field for field, but for the polygon that a reply adds to a mask without one."""
    assert type(first) is type(second)
    for field in dataclasses.fields(first):
        one, other = getattr(first, field.name), getattr(second, field.name)
        if field.name.endswith(("_xy", "_xyxy")) and one is not None:
            np.testing.assert_allclose(one, other, err_msg=field.name)
        elif field.name == "bitmap":
            np.testing.assert_array_equal(one, other)
        elif field.name != "outline_xy":
            assert one == other, field.name


class TestRoundTrips:
    """Each reply, read back, is what was written; written again, the same text."""

    @pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.type)
    def test_detector(self, shape: Shape) -> None:
        text = detector_reply([shape])
        for form in (text, text.encode(), json.loads(text)):
            (again,) = read_detector_reply(form)
            assert_same(shape, again)
            assert detector_reply([again]) == text

    def test_detector_with_many_and_none(self) -> None:
        text = detector_reply(SHAPES)
        assert detector_reply(read_detector_reply(text)) == text
        assert read_detector_reply("[]") == []

    @pytest.mark.parametrize(
        "pixels", [PIXELS, np.zeros((3, 4), bool), np.eye(7, dtype=bool), np.ones((1, 1), bool)], ids=str
    )
    def test_interactor(self, pixels: np.ndarray) -> None:
        text = interactor_reply(Mask.from_full(pixels))
        again = read_interactor_reply(text)
        np.testing.assert_array_equal(mask_to_bitmap(again, pixels.shape), pixels)
        assert interactor_reply(again) == text

    def test_interactor_without_bounds_is_of_the_whole_image(self) -> None:
        again = read_interactor_reply({"mask": PIXELS.astype(int).tolist()})
        assert again.box_xyxy == (0, 0, 6, 4)
        assert again.outline_xy is None
        np.testing.assert_array_equal(again.bitmap, PIXELS)

    def test_blob(self) -> None:
        embedding = np.random.default_rng(2).normal(size=(1, 256, 64, 64)).astype(np.float32)
        np.testing.assert_array_equal(read_blob_reply(blob_reply(embedding)), embedding)

    def test_tracker(self) -> None:
        # There is no place for a label, a skeleton or an outline beside a mask.
        shapes = [s for s in SHAPES[:-1] if not isinstance(s, (Tag, Skeleton))]
        plain = [(dataclasses.replace(s, label="", score=None, group=0, attributes={}), False) for s in shapes]
        states = [f"state {i}" for i in range(len(plain))]
        text = tracker_reply(plain, states, lost=[2])
        again = read_tracker_reply(text.encode())
        assert again.states == states
        assert again.lost == {2}
        for (shape, _), read in zip(plain, again.shapes, strict=True):
            assert_same(shape, read)
        assert tracker_reply([(s, False) for s in again.shapes], again.states, sorted(again.lost)) == text

    def test_tracker_with_a_bare_box_and_null(self) -> None:
        box = Rectangle(box_xyxy=(1, 2, 3, 4))
        again = read_tracker_reply(tracker_reply([(box, True), (None, False)], ["a", "b"]))
        assert_same(again.shapes[0], box)
        assert again.shapes[1] is None
        assert again.lost == {1}

    def test_reid(self) -> None:
        assert read_reid_reply(reid_reply([2, -1, 0]), 3, 3) == [2, -1, 0]
        assert read_reid_reply("[]", 0, 5) == []


class TestWhatIsNotAReply:
    @pytest.mark.parametrize(
        ("reply", "message"),
        [
            ('{"mask": []}', "the reply is not a list of annotations but an object of 1 field; is the function a detector?"),
            ("<html>", "the reply is not JSON"),
            ("[1]", "annotation 0 in the reply is invalid: expected an object, got 1"),
            ('[{"type": "tag"}]', 'annotation 0 in the reply is invalid: "label" is missing'),
            ('[{"type": "tag", "label": "a"}, {"label": "a"}]', 'annotation 1 in the reply is invalid: "type" is missing'),
            ('[{"type": "rectangle", "label": "a"}]', "shape.points: expected a list of numbers, got nothing"),
            ('[{"type": "rectangle", "label": "a", "points": [1, 2]}]', "expected 4 numbers, xtl, ytl, xbr, ybr"),
            ('[{"type": "blob", "label": "a", "points": [1, 2]}]', "shape.type: expected rectangle, ellipse"),
            ('[{"type": "mask", "label": "a", "mask": [1, 0, 0, 1, 1]}]', "2 x 2 pixels needs 4 values, got 1"),
            ('[{"type": "skeleton", "label": "a", "elements": [{"label": "b", "points": [1]}]}]', "expected a point"),
            ('[{"type": "tag", "label": "a", "confidence": "high"}]', "could not convert string to float: 'high'"),
        ],
    )  # fmt: skip
    def test_of_a_detector(self, reply: str, message: str) -> None:
        with pytest.raises(ModelError) as caught:
            read_detector_reply(reply)
        assert message in str(caught.value)

    @pytest.mark.parametrize(
        ("reply", "message"),
        [
            ("[]", "the reply is not an object but []; is the function an interactor?"),
            ({"points": []}, 'the reply is invalid: "mask" is missing'),
            ({"mask": []}, "expected rows of numbers"),
            ({"mask": [[1, 0], [1]]}, "the reply is invalid"),
            ({"mask": [["1"]]}, "expected rows of numbers"),
            ({"mask": [[1, 0]], "bounds": [5, 5, 5, 5]}, "bounds are of 1 x 1 pixels, the rows of 2 x 1"),
            ({"mask": [[1]], "bounds": [5, 5, 5]}, "the reply is invalid"),
            ({"mask": [[1]], "points": [[1, 2], [3]]}, "points[1]: expected a point [x, y], got [3]"),
        ],
    )
    def test_of_an_interactor(self, reply: Any, message: str) -> None:
        with pytest.raises(ModelError) as caught:
            read_interactor_reply(reply)
        assert message in str(caught.value)

    @pytest.mark.parametrize(
        ("reply", "message"),
        [
            ({"mask": [[1]]}, '"blob" is missing'),
            ({"blob": base64.b64encode(b"abcd").decode()}, "cannot reshape"),
            ({"blob": "äöü"}, "the reply is invalid"),
        ],
    )
    def test_of_a_blob(self, reply: Any, message: str) -> None:
        with pytest.raises(ModelError) as caught:
            read_blob_reply(reply)
        assert message in str(caught.value)

    @pytest.mark.parametrize(
        ("reply", "message"),
        [
            ([], "is the function a tracker?"),
            ({"shapes": []}, '"states" is missing'),
            ({"shapes": [None], "states": []}, "expected lists of the same length, got [null] and []"),
            ({"shapes": [[1, 2]], "states": ["a"]}, "shapes[0]: expected 4 numbers"),
        ],
    )
    def test_of_a_tracker(self, reply: Any, message: str) -> None:
        with pytest.raises(ModelError) as caught:
            read_tracker_reply(reply)
        assert message in str(caught.value)

    @pytest.mark.parametrize("reply", [{}, [0], [0, 1, 2], [0, "1"], [0, True], [0, 0], [0, 9]], ids=str)
    def test_of_a_reid_function(self, reply: Any) -> None:
        with pytest.raises(ModelError, match=r"in the reply|the reply is not a list"):
            read_reid_reply(reply, 2, 3)
