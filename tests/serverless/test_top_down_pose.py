"""Top-down pose networks behind a detector, through the real main.py: joints whose places are known; wrong files are refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.config import FunctionConfig
from common.errors import StartupError
from common.networks.top_down.handler import ExportedTopDown
from common.shapes import Skeleton
from tests.common.networks.computed_files import JOINT_COLOURS, colour_poses
from tests.common.networks.onnx_files import constant_model
from tests.serverless import pose_scenes as scenes
from tools.collection import COLLECTION
from tools.new.labels import make_labels
from tools.wrapper import LoadedFunction

DIRECTORY = COLLECTION / "onnx/open-mmlab/pose"


def make_function(folder: Path, names: Sequence[str] = ("person",)) -> Path:
    """The function with labels of its own, in a folder."""
    folder.mkdir(parents=True)
    labels = make_labels(names, "pose", list(JOINT_COLOURS), [(0, 1)])
    head, tail = (DIRECTORY / "function.yaml").read_text().split("spec: |", 1)
    (folder / "function.yaml").write_text(f"{head}spec: '{json.dumps(labels)}'\n\n{tail[tail.index('spec:') :]}")
    for file in ("main.py", "model_handler.py"):
        shutil.copy(DIRECTORY / file, folder)
    return folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for pose.onnx and detector.onnx, with the detector in it."""
    (files := tmp_path / "files").mkdir()
    scenes.detector(files / "detector.onnx")
    monkeypatch.setenv("MODEL_PATH", str(files))
    monkeypatch.setenv("ENGINE", "onnxruntime")
    return files


def start(tmp_path: Path, **options: Any) -> LoadedFunction:
    return LoadedFunction(make_function(tmp_path / "function", **options), unique=True)


# A cell of the heat maps is 6 px of the largest figure, a step of the rows 0.7 px.
@pytest.mark.parametrize(("codec", "exactness"), [("msra", 2.0), ("dark", 0.3), ("udp", 0.3), ("simcc", 1.0)])
def test_joints_are_where_they_were_drawn(
    tmp_path: Path, folder: Path, monkeypatch: Any, codec: str, exactness: float
) -> None:
    colour_poses(folder / "pose.onnx", codec)
    monkeypatch.setenv("CODEC", codec)
    function = start(tmp_path)
    for seed in range(2):
        image, middles = scenes.figures(seed)
        shapes = scenes.ask(function, image)
        assert [(s["label"], s["type"], s["confidence"]) for s in shapes] == [
            ("person", "skeleton", score) for score in ("0.9000", "0.8000", "0.7000")
        ]
        assert [e["label"] for e in shapes[0]["elements"]] == list(JOINT_COLOURS)
        assert not any(element["outside"] for shape in shapes for element in shape["elements"])
        apart = np.linalg.norm([scenes.joints_of(shape) for shape in shapes] - middles, axis=2)
        assert apart.max() < exactness
    assert len(scenes.ask(function, image, 0.75)) == 2


def test_rows_need_no_codec(tmp_path: Path, folder: Path) -> None:
    colour_poses(folder / "pose.onnx", "simcc", (192, 256), batch=1)
    image, middles = scenes.figures(3)
    shapes = scenes.ask(start(tmp_path), image)
    assert np.linalg.norm([scenes.joints_of(shape) for shape in shapes] - middles, axis=2).max() < 1


def test_openvino_files(tmp_path: Path, folder: Path) -> None:
    import openvino

    colour_poses(tmp_path / "pose.onnx", "simcc")
    openvino.save_model(
        openvino.convert_model(str(tmp_path / "pose.onnx")), str(folder / "pose.xml"), compress_to_fp16=False
    )
    image, middles = scenes.figures(4)
    shapes = scenes.ask(start(tmp_path), image)  # ENGINE=onnxruntime is for the detector, an .onnx
    assert np.linalg.norm([scenes.joints_of(shape) for shape in shapes] - middles, axis=2).max() < 1


def test_paths_channels_and_numbers_are_options(tmp_path: Path, folder: Path, monkeypatch: Any) -> None:
    colour_poses(tmp_path / "own.onnx", "simcc", mean=(0, 0, 0), deviation=(255, 255, 255))
    (folder / "detector.onnx").rename(tmp_path / "people.onnx")
    monkeypatch.setenv("POSE_PATH", str(tmp_path / "own.onnx"))
    monkeypatch.setenv("DETECTOR_PATH", str(tmp_path / "people.onnx"))
    image, middles = scenes.figures(5)
    monkeypatch.setenv("MEAN", "0")
    monkeypatch.setenv("STD", "255")
    monkeypatch.setenv("COLOR", "bgr")
    function = start(tmp_path)
    found = scenes.ask(function, np.ascontiguousarray(image[..., ::-1]))
    assert np.linalg.norm([scenes.joints_of(shape) for shape in found] - middles, axis=2).max() < 1


