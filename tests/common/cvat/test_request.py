import base64
import json
import math
import random
import time
import tracemalloc
from typing import Any

import numpy as np
import orjson
import pytest
from cvat_sdk.masks import encode_mask

from common.cvat.request import (
    DetectorRequest,
    InteractorRequest,
    ReidRequest,
    TrackedItem,
    TrackerRequest,
    detector_body,
    interactor_body,
    read_body,
    reid_body,
    tracker_body,
)
from common.errors import BadRequest
from common.shapes import Cuboid, Ellipse, Mask, Points, Polygon, Polyline, Rectangle
from common.vision.matching import ReidBox
from tests.ascii import bitmap, drawn
from tests.image_files import to_base64

FILE = bytes(range(256)) * 8
IMAGE = to_base64(FILE)
SECRET = "".join(random.Random(0).choices("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", k=40_000))


def detector(**fields: Any) -> DetectorRequest:
    return DetectorRequest.parse({"image": IMAGE, **fields})


def interactor(**fields: Any) -> InteractorRequest:
    return InteractorRequest.parse({"image": IMAGE, **fields})


def tracker(**fields: Any) -> TrackerRequest:
    return TrackerRequest.parse({"image": IMAGE, **fields})


def reid(**fields: Any) -> ReidRequest:
    boxes = {"boxes0": [], "boxes1": []}
    return ReidRequest.parse({"image0": IMAGE, "image1": to_base64(b"second"), **boxes, **fields})


BODY = {"image": IMAGE, "threshold": 0.25}


