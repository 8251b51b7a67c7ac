"""`make new` on files of SSD, the Open Model Zoo, mmdeploy and torchvision: functions that answer with the right labels."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.config import FunctionConfig
from common.errors import StartupError
from tests.common.networks.exported import test_other_packages as files
from tests.common.networks.onnx_files import constant_model
from tests.serverless import zoo_networks
from tests.serverless.test_openvino_zoo import BOX, body, disc
from tools.check import check_function
from tools.new.__main__ import make
from tools.wrapper import LoadedFunction


def made(folder: Path, weights: Path, **settings: str) -> Path:
    target = folder / "my-detector"
    make({"NAME": "my-detector", "WEIGHTS": str(weights), "OUT": str(target), **settings})
    assert check_function(target) == []
    return target


def found(directory: Path, image: np.ndarray = files.IMAGE) -> list[tuple[str, list[float]]]:
    reply = LoadedFunction(directory, unique=True)(body(image, 0.3))
    assert reply.status == 200, reply.body
    return [(each["label"], each["points"]) for each in reply.json()]


# The classes of the files' detections are 1 and 2: with the background as 0 the first and second, else the second and third.
@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("ssd", "cat,dog"),
        ("omz-boxes", "bird,cat,dog"),
        ("mmdeploy", "bird,cat,dog"),
        ("torchvision", "__background__,cat,dog"),
    ],
)
def test_boxes(tmp_path: Path, name: str, labels: str) -> None:
    outputs, expected = files.BOXES[name]
    function = made(tmp_path, constant_model(tmp_path / "m.onnx", outputs), LABELS=labels)
    assert found(function) == [("cat", expected[0][2]), ("dog", expected[1][2])]


def test_masks_of_the_input(tmp_path: Path) -> None:
    path = constant_model(tmp_path / "m.onnx", files.WITH_MASKS["mmdeploy, full"])
    function = made(tmp_path, path, LABELS="bird,cat,dog", COLOR="bgr", MEAN="103.53,116.28,123.675", STD="57,57,58")
    assert [label for label, _ in found(function)] == ["cat", "dog"]
    config = FunctionConfig.load(function)
    assert {label.type for label in config.labels.values()} == {"mask"}
    assert {name: config.environment[name] for name in ("COLOR", "STD")} == {"COLOR": "bgr", "STD": "57,57,58"}


def test_the_pipeline_goes_with_the_file(tmp_path: Path) -> None:
    path = constant_model(tmp_path / "end2end.onnx", files.BOXES["mmdeploy"][0])
    files.pipeline(tmp_path, [{"type": "Resize", "keep_ratio": False}, files.RTMDET[3]])
    function = made(tmp_path, path, LABELS="bird,cat,dog")
    shutil.rmtree(function / "out", ignore_errors=True)
    assert (function / "pipeline.json").is_file()
    path.unlink()
    (tmp_path / "pipeline.json").unlink()
    assert found(function) == [("cat", files.STRETCHED[0][2]), ("dog", files.STRETCHED[1][2])]


def test_mask_rcnn_with_the_numbers_of_coco(tmp_path: Path) -> None:
    path = zoo_networks.mask_rcnn(tmp_path / "zoo.xml", BOX, 44, channels_last=True)
    names = tmp_path / "coco.json"
    names.write_text(json.dumps({"1": "person", "44": "bottle", "90": "toothbrush"}))
    function = made(tmp_path, path, LABELS=str(names))
    assert {label.name: label.id for label in FunctionConfig.load(function).labels.values()} == {
        "person": 1,
        "bottle": 44,
        "toothbrush": 90,
    }
    ((label, _),) = found(function, disc()[0])
    assert label == "bottle"


def test_a_real_ssd(tmp_path: Path) -> None:
    function = made(tmp_path, files.ssd_network(tmp_path / "face.xml"), LABELS="face")
    image = np.zeros((64, 128, 3), np.uint8)
    image[32:, 64:] = (0, 0, 255)
    assert found(function, image) == [("face", [64, 32, 128, 64])]


@pytest.mark.parametrize(
    ("outputs", "settings", "message"),
    [
        (files.BOXES["ssd"][0], {}, "LABELS: the file has no names"),
        (files.BOXES["ssd"][0], {"LABELS": "cat", "COLOR": "hsv"}, "COLOR: expected rgb or bgr"),
        (files.BOXES["ssd"][0], {"LABELS": "cat", "RESIZE": "crop"}, "RESIZE: expected one of center"),
        (
            {"527": files.BOXES["ssd"][0]["detection_out"]},
            {"LABELS": "cat"},
            r"fit none of the layouts .*Seen: .*527 float32 \(1, 1, 100, 7\)",
        ),
        (
            {"10": files.DETS[:, :4], "11": files.LABELS, "12": files.DETS[:, 4]},
            {"LABELS": "cat"},
            "fit none of the layouts",
        ),
    ],
)
def test_refused_without_a_trace(tmp_path: Path, outputs: Any, settings: dict[str, str], message: str) -> None:
    path = constant_model(tmp_path / "m.onnx", outputs)
    with pytest.raises(StartupError, match=message):
        made(tmp_path, path, **settings)
    assert [file.name for file in tmp_path.iterdir()] == ["m.onnx"]
