"""Several images in one run give what each gives alone; where a file can't do that, they are run one by one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from common.config import FunctionConfig
from common.networks.engine import Array
from common.networks.exported import batches
from common.networks.exported.handler import ExportedDetector
from common.networks.exported.model import ExportedModel
from common.networks.results import Found
from common.protocol import BatchDetectorHandler
from tests.common.networks.onnx_files import constant_model
from tools.collection import COLLECTION

NAMES = "{0: 'cat', 1: 'dog'}"
METADATA: dict[str, Any] = {"names": NAMES, "task": "detect", "stride": 32, "imgsz": "[64, 64]", "end2end": False}
SIZES = [(64, 128), (64, 64), (200, 90), (64, 128), (30, 30), (64, 64)]
IMAGES = [np.full((*size, 3), 40 * i + 10, np.uint8) for i, size in enumerate(SIZES)]


def bright_file(path: Path, batch: int | str, axes: Sequence[int] = (1, 2, 3), names: str = NAMES) -> Path:
    """A detector with a box in each image, whose score is the mean of the image (or of the whole batch)."""
    table, place = np.zeros((2, 1, 6, 84), np.float32)
    table[0, :4, 3] = 32, 32, 16, 16
    place[0, 4, 3] = 1
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, 64, 64])
    output = helper.make_tensor_value_info("output0", TensorProto.FLOAT, [batch, 6, 84])
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["means"], axes=list(axes), keepdims=1),
        helper.make_node("ReduceMean", ["images"], ["each"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Sub", ["each", "each"], ["nothing"]),
        helper.make_node("Add", ["means", "nothing"], ["mean4"]),
        helper.make_node("Squeeze", ["mean4", "last"], ["mean"]),
        helper.make_node("Mul", ["mean", "place"], ["score"]),
        helper.make_node("Add", ["score", "table"], ["output0"]),
    ]
    constants = [
        numpy_helper.from_array(np.array([3], np.int64), "last"),
        numpy_helper.from_array(place, "place"),
        numpy_helper.from_array(table, "table"),
    ]
    graph = helper.make_graph(nodes, "bright", [image], [output], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    for key, value in (METADATA | {"names": names}).items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, str(value)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


class Counting:
    """An engine that counts its runs."""

    def __init__(self, engine: Any):
        self.engine, self.runs = engine, 0
        self.inputs = engine.inputs

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        self.runs += 1
        return list(self.engine.run(arrays))


@pytest.fixture
def any_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it takes: on a busy machine the times of such small files say nothing."""
    monkeypatch.setattr(batches, "_LONGEST", math.inf)


def same(one: Found, other: Found) -> None:
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
    np.testing.assert_array_equal(one.classes, other.classes)
    np.testing.assert_allclose(one.boxes_xyxy, other.boxes_xyxy, atol=1e-3)  # type: ignore[arg-type]


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("batch", ["batch", 4, 3])
def test_together_as_alone(tmp_path: Path, batch: int | str, engine: str, any_time: None) -> None:
    model = ExportedModel(bright_file(tmp_path / "m.onnx", batch), engine=engine)
    alone = [model.find(image, 0.01) for image in IMAGES]
    assert len({float(found.scores[0]) for found in alone}) == len(IMAGES)
    together = model.find_all(IMAGES, 0.01)
    for one, other in zip(alone, together, strict=True):
        same(one, other)
    runner = model._batches
    assert runner is not None and runner.size == (4 if batch == "batch" else batch)
    counting = Counting(runner.engine)
    object.__setattr__(runner, "engine", counting)
    model.find_all(IMAGES, 0.01)
    assert counting.runs == 2


@pytest.mark.parametrize(
    "file",
    [
        lambda path: bright_file(path, 1),
        # Results that depend on the other images, as when an exporter wrote the batch of its example into the file.
        lambda path: bright_file(path, "batch", axes=(0, 1, 2, 3)),
        lambda path: constant_model(
            path, {"output0": np.zeros((1, 6, 84), np.float32)}, input_shape=("batch", 3, 64, 64), metadata=METADATA
        ),
        lambda path: constant_model(
            path, {"output": np.zeros((4, 7), np.float32)}, input_shape=("batch", 3, 64, 64), metadata=None
        ),
    ],
    ids=["one image", "mixed", "first image alone", "rows of all images"],
)
def test_one_by_one_where_it_must_be(tmp_path: Path, file: Any) -> None:
    model = ExportedModel(file(tmp_path / "m.onnx"), engine="onnxruntime")
    for one, other in zip(IMAGES, model.find_all(IMAGES, 0.01), strict=True):
        same(model.find(one, 0.01), other)
    assert model._batches is None


def test_one_by_one_where_it_is_faster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_LONGEST", 0)
    model = ExportedModel(bright_file(tmp_path / "m.onnx", "batch"), engine="onnxruntime")
    assert len(model.find_all(IMAGES, 0.01)) == len(IMAGES) and model._batches is None
    # A file that always takes four is never slower with four images than with one.
    fixed = ExportedModel(bright_file(tmp_path / "m.onnx", 4), engine="onnxruntime")
    assert len(fixed.find_all(IMAGES, 0.01)) == len(IMAGES) and fixed._batches is not None


def test_a_single_image_takes_the_way_that_it_took(tmp_path: Path) -> None:
    """The file is opened for batches only when there are several images."""
    model = ExportedModel(bright_file(tmp_path / "m.onnx", "batch"), engine="openvino")
    model.find(IMAGES[0], 0.01)
    model.find_all(IMAGES[:1], 0.01)
    assert "_batches" not in vars(model)


def test_the_handler(tmp_path: Path, any_time: None) -> None:
    config = FunctionConfig.load(COLLECTION / "onnx/yolo/detect")
    labels = list(config.labels)[:2]
    path = bright_file(tmp_path / "m.onnx", "batch", names=str(dict(enumerate(labels))))
    few = replace(config, labels={name: config.labels[name] for name in labels})
    handler = ExportedDetector(few, model_path=str(path), engine="onnxruntime")
    assert isinstance(handler, BatchDetectorHandler)
    images: list[NDArray[np.uint8]] = IMAGES
    together = handler.infer_batch(images, 0.01)
    assert [len(shapes) for shapes in together] == [1] * len(images)
    for (shape,), image in zip(together, images, strict=True):
        (alone,) = handler.infer(image, 0.01)
        assert (shape.label, shape.box_xyxy) == (alone.label, alone.box_xyxy)  # type: ignore[union-attr]
        assert shape.score == pytest.approx(alone.score)