class TestReadBody:
    @pytest.mark.parametrize(
        "body",
        [
            BODY,
            json.dumps(BODY),
            json.dumps(BODY).encode(),
            bytearray(json.dumps(BODY).encode()),
            memoryview(json.dumps(BODY).encode()),
            json.dumps(BODY, indent=3),
            b"\xef\xbb\xbf" + json.dumps(BODY).encode(),
            json.dumps(BODY).encode("utf-16"),
        ],
    )
    def test_of_any_type_is_the_object(self, body: Any) -> None:
        assert read_body(body) == BODY
        assert DetectorRequest.parse(read_body(body)) == DetectorRequest(image=FILE, threshold=0.25)

    @pytest.mark.parametrize("body", [None, b"", "", bytearray(), memoryview(b"")])
    def test_of_nothing(self, body: Any) -> None:
        with pytest.raises(BadRequest, match=r'^body: expected a JSON object such as \{"image": .*, got nothing$'):
            read_body(body)

    @pytest.mark.parametrize(
        "body", [b"image=abc", "{", b"\xff\xd8\xff\xe0 a jpeg", "{'image': 1}", b'{"a": 1} x', "\ud800"]
    )
    def test_that_is_not_json(self, body: Any) -> None:
        with pytest.raises(BadRequest, match=rf"^body: expected JSON, got {len(body)} bytes that are not: "):
            read_body(body)

    @pytest.mark.parametrize(
        ("body", "got"),
        [
            ("[1, 2]", "[1, 2]"),
            ("7", "7"),
            ('"text"', "the text 'text'"),
            (b"null", "null"),
            (b"true", "true"),
            ([1, 2], "[1, 2]"),
            (3.5, "3.5"),
        ],
    )
    def test_that_is_no_object(self, body: Any, got: str) -> None:
        with pytest.raises(BadRequest) as caught:
            read_body(body)
        assert str(caught.value) == f"body: expected a JSON object, got {got}"

    @pytest.mark.parametrize(
        "body", [b"[" * 200_000, b'{"image":' * 200_000, b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"]
    )
    def test_nested_without_end(self, body: bytes) -> None:
        with pytest.raises(BadRequest, match=r"^body: expected JSON"):
            read_body(body)

    def test_numbers_of_many_digits(self) -> None:
        for digits in (400, 5000):
            body = b'{"image": "AAAA", "threshold": ' + b"9" * digits + b"}"
            with pytest.raises(
                BadRequest, match=r"^(threshold: expected a number from 0 to 1, got|body: expected JSON)"
            ):
                DetectorRequest.parse(read_body(body))


class TestImageField:
    @pytest.mark.parametrize(
        "text",
        [
            IMAGE,
            base64.encodebytes(FILE).decode(),
            base64.encodebytes(FILE).decode().replace("\n", "\r\n"),
            " \t" + IMAGE + "\n",
            "data:image/png;base64," + IMAGE,
            "data:image/png;base64," + base64.encodebytes(FILE).decode(),
            "data:;base64," + IMAGE,
        ],
    )
    def test_is_base64_with_line_breaks_or_as_data_url(self, text: str) -> None:
        assert detector(image=text).image == FILE

    @pytest.mark.parametrize("length", [1, 2, 3, 4, 5])
    def test_padding(self, length: int) -> None:
        assert detector(image=to_base64(FILE[:length])).image == FILE[:length]

    @pytest.mark.parametrize(
        ("value", "got"),
        [
            ("not base64!", "a text of 11 characters"),
            ("AAAAA", "a text of 5 characters"),
            ("AAA", "a text of 3 characters"),
            ("ÄÖÜ=", "a text of 4 characters"),
            ("\ud800AAA", "a text of 4 characters"),
            (SECRET + "!", "a text of 40001 characters"),
            (IMAGE.replace("+", "-").replace("/", "_") + "-_", f"a text of {len(IMAGE) + 2} characters"),
            ("", "the text ''"),
            (None, "null"),
            (5, "5"),
            (True, "true"),
            (["AAAA"], "['AAAA']"),
            ({"data": "AAAA"}, "an object of 1 field"),
            ([SECRET], "[a text of 40000 characters]"),
            ([[[SECRET]]], "[[...]]"),
        ],
    )
    def test_that_is_not_base64(self, value: Any, got: str) -> None:
        with pytest.raises(BadRequest) as caught:
            detector(image=value)
        assert str(caught.value) == f"image: expected an image file in base64, got {got}"

    def test_that_is_missing(self) -> None:
        for parse, field in (
            (DetectorRequest.parse, "image"),
            (TrackerRequest.parse, "image"),
            (ReidRequest.parse, "image0"),
        ):
            with pytest.raises(BadRequest, match=rf"^{field}: expected an image file in base64, got nothing$"):
                parse({})

    def test_nested_deeper_than_python_can_print(self) -> None:
        nested: Any = "core"
        for _ in range(100_000):
            nested = [nested]
        with pytest.raises(BadRequest, match=r"got \[\[\.\.\.\]\]$"):
            detector(image=nested)
        while isinstance(nested, list):  # or Python would run out of stack when it frees it
            nested = nested.pop()

    def test_line_breaks_everywhere_take_little_memory(self) -> None:
        text = "\n".join(["AAAA"] * 1_000_000)
        tracemalloc.start()
        begin = time.process_time()
        assert len(detector(image=text).image) == 3_000_000
        seconds = time.process_time() - begin
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 4 * len(text)
        assert seconds < 2


class TestDetector:
    @pytest.mark.parametrize(("value", "threshold"), [(0.5, 0.5), (0, 0.0), (1, 1.0), (0.0, 0.0), (None, None)])
    def test_threshold(self, value: Any, threshold: float | None) -> None:
        assert detector(threshold=value).threshold == threshold

    def test_without_threshold(self) -> None:
        assert detector().threshold is None

    @pytest.mark.parametrize(
        ("value", "got"),
        [
            ("0.5", "the text '0.5'"),
            (-0.01, "-0.01"),
            (1.01, "1.01"),
            (math.nan, "nan"),
            (math.inf, "inf"),
            (True, "true"),
            ([0.5], "[0.5]"),
            ({}, "an object of 0 fields"),
            (10**400, "a whole number of 1329 bits"),
            pytest.param(10**5000, "a whole number of 16610 bits", id="too long to print"),
        ],
    )
    def test_threshold_that_is_none(self, value: Any, got: str) -> None:
        with pytest.raises(BadRequest) as caught:
            detector(threshold=value)
        assert str(caught.value) == f"threshold: expected a number from 0 to 1, got {got}"

    def test_nan_in_json(self) -> None:
        with pytest.raises(BadRequest, match=r"^threshold: .*, got nan$"):
            DetectorRequest.parse(read_body(b'{"image": "AAAA", "threshold": NaN}'))

    def test_fields_that_nobody_knows_are_no_error(self) -> None:
        assert detector(mapping={}, frame=5, task="x").image == FILE

    def test_is_frozen(self) -> None:
        with pytest.raises(AttributeError):
            detector().threshold = 0.1  # type: ignore[misc]


class TestInteractor:
    def test_points(self) -> None:
        request = interactor(pos_points=[[1, 2], [3.5, 4]], neg_points=[[0, 0]])
        assert request.pos_points == ((1.0, 2.0), (3.5, 4.0))
        assert request.neg_points == ((0.0, 0.0),)
        assert request.box_xyxy is None

    @pytest.mark.parametrize("box", [None, []])
    def test_without_a_box(self, box: Any) -> None:
        assert interactor(pos_points=[[1, 2]], obj_bbox=box).box_xyxy is None
        assert interactor(pos_points=[[1, 2]], neg_points=None, obj_bbox=box).neg_points == ()

    @pytest.mark.parametrize(
        "box", [[[1, 2], [30, 40]], [[30, 40], [1, 2]], [[30, 2], [1, 40]], [1, 2, 30, 40], [30, 40, 1.0, 2.0]]
    )
    def test_box_from_any_corners(self, box: Any) -> None:
        request = interactor(pos_points=[], obj_bbox=box)
        assert request.box_xyxy == (1.0, 2.0, 30.0, 40.0)
        assert request.pos_points == ()

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({}, "pos_points: expected at least one positive point or a box in obj_bbox, got neither"),
            (
                {"neg_points": [[1, 1]]},
                "pos_points: expected at least one positive point or a box in obj_bbox, got neither",
            ),
            ({"pos_points": [[1]]}, "pos_points[0]: expected a point [x, y], got [1]"),
            ({"pos_points": [[1, 2], [1, 2, 3]]}, "pos_points[1]: expected a point [x, y], got [1, 2, 3]"),
            ({"pos_points": [["1", 2]]}, "pos_points[0]: expected a point [x, y], got ['1', 2]"),
            ({"pos_points": [[math.nan, 2]]}, "pos_points[0]: expected a point [x, y], got [nan, 2]"),
            ({"pos_points": [[1e300, 2]]}, "pos_points[0]: expected a point [x, y], got [1e+300, 2]"),
            ({"pos_points": [None]}, "pos_points[0]: expected a point [x, y], got null"),
            ({"pos_points": [1, 2]}, "pos_points[0]: expected a point [x, y], got 1"),
            ({"pos_points": {"x": 1}}, "pos_points: expected a list, got an object of 1 field"),
            ({"pos_points": "1,2"}, "pos_points: expected a list, got the text '1,2'"),
            ({"pos_points": [[1, 2]], "neg_points": [[]]}, "neg_points[0]: expected a point [x, y], got []"),
            ({"obj_bbox": [[1, 2]]}, "obj_bbox: expected two corners [[x0, y0], [x1, y1]], got [[...]]"),
            ({"obj_bbox": [1, 2, 3]}, "obj_bbox: expected two corners [[x0, y0], [x1, y1]], got [1, 2, 3]"),
            ({"obj_bbox": [[1, 2], None]}, "obj_bbox[1]: expected a point [x, y], got null"),
            ({"obj_bbox": [[1, 2], [1, 9]]}, "obj_bbox: expected a box with an area, got [1.0, 2.0, 1.0, 9.0]"),
            ({"obj_bbox": [1, 2, 9, 2]}, "obj_bbox: expected a box with an area, got [1.0, 2.0, 9.0, 2.0]"),
            ({"obj_bbox": True}, "obj_bbox: expected a list, got true"),
        ],
    )
    def test_bad_prompts(self, fields: dict[str, Any], message: str) -> None:
        with pytest.raises(BadRequest) as caught:
            interactor(**fields)
        assert str(caught.value) == message

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"pos_points": [[0, 0], [100, 50]], "neg_points": [[99.9, 49.9]], "obj_bbox": [[0, 0], [100, 50]]}, None),
            ({"pos_points": [[5, 5], [100.5, 7]]}, "pos_points[1]: expected a point inside the image of 100 x 50 pixels, got [100.5, 7]"),
            ({"pos_points": [[5, 50.1]]}, "pos_points[0]: expected a point inside the image of 100 x 50 pixels, got [5, 50.1]"),
            ({"pos_points": [[-1, 5]]}, "pos_points[0]: expected a point inside the image of 100 x 50 pixels, got [-1, 5]"),
            ({"pos_points": [[1, 1]], "neg_points": [[5, -0.5]]}, "neg_points[0]: expected a point inside the image of 100 x 50 pixels, got [5, -0.5]"),
            ({"obj_bbox": [[5, 5], [101, 10]]}, "obj_bbox[1]: expected a point inside the image of 100 x 50 pixels, got [101, 10]"),
            ({"obj_bbox": [[-5, 5], [10, 10]]}, "obj_bbox[0]: expected a point inside the image of 100 x 50 pixels, got [-5, 5]"),
        ],
    )  # fmt: skip
    def test_points_outside_the_image(self, fields: dict[str, Any], message: str | None) -> None:
        request = interactor(**fields)
        if message is None:
            request.check_inside((50, 100))
        else:
            with pytest.raises(BadRequest) as caught:
                request.check_inside((50, 100))
            assert str(caught.value) == message


