import json
import re
import time
from typing import Any

import pytest

from common.cvat.labels import Attribute, Labels, parse_labels
from common.cvat.skeleton import skeleton_svg
from common.errors import StartupError


def parsed(*labels: Any) -> Labels:
    return parse_labels(json.dumps(labels))


def attribute(**fields: Any) -> dict[str, Any]:
    return {"name": "colour", "input_type": "select", "values": ["red", "blue"], **fields}


SKELETON = {
    "id": 0,
    "name": "arm",
    "type": "skeleton",
    "svg": skeleton_svg(["hand", "elbow"], [(0, 1)]),
    "sublabels": [{"id": 1, "name": "hand", "type": "points"}, {"id": 2, "name": "elbow", "type": "points"}],
}


class TestParse:
    def test_every_field(self) -> None:
        labels = parsed(
            {
                "id": 3,
                "name": "car",
                "type": "rectangle",
                "color": "#ff8000",
                "attributes": [attribute(mutable=True, default_value="blue")],
            },
            {**SKELETON, "id": 1},
        )
        assert list(labels) == ["arm", "car"]
        assert labels.names_by_id == {1: "arm", 3: "car"}
        car = labels["car"]
        assert (car.name, car.id, car.type, car.color) == ("car", 3, "rectangle", "#ff8000")
        assert car.attributes == (Attribute("colour", "select", ("red", "blue"), True, "blue"),)
        assert car.attribute("colour") is car.attributes[0]
        assert car.attribute("size") is None
        arm = labels["arm"]
        assert [(joint.name, joint.id, joint.type) for joint in arm.sublabels] == [
            ("hand", 1, "points"),
            ("elbow", 2, "points"),
        ]
        assert arm.svg == SKELETON["svg"]

    def test_what_is_left_out(self) -> None:
        labels = parsed({"name": "a"}, {"name": "b", "attributes": None, "color": None})
        assert [(label.id, label.type, label.attributes) for label in labels.values()] == [
            (0, "any", ()),
            (1, "any", ()),
        ]
        (joint,) = parsed({**SKELETON, "sublabels": [{"name": "hand"}]})["arm"].sublabels
        assert (joint.type, joint.id) == ("points", 0)

    @pytest.mark.parametrize("spec", ["", "[]"])
    def test_of_no_labels(self, spec: str) -> None:
        assert len(parse_labels(spec)) == 0

    @pytest.mark.parametrize(
        "kind", ["tag", "rectangle", "polygon", "polyline", "points", "ellipse", "cuboid", "mask", "any"]
    )
    def test_of_each_type(self, kind: str) -> None:
        assert parsed({"name": "a", "type": kind})["a"].type == kind

    def test_number_range(self) -> None:
        number = parsed({"name": "a", "attributes": [attribute(input_type="number", values=["-5", "10", "3"])]})
        assert number["a"].attributes[0].number_range == (-5, 10, 3)
        assert number["a"].attributes[0].default_value == "-5"

    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            ([5], "spec[0]: expected a label object, got 5"),
            ([{"name": "a"}, {}], "spec[1].name: expected a non-empty text, got null"),
            ([{"name": " "}], "spec[0].name: expected a non-empty text, got the text ' '"),
            ([{"name": "a"}, {"name": "a"}], "spec: the label name a is listed twice"),
            ([{"name": "a", "id": 1}, {"name": "b"}], "spec: the label id 1 is listed twice"),
            ([{"name": "a", "id": "1"}], "spec[0].id: expected an integer, got the text '1'"),
            ([{"name": "a", "id": True}], "spec[0].id: expected an integer, got true"),
            ([{"name": "a", "type": "box"}], "spec[0].type: expected one of tag, rectangle, polygon, polyline, points, ellipse, cuboid, mask, skeleton, any, got the text 'box'"),
            ([{"name": "a", "type": []}], "spec[0].type: expected one of tag, rectangle, polygon, polyline, points, ellipse, cuboid, mask, skeleton, any, got []"),
            ([{"name": "a", "color": 5}], "spec[0].color: expected a text such as #ff8000, got 5"),
            ([{"name": "a", "attributes": {"b": 1}}], "spec[0].attributes: expected a list, got an object of 1 field"),
            ([{"name": "a", "attributes": ["b"]}], "spec[0].attributes[0]: expected an attribute object, got the text 'b'"),
            ([{"name": "a", "attributes": [attribute(), attribute()]}], "spec[0].attributes: the attribute name colour is listed twice"),
            ([{"name": "a", "attributes": [attribute(name="")]}], "spec[0].attributes[0].name: expected a non-empty text, got the text ''"),
            ([{"name": "a", "attributes": [attribute(input_type="slider")]}], "spec[0].attributes[0].input_type: expected one of select, radio, checkbox, number, text, got the text 'slider'"),
            ([{"name": "a", "attributes": [{"name": "b", "input_type": "text"}]}], "spec[0].attributes[0].values: expected a list of texts, got null"),
            ([{"name": "a", "attributes": [attribute(values=[1, 2])]}], "spec[0].attributes[0].values: expected a list of texts, got [1, 2]"),
            ([{"name": "a", "attributes": [attribute(values=[])]}], "spec[0].attributes[0].values: expected at least one value, got []"),
            ([{"name": "a", "attributes": [attribute(default_value="green")]}], "spec[0].attributes[0].default_value: expected one of red, blue, got the text 'green'"),
            ([{"name": "a", "attributes": [attribute(input_type="checkbox", default_value=True)]}], "spec[0].attributes[0].default_value: expected a text, got true"),
            ([{"name": "a", "attributes": [attribute(input_type="number", values=["0", "10"])]}], "spec[0].attributes[0].values: expected minimum, maximum and step as integers, got ['0', '10']"),
            ([{"name": "a", "attributes": [attribute(input_type="number", values=["0", "1", "0.5"])]}], "spec[0].attributes[0].values: expected minimum, maximum and step as integers, got ['0', '1', '0.5']"),
            ([{"name": "a", "attributes": [attribute(input_type="number", values=["9", "1", "1"])]}], "spec[0].attributes[0].values: expected minimum <= maximum and step >= 1, got ['9', '1', '1']"),
            ([{"name": "a", "attributes": [attribute(input_type="number", values=["1", "9", "0"])]}], "spec[0].attributes[0].values: expected minimum <= maximum and step >= 1, got ['1', '9', '0']"),
            ([{**SKELETON, "sublabels": []}], "spec[0].sublabels: expected the joints of the skeleton, got []"),
            ([{**SKELETON, "sublabels": None}], "spec[0].sublabels: expected the joints of the skeleton, got null"),
            ([{**SKELETON, "sublabels": [{"name": "a", "type": "rectangle"}]}], "spec[0].sublabels[0].type: expected points, got the text 'rectangle'"),
            ([{**SKELETON, "sublabels": [{"name": "a", "id": 5}, {"name": "b", "id": 5}]}], "spec[0].sublabels: the joint id 5 is listed twice"),
            ([{**SKELETON, "sublabels": [{"name": "a"}, {"name": "a"}]}], "spec[0].sublabels: the joint name a is listed twice"),
            ([{**SKELETON, "svg": ""}], "spec[0].svg: expected the SVG of the skeleton, got the text ''"),
            ([{**SKELETON, "svg": None}], "spec[0].svg: expected the SVG of the skeleton, got null"),
        ],
    )  # fmt: skip
    def test_wrong_fields_are_named(self, labels: list[Any], message: str) -> None:
        with pytest.raises(StartupError) as caught:
            parsed(*labels)
        assert str(caught.value) == message

    @pytest.mark.parametrize(
        ("spec", "message"),
        [
            ('[{"name": "a",}]', r"^spec: not JSON: .*line 1 column"),
            ('{"name": "a"}', r"^spec: expected a list of labels, got an object of 1 field$"),
            ([{"name": "a"}], r"^spec: expected a text that holds a JSON list of labels, got \[\{\.\.\.\}\]$"),
        ],
    )
    def test_a_spec_that_is_no_list_of_labels(self, spec: Any, message: str) -> None:
        with pytest.raises(StartupError, match=message):
            parse_labels(spec)

    def test_of_ten_thousand_labels_is_quick(self) -> None:
        spec = json.dumps([{"id": i, "name": f"class {i}"} for i in range(10_000)])
        begin = time.process_time()
        assert len(parse_labels(spec)) == 10_000
        assert time.process_time() - begin < 2


