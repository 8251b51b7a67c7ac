"""`make new` on files that are no detector, or nothing at all: a clear refusal, and nothing left behind."""

from __future__ import annotations

import pickle
import re
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from tests.common.networks.engines.test_torch_script import Table, Writes, save
from tests.common.networks.onnx_files import constant_model
from tools.collection import ROOT
from tools.new.__main__ import main

MODELS = ROOT / "tests" / "models"
HTML = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>404</body></html>\n"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"ab" * 32 + b"\nsize 6534321\n"
RANDOM = np.random.default_rng(0)

Maker = Callable[[Path], Path]


def outputs(name: str = "other.onnx", /, **shapes: Sequence[int]) -> Maker:
    """A network for images whose outputs have these shapes, with values of both signs."""

    def make(folder: Path) -> Path:
        arrays = {output: RANDOM.normal(size=shape).astype(np.float32) * 3 for output, shape in shapes.items()}
        return constant_model(folder / name, arrays)

    return make


def graph(
    inputs: dict[str, tuple[int, Sequence[int]]], outputs: dict[str, Sequence[int]], operation: str = "ReduceSum"
) -> Maker:
    """A network with any inputs; each output is filled with a number that comes from the first of them."""

    def make(folder: Path) -> Path:
        first = next(iter(inputs))
        nodes = [helper.make_node("Cast", [first], ["numbers"], to=TensorProto.FLOAT)]
        nodes.append(helper.make_node(operation, ["numbers"], ["sum"], keepdims=0))
        constants = []
        for name, shape in outputs.items():
            constants.append(onnx.numpy_helper.from_array(np.array(shape, np.int64), f"{name}_shape"))
            nodes.append(helper.make_node("Expand", ["sum", f"{name}_shape"], [name]))
        taken = [helper.make_tensor_value_info(name, kind, list(shape)) for name, (kind, shape) in inputs.items()]
        given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)) for name, shape in outputs.items()]
        built = helper.make_graph(nodes, "other", taken, given, constants)
        model = helper.make_model(built, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(model, str(folder / "other.onnx"))
        return folder / "other.onnx"

    return make


def sequence(folder: Path) -> Path:
    """A network whose output is a list of tensors, as scikit-learn's converters write."""
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 64, 64])
    listed = helper.make_tensor_sequence_value_info("boxes", TensorProto.FLOAT, None)
    nodes = [helper.make_node("SequenceConstruct", ["images", "images"], ["boxes"])]
    model = helper.make_model(
        helper.make_graph(nodes, "list", [image], [listed]), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    onnx.save(model, str(folder / "other.onnx"))
    return folder / "other.onnx"


def depth(folder: Path) -> Path:
    metadata = {"task": "depth", "names": "{0: 'depth'}", "imgsz": "[64, 64]"}
    return constant_model(folder / "depth.onnx", {"output0": np.ones((1, 1, 64, 64), np.float32)}, metadata=metadata)


def values(value: float) -> Maker:
    """A YOLO whose scores are all this number."""

    def make(folder: Path) -> Path:
        table = np.full((1, 6, 84), value, np.float32)
        metadata = {"names": "{0: 'a', 1: 'b'}", "task": "detect", "end2end": False}
        return constant_model(folder / "other.onnx", {"output0": table}, metadata=metadata)

    return make


def content(name: str, data: bytes) -> Maker:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return make


def part_of(source: str, name: str, share: float = 0.7) -> Maker:
    data = (MODELS / source).read_bytes()
    return content(name, data[: int(len(data) * share)])


def openvino(weights: bytes | None) -> Maker:
    def make(folder: Path) -> Path:
        (folder / "model.xml").write_bytes((MODELS / "detect.xml").read_bytes())
        if weights is not None:
            (folder / "model.bin").write_bytes(weights)
        return folder / "model.xml"

    return make


def annotations(folder: Path) -> Path:
    (folder / "image1.xml").write_text("<annotation><object><name>cat</name></object></annotation>")
    (folder / "image1.bin").touch()
    return folder / "image1.xml"


def external(folder: Path) -> Path:
    path = constant_model(folder / "large.onnx", {"output0": np.zeros((1, 6, 84), np.float32)})
    model = onnx.load(str(path))
    onnx.save(model, str(path), save_as_external_data=True, location="large.onnx.data", size_threshold=0)
    (folder / "large.onnx.data").unlink()
    return path


def saved(name: str, value: Any) -> Maker:
    def make(folder: Path) -> Path:
        torch.save(value() if callable(value) else value, folder / name)
        return folder / name

    return make


class Attack:
    """What pickle calls when it loads this."""

    def __reduce__(self) -> Any:
        import os

        return os.system, ("touch ran",)


def archive(name: str, *entries: str) -> Maker:
    def make(folder: Path) -> Path:
        with zipfile.ZipFile(folder / name, "w") as file:
            for entry in entries:
                file.write(MODELS / "detect.onnx", entry)
        return folder / name

    return make


def directory(**files: bytes) -> Maker:
    """A folder; in the names of its files, __ stands for a dot."""

    def make(folder: Path) -> Path:
        (folder / "model").mkdir()
        for name, data in files.items():
            (folder / "model" / name.replace("__", ".")).write_bytes(data)
        return folder / "model"

    return make


def torchscript(module: torch.nn.Module, metadata: Any = None, *, script: bool = False) -> Maker:
    return lambda folder: save(module, folder / "model.torchscript", metadata, script=script)


GOOD = (MODELS / "detect.onnx").read_bytes()
IMAGE, TEXT = (TensorProto.FLOAT, (1, 3, 64, 64)), (TensorProto.INT64, (1, 16))
BERT = (
    b'{"model_type": "bert", "architectures": ["BertForSequenceClassification"], "id2label": {"0": "no", "1": "yes"}}'
)

WRONG: dict[str, tuple[Maker, str]] = {
    # Other networks.
    "features of a ResNet": (outputs(features=(1, 2048)), r"other\.onnx: .* Seen: inputs: images"),
    "a map of features": (outputs(feature_map=(1, 512, 2, 2)), r"fit none of the layouts"),
    "classes of each pixel": (outputs(out=(1, 21, 64, 64)), r"fit none of the layouts"),
    "distances": (depth, "the model's task is depth; served here: detect"),
    "a sharper image": (outputs(output=(1, 3, 128, 128)), r"fit none of the layouts"),
    "the embedding of SAM": (outputs(image_embeddings=(1, 256, 4, 4)), r"fit none of the layouts"),
    "letters of a line": (outputs(logits=(1, 40, 97)), r"fit none of the layouts"),
    "maps before they are decoded": (
        outputs(a=(1, 3, 8, 8, 7), b=(1, 3, 4, 4, 7), c=(1, 3, 2, 2, 7)),
        r"--grid|undecoded",
    ),
    "DETR without its configuration": (
        outputs(logits=(1, 100, 92), pred_boxes=(1, 100, 4)),
        r"config\.json|logits",
    ),
    "nothing that is known": (outputs(x=(1, 33, 77), y=(5, 5)), r"fit none of the layouts"),
    "a language model": (
        graph({"input_ids": TEXT, "attention_mask": TEXT}, {"last_hidden_state": (1, 16, 32)}),
        r"expected one input that is an image .*Seen: inputs: input_ids int64",
    ),
    "a model of images and texts": (
        graph({"pixel_values": IMAGE, "input_ids": TEXT}, {"logits_per_image": (1, 1)}),
        r"no known layout has the inputs input_ids",
    ),
    "two images": (
        graph({"template": IMAGE, "search": IMAGE}, {"score": (1, 1, 16, 16)}),
        r"expected one input that is an image",
    ),
    "speech": (graph({"mel": (TensorProto.FLOAT, (1, 80, 300))}, {"out": (1, 9)}), r"expected .*image|channels"),
    "video": (
        graph({"clip": (TensorProto.FLOAT, (1, 3, 8, 64, 64))}, {"out": (1, 400)}),
        r"expected one input that is an image",
    ),
    "five channels": (
        graph({"bands": (TensorProto.FLOAT, (1, 5, 64, 64))}, {"out": (1, 6, 84)}),
        r"expected an input of 3 channels",
    ),
    "numbers of a table": (graph({"row": (TensorProto.FLOAT, (1, 12))}, {"out": (1, 2)}), r"expected .*image"),
    "a list of tensors": (sequence, r"expected inputs and outputs that are tensors, got boxes: seq\(tensor\(float\)\)"),
    "scores that are no numbers": (values(float("nan")), r"for an example image|not finite|fit none"),
    "scores over 1": (values(7.0), r"for an example image"),
    # Files that are damaged, or something else.
    "a part of an ONNX file": (part_of("detect.onnx", "cut.onnx"), r"cut\.onnx: ONNX Runtime can't load it"),
    "an empty ONNX file": (content("empty.onnx", b""), r"empty\.onnx: this is empty; copy or download it again"),
    "a text": (content("text.onnx", b"no model"), r"text\.onnx: this is a text file"),
    "a web page": (content("page.onnx", HTML), r"page\.onnx: this is a web page"),
    "a pointer to a large file": (content("pointer.onnx", LFS), r"pointer\.onnx: this is a pointer of Git LFS"),
    "an ONNX file without its weights": (external, r"large\.onnx: ONNX Runtime can't load it: .*large\.onnx\.data"),
    "an .xml without its .bin": (openvino(None), r"model\.bin, which holds the weights, is missing"),
    "an .xml with a part of its .bin": (openvino(b"\0" * 100), r"model\.xml: OpenVINO can't"),
    "annotations of an image": (annotations, r"image1\.xml: OpenVINO can't load it"),
    "a photograph": (
        content("photo.jpg", b"\xff\xd8\xff\xe0\0\x10JFIF"),
        r"WEIGHTS: expected .*\.onnx.*: a JPEG picture",
    ),
    "a model of Keras": (content("model.h5", b"\x89HDF\r\n\x1a\n"), r"got the text .*: an HDF5 file"),
    "a model of TensorFlow Lite": (
        content("model.tflite", b"\x1c\0\0\0TFL3"),
        r"got the text .*: a TensorFlow Lite model",
    ),
    "an engine of TensorRT": (content("best.engine", b"ftrt\0\0\0\0"), r"got the text .*: an engine of TensorRT"),
    "a zip with the model inside": (
        archive("model.zip", "best.onnx"),
        r"got the text .*: a zip archive \(best\.onnx\)",
    ),
    # Checkpoints.
    "an empty .pt": (content("best.pt", b""), r"best\.pt: .*empty"),
    "a text called .pt": (content("best.pt", b"no model"), r"best\.pt: this is .*"),
    "a web page called .pt": (content("best.pt", HTML), r"best\.pt: this is .*web page"),
    "a pointer called .pt": (content("best.pt", LFS), r"best\.pt: this is .*Git LFS"),
    "a part of a .pt": (part_of("detect.pt", "best.pt"), r"best\.pt: this is .*cut off"),
    "weights without their network": (
        saved("weights.pth", lambda: {"conv1.weight": torch.zeros(4, 3, 3, 3), "fc.bias": torch.zeros(4)}),
        r"weights\.pth: this is .*",
    ),
    "a network of another package": (saved("net.pt", lambda: torch.nn.Linear(2, 2)), r"net\.pt: this is .*"),
    "a pickle that would run a command": (
        lambda folder: content("best.pt", pickle.dumps({"model": Attack()}))(folder),
        r"best\.pt: this is .*(os|posix)\.system",
    ),
    "a checkpoint that would run a command": (saved("best.pt", lambda: {"model": Attack()}), r"(os|posix)\.system"),
    "a zip called .pt": (archive("best.pt", "a.onnx", "b.onnx"), r"best\.pt: this is a zip archive"),
    # TorchScript.
    "a part of a program": (
        lambda folder: content("m.torchscript", save(Table(), folder / "whole.pt").read_bytes()[:-300])(folder),
        r"m\.torchscript: .*cut off",
    ),
    "a program that writes a file": (torchscript(Writes("ran"), script=True), r"torch\.save|aten\.save|calls"),
    "a program without a size": (torchscript(Table()), r"IMAGE_SIZE: a TorchScript file doesn't declare"),
    # Folders.
    "an empty folder": (
        directory(),
        r"model: expected one \.onnx, \.xml or \.torchscript file in the folder, found none",
    ),
    "a folder of pictures": (directory(a__jpg=b"", b__jpg=b""), r"expected one \.onnx, \.xml or \.torchscript file"),
    "a folder with two models": (directory(a__onnx=GOOD, b__onnx=GOOD), r"found a\.onnx, b\.onnx"),
    "a folder of a language model": (
        directory(config__json=BERT, model__safetensors=(2).to_bytes(8, "little") + b"{}"),
        r"BertForSequence|bert",
    ),
    "a folder without weights": (directory(config__json=BERT), r"model: .*"),
    "nothing": (lambda folder: folder / "gone.onnx", r"WEIGHTS: there is no .*gone\.onnx"),
}


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def run(capsys: pytest.CaptureFixture[str], *settings: str) -> str:
    """The message with which the command line is refused."""
    capsys.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert main(settings) == 1
    said = capsys.readouterr()
    assert said.err.startswith("make new: ") and said.err.count("\n") == 1 and "Traceback" not in said.err + said.out
    return said.err


@pytest.mark.parametrize("name", list(WRONG))
def test_a_wrong_file_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, temporary: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    maker, message = WRONG[name]
    (tmp_path / "given").mkdir()
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = maker(tmp_path / "given")
    before = sorted(tmp_path.rglob("*"))
    said = run(capsys, "NAME=wrong", f"WEIGHTS={path}", f"OUT={tmp_path / 'some/where/wrong'}")

    assert re.search(message, said), said
    assert sorted(tmp_path.rglob("*")) == before and not (tmp_path / "ran").exists()
    assert not (ROOT / "out/new/wrong.png").exists()


WRONG_NAMES: dict[str, tuple[bytes | None, str]] = {
    "classes.txt": (b"cat\n", "the model has 3 classes, got 1 name"),
    "coco.json": (
        b'{"categories": [{"id": 1, "name": "a"}, {"id": 9, "name": "b"}]}',
        "got 2 names with the ids 1 to 9",
    ),
    "data.yaml": (b"names: [a, b, c, d]", "the model has 3 classes, got 4 names"),
    "gone.json": (None, "LABELS: no such file: "),
    "photo.txt": (b"\xff\xd8\xff\xe0\0", "not a text"),
    "page.names": (HTML, "expected class names: "),
    "empty.txt": (b"", "found none"),
    "classes.json": (b'{"a": {"b": "c"}}', "expected a list of class names"),
    "classes.py": (b"import os\nos.system('touch ran')\nCLASSES = tuple(x)", "expected a variable such as CLASSES"),
    "twice.csv": (b"id,name\n0,a\n0,b\n", "a whole number of its own in each row"),
}


@pytest.mark.parametrize("name", list(WRONG_NAMES))
def test_a_wrong_class_list_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, temporary: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    data, message = WRONG_NAMES[name]
    monkeypatch.chdir(tmp_path)
    if data is not None:
        (tmp_path / name).write_bytes(data)
    before = sorted(tmp_path.rglob("*"))
    place = f"OUT={tmp_path / 'some/where/wrong'}"
    said = run(capsys, "NAME=wrong", f"WEIGHTS={MODELS / 'detect.onnx'}", f"LABELS={tmp_path / name}", place)
    assert message in said
    assert sorted(tmp_path.rglob("*")) == before