class TestTracker:
    def test_first_call_with_typed_shapes(self) -> None:
        request = tracker(shapes=[{"type": "rectangle", "points": [10, 20, 30, 45.5]}], states=[])
        (item,) = request.items
        assert isinstance(item.shape, Rectangle)
        assert item.shape.box_xyxy == (10, 20, 30, 45.5)
        assert item.shape.rotation == 0
        assert item.state is None
        assert not item.bare

    def test_first_call_with_bare_boxes(self) -> None:
        request = tracker(shapes=[[10, 20, 30, 40], [3, 4, 1, 2]], states=[])
        first, second = request.items
        assert isinstance(first.shape, Rectangle)
        assert first.shape.box_xyxy == (10, 20, 30, 40)
        assert isinstance(second.shape, Rectangle)
        assert second.shape.box_xyxy == (1, 2, 3, 4)
        assert second.shape.rotation == 0
        assert first.bare
        assert second.bare

    @pytest.mark.parametrize("states", [{}, {"states": None}, {"states": []}])
    def test_first_call_with_any_form_of_no_states(self, states: dict[str, Any]) -> None:
        assert tracker(shapes=[[1, 2, 3, 4]], **states).items[0].shape is not None

    @pytest.mark.parametrize("shapes", [{}, {"shapes": []}, {"shapes": None}, {"shapes": [None, None]}])
    def test_later_calls_with_shapes_padded_with_nulls_or_without(self, shapes: dict[str, Any]) -> None:
        request = tracker(states=["a", "b"], **shapes)
        assert [(item.shape, item.state) for item in request.items] == [(None, "a"), (None, "b")]

    def test_later_calls_of_very_old_uis_that_send_both(self) -> None:
        request = tracker(shapes=[[1, 2, 3, 4], [5, 6, 7, 8]], states=["a", "b"])
        assert [(item.shape, item.state) for item in request.items] == [(None, "a"), (None, "b")]

    def test_new_objects_beside_old_ones(self) -> None:
        request = tracker(shapes=[None, [5, 6, 7, 8]], states=["a", None])
        assert request.items[0].state == "a"
        assert request.items[1].shape is not None

    @pytest.mark.parametrize(
        ("shape", "kind", "points"),
        [
            ({"type": "polygon", "points": [0, 0, 5, 0, 5, 5]}, Polygon, [[0, 0], [5, 0], [5, 5]]),
            ({"type": "polyline", "points": [0, 0, 5, 0.5]}, Polyline, [[0, 0], [5, 0.5]]),
            ({"type": "points", "points": [7, 8]}, Points, [[7, 8]]),
            ({"type": "cuboid", "points": list(range(16))}, Cuboid, [[i, i + 1] for i in range(0, 16, 2)]),
        ],
    )
    def test_shapes_of_points(self, shape: dict[str, Any], kind: type, points: list[list[float]]) -> None:
        found = tracker(shapes=[shape]).items[0].shape
        assert type(found) is kind
        assert found.points_xy.tolist() == points  # type: ignore[union-attr]

    def test_rotated_rectangle(self) -> None:
        found = tracker(shapes=[{"type": "rectangle", "points": [1, 2, 3, 4], "rotation": 30}]).items[0].shape
        assert isinstance(found, Rectangle)
        assert found.rotation == 30

    def test_ellipse_is_centre_right_and_top(self) -> None:
        found = tracker(shapes=[{"type": "ellipse", "points": [50, 40, 60, 35], "rotation": 5}]).items[0].shape
        assert isinstance(found, Ellipse)
        assert (found.center_xy, found.radii_xy, found.rotation) == ((50, 40), (10, 5), 5)

    def test_mask_is_run_lengths_and_an_inclusive_box(self) -> None:
        full = bitmap("......\n..##..\n.####.\n......")
        found = tracker(shapes=[{"type": "mask", "points": encode_mask(full)}]).items[0].shape
        assert isinstance(found, Mask)
        assert drawn(found.bitmap) == ".##.\n####"
        assert found.box_xyxy == (1, 1, 5, 3)

    def test_mask_of_floats_with_an_empty_border_is_cropped(self) -> None:
        found = tracker(shapes=[{"type": "mask", "points": [4.0, 1.0, 4.0, 10.0, 20.0, 12.0, 22.0]}]).items[0].shape
        assert isinstance(found, Mask)
        assert found.box_xyxy == (11, 21, 12, 22)

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({}, "shapes: expected at least one shape to track, got none"),
            ({"shapes": [], "states": []}, "shapes: expected at least one shape to track, got none"),
            ({"shapes": [[1, 2, 3, 4]], "states": ["a", "b"]}, "states: expected as many as shapes (1) or none, got 2; shapes and states belong together by their place"),
            ({"shapes": [[1, 2, 3, 4]] * 3, "states": ["a"]}, "states: expected as many as shapes (3) or none, got 1; shapes and states belong together by their place"),
            ({"shapes": [None], "states": []}, "shapes[0]: expected a shape, or a state in states[0], got neither"),
            ({"shapes": [None, None], "states": ["a", None]}, "shapes[1]: expected a shape, or a state in states[1], got neither"),
            ({"shapes": {"0": []}}, "shapes: expected a list, got an object of 1 field"),
            ({"shapes": "rectangle"}, "shapes: expected a list, got the text 'rectangle'"),
            ({"states": "abc"}, "states: expected a list, got the text 'abc'"),
            ({"shapes": ["x"]}, "shapes[0]: expected a shape {\"type\", \"points\"} or a box [xtl, ytl, xbr, ybr], got the text 'x'"),
            ({"shapes": [[1, 2, 3]]}, "shapes[0]: expected 4 numbers, xtl, ytl, xbr, ybr, got [1, 2, 3]"),
            ({"shapes": [[1, 2, 3, None]]}, "shapes[0]: expected a shape {\"type\", \"points\"} or a box [xtl, ytl, xbr, ybr], got [1, 2, 3, null]"),
            ({"shapes": [[1, 2, 1, 4]]}, "shapes[0]: expected a box with an area, got [1, 2, 1, 4]"),
            ({"shapes": [{"type": "rectangle"}]}, "shapes[0].points: expected a list of numbers, got nothing"),
            ({"shapes": [{"type": "rectangle", "points": [1, 2, math.inf, 4]}]}, "shapes[0].points: expected a list of numbers, got [1, 2, inf, 4]"),
            ({"shapes": [{"type": "rectangle", "points": [1, 2, 3, 4], "rotation": "5"}]}, "shapes[0].rotation: expected a number, got the text '5'"),
            ({"shapes": [{"points": [1, 2, 3, 4]}]}, "shapes[0].type: expected rectangle, ellipse, polygon, polyline, points, cuboid or mask, got nothing"),
            ({"shapes": [{"type": "skeleton", "points": [1, 2, 3, 4]}]}, "shapes[0].type: expected rectangle, ellipse, polygon, polyline, points, cuboid or mask, got the text 'skeleton'"),
            ({"shapes": [{"type": ["mask"], "points": [1, 2, 3, 4]}]}, "shapes[0].type: expected rectangle, ellipse, polygon, polyline, points, cuboid or mask, got ['mask']"),
            ({"shapes": [{"type": "polygon", "points": [1, 2, 3, 4]}]}, "shapes[0].points: expected x and y of 3 points or more, got [1, 2, 3, 4]"),
            ({"shapes": [{"type": "polygon", "points": [1, 2, 3, 4, 5, 6, 7]}]}, "shapes[0].points: expected x and y of 3 points or more, got a list of 7 items"),
            ({"shapes": [{"type": "points", "points": []}]}, "shapes[0].points: expected x and y of 1 point or more, got []"),
            ({"shapes": [{"type": "ellipse", "points": [5, 5, 5, 1]}]}, "shapes[0].points: expected an ellipse with an area, got [5, 5, 5, 1]"),
            ({"shapes": [{"type": "mask", "points": [1, 2, 3, 4]}]}, "shapes[0].points: expected run lengths and a box, got [1, 2, 3, 4]"),
            ({"shapes": [{"type": "mask", "points": [4, 0, 0, 1, 1]}]}, "shapes[0].points: expected a mask with at least one pixel, got a list of 5 items"),
            ({"shapes": [{"type": "mask", "points": [0, 3, 0, 0, 1, 1]}]}, "shapes[0].points: run lengths add up to 3, the box has 4 pixels"),
            ({"shapes": [{"type": "mask", "points": [0, 4, 1, 1, 0, 0]}]}, "shapes[0].points: the box [1, 1, 0, 0] is empty"),
            ({"shapes": [{"type": "mask", "points": [0, 4, 0, 0, 1.5, 1]}]}, "shapes[0].points: the box [0, 0, 1.5, 1] is not of whole numbers"),
            ({"shapes": [{"type": "mask", "points": [0, 1e9, 0, 0, 99999, 9999]}]}, "shapes[0].points: expected a mask no larger than an image, got a list of 6 items"),
        ],
    )  # fmt: skip
    def test_bad_shapes(self, fields: dict[str, Any], message: str) -> None:
        with pytest.raises(BadRequest) as caught:
            tracker(**fields)
        assert str(caught.value) == message

    @pytest.mark.parametrize(("right", "bottom"), [(100, 99), (99, 100)])
    def test_a_mask_larger_than_any_image_is_refused(
        self, monkeypatch: pytest.MonkeyPatch, right: int, bottom: int
    ) -> None:
        monkeypatch.setenv("MAX_IMAGE_PIXELS", "10000")
        shape = {"type": "mask", "points": [0, 10_100, 0, 0, right, bottom]}
        with pytest.raises(BadRequest, match=r"^shapes\[0\]\.points: expected a mask no larger than an image"):
            tracker(shapes=[shape])

    def test_masks_of_many_small_texts_and_many_pixels_are_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MAX_IMAGE_PIXELS", "10000")
        full = {"type": "mask", "points": [0, 10_000, 0, 0, 99, 99]}
        assert len(tracker(shapes=[full] * 4).items) == 4
        with pytest.raises(
            BadRequest, match=r"^shapes\[4\]: the masks up to here have 50000 pixels, too many to track$"
        ):
            tracker(shapes=[full] * 500)