def assert_cvat_takes(label: dict[str, Any]) -> None:
    """What the Raw tab of CVAT's label constructor asks of a label."""
    assert isinstance(label["name"], str)
    assert label["name"].strip()
    assert "id" not in label  # an id would mean a label that the server already has
    assert re.fullmatch(r"#[0-9a-fA-F]{6}", label.get("color", "#000000"))
    assert isinstance(label["attributes"], list)
    for item in label["attributes"]:
        assert isinstance(item["name"], str)
        assert item["input_type"] in ("select", "radio", "checkbox", "number", "text")
        assert isinstance(item["mutable"], bool)
        assert item["values"]
        assert all(isinstance(value, str) for value in item["values"])
        assert isinstance(item["default_value"], str)
        if item["input_type"] in ("select", "radio"):
            assert item["default_value"] in item["values"]
        if item["input_type"] == "checkbox":
            assert item["default_value"] in ("true", "false")
    for sublabel in label.get("sublabels", []):
        assert sublabel["type"] == "points"
        assert_cvat_takes(sublabel)


class TestRaw:
    def test_can_be_pasted_into_cvat(self) -> None:
        labels = parsed(
            {
                "id": 7,
                "name": "car",
                "type": "polygon",
                "color": "#12ab34",
                "attributes": [
                    attribute(mutable=True),
                    attribute(name="parked", input_type="checkbox", values=[]),
                    attribute(name="moving", input_type="checkbox", values=["false"], default_value="true"),
                    attribute(name="plate", input_type="text", values=[]),
                    attribute(name="doors", input_type="number", values=["2", "5", "1"], default_value="4"),
                    attribute(name="side", input_type="radio", values=["left", "right"]),
                ],
            },
            {**SKELETON, "id": 8},
        )
        raw = labels.to_raw()
        for label in raw:
            assert_cvat_takes(label)
        assert json.loads(json.dumps(raw)) == raw
        car, arm = raw
        assert (car["name"], car["type"], car["color"]) == ("car", "polygon", "#12ab34")
        assert [(a["name"], a["values"], a["default_value"]) for a in car["attributes"]] == [
            ("colour", ["red", "blue"], "red"),
            ("parked", ["false"], "false"),
            ("moving", ["false"], "true"),
            ("plate", [""], ""),
            ("doors", ["2", "5", "1"], "4"),
            ("side", ["left", "right"], "left"),
        ]
        assert [a["mutable"] for a in car["attributes"]] == [True, False, False, False, False, False]
        assert arm["svg"] == SKELETON["svg"]
        assert [joint["name"] for joint in arm["sublabels"]] == ["hand", "elbow"]

    def test_read_again_gives_the_same_labels(self) -> None:
        labels = parsed(
            {"id": 0, "name": "car", "attributes": [attribute(default_value="blue")]}, {**SKELETON, "id": 1}
        )
        again = parse_labels(json.dumps(labels.to_raw()))
        assert again.to_raw() == labels.to_raw()
