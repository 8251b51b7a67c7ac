"""TorchScript files as an engine: what they say about themselves, their outputs, and programs that are refused."""

from __future__ import annotations

import importlib.util
import json
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common.errors import StartupError
from common.networks.engine import TorchScriptEngine, open_engine
from common.networks.engines.torch_script import is_torchscript
from common.networks.exported.model import ExportedModel
from common.networks.formats.signature import Hints
from tests.common.networks.onnx_files import constant_model

IMAGE = np.random.default_rng(1).random((1, 3, 64, 64), np.float32)
CALL = b"torch.save("  # in the code of Writes
ULTRALYTICS = {"task": "detect", "batch": 1, "imgsz": [64, 64], "names": {"0": "cat", "1": "dog"}, "end2end": False}


class Table(torch.nn.Module):
    """The output of a YOLO of two classes, with one detection whose score is the image's brightness."""

    def __init__(self) -> None:
        super().__init__()
        table = torch.zeros(1, 6, 84)
        table[0, :4, 7] = torch.tensor([32.0, 32.0, 20.0, 16.0])
        self.table = torch.nn.Parameter(table)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        score = torch.zeros_like(self.table)
        score[:, 5, 7] = x.mean()
        return self.table + score


class Nested(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        return x.mean((1, 2, 3)), [x[:, :1].half(), x.argmax(1)]


class Named(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        return {"scores": x.mean((1, 2, 3)), "boxes": x[:, 0]}


def save(module: torch.nn.Module, path: Path, metadata: Any = None, *, script: bool = False) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch advises other formats
        image = torch.from_numpy(IMAGE)
        made = torch.jit.script(module) if script else torch.jit.trace(module.eval(), image, strict=False)
        made.save(str(path), _extra_files={"config.txt": json.dumps(metadata)} if metadata is not None else {})
    return path


def test_a_file_of_an_exporter(tmp_path: Path) -> None:
    opened = open_engine(save(Table(), tmp_path / "m.torchscript", ULTRALYTICS | {"args": {"nms": False}}))
    assert isinstance(opened, TorchScriptEngine) and opened.description.startswith("TorchScript in torch ")
    (taken,), (given,) = opened.inputs, opened.outputs
    assert taken.shape == (1, 3, 64, 64) and taken.dtype == np.float32
    assert (given.name, given.shape, given.dtype) == ("output0", (1, 6, 84), np.dtype(np.float32))
    assert opened.metadata["names"] == "{'0': 'cat', '1': 'dog'}" and opened.metadata["task"] == "detect"
    assert opened.run([IMAGE])[0][0, 5, 7] == pytest.approx(IMAGE.mean(), abs=1e-5)


def test_the_same_network_in_onnx_answers_the_same(tmp_path: Path) -> None:
    table = np.zeros((1, 6, 84), np.float32)
    table[0, :4, 7] = [32, 32, 20, 16]
    table[0, 5, 7] = 0.5
    names = {"names": "{0: 'cat', 1: 'dog'}", "task": "detect", "end2end": False}
    grey = np.full((48, 64, 3), 128, np.uint8)
    found = [
        ExportedModel(path).find(grey, 0.25)
        for path in (
            save(Table(), tmp_path / "m.torchscript", ULTRALYTICS),
            constant_model(tmp_path / "m.onnx", {"output0": table}, metadata=names),
        )
    ]
    assert found[0].classes.tolist() == found[1].classes.tolist() == [1]
    np.testing.assert_allclose(found[0].boxes_xyxy, found[1].boxes_xyxy, atol=1e-4)
    assert found[0].scores[0] == pytest.approx(0.49, abs=0.02)


def test_yolov5s_exporter_calls_the_size_shape(tmp_path: Path) -> None:
    metadata = {"shape": [1, 3, 64, 64], "stride": 32, "names": {"0": "cat"}}
    opened = open_engine(save(Table(), tmp_path / "m.torchscript", metadata))
    assert opened.inputs[0].shape == (1, 3, 64, 64)
    assert opened.metadata["imgsz"] == "[64, 64]"


def test_without_metadata_the_size_has_to_be_said(tmp_path: Path) -> None:
    path = save(Table(), tmp_path / "m.torchscript")
    with pytest.raises(StartupError, match="IMAGE_SIZE: a TorchScript file doesn't declare"):
        ExportedModel(path)
    with pytest.raises(StartupError, match="doesn't say the size of its input: set IMAGE_SIZE"):
        open_engine(path)
    model = ExportedModel(path, image_size="64", hints=Hints(task="detect", layout="yolov8"))
    assert model.layout.name == "yolov8" and model.size_hw == (64, 64) and model.dimensions.classes == 2


def test_outputs_inside_one_another(tmp_path: Path) -> None:
    opened = open_engine(save(Nested(), tmp_path / "m.torchscript"), example=lambda engine: [IMAGE])
    assert [(port.name, port.shape, port.dtype.name) for port in opened.outputs] == [
        ("output0", (1,), "float32"),
        ("output1", (1, 1, 64, 64), "float32"),
        ("output2", (1, 64, 64), "int64"),
    ]
    np.testing.assert_array_equal(opened.run([IMAGE])[2], IMAGE.argmax(1))
    named = open_engine(save(Named(), tmp_path / "n.torchscript"), example=lambda engine: [IMAGE])
    assert [port.name for port in named.outputs] == ["scores", "boxes"]


def test_half_precision(tmp_path: Path) -> None:
    module = Table()
    module.table.data = module.table.data.half()
    path = save(module, tmp_path / "m.torchscript", ULTRALYTICS)
    opened = open_engine(path)
    assert opened.inputs[0].dtype == np.float16 and opened.outputs[0].dtype == np.float32


def test_free_sizes(tmp_path: Path) -> None:
    metadata = ULTRALYTICS | {"args": {"dynamic": True}}
    opened = open_engine(save(Named(), tmp_path / "m.torchscript", metadata), example=lambda engine: [IMAGE[..., :32]])
    assert opened.inputs[0].shape == (None,) * 4 and opened.outputs[1].shape == (1, 64, 32)


class Writes(torch.nn.Module):
    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.ops.aten.save(x, self.path)  # torch.save, which Ultralytics' package replaces by its own
        return x


class Reads(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.from_file("/etc/hostname", False, 4, dtype=torch.uint8).sum()


class Numbered(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Sigmoid()), torch.nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


class TakesLists(torch.nn.Module):
    def forward(self, images: list[torch.Tensor]) -> torch.Tensor:
        return images[0]


class GivesNumbers(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> int:
        return x.shape[0]


@pytest.mark.parametrize(
    "call",
    [
        b"ops . aten . save (",
        b"ops.aten.\\\n      save(",
        b"(ops.aten.# harmless\n save)(",
        b"(ops.aten).save(",
        b'getattr(ops.aten, "save")(',
        b'getattr(ops.aten, "sa" "ve")(',
        b"getattr(ops.aten, 'sa\\x76e')(",
    ],
)
def test_other_spellings_of_such_calls_are_found(tmp_path: Path, call: bytes) -> None:
    rewritten(save(Writes("/nowhere"), tmp_path / "m.torchscript", script=True), lambda code: code.replace(CALL, call))
    with pytest.raises(StartupError, match=r"its code calls .*, which reads or writes files"):
        open_engine(tmp_path / "m.torchscript", example=lambda engine: [IMAGE])


def test_code_under_names_in_capitals_is_checked(tmp_path: Path) -> None:
    """torch finds the entries of an archive in either case."""
    path = save(Writes("/nowhere"), tmp_path / "m.torchscript", script=True)
    rewritten(path, lambda code: code, lambda name: name.replace(".py", ".PY"))
    with pytest.raises(StartupError, match=r"its code calls torch\.save, which"):
        open_engine(path, example=lambda engine: [IMAGE])


def rewritten(path: Path, code: Callable[[bytes], bytes], name: Callable[[str], str] = str) -> None:
    """Changes the source code, or the names of the entries, of a TorchScript file."""
    with zipfile.ZipFile(path) as archive:
        entries = {each: archive.read(each) for each in archive.namelist()}
    sources = {each: content for each, content in entries.items() if each.endswith(".py")}
    assert any(CALL in content for content in sources.values())
    with zipfile.ZipFile(path, "w") as archive:
        for each, content in entries.items():
            archive.writestr(name(each), code(content) if each in sources else content)


@pytest.mark.parametrize("script", [True, False])
def test_modules_without_names_are_read(tmp_path: Path, script: bool) -> None:
    path = save(Numbered(), tmp_path / "m.torchscript", script=script)
    with zipfile.ZipFile(path) as archive:
        assert any(b"getattr(" in archive.read(name) for name in archive.namelist() if name.endswith(".py"))
    np.testing.assert_allclose(
        open_engine(path, example=lambda engine: [IMAGE]).run([IMAGE])[0][0, 0, 0, 0],
        1 / (1 + np.exp(-max(IMAGE[0, 0, 0, 0], 0))),
        rtol=1e-5,
    )


@pytest.mark.parametrize(("module", "call"), [(Writes, "torch.save"), (Reads, "torch.from_file")])
def test_programs_that_touch_files_are_not_loaded(tmp_path: Path, module: Any, call: str) -> None:
    trap = tmp_path / "trap"
    made = module(str(trap)) if module is Writes else module()
    path = save(made, tmp_path / "m.torchscript", script=True)
    with pytest.raises(StartupError, match=rf"its code calls {call}, which reads or writes files"):
        open_engine(path, example=lambda engine: [IMAGE])
    assert not trap.exists()


def test_what_is_no_image_network(tmp_path: Path) -> None:
    for module, message in (
        (TakesLists(), r"expected inputs that are tensors, got images: List\[Tensor\]"),
        (GivesNumbers(), "expected outputs that are tensors, got 1"),
    ):
        path = save(module, tmp_path / "m.torchscript", script=True)
        with pytest.raises(StartupError, match=message):
            open_engine(path, example=lambda engine: [IMAGE])


def test_files_that_are_something_else(tmp_path: Path) -> None:
    good = save(Table(), tmp_path / "good.torchscript", ULTRALYTICS)
    torch.save(Table().state_dict(), tmp_path / "weights.torchscript")
    (tmp_path / "text.torchscript").write_text("no model")
    (tmp_path / "empty.torchscript").touch()
    (tmp_path / "cut.torchscript").write_bytes(good.read_bytes()[:-100])
    with zipfile.ZipFile(tmp_path / "fake.torchscript", "w") as archive:
        archive.writestr("m/constants.pkl", b"")
        archive.writestr("m/code/x.py", b"")
    assert is_torchscript(good) and not is_torchscript(tmp_path)
    for name in ("weights", "text", "empty", "cut"):
        path = tmp_path / f"{name}.torchscript"
        assert not is_torchscript(path)
        with pytest.raises(StartupError, match="not a TorchScript file, or cut off"):
            open_engine(path)
    with pytest.raises(StartupError, match="can't load it as TorchScript"):
        open_engine(tmp_path / "fake.torchscript")
    with pytest.raises(StartupError, match="no such file"):
        open_engine(tmp_path / "gone.torchscript")
    odd = save(Table(), tmp_path / "odd.torchscript", ["a list"])
    with pytest.raises(StartupError, match=r"config\.txt in it: expected an object, got"):
        open_engine(odd)


def test_another_size_than_the_exported_one(tmp_path: Path) -> None:
    class Fixed(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.reshape(1, 3, 4096) + torch.zeros(4096)

    path = save(Fixed(), tmp_path / "m.torchscript")
    with pytest.raises(StartupError, match=r"can't run it on an input of 1x3x32x32: .*Is IMAGE_SIZE the size"):
        ExportedModel(path, image_size="32")
    # An exporter's metadata says the size: another one is refused at once.
    with pytest.raises(StartupError, match="IMAGE_SIZE is 32x32, but the file's input is fixed to 64x64"):
        ExportedModel(save(Table(), tmp_path / "n.torchscript", ULTRALYTICS), image_size="32")


def test_options_that_such_a_file_does_not_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(Table(), tmp_path / "m.torchscript", ULTRALYTICS)
    for engine in ("onnxruntime", "openvino", "tensorrt"):
        with pytest.raises(StartupError, match=rf"ENGINE={engine} can't run a \.torchscript file"):
            open_engine(path, engine=engine)
    with pytest.raises(StartupError, match="DEVICE=cuda: torch sees 0 GPUs"):
        open_engine(path, device="cuda", engine="torchscript")
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else find(name))
    with pytest.raises(StartupError, match=r"needs torch, which is not installed here: .*cvat\.pytorch\.base"):
        open_engine(path)