class TestReid:
    def test_every_field(self) -> None:
        shape = {"points": [10, 20, 30, 40.5], "label_id": 7, "frame": 3, "type": "rectangle", "rotation": 0, "id": 99}
        request = reid(boxes0=[shape], boxes1=[{"points": [1, 2, 3, 4]}], threshold=0.4, max_distance=50)
        assert request.image0 == FILE
        assert request.image1 == b"second"
        assert request.boxes0 == (ReidBox(box_xyxy=(10, 20, 30, 40.5), label_id=7),)
        assert request.boxes1 == (ReidBox(box_xyxy=(1, 2, 3, 4), label_id=None),)
        assert request.threshold == 0.4
        assert request.max_distance == 50

    def test_without_options_and_without_boxes(self) -> None:
        request = reid(threshold=None)
        assert (request.boxes0, request.boxes1) == ((), ())
        assert (request.threshold, request.max_distance) == (None, None)

    @pytest.mark.parametrize(
        ("shape", "box"),
        [
            ([30, 40, 10, 20], (10, 20, 30, 40)),
            ({"type": "polygon", "points": [5, 9, 1, 2, 7, 3]}, (1, 2, 7, 9)),
            ({"type": "mask", "points": [0, 4, 10, 20, 11, 21]}, (10, 20, 12, 22)),
            ({"type": "rectangle", "points": [10, 20, 30, 30], "rotation": 90}, (15, 15, 25, 35)),
            ({"type": "rectangle", "points": [10, 20, 30, 30], "rotation": 180}, (10, 20, 30, 30)),
            ({"type": "rectangle", "points": [0, 0, 2, 2], "rotation": 45}, (1 - 2**0.5, 1 - 2**0.5, 1 + 2**0.5, 1 + 2**0.5)),
        ],
    )  # fmt: skip
    def test_box_is_the_upright_one_around_the_shape(self, shape: Any, box: tuple[float, ...]) -> None:
        assert reid(boxes0=[shape]).boxes0[0].box_xyxy == pytest.approx(box)

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"boxes0": None}, "boxes0: expected a list of shapes, got null"),
            ({"boxes1": {}}, "boxes1: expected a list, got an object of 0 fields"),
            ({"boxes1": [5]}, "boxes1[0]: expected the shape's points, got 5"),
            ({"boxes1": [None]}, "boxes1[0]: expected the shape's points, got null"),
            ({"boxes0": [{}]}, "boxes0[0].points: expected the shape's points, got nothing"),
            ({"boxes0": [{"points": [1, 2]}]}, "boxes0[0].points: expected x and y of two points or more, got [1, 2]"),
            ({"boxes0": [{"points": [1, 2, 3]}]}, "boxes0[0].points: expected x and y of two points or more, got [1, 2, 3]"),
            ({"boxes0": [{"points": [1, 2, 3, "4"]}]}, "boxes0[0].points: expected the shape's points, got [1, 2, 3, '4']"),
            ({"boxes0": [{"points": [1, 2, 3, 4], "label_id": "7"}]}, "boxes0[0].label_id: expected an integer, got the text '7'"),
            ({"boxes0": [{"points": [1, 2, 3, 4], "label_id": True}]}, "boxes0[0].label_id: expected an integer, got true"),
            ({"boxes0": [{"points": [1, 2, 3, 4], "rotation": []}]}, "boxes0[0].rotation: expected a number, got []"),
            ({"threshold": 2}, "threshold: expected a number from 0 to 1, got 2"),
            ({"max_distance": -1}, "max_distance: expected a number of 0 or more, got -1"),
            ({"max_distance": math.nan}, "max_distance: expected a number of 0 or more, got nan"),
            ({"image1": 5}, "image1: expected an image file in base64, got 5"),
        ],
    )  # fmt: skip
    def test_bad_fields(self, fields: dict[str, Any], message: str) -> None:
        with pytest.raises(BadRequest) as caught:
            reid(**fields)
        assert str(caught.value) == message

    def test_boxes_that_are_missing(self) -> None:
        with pytest.raises(BadRequest, match=r"^boxes0: expected a list of shapes, got nothing$"):
            ReidRequest.parse({"image0": IMAGE, "image1": IMAGE})


