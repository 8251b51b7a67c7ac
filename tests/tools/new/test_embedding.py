"""`make new KIND=reid`: functions for networks that describe pictures, and refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from common.config import FunctionConfig
from common.errors import StartupError
from tests.common.networks.computed_files import mean_colours
from tests.common.networks.onnx_files import constant_model
from tests.hub_server import hub_server
from tests.serverless import reid_scenes as scenes
from tools.check import check_function
from tools.collection import ROOT
from tools.new.__main__ import main, make
from tools.new.facts import Given
from tools.new.function import Plan, write_function
from tools.new.readers import read_model
from tools.sample import differences
from tools.wrapper import LoadedFunction


def settings(folder: Path, weights: Path, **more: str) -> dict[str, str]:
    return {"WEIGHTS": str(weights), "KIND": "reid", "NAME": "mine", "OUT": str(folder / "mine"), **more}


def test_a_function_of_a_file(tmp_path: Path) -> None:
    path = mean_colours(tmp_path / "osnet.onnx", ("h", "w"), cells=(4, 4))
    given = {"IMAGE_SIZE": "64x48", "COLOR": "bgr", "MEAN": "0", "STD": "1"}
    made = make(settings(tmp_path, path, **given))
    config = FunctionConfig.load(made.directory)
    assert config.kind == "reid"
    assert given.items() <= config.environment.items()
    assert config.environment["THRESHOLD"] == "0.35" and "MODEL_PATH" not in config.environment
    assert check_function(made.directory) == []
    assert differences(made.directory) == []
    assert "serverless/onnx/embedding/reid" in (made.directory / "README.md").read_text()


def test_the_input_is_said_in_the_order_of_image_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = mean_colours(tmp_path / "osnet.onnx", ("h", "w"), cells=(4, 4))
    given = settings(tmp_path, path, IMAGE_SIZE="64x48")
    assert main([f"{name}={value}" for name, value in given.items()]) == 0
    assert "osnet.onnx: input 64 x 48 (height x width); runs like" in capsys.readouterr().out


def test_a_network_of_descriptors_without_its_kind(tmp_path: Path) -> None:
    path = constant_model(tmp_path / "osnet.onnx", {"descriptors": np.ones((1, 512), np.float32)})
    with pytest.raises(StartupError, match="by a vector needs another KIND"):
        make({"WEIGHTS": str(path), "NAME": "mine", "OUT": str(tmp_path / "mine")})


def test_a_function_of_a_folder(tmp_path: Path) -> None:
    from tests.serverless.test_huggingface_reid import dinov2, save

    path = save(dinov2(), tmp_path / "dinov2")
    facts = read_model(Given(str(path), "reid", settings={"IMAGE_SIZE": "56x28"}), tmp_path)
    (folder := tmp_path / "function").mkdir()
    write_function(folder, Plan("mine", "reid", facts=facts))
    assert {"config.json", "preprocessor_config.json", "model.safetensors"} <= {file.name for file in folder.iterdir()}
    environment = FunctionConfig.load(folder).environment
    assert (environment["POOLING"], environment["IMAGE_SIZE"]) == ("auto", "56x28")
    before, boxes = scenes.frame(1, scenes.things(1, 3), np.arange(3))
    reply = LoadedFunction(folder, unique=True)(scenes.request(before, before, boxes, boxes))
    assert reply.json() == [0, 1, 2]


def test_a_model_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, architecture in (("dinov2-small", "Dinov2Model"), ("detr", "DetrForObjectDetection")):
        (folder := tmp_path / "hub" / "facebook" / name).mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({"architectures": [architecture]}))
        (folder / "preprocessor_config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(b"weights")
    with hub_server(tmp_path / "hub") as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        facts = read_model(Given("facebook/dinov2-small", "reid"), tmp_path)
        assert {file.path for file in facts.fetched} == {"config.json", "preprocessor_config.json", "model.safetensors"}
        assert all(file.sha256 or file.size for file in facts.fetched) and hub.commit in (facts.fetched[0].url or "")
        assert (facts.like, facts.published) == ("pytorch/huggingface/reid", f"facebook/dinov2-small@{hub.commit[:7]}")
        with pytest.raises(StartupError, match="expected a model that describes images"):
            read_model(Given("facebook/detr", "reid"), tmp_path)
        with pytest.raises(StartupError, match="COLOR: for exported files"):
            read_model(Given("facebook/dinov2-small", "reid", settings={"COLOR": "bgr"}), tmp_path)


@pytest.mark.parametrize("kind", ["detector", "maps", "two outputs", "cut", "text", "pickle", "folder", "free size"])
def test_other_files_are_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "model.onnx"
    if kind == "detector":
        path = ROOT / "tests/models/detect.onnx"
    elif kind == "maps":
        constant_model(path, {"maps": np.zeros((1, 8, 7, 7), np.float32)})
    elif kind == "two outputs":
        constant_model(path, {"a": np.ones((1, 8), np.float32), "b": np.ones((1, 4), np.float32)})
    elif kind == "cut":
        path.write_bytes(mean_colours(tmp_path / "whole.onnx").read_bytes()[:-100])
    elif kind == "text":
        path.write_text("not a model")
    elif kind == "pickle":
        path = tmp_path / "model.pth"
        path.write_bytes(b"\x80\x04.")
    elif kind == "folder":
        (path := tmp_path / "folder").mkdir()
        (path / "config.json").write_text('{"architectures": ["DetrForObjectDetection"]}')
    else:
        mean_colours(path, ("h", "w"))
    expected = {
        "two outputs": "set OUTPUT to the name of the one",
        "cut": "can't load it",
        "text": "can't load it",
        "pickle": "KIND=reid: expected an .onnx or OpenVINO's .xml with a descriptor for each picture",
        "folder": "model.safetensors",
        "free size": "set IMAGE_SIZE to the one that the network was trained with",
    }
    before = sorted(tmp_path.iterdir())
    with pytest.raises(StartupError) as caught:
        make(settings(tmp_path, path))
    assert expected.get(kind, "expected an output (batch, D)") in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "setting", [{"LABELS": "cat"}, {"LAYOUT": "yolov8"}, {"CODEC": "udp"}, {"DETECTOR": "x"}], ids=str
)
def test_what_means_nothing_for_reid_is_refused(tmp_path: Path, setting: dict[str, str]) -> None:
    with pytest.raises(StartupError, match="for a detector, got KIND=reid"):
        make(settings(tmp_path, mean_colours(tmp_path / "m.onnx"), **setting))


def test_an_output_of_several(tmp_path: Path) -> None:
    outputs = {"a": np.ones((1, 8, 4), np.float32), "b": np.arange(4, dtype=np.float32)[None]}
    path = constant_model(tmp_path / "m.onnx", outputs)
    assert read_model(Given(str(path), "reid", settings={"OUTPUT": "b"}), tmp_path).options == {"OUTPUT": "b"}
