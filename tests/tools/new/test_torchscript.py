"""TorchScript files through `make new`: Ultralytics' own export, against the same network in ONNX."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

from common.config import FunctionConfig, read_yaml
from common.errors import StartupError
from common.networks.exported.model import ExportedModel
from tests.common.networks.engines.test_torch_script import ULTRALYTICS, Table, save
from tools.collection import ROOT
from tools.new.__main__ import make
from tools.new.facts import Given
from tools.new.readers import read_model
from training.shapes.draw import draw_shapes

MODELS = ROOT / "tests" / "models"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from ultralytics import YOLO

    folder = tmp_path_factory.mktemp("torchscript")
    shutil.copyfile(MODELS / "detect.pt", folder / "best.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        YOLO(str(folder / "best.pt")).export(format="torchscript", imgsz=320, device="cpu", verbose=False)
    return folder / "best.torchscript"


def test_the_same_network_in_onnx_finds_the_same(exported: Path) -> None:
    models = [ExportedModel(exported), ExportedModel(MODELS / "detect.onnx", engine="onnxruntime")]
    assert models[0].names == models[1].names and models[0].layout is models[1].layout
    for seed in (1, 2, 3):
        picture = draw_shapes(seed).image
        first, second = (model.find(picture, 0.05) for model in models)
        assert len(first.scores) > 0 and first.classes.tolist() == second.classes.tolist()
        assert first.boxes_xyxy is not None and second.boxes_xyxy is not None
        np.testing.assert_allclose(first.boxes_xyxy, second.boxes_xyxy, atol=0.5)
        np.testing.assert_allclose(first.scores, second.scores, atol=1e-3)


def test_a_function_for_it_has_the_base_image_with_torch(exported: Path, tmp_path: Path) -> None:
    made = make({"WEIGHTS": str(exported), "NAME": "program", "OUT": str(tmp_path / "program")})
    assert made.plan.facts is not None and made.plan.facts.task == "detect" and made.shapes > 0
    assert read_yaml(made.directory / "function.yaml")["spec"]["build"]["baseImage"] == "cvat.pytorch.base"
    assert list(FunctionConfig.load(made.directory).labels) == ["circle", "square", "triangle"]
    assert (made.directory / "best.torchscript").is_file() and not (made.directory / "requirements.txt").exists()


def test_under_another_name_and_without_metadata(tmp_path: Path) -> None:
    path = save(Table(), tmp_path / "traced.pt")
    given = Given(str(path), settings={"LABELS": "cat,dog"})
    with pytest.raises(StartupError, match="IMAGE_SIZE: a TorchScript file doesn't declare the size"):
        read_model(given, tmp_path)
    said = {"IMAGE_SIZE": "64", "TASK": "detect", "LAYOUT": "yolov8"}
    facts = read_model(Given(str(path), settings=said), tmp_path)
    assert [file.name for file in facts.files] == ["traced.torchscript"] and facts.classes == 2
    assert facts.options == said and facts.base_image == "cvat.pytorch.base"


def test_without_torch_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else find(name))
    path = save(Table(), tmp_path / "m.torchscript", ULTRALYTICS)
    with pytest.raises(StartupError, match=r"TorchScript needs torch, which is not installed here"):
        make({"WEIGHTS": str(path), "NAME": "m", "OUT": str(tmp_path / "m")})
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.torchscript"]
