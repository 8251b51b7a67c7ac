"""Functions as objects for CVAT's SDK: its own checks, and the same results as through the JSON door."""

from __future__ import annotations

import base64
import json
import logging
import textwrap
from pathlib import Path
from types import SimpleNamespace

import cvat_sdk.auto_annotation as cvataa
import numpy as np
import pytest
from cvat_cli._internal.agent import get_function_driver_class
from cvat_sdk import models
from cvat_sdk.api_client.model_utils import to_json
from cvat_sdk.auto_annotation.driver import _AnnotationMapper
from cvat_sdk.masks import decode_mask, encode_mask
from PIL import Image

from common.config import FunctionConfig
from common.cvat.reply import read_interactor_reply
from common.cvat.request import interactor_body
from common.errors import BadRequest, StartupError
from common.serving import native
from common.vision.mask import flat_to_mask, mask_to_bitmap
from tests.scenes import BLUE, GREEN, RED, png, red_box, scene
from tools.collection import COLLECTION, ROOT, function_directories
from tools.wrapper import LoadedFunction

FUNCTIONS = ROOT / "tests/sample_functions"
SIZE_HW = (60, 90)


def context(threshold: float | None = None, polygons: bool = False) -> SimpleNamespace:
    return SimpleNamespace(frame_name="frame.png", conf_threshold=threshold, conv_mask_to_poly=polygons)


def prompts(positive=(), negative=(), box=None) -> SimpleNamespace:
    return SimpleNamespace(pos_points=positive, neg_points=negative, bounding_box=box)


def dataset_labels(spec: cvataa.DetectionFunctionSpec, polygons: bool = False) -> list[models.Label]:
    """The labels of a task that was made from a function's spec, with ids of its own; with polygons instead of masks."""
    ids = iter(range(1000, 9999))

    def plain(item, **more):
        attributes = [
            models.Attribute(
                id=next(ids), name=a.name, mutable=False, input_type=a.input_type.value, values=list(a.values)
            )
            for a in getattr(item, "attributes", [])
        ]
        kind = "polygon" if polygons and item.type == "mask" else item.type
        return {"name": item.name, "id": next(ids), "type": kind, "attributes": attributes, **more}

    return [
        models.Label(**plain(label, sublabels=[models.Sublabel(**plain(s)) for s in getattr(label, "sublabels", [])]))
        for label in spec.labels
    ]


def check_with_sdk(function: native.Detection, annotations: list, polygons: bool = False) -> tuple[list, list]:
    """What the SDK's driver does with annotations: checks them, and gives them the ids of a task."""
    labels = dataset_labels(function.spec, polygons)
    mapper = _AnnotationMapper(
        logging.getLogger(), function.spec.labels, labels, allow_unmatched_labels=False, conv_mask_to_poly=polygons
    )
    return mapper.validate_and_remap(annotations, 12)


@pytest.fixture(scope="module")
def everything() -> native.Detection:
    return native.create(FUNCTIONS / "everything", {"note": "hello"})


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    return Image.fromarray(red_box((20, 12, 50, 42), SIZE_HW))


def test_spec_of_a_detector(everything: native.Detection) -> None:
    labels = {label.name: label for label in everything.spec.labels}
    assert [(label.id, label.type) for label in labels.values()] == [
        (3, "tag"), (10, "rectangle"), (11, "rectangle"), (12, "ellipse"), (13, "polygon"), (14, "polyline"),
        (15, "points"), (16, "mask"), (17, "cuboid"), (20, "skeleton"),
    ]  # fmt: skip
    attributes = {a.name: (a.input_type.value, list(a.values), a.mutable) for a in labels["box"].attributes}
    assert attributes == {
        "side": ("radio", ["left", "right"], False),
        "wide": ("checkbox", ["false"], False),
        "width": ("number", ["0", "5000", "5"], False),
        "note": ("text", [""], True),
    }
    assert len({a.id for a in labels["box"].attributes}) == 4
    assert [(s.id, s.name, s.type) for s in labels["figure"].sublabels] == [
        (0, "head", "points"), (1, "left foot", "points"), (2, "right foot", "points"),
    ]  # fmt: skip
    assert "data-label-name" in labels["figure"].svg