NUMBERS = (0, 1, -1, 0.5, 1e9, 1e300, -1e300, math.nan, math.inf, 2**63, 10**400, True, 5e-324)


def junk(rng: random.Random, depth: int = 0) -> Any:
    """Any JSON value, with the kinds of values that requests hold more often than others."""
    choice = rng.randrange(12 if depth < 4 else 6)
    if choice == 0:
        return None
    if choice == 1:
        return rng.choice(NUMBERS)
    if choice == 2:
        return rng.choice(["", "mask", "rectangle", "polygon", "ÄÖ\0\ud800", "a.1.b.c", SECRET, SECRET[:40], "[" * 500])
    if choice in (3, 4):
        return rng.choice([rng.randrange(-5, 50), rng.uniform(-5, 50)])
    if choice == 5:
        return [rng.randrange(0, 20) for _ in range(rng.randrange(0, 9))]
    if choice in (6, 7, 8):
        return [junk(rng, depth + 1) for _ in range(rng.randrange(0, 6))]
    if choice in (9, 10):
        kind = rng.choice(
            ["rectangle", "polygon", "polyline", "points", "ellipse", "cuboid", "mask", "tag", junk(rng, 4)]
        )
        return {"type": kind, "points": junk(rng, depth + 1), "label_id": junk(rng, 4), "rotation": junk(rng, 4)}
    return {rng.choice(["image", "type", "points"]): junk(rng, depth + 1) for _ in range(rng.randrange(0, 5))}


