"""`make new` with files of the DETR family: the function has what belongs to the file, and answers."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest

from common.config import FunctionConfig
from common.errors import StartupError
from common.networks.formats.coco import COCO_CATEGORIES
from tests.common.networks.exported.test_foreign_files import upstream_rtdetr
from tests.common.networks.onnx_files import constant_model
from tests.serverless.test_detr import IMAGE, POINTS, body, queries, settings
from tools.new.__main__ import make
from tools.wrapper import LoadedFunction


def answers(made: Path) -> list[tuple[str, list[float]]]:
    reply = LoadedFunction(made, unique=True)(body())
    return [(found["label"], found["points"]) for found in reply.json()]


@pytest.fixture
def picture(tmp_path: Path) -> str:
    cv2.imwrite(str(tmp_path / "picture.png"), IMAGE)
    return str(tmp_path / "picture.png")


def test_a_file_of_the_hub_with_what_lies_beside_it(tmp_path: Path, picture: str) -> None:
    (tmp_path / "hub/onnx").mkdir(parents=True)
    model = constant_model(tmp_path / "hub/onnx/model.onnx", queries(2, {3: {1: 2.0}}), input_name="pixel_values")
    given = {"WEIGHTS": str(model), "NAME": "own", "OUT": str(tmp_path / "own"), "IMAGE": picture}
    with pytest.raises(StartupError, match=r"of an unknown kind: put its config\.json"):
        make(given)
    assert not (tmp_path / "own").exists()
    settings(tmp_path / "hub", "d_fine", ["cat", "dog"])
    made = make(given).directory
    assert {"model.onnx", "config.json", "preprocessor_config.json"} <= {path.name for path in made.iterdir()}
    assert answers(made) == [("dog", POINTS)]
    assert "common.networks.exported" in (made / "model_handler.py").read_text()


def test_what_the_command_line_says_instead(tmp_path: Path, picture: str) -> None:
    model = constant_model(tmp_path / "model.onnx", queries(2, {3: {1: 2.0}}), input_name="pixel_values")
    given = {"WEIGHTS": str(model), "NAME": "own", "OUT": str(tmp_path / "own"), "IMAGE": picture, "LABELS": "cat,dog"}
    with pytest.raises(StartupError, match="nothing says how images are prepared"):
        make(given | {"LAYOUT": "detr-sigmoid"})
    made = make(given | {"LAYOUT": "detr-sigmoid", "MEAN": "0,0,0", "STD": "255,255,255"}).directory
    environment = FunctionConfig.load(made).environment
    assert (environment["LAYOUT"], environment["MEAN"]) == ("detr-sigmoid", "0,0,0")
    assert answers(made) == [("dog", POINTS)]


def test_upstream(tmp_path: Path, picture: str) -> None:
    given = {"WEIGHTS": str(upstream_rtdetr(tmp_path / "m.onnx")), "NAME": "own", "OUT": str(tmp_path / "own")}
    made = make(given | {"IMAGE": picture, "LABELS": "cat,dog"}).directory
    assert answers(made) == [("dog", [32, 32, 96, 64])]


def rfdetr(path: Path, columns: int, index: int, masks: bool = False) -> Path:
    found = queries(columns, {3: {index: 2.0}}, masks)
    outputs = {"dets": found["pred_boxes"], "labels": found["logits"]}
    return constant_model(path, outputs | ({"masks": found["pred_masks"]} if masks else {}), input_name="input")


def test_rfdetr_of_coco(tmp_path: Path, picture: str) -> None:
    model = rfdetr(tmp_path / "m.onnx", 91, COCO_CATEGORIES.index("toothbrush"), masks=True)
    given = {"WEIGHTS": str(model), "NAME": "own", "OUT": str(tmp_path / "own"), "IMAGE": picture}
    made = make(given).directory
    assert len(FunctionConfig.load(made).labels) == 80
    reply = LoadedFunction(made, unique=True)(body())
    assert [(found["label"], found["type"]) for found in reply.json()] == [("toothbrush", "mask")]


def test_rfdetr_of_other_classes_needs_their_indices(tmp_path: Path, picture: str) -> None:
    model = rfdetr(tmp_path / "m.onnx", 3, 2)
    given = {"WEIGHTS": str(model), "NAME": "own", "OUT": str(tmp_path / "own"), "IMAGE": picture}
    with pytest.raises(
        StartupError, match=r"expected a name for each of the 3 class indices.* counts classes from 0 for"
    ):
        make(given | {"LABELS": "cat,dog"})
    (tmp_path / "classes.json").write_text(json.dumps({"1": "cat", "2": "dog"}))
    made = make(given | {"LABELS": str(tmp_path / "classes.json")}).directory
    assert FunctionConfig.load(made).environment["LABELS_BY"] == "id"
    assert answers(made) == [("dog", POINTS)]