def test_the_sdks_driver_takes_every_type(everything: native.Detection, picture: Image.Image) -> None:
    for polygons in (False, True):
        tags, shapes = check_with_sdk(everything, everything.detect(context(0.0, polygons), picture), polygons)
        assert len(tags) == 1
        assert [s.type.value for s in shapes] == [
            "rectangle", "rectangle", "ellipse", "polygon", "polyline", "points", "polygon" if polygons else "mask",
            "cuboid", "skeleton",
        ]  # fmt: skip
        assert {s.frame for s in shapes} == {12}


def test_sdk_and_json_describe_the_same(everything: native.Detection, picture: Image.Image) -> None:
    function = LoadedFunction(FUNCTIONS / "everything", unique=True)
    image = base64.b64encode(png(np.array(picture))).decode()
    reply = function({"image": image, "threshold": 0.01}).json()
    labels = {label.id: label for label in everything.spec.labels}
    found = everything.detect(context(0.01), picture)
    as_polygons = everything.detect(context(0.01, polygons=True), picture)
    assert len(found) == len(reply) == 10
    for model, polygon, item in zip(found, as_polygons, reply, strict=True):
        label = labels[model.label_id]
        assert label.name == item["label"]
        names = {a.id: a.name for a in label.attributes}
        given = {names[a.spec_id]: a.value for a in model.attributes}
        expected = {a["name"]: a["value"] for a in item.get("attributes", [])}
        assert given == {**expected, **({"note": "hello"} if "note" in expected else {})}
        assert getattr(model, "group", 0) == item.get("group_id", 0)
        if item["type"] == "tag":
            assert isinstance(model, models.LabeledImageRequest)
            continue
        assert model.type.value == item["type"]
        assert model.score == float(item["confidence"])
        assert getattr(model, "rotation", 0) == item.get("rotation", 0)
        if item["type"] == "mask":
            height, width = SIZE_HW
            of_sdk = decode_mask(model.points, image_width=width, image_height=height)
            of_json = mask_to_bitmap(flat_to_mask(item["mask"]), SIZE_HW)
            np.testing.assert_array_equal(of_sdk, of_json)
            assert of_sdk.any()
            assert model.points == encode_mask(of_json)
            assert (polygon.type.value, polygon.points) == ("polygon", item["points"])
        elif item["type"] == "skeleton":
            joints = {s.id: s.name for s in label.sublabels}
            elements = {joints[e.label_id]: (list(e.points), e.outside) for e in model.elements}
            # CVAT puts what the reply lacks at the centre of what it has.
            x, y = np.mean([e["points"] for e in item["elements"]], axis=0).round(2)
            expected = {e["label"]: (e["points"], bool(e["outside"])) for e in item["elements"]}
            assert elements == {"left foot": ([x, y], True), **expected}
        else:
            assert list(model.points) == item["points"]


def test_threshold_of_the_context_and_of_the_function(picture: Image.Image) -> None:
    function = native.create(FUNCTIONS / "everything", {"threshold": 0.85})
    assert len(function.detect(context(None), picture)) == 2
    assert len(function.detect(context(0.75), picture)) == 3
    assert len(function.detect(context(0.0), picture)) == 10
    assert function.detect(context(0.0), Image.new("RGB", (40, 40))) == []


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "I;16"])
def test_pictures_of_every_mode(everything: native.Detection, mode: str) -> None:
    picture = Image.new(mode, (40, 30))
    assert everything.detect(context(), picture) == []


def test_options_are_checked_before_anything_loads() -> None:
    with pytest.raises(StartupError, match=r"unknown option 'bogus'; known options: fail, .*note.*, threshold"):
        native.create(FUNCTIONS / "everything", {"bogus": 1})
    with pytest.raises(StartupError, match="option threshold: expected a number, got true"):
        native.create(FUNCTIONS / "everything", {"threshold": True})