GOOD = {
    "image": IMAGE,
    "image0": IMAGE,
    "image1": IMAGE,
    "threshold": 0.5,
    "max_distance": 50,
    "pos_points": [[1, 2], [3, 4]],
    "neg_points": [[5.5, 6]],
    "obj_bbox": [[0, 0], [9, 9]],
    "shapes": [
        [1, 2, 3, 4],
        {"type": "polygon", "points": [0, 0, 5, 0, 5, 5]},
        {"type": "mask", "points": [1, 3, 0, 0, 1, 1]},
    ],
    "states": [],
    "boxes0": [{"points": [1, 2, 3, 4], "label_id": 1}],
    "boxes1": [{"points": [1, 2, 3, 4], "rotation": 20}, [1, 2, 3, 4]],
}


class TestAnyBody:
    @pytest.mark.parametrize("kind", [DetectorRequest, InteractorRequest, TrackerRequest, ReidRequest])
    def test_is_read_or_refused_in_a_short_message_without_content(self, kind: Any) -> None:
        rng = random.Random(20)
        read = 0
        for _ in range(3000):
            body = {name: GOOD[name] if rng.random() < 0.7 else junk(rng) for name in GOOD if rng.random() < 0.9}
            try:
                request = kind.parse(body)
            except BadRequest as error:
                message = str(error)
                assert len(message) <= 300
                assert message.isprintable()
                assert message.split(":")[0].split("[")[0].split(".")[0] in GOOD
                assert SECRET[:50] not in message
                assert IMAGE[:50] not in message
            else:
                read += 1
                if isinstance(request, InteractorRequest):
                    for point in (*request.pos_points, *request.neg_points, request.box_xyxy or ()):
                        assert np.isfinite(point).all()
                if isinstance(request, ReidRequest):
                    for box in (*request.boxes0, *request.boxes1):
                        assert np.isfinite(box.box_xyxy).all()
        assert 200 < read < 2800

    def test_with_changed_bytes_is_read_or_refused(self) -> None:
        rng = random.Random(21)
        whole = orjson.dumps({"image": SECRET, "pos_points": [[1, 2]], "threshold": 0.5})
        for _ in range(300):
            body = bytearray(whole)
            for _ in range(rng.randrange(1, 5)):
                body[rng.randrange(len(body))] = rng.randrange(256)
            body = body[: rng.randrange(len(body) + 1)]
            try:
                DetectorRequest.parse(read_body(bytes(body)))
            except BadRequest as error:
                message = str(error)
                assert len(message) <= 300
                assert SECRET[:50] not in message