def test_a_joint_that_is_not_seen_is_outside(tmp_path: Path, folder: Path) -> None:
    colour_poses(folder / "pose.onnx", "simcc")
    image, middles = scenes.figures(6)
    x, y = middles[0, 2].astype(int)
    image[y - 25 : y + 25, x - 25 : x + 25] = 128
    shapes = scenes.ask(start(tmp_path), image)
    assert [element["outside"] for element in shapes[0]["elements"]] == [0, 0, 1, 0]
    assert not any(element["outside"] for element in shapes[1]["elements"])


def test_a_picture_without_figures(tmp_path: Path, folder: Path) -> None:
    colour_poses(folder / "pose.onnx", "simcc")
    function = start(tmp_path)
    assert scenes.ask(function, np.full((*scenes.SIZE_HW, 3), 128, np.uint8)) == []
    assert scenes.ask(function, scenes.figures(0)[0], 0.95) == []


def test_boxes_over_the_border(tmp_path: Path, folder: Path) -> None:
    boxes = [[0, 0, 60, 120], [880, 400, 960, 480], [0, 300, 960, 480]]
    scenes.detector(folder / "detector.onnx", boxes)
    colour_poses(folder / "pose.onnx", "simcc")
    image, middles = scenes.figures(7, boxes[:2])
    shapes = scenes.ask(start(tmp_path), image)
    assert np.linalg.norm([scenes.joints_of(shape) for shape in shapes[:2]] - middles, axis=2).max() < 1


def test_which_classes_have_a_pose(tmp_path: Path, folder: Path, monkeypatch: Any) -> None:
    image, _ = scenes.figures(0)
    colour_poses(folder / "pose.onnx", "simcc")
    assert len(scenes.ask(start(tmp_path), image)) == 3
    monkeypatch.setenv("DETECTOR_CLASSES", "dog")
    assert scenes.ask(LoadedFunction(tmp_path / "function", unique=True), image) == []
    monkeypatch.setenv("DETECTOR_CLASSES", "dog, 1")
    assert len(scenes.ask(LoadedFunction(tmp_path / "function", unique=True), image)) == 3
    monkeypatch.setenv("DETECTOR_CLASSES", "")
    several = make_function(tmp_path / "several", ("Person", "dog"))
    assert {shape["label"] for shape in scenes.ask(LoadedFunction(several, unique=True), image)} == {"Person"}
    monkeypatch.setenv("MAX_DET", "2")
    assert len(scenes.ask(LoadedFunction(several, unique=True), image)) == 2


def test_several_images_together(tmp_path: Path, folder: Path) -> None:
    colour_poses(folder / "pose.onnx", "udp")
    config = FunctionConfig.load(make_function(tmp_path / "function"))
    handler = ExportedTopDown(config, model_path=str(folder), engine="onnxruntime", codec="udp")
    scenes_drawn = [scenes.figures(seed) for seed in range(7)]  # 21 boxes: more than go through the network at once
    for shapes, (_, middles) in zip(
        handler.infer_batch([image for image, _ in scenes_drawn], 0.3), scenes_drawn, strict=True
    ):
        found = [[(joint.x, joint.y) for joint in shape.joints] for shape in shapes if isinstance(shape, Skeleton)]
        assert np.linalg.norm(np.array(found) - middles, axis=2).max() < 0.3


def test_a_detector_without_names(tmp_path: Path, folder: Path) -> None:
    """SSD: class 0 is the background, so that the first class is 1."""
    colour_poses(folder / "pose.onnx", "simcc")
    height, width = scenes.SIZE_HW
    box = [value / side for value, side in zip(scenes.BOXES[0], (width, height, width, height), strict=True)]
    rows = np.array([[0, 1, 0.9, *box], [-1, 0, 0, 0, 0, 0, 0]], np.float32)[None, None]
    constant_model(folder / "detector.onnx", {"detection_out": rows})
    image, middles = scenes.figures(1)
    (shape,) = scenes.ask(start(tmp_path), image)
    assert np.linalg.norm(scenes.joints_of(shape) - middles[0], axis=1).max() < 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"CODEC": "argmax"}, "CODEC: expected one of auto, msra, dark, udp, simcc"),
        ({"CODEC": "udp"}, r"CODEC=udp: the outputs of .* are rows of scores: CODEC=simcc, or auto"),
        ({"BLUR_KERNEL": "4"}, "BLUR_KERNEL: expected an odd number"),
        ({"PADDING": "0"}, "PADDING: expected a number from 0.5 to 4"),
        ({"MAX_DET": "0"}, "MAX_DET: expected a whole number of 1 or more"),
        ({"IOU": "2"}, "IOU: expected a number from 0 to 1"),
        (
            {"DETECTOR_CLASSES": "cat"},
            r"DETECTOR_CLASSES: expected one of its 2 classes \(dog, person\), got the text 'cat'",
        ),
        ({"DETECTOR_CLASSES": "2"}, "DETECTOR_CLASSES: expected one of its 2 classes"),
        ({"POSE_PATH": "/nowhere.onnx"}, "POSE_PATH: there is no /nowhere.onnx"),
        ({"MEAN": "0.5", "STD": "0.5"}, "STD: expected numbers of 1 or more"),
    ],
)
def test_wrong_options(tmp_path: Path, folder: Path, monkeypatch: Any, options: dict[str, str], message: str) -> None:
    colour_poses(folder / "pose.onnx", "simcc")
    for name, value in options.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StartupError, match=message):
        start(tmp_path)


