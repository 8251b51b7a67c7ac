"""Exporters: their environments, the comparison of answers, and Ultralytics' .pt as a function without torch."""

from __future__ import annotations

import base64
import json
import os
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.config import FunctionConfig, read_yaml
from common.errors import StartupError
from common.networks.exported.model import ExportedModel
from common.networks.results import Found
from common.shapes import Mask
from tests.common.networks.onnx_files import constant_model
from tools.collection import ROOT
from tools.new.__main__ import make
from tools.new.exporters import environment
from tools.new.exporters.comparison import Comparison
from tools.new.exporters.environment import python_for
from tools.new.exporters.ultralytics import run as ultralytics
from tools.wrapper import LoadedFunction

MODELS = ROOT / "tests" / "models"
SIZE = {"IMAGE_SIZE": "256"}  # another than the one that it was trained with
ODD_NAME = "o'brien yolov5n.pt"  # of which their package makes obrien yolov5nu.pt
GREY = np.full((64, 64, 3), 128, np.uint8)


@pytest.fixture
def exporter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "some-package"
    folder.mkdir()
    (folder / "requirements.txt").write_text("# nothing\n")
    monkeypatch.setattr(environment, "_place", lambda: tmp_path / "exporters")
    return folder


def test_packages_that_are_here_need_no_other_environment(exporter: Path, tmp_path: Path) -> None:
    assert python_for(exporter, ["numpy", "json"]) == Path(sys.executable)
    assert not (tmp_path / "exporters").exists()


