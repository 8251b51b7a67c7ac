"""`make new KIND=tracker`: a function for a network like VitTrack, and a refusal for any other file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from common.config import FunctionConfig
from common.errors import StartupError
from tests.common.networks.onnx_files import constant_model
from tests.common.networks.vittrack_files import OUTPUTS, constant_tracker
from tools.check import check_function
from tools.collection import ROOT
from tools.new.__main__ import make
from tools.sample import differences


def settings(folder: Path, weights: Path, **more: str) -> dict[str, str]:
    return {"WEIGHTS": str(weights), "KIND": "tracker", "NAME": "mine", "OUT": str(folder / "mine"), **more}


def test_a_function_from_a_tracker(tmp_path: Path) -> None:
    made = make(settings(tmp_path, constant_tracker(tmp_path / "mine.onnx")))
    config = FunctionConfig.load(made.directory)
    assert config.kind == "tracker" and config.annotations["supported_shape_types"] == "rectangle"
    assert config.environment["THRESHOLD"] == "0.2" and "VARIANT" not in config.environment
    assert check_function(made.directory) == []
    assert differences(made.directory) == []
    assert "serverless/onnx/opencv/vittrack" in (made.directory / "README.md").read_text()


def test_a_tracker_without_its_kind(tmp_path: Path) -> None:
    path = constant_tracker(tmp_path / "mine.onnx")
    with pytest.raises(StartupError, match=r"mine\.onnx: .* which follows a box: set KIND=tracker"):
        make({"WEIGHTS": str(path), "NAME": "mine", "OUT": str(tmp_path / "mine")})


@pytest.mark.parametrize("kind", ["detector", "embedding", "logits", "cut", "text", "pickle"])
def test_other_files_are_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "model.onnx"
    if kind == "detector":
        path = ROOT / "tests/models/detect.onnx"
    elif kind == "embedding":
        constant_model(path, {"descriptors": np.zeros((1, 512), np.float32)})
    elif kind == "logits":
        constant_tracker(path, value=7.0)
    elif kind == "cut":
        path.write_bytes(constant_tracker(tmp_path / "whole.onnx").read_bytes()[:3000])
    elif kind == "text":
        path.write_text("not a model")
    else:
        path = tmp_path / "model.pth"
        path.write_bytes(b"\x80\x04.")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(StartupError) as caught:
        make(settings(tmp_path, path))
    expected = {
        "cut": "can't load it",
        "text": "can't load it",
        "pickle": "KIND=tracker: expected an .onnx or OpenVINO's .xml with VitTrack's inputs and outputs",
    }
    assert expected.get(kind, "expected a network like OpenCV's VitTrack: inputs template and search") in str(
        caught.value
    )
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "setting", [{"LABELS": "cat,dog"}, {"TASK": "detect"}, {"LAYOUT": "yolov8"}, {"IMAGE_SIZE": "640"}], ids=str
)
def test_what_means_nothing_for_a_tracker_is_refused(tmp_path: Path, setting: dict[str, str]) -> None:
    path = constant_tracker(tmp_path / "mine.onnx", outputs=OUTPUTS)
    with pytest.raises(StartupError, match="for a detector, got KIND=tracker"):
        make(settings(tmp_path, path, **setting))
