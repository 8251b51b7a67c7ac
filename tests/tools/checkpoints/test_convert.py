"""YOLOv5's and YOLOv7's checkpoints as ONNX files: what they answer, compared with torch on the same weights."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from common.errors import StartupError
from common.networks.exported.model import ExportedModel
from tests.tools.checkpoints import torch_yolo as yolo
from tools.checkpoints.convert import to_onnx
from tools.collection import ROOT

pytestmark = pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
NAMES = ["cat", 'dog\'s "bone"', "Löwe"]
IMAGE = np.random.default_rng(0).random((1, 3, 64, 64), np.float32)


def run(path: Path, image: NDArray[np.float32] = IMAGE) -> list[Any]:
    return onnxruntime.InferenceSession(path).run(None, {"images": image})


def compare_rows(found: NDArray[Any], expected: NDArray[Any], classes: int = len(NAMES)) -> None:
    assert found.shape == expected.shape
    scores = expected[..., 4 : 5 + classes]
    assert scores.std() > 0.1  # spread out, or the comparison says nothing
    assert np.abs(found[..., :4] - expected[..., :4]).max() < 0.05
    assert np.abs(found[..., 4 : 5 + classes] - scores).max() < 1e-4
    np.testing.assert_allclose(found[..., 5 + classes :], expected[..., 5 + classes :], atol=1e-3)


def detector(*blocks: tuple[Any, nn.Module], channels: int = 16, stride: int = 2, kind: Any = yolo.Detect) -> nn.Module:
    head = kind(len(NAMES), [channels], [stride])
    layers = [(-1, yolo.Conv(3, 16, 3, 2)), *blocks, ([-1], head)]
    return yolo.spread(yolo.DetectionModel(layers, dict(enumerate(NAMES))))


# What each block makes of 16 channels at a stride of 2: (block, channels, stride).
BLOCKS = {
    "C3": (yolo.C3(16), 16, 2),
    "C3x": (yolo.C3x(16), 16, 2),
    "C3TR": (yolo.C3TR(16), 16, 2),
    "C3SPP": (yolo.C3SPP(16), 16, 2),
    "C3Ghost": (yolo.C3Ghost(16), 16, 2),
    "BottleneckCSP": (yolo.BottleneckCSP(16), 16, 2),
    "BottleneckCSPA": (yolo.BottleneckCSPA(16), 16, 2),
    "BottleneckCSPB": (yolo.BottleneckCSPB(16), 16, 2),
    "ResCSPC": (yolo.ResCSPC(16), 16, 2),
    "Bottleneck": (yolo.Bottleneck(16), 16, 2),
    "DWConv": (yolo.DWConv(16, 2), 16, 4),
    "SPP": (yolo.SPP(16), 16, 2),
    "SPPF": (yolo.SPPF(16), 16, 2),
    "SPPCSPC": (yolo.SPPCSPC(16), 16, 2),
    "Focus": (yolo.Focus(16), 16, 4),
    "GhostConv": (yolo.GhostConv(16), 16, 2),
    "RepConv": (yolo.RepConv(16), 16, 2),
    "RepConv of groups": (yolo.RepConv(16, groups=4), 16, 2),
    "ReOrg": (yolo.ReOrg(), 64, 4),
    "MP": (yolo.MP(), 16, 4),
    "SP": (yolo.SP(), 16, 2),
    "DownC": (yolo.DownC(16), 16, 4),
    "Foldcut": (yolo.Foldcut(), 8, 2),
    "Contract": (yolo.Contract(), 64, 4),
    "Expand": (yolo.Expand(), 4, 1),
    "Upsample": (nn.Upsample(scale_factor=2.0, mode="nearest"), 16, 1),
    "ZeroPad2d": (nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.MaxPool2d(2, 1)), 16, 2),
    "ConvTranspose2d": (nn.ConvTranspose2d(16, 8, 2, 2), 8, 1),
    "Sequential": (nn.Sequential(nn.Conv2d(16, 8, 3, 1, 1), nn.BatchNorm2d(8), nn.BatchNorm2d(8)), 8, 2),
    **{
        type(act).__name__: (yolo.Conv(16, 16, 3, act=act), 16, 2)
        for act in (nn.LeakyReLU(0.1), nn.Hardswish(), nn.ReLU(), nn.ReLU6(), nn.Mish(), nn.Identity(), nn.Sigmoid())
    },
}


@pytest.mark.parametrize("name", BLOCKS)
def test_each_block_computes_what_it_does_in_torch(tmp_path: Path, name: str) -> None:
    block, channels, stride = BLOCKS[name]
    model = detector((-1, block), channels=channels, stride=stride)
    converted = to_onnx(yolo.save(model, tmp_path / "best.pt"), tmp_path / "best.onnx")
    assert converted.size_hw == (64, 64)
    compare_rows(run(tmp_path / "best.onnx")[0], yolo.answer(model, IMAGE)[0])


@pytest.mark.parametrize("joint", [yolo.Concat, yolo.Chuncat, yolo.Shortcut])
def test_layers_of_several_inputs(tmp_path: Path, joint: Any) -> None:
    model = detector(
        (-1, yolo.Conv(16, 16, 3)),
        (0, yolo.Conv(16, 16)),
        ([-1, 1], joint()),
        channels=16 if joint is yolo.Shortcut else 32,
    )
    to_onnx(yolo.save(model, tmp_path / "best.pt"), tmp_path / "best.onnx")
    compare_rows(run(tmp_path / "best.onnx")[0], yolo.answer(model, IMAGE)[0])


def levels(head: Any, names: Any = None) -> nn.Module:
    """A network with outputs at strides of 8, 16 and 32, the last of them by a transposed path."""
    layers = [
        (-1, yolo.Conv(3, 8, 3, 4)),
        (-1, yolo.C3(8)),
        (-1, yolo.Conv(8, 16, 3, 2)),
        (-1, yolo.Conv(16, 24, 3, 2)),
        (-1, yolo.SPPF(24)),
        (-1, nn.Upsample(None, 2, "nearest")),
        ([-1, 2], yolo.Concat()),
        (-1, yolo.Conv(40, 16)),
        (4, yolo.Conv(24, 32, 3, 2)),
        ([7, 4, 8], head),
    ]
    kind = yolo.SegmentationModel if isinstance(head, yolo.Segment) else yolo.DetectionModel
    return yolo.spread(kind(layers, names or dict(enumerate(NAMES))))


CHANNELS, STRIDES = [16, 24, 32], [8, 16, 32]


@pytest.mark.parametrize("legacy", [False, True])
def test_yolov5_detects(tmp_path: Path, legacy: bool) -> None:
    model = levels(yolo.Detect(3, CHANNELS, STRIDES))
    path = yolo.save(model, tmp_path / "best.pt", legacy=legacy)
    converted = to_onnx(path, tmp_path / "best.onnx")
    assert (converted.what, converted.task, converted.layout) == ("YOLOv5", "detect", "yolov5")
    assert converted.names == tuple(NAMES) and converted.licence == "AGPL-3.0"
    compare_rows(run(tmp_path / "best.onnx")[0], yolo.answer(model, IMAGE)[0])
    opened = ExportedModel(tmp_path / "best.onnx", engine="onnxruntime")
    assert (opened.layout.name, opened.layout.task, opened.names) == ("yolov5", "detect", tuple(NAMES))


def test_the_input_can_be_of_any_size(tmp_path: Path) -> None:
    model = levels(yolo.Detect(3, CHANNELS, STRIDES))
    path = yolo.save(model, tmp_path / "best.pt")
    assert to_onnx(path, tmp_path / "best.onnx", (96, 160)).size_hw == (96, 160)
    image = np.random.default_rng(1).random((1, 3, 96, 160), np.float32)
    compare_rows(run(tmp_path / "best.onnx", image)[0], yolo.answer(model, image)[0])
    with pytest.raises(StartupError, match="multiples of 32, got \\[100, 64\\]"):
        to_onnx(path, tmp_path / "best.onnx", (100, 64))


@pytest.mark.parametrize(
    ("options", "side"), [({"imgsz": 100}, 128), ({"img_size": [96, 160]}, 160), (None, 640), ({"imgsz": "big"}, 640)]
)
def test_the_input_is_as_large_as_in_the_training(tmp_path: Path, options: Any, side: int) -> None:
    path = yolo.save(levels(yolo.Detect(3, CHANNELS, STRIDES)), tmp_path / "best.pt", opt=options)
    assert to_onnx(path, tmp_path / "best.onnx").size_hw == (side, side)


def test_yolov5_segments(tmp_path: Path) -> None:
    model = levels(yolo.Segment(3, CHANNELS, STRIDES))
    converted = to_onnx(yolo.save(model, tmp_path / "best.pt"), tmp_path / "best.onnx")
    assert (converted.task, converted.layout) == ("segment", "yolov5")
    rows, prototypes = run(tmp_path / "best.onnx")
    expected_rows, expected_prototypes = yolo.answer(model, IMAGE)
    compare_rows(rows, expected_rows)
    np.testing.assert_allclose(prototypes, expected_prototypes, atol=1e-4)
    opened = ExportedModel(tmp_path / "best.onnx", engine="onnxruntime")
    assert (opened.layout.name, opened.layout.task) == ("yolov5", "segment")


def test_yolov5_classifies(tmp_path: Path) -> None:
    layers = [(-1, yolo.Conv(3, 8, 3, 4)), (-1, yolo.C3(8)), (-1, yolo.Classify(3, 8))]
    model = yolo.spread(yolo.ClassificationModel(layers, NAMES))
    path = yolo.save(model, tmp_path / "best.pt", ema=None, opt={"imgsz": 64})
    assert to_onnx(path, tmp_path / "best.onnx").layout == "yolov5"
    # As upstream's predictions: the colours normalised before, the probabilities made behind the network.
    mean, deviation = (np.array(v, np.float32)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    expected = torch.softmax(torch.from_numpy(yolo.answer(model, (IMAGE - mean) / deviation)[0]), 1).numpy()
    assert expected.max() - expected.min() > 0.1
    np.testing.assert_allclose(run(tmp_path / "best.onnx")[0], expected, atol=1e-5)
    opened = ExportedModel(tmp_path / "best.onnx", engine="onnxruntime")
    assert (opened.layout.name, opened.layout.task, opened.names) == ("yolov5", "classify", tuple(NAMES))
    # The middle square of a picture, resized without averaging.
    picture = np.random.default_rng(2).integers(0, 255, (90, 131, 3), np.uint8)
    planes = opened.prepare(picture, opened.fit((90, 131)))[0]
    square = cv2.resize(picture[:, 20:110], (64, 64), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(planes[0].transpose(1, 2, 0) * 255, square, atol=0.01)


@pytest.mark.parametrize("kind", [yolo.IDetect, yolo.IAuxDetect])
def test_yolov7_detects(tmp_path: Path, kind: Any) -> None:
    channels = CHANNELS * 2 if kind is yolo.IAuxDetect else CHANNELS
    model = levels(kind(3, channels, STRIDES), names=NAMES)
    if kind is yolo.IAuxDetect:
        model.model[-1].f = [7, 4, 8, 7, 4, 8]
    converted = to_onnx(yolo.save(model, tmp_path / "best.pt"), tmp_path / "best.onnx")
    assert (converted.what, converted.layout) == ("YOLOv7", "yolov7")
    assert converted.licence == "GPL-3.0"
    compare_rows(run(tmp_path / "best.onnx")[0], yolo.answer(model, IMAGE)[0])
    opened = ExportedModel(tmp_path / "best.onnx", engine="onnxruntime")
    assert (opened.layout.name, opened.names) == ("yolov7", tuple(NAMES))


def test_the_only_class_of_yolov7_is_scored_by_the_objectness(tmp_path: Path) -> None:
    model = levels(yolo.IDetect(1, CHANNELS, STRIDES), names=["cat"])
    to_onnx(yolo.save(model, tmp_path / "best.pt"), tmp_path / "best.onnx")
    rows = yolo.answer(model, IMAGE)[0]
    opened = ExportedModel(tmp_path / "best.onnx", engine="onnxruntime")
    best = opened.layout.detect([rows], opened.dimensions, (64, 64), 0.1).scores.max()
    assert best == pytest.approx(rows[0, :, 4].max()) and best > (rows[0, :, 4] * rows[0, :, 5]).max() + 0.01


def test_weights_of_16_bits_with_a_larger_exponent(tmp_path: Path) -> None:
    model = detector((-1, yolo.C3(16))).bfloat16()
    with yolo.registered():
        torch.save({"model": model}, tmp_path / "best.pt")
    to_onnx(tmp_path / "best.pt", tmp_path / "best.onnx", (64, 64))
    compare_rows(run(tmp_path / "best.onnx")[0], yolo.answer(model.float(), IMAGE)[0])


def test_a_network_saved_alone_or_in_a_wrapper(tmp_path: Path) -> None:
    model = detector((-1, yolo.C3(16)))
    expected = yolo.answer(model, IMAGE)[0]
    with yolo.registered():
        torch.save(model, tmp_path / "alone.pt")
        torch.save({"model": nn.DataParallel(model)}, tmp_path / "wrapped.pt")
    for name in ("alone.pt", "wrapped.pt"):
        to_onnx(tmp_path / name, tmp_path / "best.onnx", (64, 64))
        compare_rows(run(tmp_path / "best.onnx")[0], expected)


def refused(model: nn.Module, folder: Path, **renamed: str) -> str:
    with yolo.registered(**renamed):
        torch.save({"model": model}, folder / "best.pt")
    with pytest.raises(StartupError) as caught:
        to_onnx(folder / "best.pt", folder / "best.onnx", (64, 64))
    assert not (folder / "best.onnx").exists()
    return str(caught.value)


def test_modules_that_are_not_known_are_named(tmp_path: Path) -> None:
    message = refused(detector((-1, yolo.C3(16))), tmp_path, C3="my_blocks")
    assert "modules that are not known here: my_blocks.C3" in message and "python export.py" in message
    message = refused(detector((-1, nn.PixelShuffle(2)), channels=4, stride=1), tmp_path)
    assert "torch.nn.modules.pixelshuffle.PixelShuffle" in message


def damaged(change: Any) -> nn.Module:
    model = detector((-1, yolo.C3(16)), (-1, yolo.Conv(16, 16)))
    change(model)
    return model


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.model[1].cv1.conv.weight.data.fill_(np.nan), "layer 1, cv1, conv .* values that are not finite"),
        (lambda m: delattr(m.model[1], "cv2"), "layer 1 .* has no module cv2"),
        (lambda m: setattr(m.model[2], "conv", nn.Conv2d(8, 16, 1)), "layer 2 .* expected 8 channels, got 16"),
        (lambda m: setattr(m.model[2].conv, "padding_mode", "reflect"), "padding_mode: expected zeros, got reflect"),
        (lambda m: setattr(m.model[2], "f", 5), "takes the output of a layer that does not come before it"),
        (lambda m: setattr(m.model[2], "f", "x"), "f: expected the numbers of its input layers"),
        (lambda m: setattr(m.model[2], "f", [0, 1]), r"can't take 2 inputs"),
        (lambda m: setattr(m, "names", ["cat"]), "3 classes, but 1 names"),
        (lambda m: setattr(m, "names", None), "names: expected a name for each class"),
        (
            lambda m: setattr(m.model[3], "stride", torch.tensor([8.0])),
            "its stride is 8, but its input has 32 x 32 cells",
        ),
        (lambda m: setattr(m.model[3], "no", 9), "expected 1 inputs and 8 values"),
        (lambda m: m.model[2].bn.running_var.fill_(-1), "variances of 0 or more"),
        (lambda m: setattr(m, "model", m.model[:2]), "expected the last layer to be one of"),
        (lambda m: setattr(m.model[2].conv, "stride", (0, 0)), "layer 2 .* expected strides of 1 or more"),
    ],
)
def test_damaged_networks_are_refused(tmp_path: Path, change: Any, message: str) -> None:
    assert re.search(message, refused(damaged(change), tmp_path))


def test_a_module_inside_of_itself_ends(tmp_path: Path) -> None:
    model = detector((-1, nn.Sequential(nn.Identity())))
    model.model[1]._modules["0"] = model.model[1]
    assert "nested too deeply" in refused(model, tmp_path)


def test_a_network_that_grows_without_end(tmp_path: Path) -> None:
    grown = [(-1, nn.Upsample(scale_factor=8)) for _ in range(20)]
    assert "larger than any that is known" in refused(detector(*grown), tmp_path)


def test_torch_is_not_needed(tmp_path: Path) -> None:
    path = yolo.save(levels(yolo.Segment(3, CHANNELS, STRIDES)), tmp_path / "best.pt")
    code = (
        "import sys; from pathlib import Path; sys.modules['torch'] = None; sys.modules['ultralytics'] = None\n"
        "import tools.new.readers.checkpoint; from tools.checkpoints.convert import to_onnx\n"
        "print(to_onnx(Path(sys.argv[1]), Path(sys.argv[2])).task)"
    )
    command = [sys.executable, "-c", code, str(path), str(tmp_path / "best.onnx")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "segment\n", done.stderr
