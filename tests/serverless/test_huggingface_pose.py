"""ViTPose behind a detector, through the real main.py: a folder of the Hugging Face hub, or an exported file."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common.config import FunctionConfig
from common.cvat.skeleton import COCO_JOINTS
from common.errors import StartupError
from common.networks.huggingface.pose import VitPose
from common.networks.top_down.network import find_joints
from common.networks.weights import read_catalog
from tests.common.networks.huggingface.test_pose import save_vitpose
from tests.common.networks.huggingface.tiny_models import save_tiny
from tests.serverless import pose_scenes as scenes
from tools.collection import COLLECTION
from tools.wrapper import LoadedFunction

DIRECTORY = COLLECTION / "pytorch/huggingface/pose"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ViTPose in `pose` and RT-DETR in `detector`."""
    folder = tmp_path_factory.mktemp("models")
    save_vitpose(folder / "pose", joints=17)
    save_tiny("RTDetrV2ForObjectDetection", folder / "detector")
    return folder


def start(monkeypatch: pytest.MonkeyPatch, path: Path, **options: str) -> LoadedFunction:
    for name, value in {"MODEL_PATH": str(path), "ENGINE": "onnxruntime", **options}.items():
        monkeypatch.setenv(name, value)
    return LoadedFunction(DIRECTORY, unique=True)


def test_an_exported_detector(tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(models / "pose", tmp_path / "pose")
    scenes.detector(tmp_path / "detector.onnx")
    image, _ = scenes.figures()
    shapes = scenes.ask(start(monkeypatch, tmp_path, JOINT_THRESHOLD="0"), image, 0.75)
    assert [(s["label"], s["type"], s["confidence"]) for s in shapes] == [
        ("person", "skeleton", "0.9000"), ("person", "skeleton", "0.8000")
    ]  # fmt: skip
    assert tuple(element["label"] for element in shapes[0]["elements"]) == COCO_JOINTS
    (joints,) = find_joints(VitPose(tmp_path / "pose"), [image], [np.array(scenes.BOXES[:2], float)])
    np.testing.assert_allclose([scenes.joints_of(shape) for shape in shapes], joints[..., :2], atol=0.1)


def test_a_folder_as_detector(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoImageProcessor, AutoModelForObjectDetection

    image, _ = scenes.figures()
    processor = AutoImageProcessor.from_pretrained(models / "detector")
    model = AutoModelForObjectDetection.from_pretrained(models / "detector").eval()
    with torch.no_grad():
        outputs = model(**processor(images=image, return_tensors="pt"))
    (found,) = processor.post_process_object_detection(outputs, 0.05, target_sizes=[image.shape[:2]])
    wanted = found["scores"][(found["labels"] == 0) | (found["labels"] == 2)].sort(descending=True).values
    assert len(wanted) >= 3
    threshold = float(wanted[1] + wanted[2]) / 2
    function = start(monkeypatch, models, JOINT_THRESHOLD="0", DETECTOR_CLASSES="0, 2")
    shapes = scenes.ask(function, image, threshold)
    expected = wanted[:2]
    assert [float(shape["confidence"]) for shape in shapes] == pytest.approx(expected.tolist(), abs=1e-3)
    assert {shape["type"] for shape in shapes} == {"skeleton"}


def test_several_images_together(tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from common.networks.huggingface.top_down import TransformersTopDown

    config = FunctionConfig.load(DIRECTORY)
    handler = TransformersTopDown(
        config, model_path=str(models), joint_threshold=0.0, max_det=3, detector_classes="0,1,2"
    )
    images = [scenes.figures(seed)[0] for seed in range(3)]
    together = handler.infer_batch(images, 0.05)
    assert all(len(shapes) == 3 for shapes in together)
    for image, shapes in zip(images, together, strict=True):
        for one, other in zip(shapes, handler.infer(image, 0.05), strict=True):
            np.testing.assert_allclose([(j.x, j.y) for j in one.joints], [(j.x, j.y) for j in other.joints], atol=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"POSE_PATH": "{models}/detector"},
            "expected VitPoseForPoseEstimation, got the text 'RTDetrV2ForObjectDetection'",
        ),
        ({"DETECTOR_PATH": "{models}/pose"}, "VitPoseForPoseEstimation"),
        ({"DETECTOR_CLASSES": "unicorn"}, "DETECTOR_CLASSES: expected one of its"),
        ({"DATASET_INDEX": "2"}, "has experts for 1 data sets"),
        ({"MAX_DET": "0"}, "MAX_DET: expected a whole number of 1 or more"),
        (
            {"MODEL_PATH": "{models}/detector/config.json"},
            "expected detector.onnx or detector.xml or a folder detector",
        ),
    ],
)
def test_wrong_options(models: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, str], message: str) -> None:
    given: dict[str, Any] = {name: value.format(models=models) for name, value in options.items()}
    with pytest.raises(StartupError, match=message):
        start(monkeypatch, **{"path": models, **given}) if "MODEL_PATH" not in given else start(
            monkeypatch, Path(given.pop("MODEL_PATH")), **given
        )


def test_other_joints_are_refused(tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_vitpose(tmp_path / "pose", joints=5)
    shutil.copytree(models / "detector", tmp_path / "detector")
    with pytest.raises(StartupError, match="the model finds 5 joints, the label person has 17 sublabels"):
        start(monkeypatch, tmp_path)


def test_the_published_weights() -> None:
    catalog = read_catalog(DIRECTORY)
    assert catalog is not None
    assert FunctionConfig.load(DIRECTORY).environment["VARIANT"] == catalog.default
    for variant in catalog.variants.values():
        assert variant.entry == ""
        assert {file.path for file in variant.files} == {
            f"{role}/{name}"
            for role in ("pose", "detector")
            for name in ("config.json", "preprocessor_config.json", "model.safetensors")
        }
        assert all((file.url or "").startswith("https://huggingface.co/") for file in variant.files)