def test_an_environment_is_made_once(exporter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    python = python_for(exporter, ["no_such_module"])
    assert python.is_relative_to(tmp_path / "exporters/some-package") and os.access(python, os.X_OK)
    assert "Making an environment for the exporter in" in capsys.readouterr().out
    made = python.lstat().st_mtime_ns
    assert python_for(exporter, ["no_such_module"]) == python
    assert python.lstat().st_mtime_ns == made and capsys.readouterr().out == ""


def test_without_a_network_the_commands_are_named(
    exporter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (exporter / "requirements.txt").write_text("ultralytics==8.4.190\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(
        StartupError, match=r"can't be made: ERROR: .*ultralytics.* Use AS_IS=1, .*: python3 -m venv .*"
    ):
        python_for(exporter, ["no_such_module"])
    assert not (tmp_path / "exporters/some-package").exists()


def test_half_an_environment_is_deleted(exporter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the middle of the installation."""

    def interrupted(environment: Path, requirements: Path) -> None:
        (environment / "lib").mkdir(parents=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(environment, "_make", interrupted)
    with pytest.raises(KeyboardInterrupt):
        python_for(exporter, ["no_such_module"])
    assert not (tmp_path / "exporters/some-package").exists()


def compared(tmp_path: Path, *, box: float = 0.0, score: float = 0.0, category: int = 1) -> Comparison:
    """A file that finds one box, against an answer that is so far from it."""
    table = np.zeros((1, 6, 84), np.float32)
    table[0, :, 7] = [32, 32, 20, 16, 0, 0.9]
    names = {"names": "{0: 'cat', 1: 'dog'}", "task": "detect", "end2end": False}
    model = ExportedModel(constant_model(tmp_path / "m.onnx", {"output0": table}, metadata=names))
    answer = {
        "boxes": np.array([[22 + box, 24, 42, 40]]),
        "scores": np.array([0.9 - score]),
        "classes": np.array([category]),
    }
    comparison = Comparison()
    comparison.add(model, GREY, answer, 0.001)
    return comparison


def test_answers_that_differ_by_rounding_agree(tmp_path: Path) -> None:
    same = compared(tmp_path, box=0.4, score=0.004)
    assert same.agrees and same.detections == 1
    assert same.pixels == pytest.approx(0.4, abs=1e-3) and same.score == pytest.approx(0.004, abs=1e-4)
    assert str(same) == "0.4 px and 0.004 in score at most"
    for other in ({"box": 1.5}, {"score": 0.02}, {"category": 0}):
        assert not compared(tmp_path, **other).agrees, other


class Answering:
    """A model that finds the same in every picture."""

    def __init__(self, found: Found):
        self.found = found

    def find(self, *_: object, **__: object) -> Found:
        return self.found


BOX = {"scores": np.array([0.9]), "classes": np.array([0.0]), "boxes": np.array([[10.0, 20, 50, 40]])}


def compare(found: Found, answer: dict[str, Any]) -> Comparison:
    comparison = Comparison()
    comparison.add(Answering(found), GREY, answer, 0.1)  # type: ignore[arg-type]
    return comparison


def test_rotated_boxes_are_compared_by_their_corners() -> None:
    found = Found(
        np.array([0.9], np.float32), np.array([0]), BOX["boxes"], rotated_xywhr=np.array([[30.0, 30, 40, 20, 0.1]])
    )
    # The same rectangle, described from its other side.
    same = compare(found, BOX | {"rotated": np.array([[30, 30, 20, 40, 0.1 + np.pi / 2]])})
    assert same.agrees and same.pixels < 1e-6
    assert not compare(found, BOX | {"rotated": np.array([[30, 30, 40, 20, 0.3]])}).agrees


def test_masks_are_compared_by_their_overlap() -> None:
    mask = Mask(bitmap=np.ones((20, 40), np.bool_), left=10, top=20)
    found = Found(np.array([0.9], np.float32), np.array([0]), BOX["boxes"], masks=(mask,))
    bitmaps = np.zeros((1, 64, 64), np.bool_)
    bitmaps[0, 20:40, 10:49] = True  # a column less
    near = compare(found, BOX | {"masks": bitmaps})
    assert near.agrees and near.overlap == pytest.approx(39 / 40) and "masks overlap by 0.975 or more" in str(near)
    assert not compare(found, BOX | {"masks": bitmaps & (np.arange(64) < 40)}).agrees


def test_joints_are_compared_by_their_distance() -> None:
    joints = np.array([[[12.0, 22, 0.9], [40, 30, 0.8]]])
    found = Found(np.array([0.9], np.float32), np.array([0]), BOX["boxes"], joints=joints)
    near = compare(found, BOX | {"joints": joints + 0.25})
    assert near.agrees and near.pixels == pytest.approx(0.25)
    assert not compare(found, BOX | {"joints": joints + [0.0, 2, 0]}).agrees


def test_probabilities_of_a_classifier_are_compared() -> None:
    found = Found(np.array([0.7, 0.3], np.float32), np.array([1, 0]))
    assert compare(found, {"probabilities": np.array([0.305, 0.695])}).agrees
    assert not compare(found, {"probabilities": np.array([0.4, 0.6])}).agrees


def test_an_archive_is_packed_again_and_pickles_are_copied(tmp_path: Path) -> None:
    weights, pickles, made = MODELS / "detect.pt", tmp_path / "old.pt", tmp_path / "made.pt"
    ultralytics.copy_checked(weights, made)
    with zipfile.ZipFile(weights) as given, zipfile.ZipFile(made) as packed:
        assert {name: given.read(name) for name in given.namelist()} == {
            name: packed.read(name) for name in packed.namelist()
        }
    pickles.write_bytes(b"\x80\x02N." + weights.read_bytes())  # of which torch reads the pickle alone
    ultralytics.copy_checked(pickles, made)
    assert made.read_bytes() == pickles.read_bytes()


def test_an_export_that_answers_otherwise_is_refused(tmp_path: Path) -> None:
    answers = [{"boxes": np.array([[1, 2, 30, 40]]), "scores": np.array([0.9]), "classes": np.array([0])}]
    with pytest.raises(
        StartupError, match=r"best\.pt: the exported file's results differ .* 1 of 1 detections .*AS_IS=1"
    ):
        ultralytics._compare(MODELS / "detect.onnx", Path("best.pt"), [GREY], answers)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ultralytics")
    weights = shutil.copyfile(MODELS / "detect.pt", folder / ODD_NAME)
    made = make({"WEIGHTS": str(weights), "NAME": "exported", "OUT": str(folder / "exported")} | SIZE)
    assert made.plan.facts is not None and made.plan.facts.size_hw == (256, 256) and made.shapes > 0
    return made.directory


def test_a_pt_of_ultralytics_becomes_a_function_without_torch(exported: Path) -> None:
    document = read_yaml(exported / "function.yaml")
    assert document["spec"]["build"]["baseImage"] == "cvat.onnx.base"
    assert (exported / ODD_NAME).with_suffix(".onnx").is_file() and not list(exported.rglob("*.pt"))
    assert not (exported / "requirements.txt").exists()
    assert list(FunctionConfig.load(exported).labels) == ["circle", "square", "triangle"]
    readme = (exported / "README.md").read_text()
    assert f"Exported from {ODD_NAME} by ultralytics 8" in readme and "AGPL-3.0" in readme
    assert "both files differ by" in readme
    assert json.loads((exported / "labels.json").read_text())[0]["name"] == "circle"


def test_it_answers_as_the_function_with_their_package(exported: Path, tmp_path: Path) -> None:
    given = {"WEIGHTS": str(MODELS / "detect.pt"), "NAME": "as-is", "OUT": str(tmp_path / "as-is"), "AS_IS": "1"}
    as_is = make(given | SIZE).directory
    assert (as_is / "detect.pt").is_file() and (as_is / "requirements.txt").is_file()
    assert read_yaml(as_is / "function.yaml")["spec"]["build"]["baseImage"] == "cvat.pytorch.base"
    replies = [_answer(folder) for folder in (exported, as_is)]
    assert [shape["label"] for shape in replies[0]] == [shape["label"] for shape in replies[1]]
    for first, second in zip(*replies, strict=True):
        np.testing.assert_allclose(first["points"], second["points"], atol=0.5)
        assert abs(float(first["confidence"]) - float(second["confidence"])) < 1e-3


def _answer(folder: Path) -> list[dict[str, object]]:
    picture = base64.b64encode((ROOT / "tools/demo/cat_mug.jpg").read_bytes()).decode()
    reply = LoadedFunction(folder, unique=True)({"image": picture, "threshold": 0.1})
    assert reply.status == 200
    shapes: list[dict[str, object]] = reply.json()
    assert shapes
    return shapes


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"TASK": "pose"}, "TASK: the file's task is detect, got the text 'pose'"),
        ({"LAYOUT": "yolov8"}, "LAYOUT: for exported files only; a .pt file says what its outputs are"),
        ({"AS_IS": "maybe"}, "AS_IS: expected 1 or 0, got the text 'maybe'"),
        ({"IMAGE_SIZE": "100"}, "IMAGE_SIZE: expected one side or height x width, multiples of 32"),
        ({"IMAGE": "/nowhere.jpg"}, "IMAGE: /nowhere.jpg: No such file"),
        ({"WEIGHTS": str(MODELS / "detect.onnx"), "AS_IS": "1"}, "AS_IS: for Ultralytics' .pt files"),
    ],
)
def test_what_does_not_fit_a_pt(tmp_path: Path, settings: dict[str, str], message: str) -> None:
    with pytest.raises(StartupError, match=message):
        make({"WEIGHTS": str(MODELS / "detect.pt"), "NAME": "no", "OUT": str(tmp_path / "no")} | settings)
    assert list(tmp_path.iterdir()) == []
