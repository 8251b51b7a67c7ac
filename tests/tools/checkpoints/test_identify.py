"""What a file is that people take for a checkpoint: each kind is told, with what to do."""

from __future__ import annotations

import gzip
import pickle
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from common.errors import StartupError
from tests.tools.checkpoints import torch_yolo as yolo
from tests.tools.checkpoints.forged import module, named, plain, text, zipped
from tools.checkpoints.convert import to_onnx
from tools.checkpoints.identify import Family, identify
from tools.collection import ROOT
from tools.new.__main__ import main

MODELS = ROOT / "tests" / "models"
WEIGHT = torch.zeros(2, 3)


def state(*names: str) -> dict[str, Any]:
    return dict.fromkeys(names, WEIGHT)


def saved(value: Any) -> Callable[[Path], None]:
    return lambda path: torch.save(value, path)


def written(content: bytes) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(content)


def copied(source: Path, size: int | None = None, change: int | None = None) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        content = bytearray(source.read_bytes()[:size])
        if change is not None:
            content[change] ^= 0xFF
        path.write_bytes(content)

    return write


def network(path: Path) -> None:
    layers = [(-1, yolo.Conv(3, 8, 3, 8)), ([-1], yolo.Detect(1, [8], [8]))]
    yolo.save(yolo.DetectionModel(layers, ["a"]), path)


def cut(part: float) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        network(path)
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * part)])

    return write


def flipped(path: Path) -> None:
    network(path)
    content = bytearray(path.read_bytes())
    content[content.index(b"Conv2d")] ^= 0xFF
    path.write_bytes(content)


def older_cut(path: Path) -> None:
    torch.save(state("a.weight"), path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:-30])


