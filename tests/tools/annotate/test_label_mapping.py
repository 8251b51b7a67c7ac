"""Labels of a function to labels of a task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from common.config import FunctionConfig
from common.cvat.labels import Labels, parse_labels
from common.shapes import Joint, Mask, Rectangle, Skeleton, Tag
from tests.ascii import bitmap
from tests.tools.annotate.conftest import FUNCTIONS
from tools.annotate.annotation_encoder import AnnotationEncoder, FrameAnnotations
from tools.annotate.errors import CannotRun, FrameError
from tools.annotate.label_mapping import TaskLabel, match_labels, read_mapping

FUNCTION = parse_labels(
    """[
    {"name": "car", "type": "rectangle", "attributes": [
        {"name": "color", "input_type": "select", "values": ["red", "blue"]},
        {"name": "plate", "input_type": "text", "values": [""]}]},
    {"name": "road", "type": "mask"},
    {"name": "person", "type": "skeleton", "svg": "x", "sublabels": [
        {"id": 1, "name": "head", "type": "points"}, {"id": 2, "name": "foot", "type": "points"}]}
]"""
)


def task_label(name: str, identifier: int, kind: str = "any", **more: Any) -> TaskLabel:
    return TaskLabel.from_server({"name": name, "id": identifier, "type": kind, **more})


VEHICLE = task_label(
    "vehicle",
    50,
    "rectangle",
    attributes=[
        {"id": 501, "name": "paint", "input_type": "select", "values": ["red", "green"], "mutable": True},
        {"id": 502, "name": "plate", "input_type": "text", "values": [""], "mutable": False},
    ],
)
ROAD = task_label("road", 60, "polygon")
PERSON = task_label(
    "person",
    70,
    "skeleton",
    sublabels=[
        {"id": 71, "name": "tail", "type": "points"},
        {"id": 72, "name": "foot", "type": "points"},
        {"id": 73, "name": "skull", "type": "points"},
    ],
)
TASK = [VEHICLE, ROAD, PERSON]
WISHES = {
    "car": {"name": "vehicle", "attributes": {"color": "paint"}},
    "person": {"name": "person", "sublabels": {"head": "skull"}},
}


def match(given: dict[str, Any], function: Labels | None = FUNCTION, unmatched: bool = False, convert: bool = True):
    return match_labels(function, TASK, given, allow_unmatched=unmatched, convert_masks=convert)


def found(annotations: FrameAnnotations) -> list[dict[str, Any]]:
    return [orjson.loads(text) for text in (*annotations.tags, *annotations.shapes)]


def test_everything_in_its_place() -> None:
    mapping = match(WISHES)
    assert mapping.rows() == [
        ("car", "vehicle (rectangle), attributes color as paint, plate"),
        ("road", "road (polygon)"),
        ("person", "person (skeleton)"),
    ]
    car = Rectangle(label="car", box_xyxy=(1, 2, 3, 4), score=0.5, attributes={"color": "red", "plate": "AB"}, group=2)
    road = Mask.from_full(bitmap("""
        ..
        ##
    """), label="road")  # fmt: skip
    person = Skeleton(label="person", joints=(Joint("head", 10, 20), Joint("foot", 30, 40, visible=False)))
    annotations = found(AnnotationEncoder(mapping, convert_masks=True)(7, [car, road, person]))
    assert annotations[0] == {
        "frame": 7, "label_id": 50, "type": "rectangle", "points": [1, 2, 3, 4], "score": 0.5, "group": 2,
        "attributes": [{"spec_id": 501, "value": "red"}, {"spec_id": 502, "value": "AB"}], "source": "auto",
    }  # fmt: skip
    assert (annotations[1]["label_id"], annotations[1]["type"]) == (60, "polygon")
    assert {tuple(annotations[1]["points"][i : i + 2]) for i in (0, 2, 4, 6)} == {(0, 1), (2, 1), (2, 2), (0, 2)}
    assert [(e["label_id"], e["points"], e["outside"], e["source"]) for e in annotations[2]["elements"]] == [
        (71, [20, 30], True, "auto"),
        (72, [30, 40], True, "auto"),
        (73, [10, 20], False, "auto"),
    ]


def test_all_problems_at_once() -> None:
    with pytest.raises(CannotRun) as error:
        match({"truck": "vehicle"}, convert=False)
    assert str(error.value).splitlines() == [
        "the function's labels don't fit the task:",
        "  the mapping names 'truck', which the function does not have",
        "  label 'car': the task has no label 'car'",
        "  label 'road': the function returns a mask, the task's label takes a polygon; --convert-masks stores masks as polygons",
        "  label 'person', joint 'head': the task's skeleton has no such joint",
        "map them with --mapping or --map, or leave them out with --allow-unmatched",
    ]


def test_attributes_without_a_partner_and_of_another_type() -> None:
    with pytest.raises(CannotRun) as error:
        match({**WISHES, "car": "vehicle"})
    assert "label 'car', attribute 'color': the task's label has no such attribute" in str(error.value)
    with pytest.raises(CannotRun) as error:
        match({**WISHES, "car": {"name": "vehicle", "attributes": {"color": "plate", "plate": "paint"}}})
    assert "label 'car', attribute 'plate': is of type text, the task's of type select" in str(error.value)
    assert "attribute 'color'" not in str(error.value)  # any value is a text


def test_unmatched_are_left_out_if_that_is_wanted() -> None:
    mapping = match({"car": {"name": "vehicle"}}, unmatched=True, convert=False)
    assert mapping.rows()[1] == ("road", "left out")
    road = Mask.from_full(bitmap("#"), label="road")
    car = Rectangle(label="car", box_xyxy=(1, 2, 3, 4), attributes={"color": "red", "plate": "AB"})
    person = Skeleton(label="person", joints=(Joint("head", 1, 2), Joint("foot", 3, 4, visible=False)))
    result = AnnotationEncoder(mapping)(0, [road, car, person, Tag(label="else")])
    (kept,) = found(result)
    assert kept["attributes"] == [{"spec_id": 502, "value": "AB"}]
    assert result.left_out == {
        "label 'road'": 1, "label 'person' without a visible joint": 1, "label 'else'": 1,
    }  # fmt: skip
    with pytest.raises(CannotRun, match="names 'truck', which the function does not have"):
        match({"truck": "vehicle"}, unmatched=True)


def test_a_label_that_is_left_out_on_purpose_is_no_problem() -> None:
    mapping = match({**WISHES, "road": None}, convert=False)
    assert mapping.targets["road"] is None


def test_values_that_the_task_does_not_allow() -> None:
    car = Rectangle(label="car", box_xyxy=(1, 2, 3, 4), attributes={"color": "blue", "plate": "AB"})
    result = AnnotationEncoder(match(WISHES))(0, [car])
    assert found(result)[0]["attributes"] == [{"spec_id": 502, "value": "AB"}]
    assert result.left_out == {"label 'car', attribute 'color': values that the task does not allow": 1}


def test_a_function_of_which_nothing_is_known() -> None:
    mapping = match({"auto": {"name": "vehicle", "attributes": {"farbe": "paint"}}}, function=None)
    auto = Rectangle(label="auto", box_xyxy=(1, 2, 3, 4), attributes={"plate": "AB", "else": "x"})
    person = Skeleton(label="person", joints=(Joint("skull", 1, 2),))
    annotations = found(AnnotationEncoder(mapping)(0, [auto, person]))
    assert (annotations[0]["label_id"], annotations[0]["attributes"]) == (50, [{"spec_id": 502, "value": "AB"}])
    assert [e["outside"] for e in annotations[1]["elements"]] == [True, True, False]
    assert annotations[0]["label_id"] == 50
    painted = Rectangle(label="auto", box_xyxy=(1, 2, 3, 4), attributes={"farbe": "green", "paint": "red"})
    (annotation,) = found(AnnotationEncoder(mapping)(0, [painted]))
    assert annotation["attributes"] == [{"spec_id": 501, "value": "green"}]
    mapping2 = match({"mensch": {"name": "person", "sublabels": {"kopf": "skull", "schwanz": None}}}, function=None)
    person = Skeleton(label="mensch", joints=(Joint("kopf", 1, 2), Joint("foot", 5, 6)))
    (annotation,) = found(AnnotationEncoder(mapping2)(0, [person]))
    assert [(e["points"], e["outside"]) for e in annotation["elements"]] == [
        ([3, 4], True), ([5, 6], False), ([1, 2], False),
    ]  # fmt: skip
    with pytest.raises(CannotRun, match="label 'auto', attribute 'farbe': the task's label has no such attribute"):
        match({"auto": {"name": "vehicle", "attributes": {"farbe": "colour"}}}, function=None)
    with pytest.raises(FrameError, match="returned the label 'bus', which the task does not have"):
        AnnotationEncoder(mapping)(0, [Tag(label="bus")])
    with pytest.raises(FrameError, match="returned the label 'road' as rectangle, the task's is polygon"):
        AnnotationEncoder(mapping)(0, [Rectangle(label="road", box_xyxy=(1, 2, 3, 4))])


def test_mapping_from_file_and_command_line(tmp_path: Path) -> None:
    path = tmp_path / "mapping.yaml"
    path.write_text("car: vehicle\nroad: null\nperson: {name: person}\n")
    assert read_mapping(path, ["road=road", "person="]) == {"car": "vehicle", "road": "road", "person": None}
    with pytest.raises(CannotRun, match="expected FUNCTION_LABEL=TASK_LABEL, got 'car'"):
        read_mapping(None, ["car"])
    path.write_text("- car")
    with pytest.raises(CannotRun, match="expected an object"):
        read_mapping(path, [])
    with pytest.raises(CannotRun, match="can't be read"):
        read_mapping(tmp_path / "nothing.json", [])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("car: [vehicle]", "label 'car': expected a name of the task, or null, got ['vehicle']"),
        ("car: true", "label 'car': expected a name of the task, or null, got true"),
        ("car: {nmae: vehicle}", "label 'car': expected name, attributes and sublabels, got nmae"),
        ("car: {name: [a]}", "label 'car', name: expected a name of the task"),
        ("car: {attributes: 4}", "label 'car', attributes: expected an object of function's: task's, got 4"),
        ("car: {attributes: {colour: {name: x}}}", "label 'car', attributes, colour: expected a name of the task"),
        ("car: {sublabels: [head]}", "label 'car', sublabels: expected an object of function's: task's, got ['head']"),
    ],
)
def test_mapping_files_that_are_none(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "mapping.yaml"
    path.write_text(text)
    with pytest.raises(CannotRun) as error:
        read_mapping(path, [])
    assert problem in str(error.value)


def test_mapping_files_in_full(tmp_path: Path) -> None:
    path = tmp_path / "mapping.yaml"
    path.write_text(
        "7: 8\ncar: {attributes: {colour: null}}\nperson: {name: man, sublabels: {head: {name: skull}, foot: 3}}\n"
    )
    assert read_mapping(path, []) == {
        "7": "8",
        "car": {"attributes": {"colour": None}},
        "person": {"name": "man", "sublabels": {"head": "skull", "foot": "3"}},
    }


def test_a_mapping_that_names_what_the_function_does_not_have() -> None:
    with pytest.raises(CannotRun) as error:
        match(
            {**WISHES, "car": {"name": "vehicle", "attributes": {"color": "paint", "colour": "paint"}}}, unmatched=True
        )
    assert "the mapping names the attribute 'colour' of 'car', which the function does not have" in str(error.value)
    with pytest.raises(CannotRun) as error:
        match({**WISHES, "person": {"name": "person", "sublabels": {"hand": "skull"}}}, unmatched=True)
    assert "the mapping names the joint 'hand' of 'person', which the function does not have" in str(error.value)


def test_nothing_has_a_place() -> None:
    with pytest.raises(
        CannotRun, match="the task has none of the function's labels; its labels are: 'vehicle', 'road'"
    ):
        match({"car": None, "road": None, "person": None})


def test_own_labels_keep_the_ids_of_the_function() -> None:
    label = FunctionConfig.load(FUNCTIONS / "everything").labels["figure"]
    own = TaskLabel.own(label)
    assert own.ids.label == 20
    assert list(own.ids.joints) == [(0, "head"), (1, "left foot"), (2, "right foot")]
