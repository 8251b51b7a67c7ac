"""check_reply and check_refusal: good replies of each kind pass, and each way to be wrong has its finding."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from common.config import FunctionConfig
from common.cvat.conform import conform
from common.cvat.labels import parse_labels
from common.cvat.reply import detector_reply
from common.shapes import Cuboid, Ellipse, Joint, Mask, Points, Polygon, Polyline, Rectangle, Skeleton, Tag
from tools.check import Finding, check_refusal, check_reply
from tools.check.shape_rules import image_size_hw
from tools.collection import ROOT
from tools.wrapper import Reply

WIDTH, HEIGHT = 40, 30
GONE = object()


def image(width: int = WIDTH, height: int = HEIGHT, **options: Any) -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height)).save(buffer, "JPEG", **options)
    return base64.b64encode(buffer.getvalue()).decode()


LABELS = parse_labels(
    json.dumps(
        [
            {
                "name": "car",
                "attributes": [
                    {"name": "age", "input_type": "number", "values": ["0", "10", "5"]},
                    {"name": "colour", "input_type": "select", "values": ["red", "green"]},
                    {"name": "parked", "input_type": "checkbox", "values": []},
                    {"name": "plate", "input_type": "text", "values": []},
                ],
            },
            {"name": "box", "type": "rectangle"},
            {"name": "area", "type": "mask"},
            {
                "name": "pair",
                "type": "skeleton",
                "sublabels": [{"name": "left", "type": "points"}, {"name": "right", "type": "points"}],
                "svg": "<circle></circle>",
            },
        ]
    )
)


def config(kind: str, **annotations: str) -> FunctionConfig:
    labels = LABELS if kind == "detector" else parse_labels("")
    return FunctionConfig(
        directory=Path(), name="f", kind=kind, labels=labels, annotations={"type": kind} | annotations
    )


def check(kind: str, content: Any, request: dict[str, Any] | None = None, **annotations: str) -> list[Finding]:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    reply = Reply(200, body, "application/json", {})
    return check_reply(reply, config(kind, **annotations), {"image": image()} | (request or {}))


def brief(findings: list[Finding]) -> list[tuple[str, str, str]]:
    return [(finding.severity, finding.rule, finding.field) for finding in findings]


def test_everything_that_the_shared_encoder_writes_is_good() -> None:
    joints = (Joint("left", 3, 4), Joint("right", 0, 0, visible=False))
    shapes = [
        Tag(label="car", score=0.5),
        Rectangle(label="box", score=1.0, box_xyxy=(1, 2, 30, 20), rotation=20, group=3),
        Ellipse(label="car", center_xy=(20, 15), radii_xy=(5, 6), attributes={"age": 10, "parked": True}),
        Polygon(label="car", points_xy=[(0, 0), (WIDTH, 0), (5, HEIGHT)], attributes={"colour": "red", "plate": "X 1"}),
        Polyline(label="car", points_xy=[(0, 0), (4, 5)]),
        Points(label="car", points_xy=[(0, 0)]),
        Cuboid(label="car", points_xy=np.arange(16)),
        Mask(label="area", bitmap=np.ones((3, 4), np.bool_), left=WIDTH - 4, top=HEIGHT - 3),
        Skeleton(label="pair", joints=joints),
    ]
    reply = Reply(200, detector_reply(conform(shapes, LABELS, (HEIGHT, WIDTH))).encode(), "application/json", {})
    assert check_reply(reply, config("detector"), {"image": image(), "threshold": 0.5}) == []


BOX = {"label": "box", "type": "rectangle", "points": [1, 2, 30, 20]}
CAR = {"label": "car", "type": "polygon", "points": [1, 2, 30, 20, 5, 6]}
MASK = {"label": "area", "type": "mask", "mask": [1, 1, 0, 1, 1, 1, 10, 10, 12, 11], "points": [10, 10, 13, 10, 13, 12]}
JOINTS = [
    {"label": "left", "type": "points", "points": [1, 2], "outside": 0},
    {"label": "right", "type": "points", "points": [3, 4], "outside": 1},
]
PAIR = {"label": "pair", "type": "skeleton", "elements": JOINTS}


def joints(i: int, **fields: object) -> dict[str, object]:
    return {"elements": [{**joint, **(fields if j == i else {})} for j, joint in enumerate(JOINTS)]}


def attributes(*values: tuple[str, object]) -> dict[str, object]:
    return {"attributes": [{"name": name, "value": value} for name, value in values]}


# a good annotation, what is changed in it, severity, rule, field after the annotation's own
BAD_ANNOTATIONS = [
    (BOX, {"label": "bus"}, "error", "reply.label", ".label"),
    (BOX, {"label": GONE}, "error", "reply.label", ".label"),
    (BOX, {"label": 1}, "error", "reply.label", ".label"),
    (BOX, {"type": GONE}, "error", "reply.type", ".type"),
    (BOX, {"type": "box"}, "error", "reply.type", ".type"),
    (BOX, {"type": "any"}, "error", "reply.type", ".type"),
    (BOX, {"type": "polyline"}, "error", "reply.type", ".type"),
    (MASK, {"type": "polygon"}, "warning", "reply.type", ".type"),
    (BOX, {"points": GONE}, "error", "reply.points", ".points"),
    (BOX, {"points": [[1, 2], [30, 20]]}, "error", "reply.points", ".points"),
    (BOX, {"points": ["1", 2, 30, 20]}, "error", "reply.points", ".points"),
    (BOX, {"points": [1, None, 30, 20]}, "error", "reply.points", ".points"),
    (BOX, {"points": [1, 2, 30]}, "error", "reply.points", ".points"),
    (BOX, {"points": [30, 2, 1, 20]}, "error", "reply.points", ".points"),
    (BOX, {"points": [30, 20, 10, 10]}, "error", "reply.points", ".points"),
    (BOX, {"points": [41, 2, 50, 20]}, "error", "reply.outside", ".points"),
    (BOX, {"points": [1, 2, 50, 20]}, "warning", "reply.outside", ".points"),
    (BOX, {"points": [30, 2, 60, 20], "rotation": 90}, "error", "reply.outside", ".points"),
    (BOX, {"points": [1, 2, 50, 20], "rotation": 180}, "warning", "reply.outside", ".points"),
    (BOX, {"rotation": "20"}, "error", "reply.rotation", ".rotation"),
    (BOX, {"rotation": -20}, "warning", "reply.rotation", ".rotation"),
    (CAR, {"rotation": 20}, "warning", "reply.rotation", ".rotation"),
    (CAR, {"points": [1, 2, 3, 4]}, "error", "reply.points", ".points"),
    (CAR, {"points": [1, 2, 3, 4, 5]}, "error", "reply.points", ".points"),
    (CAR, {"type": "polyline", "points": [1, 2]}, "error", "reply.points", ".points"),
    (CAR, {"type": "points", "points": []}, "error", "reply.points", ".points"),
    (CAR, {"type": "cuboid"}, "error", "reply.points", ".points"),
    (CAR, {"type": "ellipse", "points": [20, 15, 5, 6]}, "error", "reply.points", ".points"),
    (CAR, {"type": "ellipse", "points": [50, 15, 55, 6]}, "error", "reply.outside", ".points"),
    (BOX, {"group_id": -1}, "error", "reply.group", ".group_id"),
    (BOX, {"group_id": "1"}, "error", "reply.group", ".group_id"),
    (BOX, {"confidence": "high"}, "warning", "reply.confidence", ".confidence"),
    (BOX, {"confidence": 87}, "warning", "reply.confidence", ".confidence"),
    (BOX, {"confidence": "0.3"}, "warning", "reply.threshold", ".confidence"),
    (BOX, {"atributes": []}, "warning", "reply.key", ".atributes"),
    (MASK, {"mask": GONE}, "error", "reply.points", ".mask"),
    (MASK, {"mask": [1, 1, 0, 1, 1, 10, 10, 12, 11]}, "error", "reply.mask", ".mask"),
    (MASK, {"mask": [1, 1, 0, 1, 1, 1, 10, 10, 13, 12]}, "error", "reply.mask", ".mask"),
    (MASK, {"mask": [0, 6, 10, 10, 12, 11]}, "error", "reply.mask", ".mask"),
    (MASK, {"mask": [1, 1, 0, 255, 1, 1, 10, 10, 12, 11]}, "error", "reply.mask", ".mask"),
    (MASK, {"mask": [0, 0, 0, 0, 0, 0, 10, 10, 12, 11]}, "error", "reply.mask", ".mask"),
    (MASK, {"mask": [1, 1, 0, 1, 1, 1, 10, 10, 12.5, 11]}, "error", "reply.mask", ".mask"),
    (MASK, {"mask": [1, 1, 0, 1, 1, 1, 12, 11, 10, 10]}, "error", "reply.mask", ".mask"),
    (MASK, {"mask": [1, 1, 0, 1, 1, 1, 38, 10, 40, 11]}, "error", "reply.outside", ".mask"),
    (MASK, {"mask": [[1, 1, 0], [1, 1, 1]]}, "error", "reply.points", ".mask"),
    (MASK, {"points": GONE}, "warning", "reply.outline", ".points"),
    (MASK, {"points": [10, 10, 13, 10]}, "error", "reply.points", ".points"),
    (PAIR, {"elements": GONE}, "error", "reply.elements", ".elements"),
    (PAIR, {"elements": []}, "error", "reply.elements", ".elements"),
    (PAIR, joints(0, label="nose"), "error", "reply.elements", ".elements[0].label"),
    (PAIR, joints(1, label="left"), "error", "reply.elements", ".elements[1].label"),
    (PAIR, joints(0, type="point"), "error", "reply.elements", ".elements[0].type"),
    (PAIR, joints(0, points=[1, 2, 3]), "error", "reply.elements", ".elements[0].points"),
    (PAIR, joints(0, points=[100, 200]), "error", "reply.outside", ".elements[0].points"),
    (PAIR, joints(0, outside="no"), "error", "reply.elements", ".elements[0].outside"),
    (PAIR, joints(0, outside=1), "error", "reply.elements", ".elements"),
    (CAR, {"attributes": {"age": "5"}}, "error", "reply.attributes", ".attributes"),
    (CAR, {"attributes": [{"age": "5"}]}, "error", "reply.attributes", ".attributes[0]"),
    (CAR, attributes(("size", "5")), "error", "reply.attributes", ".attributes[0].name"),
    (CAR, attributes(("age", "5"), ("age", "10")), "error", "reply.attributes", ".attributes[1].name"),
    (CAR, attributes(("age", 5)), "error", "reply.attributes", ".attributes[0].value"),
    (CAR, attributes(("age", "3")), "error", "reply.attributes", ".attributes[0].value"),
    (CAR, attributes(("age", "15")), "error", "reply.attributes", ".attributes[0].value"),
    (CAR, attributes(("age", "5.0")), "error", "reply.attributes", ".attributes[0].value"),
    (CAR, attributes(("colour", "blue")), "error", "reply.attributes", ".attributes[0].value"),
    (CAR, attributes(("parked", "yes")), "error", "reply.attributes", ".attributes[0].value"),
    (CAR, attributes(("plate", None)), "error", "reply.attributes", ".attributes[0].value"),
]


@pytest.mark.parametrize("good", [BOX, CAR, MASK, PAIR, BOX | {"points": [-3, 8, 43, 22], "rotation": 90}])
def test_what_the_bad_annotations_are_made_from_is_good(good: dict) -> None:
    assert check("detector", [good], {"threshold": 0.5}) == []


@pytest.mark.parametrize(("good", "changed", "severity", "rule", "field"), BAD_ANNOTATIONS)
def test_a_bad_annotation(good: dict, changed: dict, severity: str, rule: str, field: str) -> None:
    bad = {key: value for key, value in (good | changed).items() if value is not GONE}
    findings = check("detector", [good, bad], {"threshold": 0.5})
    assert (severity, rule, f"reply[1]{field}") in brief(findings)
    assert all(finding.field.startswith("reply[1]") for finding in findings)
    assert all(finding.expected and finding.got and finding.why for finding in findings)


@pytest.mark.parametrize(
    ("mask", "hint"),
    [
        ([1] * 6 + [10, 10, 13, 12], "one too large: they are inclusive"),
        ([0, 6, 10, 10, 12, 11], "run lengths"),
        ([1] * 5 + [10, 10, 12, 11], "5 values and the box (10, 10, 12, 11)"),
    ],
)
def test_a_mask_that_does_not_fit_its_box_comes_with_the_likely_cause(mask: list, hint: str) -> None:
    (finding,) = check("detector", [MASK | {"mask": mask}])
    assert hint in finding.got


@pytest.mark.parametrize("content", [{}, "text", 1, None])
def test_a_detector_must_reply_with_a_list(content: object) -> None:
    assert brief(check("detector", content)) == [("error", "reply.form", "reply")]


@pytest.mark.parametrize(
    ("body", "hint"),
    [
        (b"", "nothing"),
        (b"[{'label': 'car'}]", "json.dumps"),
        (b"[1, 2", "Expecting"),
        (b"\xff\xfe", "decode"),
        (b'[{"label": "car", "type": "tag", "confidence": NaN}]', "NaN"),
    ],
)
def test_what_is_not_json_is_an_error(body: bytes, hint: str) -> None:
    findings = check("detector", body)
    assert ("error", "reply.json", "reply") in brief(findings)
    assert hint in findings[0].got


def test_status_and_content_type() -> None:
    good = Reply(200, b"[]", "application/json; charset=utf-8", {})
    request = {"image": image()}
    assert check_reply(good, config("detector"), request) == []
    assert brief(check_reply(replace(good, content_type="text/plain"), config("detector"), request)) == [
        ("warning", "reply.content-type", "Content-Type")
    ]
    trace = b'Traceback (most recent call last):\n  File "main.py", line 3, in handler\nValueError: no'
    assert brief(check_reply(Reply(500, trace, "text/plain", {}), config("detector"), request)) == [
        ("error", "reply.status", "status"),
        ("error", "reply.traceback", "reply"),
    ]


# --- interactors

ROWS = [[0, 1, 1], [1, 1, 0]]
INTERACTION = {"mask": ROWS, "bounds": [5, 6, 7, 7], "points": [[5, 6], [8, 6], [8, 8]]}
WHOLE = np.ones((HEIGHT, WIDTH), int).tolist()


@pytest.mark.parametrize(
    "content",
    [
        INTERACTION,
        {"mask": WHOLE},
        {"mask": (np.ones((HEIGHT, WIDTH)) * 255).tolist()},
        {"mask": [[0]], "bounds": [0, 0, 0, 0], "points": []},
        {"mask": [[True, False]], "bounds": [0, 0, 1, 0]},
    ],
)
def test_good_replies_of_an_interactor(content: dict) -> None:
    assert check("interactor", content) == []


@pytest.mark.parametrize(
    ("content", "rule", "field"),
    [
        ([[1, 2], [3, 4], [5, 6]], "reply.form", "reply"),
        ({"points": [[1, 2], [3, 4], [5, 6]]}, "reply.form", "reply"),
        ({"mask": [[0, 1], [1]]}, "reply.mask", "reply.mask"),
        ({"mask": []}, "reply.mask", "reply.mask"),
        ({"mask": [0, 1]}, "reply.mask", "reply.mask"),
        ({"mask": [["0", "1"]]}, "reply.mask", "reply.mask"),
        ({"mask": [[[0], [1]]]}, "reply.mask", "reply.mask"),
        ({"mask": ROWS}, "reply.mask", "reply.mask"),
        ({"mask": np.ones((WIDTH, HEIGHT), int).tolist()}, "reply.mask", "reply.mask"),
        (INTERACTION | {"bounds": [5, 6, 8, 8]}, "reply.bounds", "reply.bounds"),
        (INTERACTION | {"bounds": [5.0, 6.5, 7, 7]}, "reply.bounds", "reply.bounds"),
        (INTERACTION | {"bounds": [5, 6, 7]}, "reply.bounds", "reply.bounds"),
        (INTERACTION | {"bounds": [38, 6, 40, 7]}, "reply.outside", "reply.bounds"),
        (INTERACTION | {"bounds": [-1, 6, 1, 7]}, "reply.outside", "reply.bounds"),
        (INTERACTION | {"points": [[5, 6], [8, 6]]}, "reply.points", "reply.points"),
        (INTERACTION | {"points": [5, 6, 8, 6, 8, 8]}, "reply.points", "reply.points"),
        (INTERACTION | {"points": [[50, 6], [58, 6], [58, 8]]}, "reply.outside", "reply.points"),
        (INTERACTION | {"points": [[5, 6], [8, 6], [8, "8"]]}, "reply.points", "reply.points"),
    ],
)
def test_bad_replies_of_an_interactor(content: object, rule: str, field: str) -> None:
    assert brief(check("interactor", content)) == [("error", rule, field)]


def test_exclusive_bounds_come_with_a_hint() -> None:
    (finding,) = check("interactor", INTERACTION | {"bounds": [5, 6, 8, 8]})
    assert "inclusive" in finding.expected


def test_the_image_counts_in_the_orientation_that_cvat_shows() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = image(HEIGHT, WIDTH, exif=exif)
    assert image_size_hw(lying) == (HEIGHT, WIDTH)
    assert check("interactor", {"mask": WHOLE}, {"image": lying}) == []
    (finding,) = check("interactor", {"mask": np.ones((WIDTH, HEIGHT), int).tolist()}, {"image": lying})
    assert "EXIF" in finding.why


def test_the_one_id_whose_reply_the_browser_decodes() -> None:
    sam = replace(config("interactor"), name="pth-facebookresearch-sam-vit-h")
    blob = base64.b64encode(np.zeros((1, 256, 64, 64), np.float32).tobytes()).decode()
    request = {"image": image()}

    def rules(content: dict) -> list[str]:
        reply = Reply(200, json.dumps(content).encode(), "application/json", {})
        return [finding.rule for finding in check_reply(reply, sam, request)]

    assert rules({"blob": blob}) == []
    assert rules({"blob": blob[:-8]}) == ["reply.blob"]
    assert rules({"mask": WHOLE}) == ["reply.blob"]


# --- trackers

TYPES = "rectangle, polygon, mask"
START = {"shapes": [{"type": "rectangle", "points": [1, 2, 30, 20]}], "states": []}
FOLLOW = {"shapes": [None], "states": ["s"]}
TRACKED = {"shapes": [{"type": "rectangle", "points": [1, 2, 30, 20]}], "states": ["t"]}
RUNS = {"type": "mask", "points": [1, 4, 1, 10, 10, 12, 11]}


@pytest.mark.parametrize(
    ("request_body", "content"),
    [
        (START, TRACKED),
        (FOLLOW, TRACKED),
        (FOLLOW, {"shapes": [RUNS], "states": [{"any": ["JSON", 1]}]}),
        (FOLLOW, TRACKED | {"lost": [0]}),
        ({"shapes": [None, None], "states": [1, 2]}, {"shapes": [RUNS, RUNS], "states": [1, 2]}),
    ],
)
def test_good_replies_of_a_tracker(request_body: dict, content: dict) -> None:
    assert check("tracker", content, request_body, supported_shape_types=TYPES) == []


def test_a_tracker_without_shape_types_speaks_of_bare_boxes() -> None:
    bare = {"shapes": [[1, 2, 30, 20]], "states": ["t"]}
    assert check("tracker", bare, {"shapes": [[1, 2, 30, 20]], "states": []}) == []
    assert brief(check("tracker", TRACKED, FOLLOW)) == [("error", "reply.shape", "reply.shapes[0]")]
    assert brief(check("tracker", bare, START, supported_shape_types=TYPES)) == [
        ("error", "reply.shape", "reply.shapes[0]")
    ]


@pytest.mark.parametrize(
    ("request_body", "content", "severity", "rule", "field"),
    [
        (START, [], "error", "reply.form", "reply"),
        (START, {"shapes": TRACKED["shapes"]}, "error", "reply.length", "reply.states"),
        (START, TRACKED | {"shapes": []}, "error", "reply.length", "reply.shapes"),
        (START, TRACKED | {"states": ["t", "t"]}, "error", "reply.length", "reply.states"),
        (START, TRACKED | {"shapes": [RUNS]}, "error", "reply.shape", "reply.shapes[0].type"),
        (FOLLOW, TRACKED | {"shapes": [{"type": "tag"}]}, "error", "reply.shape", "reply.shapes[0].type"),
        (START, TRACKED | {"states": [None]}, "error", "reply.state", "reply.states[0]"),
        (FOLLOW, {"shapes": [None], "states": [None]}, "warning", "reply.lost", "reply.shapes[0]"),
        (START, TRACKED | {"states": ["x" * 70000]}, "warning", "reply.state", "reply.states[0]"),
        (
            FOLLOW,
            TRACKED | {"shapes": [RUNS | {"points": [1, 4, 10, 10, 12, 11]}]},
            "error",
            "reply.mask",
            "reply.shapes[0].points",
        ),
        (
            FOLLOW,
            TRACKED | {"shapes": [RUNS | {"points": [0, 1, 1, 1, 1, 0, 10, 10, 12, 11]}]},
            "error",
            "reply.mask",
            "reply.shapes[0].points",
        ),
        (
            FOLLOW,
            TRACKED | {"shapes": [RUNS | {"points": [6, 10, 10, 12, 11]}]},
            "error",
            "reply.mask",
            "reply.shapes[0].points",
        ),
        (
            FOLLOW,
            TRACKED | {"shapes": [{"type": "polygon", "points": [1, 2, 3, 4]}]},
            "error",
            "reply.points",
            "reply.shapes[0].points",
        ),
        (
            FOLLOW,
            TRACKED | {"shapes": [{"type": "rectangle", "points": [41, 2, 50, 20]}]},
            "error",
            "reply.outside",
            "reply.shapes[0].points",
        ),
    ],
)
def test_bad_replies_of_a_tracker(request_body: dict, content: object, severity: str, rule: str, field: str) -> None:
    findings = check("tracker", content, request_body, supported_shape_types=TYPES)
    assert brief(findings) == [(severity, rule, field)]


# --- reid


def box(left: int, label_id: int = 1) -> dict:
    return {"type": "rectangle", "points": [left, 0, left + 4, 4], "label_id": label_id}


PAIRS = {"image0": image(), "image1": image(), "boxes0": [box(0), box(10)], "boxes1": [box(11), box(1), box(20, 2)]}


@pytest.mark.parametrize("content", [[1, 0], [-1, -1], [-1, 0]])
def test_good_replies_of_reid(content: list) -> None:
    assert check("reid", content, PAIRS | {"max_distance": 5}) == []


@pytest.mark.parametrize(
    ("content", "rule", "field"),
    [
        ({"0": 1}, "reply.length", "reply"),
        ([1], "reply.length", "reply"),
        ([1, 0, -1], "reply.length", "reply"),
        ([1, 3], "reply.index", "reply[1]"),
        ([-2, 0], "reply.index", "reply[0]"),
        ([1.0, 0], "reply.index", "reply[0]"),
        ([None, 0], "reply.index", "reply[0]"),
        ([True, 0], "reply.index", "reply[0]"),
        ([1, 2], "reply.pair", "reply[1]"),
        ([0, -1], "reply.pair", "reply[0]"),
    ],
)
def test_bad_replies_of_reid(content: object, rule: str, field: str) -> None:
    assert ("error", rule, field) in brief(check("reid", content, PAIRS | {"max_distance": 5}))


def test_no_partner_twice() -> None:
    findings = check("reid", [1, 1], PAIRS)
    assert brief(findings) == [("error", "reply.index", "reply[1]")]
    assert "reply[0]" in findings[0].got


# --- refusals


def refusal(status: int, body: bytes) -> list[tuple[str, str, str]]:
    return brief(check_refusal(Reply(status, body, "application/json", {})))


def test_a_refusal_is_a_4xx_with_a_message() -> None:
    assert refusal(400, b'{"error": "image: expected base64"}') == []
    assert refusal(413, b'{"error": "too large", "limit": 5}') == []


@pytest.mark.parametrize(
    ("status", "body", "rules"),
    [
        (200, b"[]", ["refusal.status"]),
        (500, b'{"error": "x"}', ["refusal.status"]),
        (500, b"Traceback (most recent call last):", ["refusal.status", "reply.traceback"]),
        (400, b'{"error": "Traceback (most recent call last): ..."}', ["reply.traceback"]),
        (400, b"bad request", ["refusal.form"]),
        (400, b"", ["refusal.form"]),
        (400, b'{"message": "x"}', ["refusal.form"]),
        (400, b'{"error": ""}', ["refusal.form"]),
        (400, b'["error"]', ["refusal.form"]),
        (400, b'{"error": "%s"}' % (b"x" * 5000), ["refusal.form"]),
    ],
)
def test_a_bad_refusal(status: int, body: bytes, rules: list[str]) -> None:
    assert [rule for _, rule, _ in refusal(status, body)] == rules


def test_a_large_good_reply_is_checked_in_reasonable_time() -> None:
    side = 1000
    mask = [1] * (side * side) + [0, 0, side - 1, side - 1]
    annotation = MASK | {"mask": mask, "points": [0, 0, side, 0, side, side]}
    begin = time.perf_counter()
    assert check("detector", [annotation], {"image": image(side, side)}) == []
    assert time.perf_counter() - begin < 5


# --- junk

JUNK = (None, True, -1, 1.5, 1e400, "", "junk", [], {}, [[]], [None], {"a": 1}, "x" * 100, 10**30)


def spoiled(value: Any, rng: np.random.Generator) -> Any:
    """A copy of a JSON value in which something, somewhere, is replaced, removed or repeated."""
    if isinstance(value, (list, dict)) and value and rng.random() < 0.85:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key = keys[int(rng.integers(len(keys)))]
        copy = dict(value) if isinstance(value, dict) else list(value)
        if rng.random() < 0.1:
            del copy[key]
        elif isinstance(copy, list) and rng.random() < 0.1:
            copy.insert(key, copy[key])
        else:
            copy[key] = spoiled(copy[key], rng)
        return copy
    return JUNK[int(rng.integers(len(JUNK)))]


@pytest.mark.parametrize(
    ("kind", "content", "request_body"),
    [
        ("detector", [PAIR, CAR | attributes(("age", "5")), MASK], {}),
        ("interactor", INTERACTION, {}),
        ("tracker", {"shapes": [TRACKED["shapes"][0], RUNS, None], "states": ["a", {"b": 1}, None]}, {"states": [1, 2, 3]}),
        ("reid", [1, 0], PAIRS | {"max_distance": 5}),
    ],
)  # fmt: skip
def test_no_junk_in_a_reply_breaks_the_check(kind: str, content: Any, request_body: dict) -> None:
    rng = np.random.default_rng(5)
    body = {"image": image()} | request_body
    settings = config(kind, supported_shape_types=TYPES)
    found = 0
    for _ in range(2500):
        junk = content
        for _ in range(rng.integers(1, 5)):
            junk = spoiled(junk, rng)
        text = json.dumps(junk).encode()
        found += bool(check_reply(Reply(200, text, "application/json", {}), settings, body))
    assert found > 1250


def test_replies_are_checked_without_the_packages_of_the_tools() -> None:
    """A deployed function's own container has no jsonschema, which the rules on function.yaml need."""
    code = "import sys; sys.modules['jsonschema'] = None; from tools.check import check_reply; print(check_reply.__module__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "tools.check.reply_rules\n"), done.stderr