def tar(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        archive.add(ROOT / "LICENSE", "LICENSE")


def scripted(path: Path) -> None:
    torch.jit.save(torch.jit.trace(nn.Conv2d(3, 3, 1), torch.zeros(1, 3, 4, 4)), path)


def arrays(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, a=np.zeros(3))


def of_class(kind: str) -> bytes:
    return zipped(plain(b"}" + text("model") + module(kind) + b"s"))


RESNET = state("conv1.weight", "layer1.0.conv1.weight", "fc.weight")
MASK_RCNN = state("backbone.body.conv1.weight", "roi_heads.mask_predictor.a.weight", "roi_heads.box_predictor.b.weight")
KINDS: dict[str, tuple[Callable[[Path], Any], str]] = {
    # Not the file at all.
    "empty.pt": (written(b""), "this is empty; copy or download it again"),
    "zeros.pt": (written(bytes(10_000)), "filled with zeros: the download or the copy broke off"),
    "page.pt": (written(b"\n<!DOCTYPE html><html>"), "a web page: the download link led to a page"),
    "pointer.pt": (written(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "Git LFS.*git lfs pull"),
    "notes.pt": (written(b"names: [cat, dog]\n" * 40), "a text file"),
    "list.pt": (written(b'["cat", "dog", "bird"]'), "a JSON text"),
    "photo.pt": (copied(ROOT / "tools/demo/cat_mug.jpg"), "a JPEG picture"),
    "noise.pt": (written(b"\xfe" + np.random.default_rng(0).bytes(5000)), "in no format that is known here .*fe "),
    "cut30.pt": (cut(0.3), "cut off or damaged: [0-9,]+ bytes that begin a checkpoint.*download it again"),
    "cut99.pt": (cut(0.99), "cut off or damaged"),
    "flipped.pt": (flipped, "damaged or cut off: Bad CRC-32"),
    "older_cut.pt": (older_cut, "a state dict|damaged or cut off"),
    # Other formats under a checkpoint's name.
    "onnx.pt": (copied(MODELS / "detect.onnx"), "an ONNX model; name it .onnx"),
    "openvino.pt": (copied(MODELS / "detect.xml"), r"an OpenVINO model; name it \.xml"),
    "safe.bin": (
        written(b"\x40" + bytes(7) + b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}          ' + bytes(4)),
        "a safetensors file",
    ),
    "keras.pt": (written(b"\x89HDF\r\n\x1a\n" + bytes(90)), "an HDF5 file.*tf2onnx"),
    "lite.pt": (written(b"\x1c\0\0\0TFL3" + bytes(90)), "a TensorFlow Lite model"),
    "darknet.weights": (written(bytes(4) + b"\2\0\0\0\5\0\0\0" + bytes(90)), "the weights of a Darknet model.*ONNX"),
    "packed.pt": (written(gzip.compress(b"x" * 100)), "a gzip archive; unpack it"),
    "tar.pt": (tar, "a tar archive; unpack it"),
    "arrays.pt": (arrays, r"an archive of numpy arrays \(.npz\)"),
    "other.pt": (written(zipped(b"").replace(b"data.pkl", b"some.txt")), "a zip archive .*unpack it"),
    # Weights without their network.
    "resnet.pth": (saved(RESNET), "a ResNet classifier.*serverless/pytorch/torchvision/classification"),
    "maskrcnn.pth": (saved({"model": MASK_RCNN, "epoch": 1}), "Mask R-CNN; .*torchvision/instance_segmentation"),
    "frcnn.pth": (saved(state("backbone.body.a", "roi_heads.box_predictor.b")), "Faster R-CNN.*torchvision/detection"),
    "keypoints.pth": (
        saved(state("backbone.body.a", "roi_heads.keypoint_predictor.b")),
        "torchvision/keypoint_detection",
    ),
    "retina.pth": (
        saved(state("backbone.body.a", "head.classification_head.b", "head.regression_head.c")),
        "a detector of torchvision .RetinaNet, FCOS or SSD",
    ),
    "mmdet.pth": (
        saved({"meta": {"mmdet_version": "3.3"}, "state_dict": state("backbone.a", "bbox_head.b")}),
        "OpenMMLab.*mmdeploy",
    ),
    "mmpose.pth": (
        saved({"meta": {"mmengine_version": "1"}, "state_dict": state("backbone.a", "head.final_layer.weight")}),
        "OpenMMLab.*serverless/onnx/open-mmlab/pose",
    ),
    "detectron.pkl": (saved({"model": state("backbone.a", "proposal_generator.b", "roi_heads.c")}), "Detectron2"),
    "transt.pth": (
        saved({"net": state("backbone.0.body.a"), "net_type": "TransT", "actor_type": "x"}),
        "dschoerk/transt",
    ),
    "lightning.ckpt": (saved({"pytorch-lightning_version": "2.4", "state_dict": state("a.b")}), "PyTorch Lightning"),
    "pytorch_model.bin": (
        saved(state("model.encoder.layers.0.a", "model.decoder.layers.0.b")),
        "transformers.*save_pretrained",
    ),
    "detr.pth": (
        saved({"model": state("transformer.a", "class_embed.b", "bbox_embed.c", "query_embed.d", "backbone.0.body.e")}),
        "DETR .*facebookresearch/detr",
    ),
    "rfdetr.pth": (
        saved({"model": state("backbone.0.encoder.encoder.a", "class_embed.b", "transformer.c")}),
        r"RF-DETR.*model\.export",
    ),
    "dfine.pth": (
        saved({"ema": {"module": state("backbone.a", "decoder.dec_score_head.0.b", "decoder.dec_bbox_head.0.c")}}),
        "RT-DETR, D-FINE or DEIM.*export_onnx.py",
    ),
    "sam.pth": (
        saved(state("image_encoder.a", "prompt_encoder.b", "mask_decoder.c")),
        "^these are the weights of Segment Anything; .*facebookresearch/sam takes",
    ),
    "sam2.pt": (
        saved({"model": state("image_encoder.trunk.a", "memory_attention.b")}),
        "facebookresearch/sam2 takes",
    ),
    "yolox.pth": (saved({"model": state("backbone.backbone.stem.a", "head.cls_preds.0.b")}), "YOLOX"),
    "yolo_state.pt": (
        saved(state("model.0.conv.weight", "model.24.m.0.weight")),
        "a YOLO model without its network.*best.pt",
    ),
    "unknown.pth": (
        saved(state("stem.a", "neck.b", "head.c", "head.d")),
        r"a state dict, weights without the network .*\(stem.a \[2, 3\], neck.b .* 4 in all\); export the model to ONNX",
    ),
    # Whole networks of other packages.
    "v6.pt": (written(of_class("yolov6.models.yolo.Model")), "YOLOv6"),
    "yolor.pt": (written(of_class("models.models.Darknet")), "YOLOR .*ONNX_EXPORT"),
    "vision.pth": (saved(nn.Sequential(nn.ReLU())), "saved with its class torch.nn.modules.container.Sequential"),
    "torchvision.pth": (
        written(of_class("torchvision.models.resnet.ResNet")),
        r"a whole network of torchvision .*state_dict\(\)",
    ),
    "own.pth": (
        written(of_class("my_project.net.Net")),
        "with its class my_project.net.Net, whose code is not available",
    ),
    "v9.pt": (
        written(
            zipped(
                plain(
                    b"}"
                    + text("model")
                    + module("models.yolo.Model", text("a"), module("models.common.RepNCSPELAN4"))
                    + b"s"
                )
            )
        ),
        "modules that are not known here: models.common.RepNCSPELAN4",
    ),
    # Pickles of something else.
    "list.pkl": (written(pickle.dumps([1, 2])), "a pickle without a network's weights .list."),
    "options.pkl": (written(pickle.dumps({"lr": 0.1})), "a pickle without a network's weights .a dictionary with lr"),
    "forest.pkl": (
        written(plain(named("sklearn.ensemble._forest.RandomForestClassifier") + b")\x81")),
        "scikit-learn.*skl2onnx",
    ),
    "learner.pkl": (written(plain(named("fastai.learner.Learner") + b")\x81")), "fastai"),
    "tensor.pkl": (lambda path: path.write_bytes(pickle.dumps(WEIGHT, 2)), "saved with pickle instead of torch.save"),
}


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_is_told_with_what_to_do(tmp_path: Path, name: str) -> None:
    write, message = KINDS[name]
    path, target = tmp_path / name, tmp_path / "best.onnx"
    write(path)
    with pytest.raises(StartupError) as caught:
        to_onnx(path, target)
    text = str(caught.value).removeprefix(f"{path}: ")
    assert re.search(message, text, re.DOTALL), text
    assert not target.exists() and len(text) < 460 and not text.endswith("...")


@pytest.mark.parametrize(
    "name", ["page.pt", "cut30.pt", "resnet.pth", "transt.pth", "own.pth", "safe.bin", "darknet.weights"]
)
def test_make_new_passes_it_on_and_leaves_nothing(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write, message = KINDS[name]
    write(tmp_path / name)
    assert main([f"WEIGHTS={tmp_path / name}", "NAME=mine", f"OUT={tmp_path / 'mine'}"]) == 1
    error = capsys.readouterr().err
    assert re.search(message, error, re.DOTALL) and "Traceback" not in error
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_model_of_ultralytics() -> None:
    found = identify(MODELS / "detect.pt")
    assert (found.family, found.task, found.names) == (Family.ULTRALYTICS, "detect", ("circle", "square", "triangle"))
    assert re.fullmatch(r"\d+\.\d+\.\d+", found.version)


def test_a_torchscript_program_under_any_name(tmp_path: Path) -> None:
    for name in ("best.torchscript", "best.pt"):
        scripted(tmp_path / name)
        assert identify(tmp_path / name).family is Family.TORCHSCRIPT


def test_a_checkpoint_of_yolov5(tmp_path: Path) -> None:
    network(tmp_path / "best.pt")
    assert identify(tmp_path / "best.pt").family is Family.YOLO


def test_a_file_that_can_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"none\.pt: can't be read: No such file"):
        identify(tmp_path / "none.pt")