def over_the_wire(body: dict[str, Any]) -> dict[str, Any]:
    return read_body(json.dumps(body))


class TestRoundTrips:
    """What a body's writer writes, its reader reads back."""

    @pytest.mark.parametrize("threshold", [None, 0.0, 0.25])
    def test_detector(self, threshold: float | None) -> None:
        body = over_the_wire(detector_body(FILE, threshold))
        assert DetectorRequest.parse(body) == DetectorRequest(FILE, threshold)
        assert ("threshold" in body) == (threshold is not None)

    @pytest.mark.parametrize(
        "prompt",
        [
            {"pos_points": ((1.0, 2.5), (3.0, 4.0)), "neg_points": ((5.0, 6.0),)},
            {"box_xyxy": (1.0, 2.0, 30.0, 40.5)},
            {"pos_points": ((1.0, 2.0),), "box_xyxy": (1.0, 2.0, 30.0, 40.5)},
        ],
        ids=lambda prompt: " ".join(prompt),
    )
    def test_interactor(self, prompt: dict[str, Any]) -> None:
        body = over_the_wire(interactor_body(FILE, **prompt))
        assert InteractorRequest.parse(body) == InteractorRequest(FILE, **prompt)

    def test_tracker_to_start_with(self) -> None:
        shapes = [Rectangle(box_xyxy=(1, 2, 3, 4), rotation=20), Polygon(points_xy=[(0, 0), (9, 0), (9, 9)])]
        request = TrackerRequest.parse(over_the_wire(tracker_body(FILE, shapes)))
        assert request.image == FILE
        box, polygon = (item.shape for item in request.items)
        assert (box.box_xyxy, box.rotation) == ((1, 2, 3, 4), 20)
        assert polygon.points_xy.tolist() == [[0, 0], [9, 0], [9, 9]]
        assert [(item.state, item.bare) for item in request.items] == [(None, False)] * 2

    def test_tracker_to_go_on_with(self) -> None:
        body = over_the_wire(tracker_body(FILE, states=["a", {"b": 1}]))
        assert body["shapes"] == [None, None]
        assert TrackerRequest.parse(body).items == (TrackedItem(None, "a"), TrackedItem(None, {"b": 1}))

    def test_tracker_with_one_new_object(self) -> None:
        body = over_the_wire(tracker_body(FILE, [None, Rectangle(box_xyxy=(1, 2, 3, 4))], ["a", None]))
        old, new = TrackerRequest.parse(body).items
        assert (old.shape, old.state) == (None, "a")
        assert (new.shape.box_xyxy, new.state) == ((1, 2, 3, 4), None)

    def test_reid(self) -> None:
        box = {"id": 9, "type": "rectangle", "label_id": 3, "points": [1, 2, 3, 4], "rotation": 0.0, "attributes": []}
        body = over_the_wire(reid_body(FILE, b"second", [box], [], threshold=0.5, max_distance=20))
        assert body["boxes0"] == [box]
        request = ReidRequest.parse(body)
        assert request == ReidRequest(FILE, b"second", (ReidBox((1, 2, 3, 4), 3),), (), 0.5, 20.0)
        assert ReidRequest.parse(over_the_wire(reid_body(FILE, FILE, [], []))).threshold is None