MAPS = np.random.default_rng(0).random((1, 4, 16, 16)).astype(np.float32) * 0.5
ROWS = np.zeros((1, 4, 128), np.float32)
WRONG = {
    "a classifier": (
        {"o": np.zeros((1, 1000), np.float32)},
        r"not a top-down pose network: expected heat maps \(batch",
    ),
    "a detector": ({"o": np.zeros((1, 84, 84), np.float32)}, "not a top-down pose network"),
    "other proportions": (
        {"o": np.zeros((1, 4, 16, 12), np.float32)},
        "heat maps of the proportions of the input, 64 x 64",
    ),
    "a segmentation": ({"o": MAPS * 40}, r"heat maps peak at about 1, but .* 0.0\d* to 19.99: .*segmentation"),
    "probabilities": ({"o": MAPS / MAPS.sum(axis=1, keepdims=True)}, "the values of each place sum to 1"),
    "no numbers": ({"o": np.full((1, 4, 16, 16), np.nan, np.float32)}, "expected finite numbers for an example"),
    "short rows": ({"simcc_x": ROWS[..., :60], "simcc_y": ROWS[..., :60]}, "rows of the same number of joints"),
    "rows of two kinds": ({"simcc_x": ROWS, "simcc_y": ROWS[:, :3]}, "rows of the same number of joints"),
    "other joints": ({"o": MAPS[:, :3]}, "finds 3 joints, the label person has 4 sublabels"),
    "combined maps": ({"o": np.concatenate([MAPS] * 3, axis=1)}, "has 12 heat maps, three for each joint"),
    "three outputs": ({"a": MAPS, "b": ROWS, "c": ROWS}, "not a top-down pose network"),
}


@pytest.mark.parametrize("name", WRONG)
def test_files_that_are_no_pose_networks(tmp_path: Path, folder: Path, name: str) -> None:
    outputs, message = WRONG[name]
    constant_model(folder / "pose.onnx", outputs)
    with pytest.raises(StartupError, match=message):
        start(tmp_path)


def test_detectors_that_are_none(tmp_path: Path, folder: Path) -> None:
    colour_poses(folder / "pose.onnx", "simcc")
    function = make_function(tmp_path / "function")
    (folder / "detector.onnx").unlink()
    with pytest.raises(StartupError, match=r"expected detector.onnx or detector.xml, the detector .* found pose.onnx"):
        LoadedFunction(function, unique=True)
    metadata = {"names": "{0: 'cat', 1: 'dog'}", "task": "classify"}
    constant_model(folder / "detector.onnx", {"o": np.array([[0.5, 0.5]], np.float32)}, metadata=metadata)
    with pytest.raises(
        StartupError, match="expected a detector of boxes in front of the pose network; its task is classify"
    ):
        LoadedFunction(function, unique=True)
    scenes.detector(folder / "detector.onnx", names=("cat", "dog"))
    with pytest.raises(StartupError, match=r"has no class person; its 2 classes: cat, dog. Set DETECTOR_CLASSES"):
        LoadedFunction(function, unique=True)
    with pytest.raises(StartupError, match="has no class for the labels person"):
        LoadedFunction(make_function(tmp_path / "two", ("dog", "person")), unique=True)
    colour_poses(folder / "detector.onnx", "msra")
    with pytest.raises(StartupError, match="the output may be the heat maps of a top-down pose network"):
        LoadedFunction(function, unique=True)
    (folder / "pose.onnx").unlink()
    with pytest.raises(
        StartupError, match=r"expected pose.onnx or pose.xml, the top-down pose network, found detector.onnx"
    ):
        LoadedFunction(function, unique=True)


def test_the_pipeline_of_the_pose_network_is_not_the_detectors(tmp_path: Path, folder: Path) -> None:
    """mmdeploy writes a pipeline.json beside each model: in one folder, the pose network's would tell lies about RTMDet."""
    colour_poses(folder / "pose.onnx", "simcc")
    outputs = {"dets": np.zeros((1, 5, 5), np.float32), "labels": np.zeros((1, 5), np.int64)}
    constant_model(folder / "detector.onnx", outputs, input_name="input")
    normalize = {"type": "Normalize", "mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375], "to_rgb": True}
    steps = [{"type": "TopDownGetBboxCenterScale"}, {"type": "TopDownAffine"}, normalize]
    pipeline = {"pipeline": {"tasks": [{"module": "Transform", "transforms": steps}]}}
    (folder / "pipeline.json").write_text(json.dumps(pipeline))
    with pytest.raises(StartupError, match="it is of a top-down pose network"):
        start(tmp_path)
    (folder / "pipeline.json").unlink()
    assert scenes.ask(start(tmp_path / "again"), scenes.figures()[0]) == []


def test_without_files_the_start_says_what_to_do() -> None:
    with pytest.raises(StartupError, match=r"MODEL_PATH: there is no .*/weights; mount the folder of your weights"):
        LoadedFunction(DIRECTORY, unique=True)
