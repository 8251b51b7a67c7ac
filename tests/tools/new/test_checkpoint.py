"""`make new` on YOLOv5's and YOLOv7's own checkpoints: functions of the ONNX base image, without torch."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pytest

from common.config import FunctionConfig
from common.errors import StartupError
from common.vision.image import decode_image
from tests.tools.checkpoints import torch_yolo as yolo
from tools.check import check_function
from tools.collection import ROOT
from tools.new.__main__ import make
from tools.new.facts import Facts, Given
from tools.new.readers import read_model
from tools.wrapper import LoadedFunction

PHOTO = ROOT / "tools" / "demo" / "cat_mug.jpg"


def checkpoint(path: Path) -> Path:
    layers = [(-1, yolo.Conv(3, 8, 3, 8)), (-1, yolo.C3(8)), ([-1], yolo.Detect(2, [8], [8]))]
    return yolo.save(yolo.spread(yolo.DetectionModel(layers, {0: "cat", 1: "dog"})), path)


def test_a_function_that_answers(tmp_path: Path) -> None:
    path, target = checkpoint(tmp_path / "best.pt"), tmp_path / "mine"
    made = make({"WEIGHTS": str(path), "NAME": "mine", "OUT": str(target)})
    facts = made.plan.facts
    assert facts is not None and (facts.like, facts.layout, facts.size_hw) == ("onnx/yolo/detect", "yolov5", (64, 64))
    assert check_function(target) == []
    assert sorted(p.name for p in target.glob("best*")) == ["best.onnx"]
    assert "AGPL-3.0 for YOLOv5" in (target / "README.md").read_text()
    assert "cvat.onnx.base" in (target / "function.yaml").read_text()
    assert [label.name for label in FunctionConfig.load(target).labels.values()] == ["cat", "dog"]
    assert "torch" not in (target / "function.yaml").read_text()

    reply = LoadedFunction(target, unique=True)(
        {"image": base64.b64encode(PHOTO.read_bytes()).decode(), "threshold": 0.3}
    )
    found = reply.json()
    assert reply.status == 200 and found
    height, width = decode_image(PHOTO.read_bytes(), "image").shape[:2]
    corners = np.array([shape["points"] for shape in found])
    assert (corners >= 0).all() and (corners <= [width, height, width, height]).all()


def test_another_size_and_wrong_settings(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "best.pt")

    def read(**settings: str) -> Facts:
        return read_model(Given(str(path), settings=settings), tmp_path)

    assert read(IMAGE_SIZE="96x128").size_hw == (96, 128)
    for settings, message in (
        ({"LAYOUT": "yolov5"}, "LAYOUT: for exported files"),
        ({"TASK": "segment"}, "TASK: the file's task is detect, got the text 'segment'"),
        ({"IMAGE_SIZE": "big"}, "IMAGE_SIZE: expected"),
    ):
        with pytest.raises(StartupError, match=message):
            read(**settings)