def write_function(folder: Path, kind: str, annotations: dict) -> Path:
    """A function whose model must never be loaded."""
    texts = "".join(f"    {name}: {json.dumps(value)}\n" for name, value in annotations.items())
    (folder / "function.yaml").write_text(
        f"metadata:\n  name: bad\n  annotations:\n    type: {kind}\n{texts}spec: {{description: x}}\n"
    )
    (folder / "model_handler.py").write_text(
        textwrap.dedent("""
        class ModelHandler:
            def __init__(self, config):
                raise AssertionError("the model was loaded")
        """)
    )
    return folder


@pytest.mark.parametrize(
    ("kind", "annotations", "message"),
    [
        ("reid", {}, "reid function"),
        ("detector", {"spec": '[{"name": "a", "attributes": [{"name": "n", "input_type": "number", "values": ["0", "5", "2"]}]}]'},
         "step must be a divisor"),
        ("tracker", {"supported_shape_types": "rectangle, box"}, "expected some of .*, got box"),
        ("interactor", {"min_pos_points": "one"}, "min_pos_points: expected a whole number"),
    ],
    ids=["reid", "number", "tracker", "interactor"],
)  # fmt: skip
def test_what_the_sdk_forbids(tmp_path: Path, kind: str, annotations: dict, message: str) -> None:
    with pytest.raises(cvataa.BadFunctionError, match=message):
        native.create(write_function(tmp_path, kind, annotations), {})


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        ({}, (1, None, None)),
        ({"min_pos_points": "2", "min_neg_points": "0"}, (2, 0, None)),
        ({"min_pos_points": "0", "min_neg_points": "-1", "startswith_box": "true"}, (0, None, 1)),
        ({"startswith_box_optional": "true"}, (1, None, 0)),
        ({"min_pos_points": "0", "startswith_box": "true", "startswith_box_optional": "true"}, (0, None, 0)),
        ({"startswith_box": "true", "startswith_box_optional": "true"}, (1, None, 0)),
    ],
)
def test_spec_of_an_interactor(tmp_path: Path, annotations: dict, expected: tuple) -> None:
    spec = native.interaction_spec(FunctionConfig.load(write_function(tmp_path, "interactor", annotations)))
    assert (spec.min_pos_points, spec.min_neg_points, spec.min_bounding_boxes) == expected


def test_interaction_gives_the_pixels_that_json_gives() -> None:
    image = scene([((10, 10, 30, 30), RED), ((40, 10, 60, 50), RED), ((15, 15, 20, 20), BLUE)], SIZE_HW)
    function = native.create(FUNCTIONS / "flood", {"tolerance": 5})
    door = LoadedFunction(FUNCTIONS / "flood", unique=True)
    embedded = function.preprocess_image(None, Image.fromarray(image))
    cases = [
        (prompts([(12.0, 12.0)]), image == RED),
        (prompts([(12.0, 12.0), (16.5, 16.5)]), (image == RED) | (image == BLUE)),
        (prompts([(12.0, 12.0), (16.5, 16.5)], [(16.0, 16.0)]), image == RED),
        (prompts([(12.0, 12.0)], box=((0.0, 0.0), (35.0, 40.0))), (image == RED) & (np.arange(90) < 35)[None, :, None]),
    ]
    for given, expected in cases:
        shapes = function.detect(None, embedded, given)
        found = decode_mask(shapes[0].points, image_width=90, image_height=60)
        np.testing.assert_array_equal(found, expected.all(axis=2))
        box = given.bounding_box and (*given.bounding_box[0], *given.bounding_box[1])
        reply = door(interactor_body(png(image), given.pos_points, given.neg_points, box)).body
        np.testing.assert_array_equal(found, mask_to_bitmap(read_interactor_reply(reply), SIZE_HW))
    assert function._interactor._handler.embedded == 1


def test_an_interaction_that_finds_nothing_gives_no_shape() -> None:
    function = native.create(FUNCTIONS / "flood", {})
    embedded = function.preprocess_image(None, Image.fromarray(scene([], SIZE_HW)))
    assert function.detect(None, embedded, prompts([(1.0, 1.0)], [(2.0, 2.0)])) == []
    with pytest.raises(BadRequest, match=r"pos_points\[0\]: expected a point inside the image of 90 x 60"):
        function.detect(None, embedded, prompts([(91.0, 5.0)]))
    with pytest.raises(BadRequest, match="pos_points: expected at least one positive point or a box, got neither"):
        function.detect(None, embedded, prompts([]))


