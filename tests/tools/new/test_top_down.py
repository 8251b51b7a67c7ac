"""`make new DETECTOR=...`: functions for top-down pose networks, and refusals."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.config import FunctionConfig
from common.errors import StartupError
from tests.common.networks.computed_files import JOINT_COLOURS, colour_poses
from tests.common.networks.onnx_files import constant_model
from tests.serverless import pose_scenes as scenes
from tools.check import check_function
from tools.new.__main__ import make
from tools.new.facts import Facts, Given
from tools.new.function import Plan, write_function
from tools.new.labels import make_labels
from tools.new.readers import read_model
from tools.sample import differences
from tools.wrapper import LoadedFunction

JOINTS = ",".join(JOINT_COLOURS)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """What the command line says: both models have the name that mmdeploy gives every file."""
    for role in ("pose", "detector"):
        (tmp_path / role).mkdir()
    pose = colour_poses(tmp_path / "pose" / "end2end.onnx", "simcc")
    detector = scenes.detector(tmp_path / "detector" / "end2end.onnx")
    return {
        "NAME": "my-pose",
        "WEIGHTS": str(pose),
        "DETECTOR": str(detector),
        "JOINTS": JOINTS,
        "OUT": str(tmp_path / "made"),
    }


def refused(settings: dict[str, str], message: str) -> None:
    out = Path(settings["OUT"])
    before = sorted(out.parent.iterdir())
    with pytest.raises(StartupError, match=message):
        make(settings)
    assert sorted(out.parent.iterdir()) == before


def test_a_function_of_two_files(files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    made = make({**files, "TASK": "pose", "EDGES": "1-2"})
    config = FunctionConfig.load(made.directory)
    assert [label.name for label in config.labels.values()] == ["person"]
    assert [part.name for part in config.labels["person"].sublabels] == list(JOINT_COLOURS)
    assert {"pose.onnx", "detector.onnx"} <= {file.name for file in made.directory.iterdir()}
    assert not {"MODEL_PATH", "VARIANT"} & config.environment.keys()
    assert check_function(made.directory) == []
    assert differences(made.directory) == []
    assert "serverless/onnx/open-mmlab/pose" in (made.directory / "README.md").read_text()
    monkeypatch.setenv("ENGINE", "onnxruntime")
    image, middles = scenes.figures(1)
    shapes = scenes.ask(LoadedFunction(made.directory, unique=True), image)
    assert np.linalg.norm([scenes.joints_of(shape) for shape in shapes] - middles, axis=2).max() < 1


def test_options_and_labels(files: dict[str, str], tmp_path: Path) -> None:
    colour_poses(Path(files["WEIGHTS"]), "udp", mean=(0, 0, 0), deviation=(255, 255, 255))
    given = {"CODEC": "udp", "MEAN": "0", "STD": "255", "COLOR": "bgr", "LABELS": "dog", "LAYOUT": "yolov8"}
    settings = {**files, **given}
    facts = read_model(Given(files["WEIGHTS"], "detector", ("dog",), settings), tmp_path / "pose")
    expected = {"CODEC": "udp", "MEAN": "0", "STD": "255", "COLOR": "bgr", "DETECTOR_LAYOUT": "yolov8"}
    assert facts.options == expected
    assert facts.names is None  # LABELS has the only name: LABELS_BY would mean nothing
    assert facts.layout == "heat maps, udp"


def test_without_a_detector_it_says_what_is_needed(files: dict[str, str]) -> None:
    needed = r"needs a detector in front of it.* make new WEIGHTS=pose.onnx DETECTOR=detector.onnx"
    refused({name: value for name, value in files.items() if name != "DETECTOR"}, needed)
    colour_poses(Path(files["WEIGHTS"]), "msra")
    refused({name: value for name, value in files.items() if name != "DETECTOR"}, needed)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"JOINTS": "a,b,c"}, "JOINTS: the model finds 4 joints, got 3 names"),
        ({"DETECTOR": "/nowhere.onnx"}, "DETECTOR: there is no /nowhere.onnx"),
        ({"WEIGHTS": "/nowhere.onnx"}, "WEIGHTS: there is no /nowhere.onnx"),
        ({"DETECTOR": "{pose}"}, "DETECTOR: .*rows of scores"),
        ({"WEIGHTS": "{detector}"}, "not a top-down pose network"),
        ({"TASK": "segment"}, "TASK: expected pose"),
        ({"CODEC": "msra"}, "CODEC=msra: the outputs of .* are rows of scores"),
        ({"RESIZE": "stretch"}, "RESIZE: for a detector alone"),
        ({"DETECTOR_CLASSES": "cat"}, "was not made: the check above found errors"),
        ({"KIND": "reid"}, "DETECTOR: for a detector, got KIND=reid"),
    ],
)
def test_wrong_settings(files: dict[str, str], changed: dict[str, str], message: str) -> None:
    places = {"pose": files["WEIGHTS"], "detector": files["DETECTOR"]}
    changed = {name: value.format(**places) for name, value in changed.items()}
    if changed.get("KIND") == "reid":
        files.pop("JOINTS")
    refused({**files, **changed}, message)


@pytest.mark.parametrize("role", ["WEIGHTS", "DETECTOR"])
@pytest.mark.parametrize("kind", ["cut", "text", "classifier"])
def test_wrong_files(files: dict[str, str], role: str, kind: str) -> None:
    path = Path(files[role])
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:-200])
    elif kind == "text":
        path.write_text("not a model")
    else:
        metadata = {"names": "{0: 'cat', 1: 'dog'}", "task": "classify"}
        constant_model(path, {"o": np.array([[0.5, 0.5]], np.float32)}, metadata=metadata)
    messages: dict[Any, str] = {
        ("WEIGHTS", "classifier"): "not a top-down pose network",
        ("DETECTOR", "classifier"): "DETECTOR: .*its task is classify",
    }
    refused(files, messages.get((role, kind), "can't load it"))


def test_a_folder_of_vitpose(files: dict[str, str], tmp_path: Path) -> None:
    from tests.common.networks.huggingface.test_pose import save_vitpose
    from tests.common.networks.huggingface.tiny_models import save_tiny

    def read(**changed: str) -> Facts:
        settings = {**files, "WEIGHTS": str(tmp_path / "vitpose"), **changed}
        workshop = Path(tempfile.mkdtemp(dir=tmp_path))
        return read_model(Given(settings["WEIGHTS"], "detector", settings=settings), workshop)

    save_vitpose(tmp_path / "vitpose", joints=4)
    save_tiny("RTDetrV2ForObjectDetection", tmp_path / "rtdetr")
    mixed, facts = read(), read(DETECTOR=str(tmp_path / "rtdetr"))
    assert (mixed.like, mixed.joints, mixed.names) == ("pytorch/huggingface/pose", 4, ("person",))
    parts = ("config.json", "preprocessor_config.json", "model.safetensors")
    of_pose = [f"pose/{name}" for name in parts]
    assert [mixed.place(file).as_posix() for file in mixed.files] == [*of_pose, "detector.onnx"]
    assert [facts.place(file).as_posix() for file in facts.files] == [*of_pose, *(f"detector/{name}" for name in parts)]
    labels = make_labels(("person",), "pose", list(JOINT_COLOURS))
    (folder := tmp_path / "function").mkdir()
    write_function(folder, Plan("mine", "detector", labels, {}, facts))
    assert scenes.ask(LoadedFunction(folder, unique=True), scenes.figures(1)[0], 0.99) == []  # it starts and answers
    with pytest.raises(StartupError, match="finds the joints of what is in a box: it needs a detector in front of it"):
        read_model(Given(str(tmp_path / "vitpose"), "detector"), tmp_path)
    for changed, message in (
        ({"DETECTOR": str(tmp_path / "vitpose")}, "DETECTOR: .*VitPoseForPoseEstimation"),
        ({"WEIGHTS": str(tmp_path / "rtdetr")}, "expected a model of VitPoseForPoseEstimation with a DETECTOR"),
        ({"WEIGHTS": files["WEIGHTS"], "DETECTOR": str(tmp_path / "rtdetr")}, "expected an .onnx or .xml file"),
        ({"CODEC": "udp"}, "CODEC: for exported files"),
    ):
        with pytest.raises(StartupError, match=message):
            read(**changed)