TRACKED = {
    "rectangle": [20.0, 12.0, 50.0, 42.0],
    "ellipse": [35.0, 27.0, 50.0, 12.0],
    "polygon": [20.0, 12.0, 50.0, 12.0, 50.0, 42.0],
    "polyline": [20.0, 12.0, 50.0, 42.0],
    "points": [20.0, 12.0],
    "mask": [float(v) for v in [0, 3, 2, 1, 20, 12, 21, 14]],
    "cuboid": [20.0, 12.0, 20.0, 40.0, 30.0, 12.0, 30.0, 40.0, 50.0, 12.0, 50.0, 40.0, 25.0, 12.0, 25.0, 40.0],
}


@pytest.mark.parametrize("kind", TRACKED)
def test_tracking_moves_every_type_as_json_does(kind: str) -> None:
    function = native.create(FUNCTIONS / "follow", {})
    assert function.spec.supported_shape_types == TRACKED.keys()
    frames = [red_box((20 + 3 * i, 12 - i, 50 + 3 * i, 42 - i), SIZE_HW) for i in range(4)]
    where = SimpleNamespace(original_shape_type=kind)
    door = LoadedFunction(FUNCTIONS / "follow", unique=True)

    first = function.preprocess_image(None, Image.fromarray(frames[0]))
    state = function.init_tracking_state(where, first, cvataa.TrackableShape(type=kind, points=TRACKED[kind]))
    body = {"shapes": [{"type": kind, "points": TRACKED[kind]}], "states": []}
    states = door({"image": base64.b64encode(png(frames[0])).decode(), **body}).json()["states"]
    for i in (1, 2, 3):
        shape = function.track(where, function.preprocess_image(None, Image.fromarray(frames[i])), state)
        assert shape.type == kind
        expected = list(TRACKED[kind])
        first_corner = -4 if kind == "mask" else 0
        expected[first_corner::2] = [v + 3 * i for v in expected[first_corner::2]]
        expected[first_corner + 1 :: 2] = [v - i for v in expected[first_corner + 1 :: 2]]
        assert shape.points == expected
        body = {"image": base64.b64encode(png(frames[i])).decode(), "shapes": [None], "states": states}
        reply = door(body).json()
        assert reply["shapes"][0]["points"] == expected
        states = reply["states"]
    empty = function.preprocess_image(None, Image.fromarray(scene([((1, 1, 9, 9), GREEN)], SIZE_HW)))
    assert function.track(where, empty, state) is None


def test_a_tracker_refuses_a_shape_outside_the_frame() -> None:
    function = native.create(FUNCTIONS / "follow", {})
    frame = function.preprocess_image(None, Image.fromarray(red_box((20, 12, 50, 42), SIZE_HW)))
    shape = cvataa.TrackableShape(type="rectangle", points=[200.0, 200.0, 210.0, 210.0])
    with pytest.raises(BadRequest, match="shape: the box"):
        function.init_tracking_state(SimpleNamespace(original_shape_type="rectangle"), frame, shape)


SPECS = {"detector": native.detection_spec, "interactor": native.interaction_spec, "tracker": native.tracking_spec}


@pytest.mark.parametrize("directory", function_directories(), ids=lambda d: str(d.relative_to(COLLECTION)))
def test_the_sdk_and_the_agent_take_every_function_of_the_collection(directory: Path) -> None:
    config = FunctionConfig.load(directory)
    if config.kind == "reid":
        with pytest.raises(cvataa.BadFunctionError, match="reid"):
            native.create(directory, {})
        return
    spec = SPECS[config.kind](config)
    fields = get_function_driver_class(spec).get_remote_function_fields(spec)
    json.dumps(to_json(fields))
    if config.kind == "detector":
        assert [label["name"] for label in fields["labels_v2"]] == list(config.labels)
        for polygons in (False, True):
            _AnnotationMapper(
                logging.getLogger(),
                spec.labels,
                dataset_labels(spec, polygons),
                allow_unmatched_labels=False,
                conv_mask_to_poly=polygons,
            )
