"""Networks that see parts of an image: batches give what single pictures give, in every engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from common.errors import StartupError
from common.networks.normalisation import Normalisation
from common.networks.patches import PatchNetwork
from tests.common.networks.computed_files import mean_colours, save
from tests.common.networks.onnx_files import constant_model

SIZE_HW = (64, 32)
PICTURES = np.random.default_rng(1).integers(0, 256, (21, *SIZE_HW, 3), np.uint8)
RAW = Normalisation.read("rgb", "0", "1")


def expected(pictures: np.ndarray) -> np.ndarray:
    cells = pictures.reshape(len(pictures), 4, 16, 2, 16, 3).astype(np.float64).mean(axis=(2, 4))
    return cells.transpose(0, 3, 1, 2).reshape(len(pictures), -1)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("batch", ["N", 1, 4])
@pytest.mark.parametrize("count", [1, 2, 4, 21])
def test_any_number_of_pictures(tmp_path: Path, engine: str, batch: int | str, count: int) -> None:
    path = mean_colours(tmp_path / "m.onnx", SIZE_HW, batch=batch)
    network = PatchNetwork(path, engine=engine, normalisation=RAW)
    assert network.size_hw == SIZE_HW
    (answer,) = network.run(iter(PICTURES[:count]))
    np.testing.assert_allclose(answer, expected(PICTURES[:count]), rtol=1e-4)


def test_pictures_go_together_where_the_batch_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = PatchNetwork(mean_colours(tmp_path / "m.onnx"), engine="onnxruntime")
    counts = []
    run = network._engine.run
    monkeypatch.setattr(network._engine, "run", lambda arrays: counts.append(len(arrays[0])) or run(arrays))
    network.run(PICTURES)
    assert counts == [16, 4, 1]


def test_a_free_batch_that_only_takes_one(tmp_path: Path) -> None:
    """Exporters declare the batch free and write its size of 1 into the graph all the same."""
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["means"], axes=[2, 3], keepdims=0),
        helper.make_node("Reshape", ["means", "shape"], ["out"]),
    ]
    shape = np.array([1, 3], np.int64)
    path = save(tmp_path / "m.onnx", nodes, {"shape": shape}, {"images": ("N", 3, *SIZE_HW)}, {"out": ("N", 3)})
    (answer,) = PatchNetwork(path, engine="onnxruntime", normalisation=RAW).run(PICTURES[:3])
    np.testing.assert_allclose(answer, PICTURES[:3].mean(axis=(1, 2)), rtol=1e-4)


def test_a_batch_whose_pictures_are_mixed(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["means"], axes=[2, 3], keepdims=0),
        helper.make_node("ReduceMean", ["means"], ["all"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["means", "all"], ["apart"]),
        helper.make_node("Add", ["apart", "means"], ["out"]),
    ]
    path = save(tmp_path / "m.onnx", nodes, {}, {"images": ("N", 3, *SIZE_HW)}, {"out": ("N", 3)})
    black_and_white = np.stack([np.zeros_like(PICTURES[0]), np.full_like(PICTURES[0], 255)])
    (answer,) = PatchNetwork(path, engine="onnxruntime", normalisation=RAW).run(black_and_white)
    np.testing.assert_allclose(answer, [[0] * 3, [255] * 3])


def test_free_sizes(tmp_path: Path) -> None:
    path = mean_colours(tmp_path / "m.onnx", ("h", "w"), cells=(4, 4))
    with pytest.raises(StartupError, match=r"the file.s input is free: set IMAGE_SIZE to the one .* such as 256x128"):
        PatchNetwork(path)
    network = PatchNetwork(path, engine="onnxruntime", size_hw=(48, 32))
    assert network.size_hw == (48, 32) and network.outputs[0].shape == (1, 3 * 3 * 2)


@pytest.mark.parametrize("dtype", [TensorProto.FLOAT16, TensorProto.UINT8])
def test_other_types_of_input(tmp_path: Path, dtype: int) -> None:
    path = mean_colours(tmp_path / "m.onnx", SIZE_HW, input_type=dtype)
    (answer,) = PatchNetwork(path, engine="onnxruntime", normalisation=RAW).run(PICTURES[:2])
    np.testing.assert_allclose(answer, expected(PICTURES[:2]), rtol=1e-2)


def test_files_of_other_kinds(tmp_path: Path) -> None:
    path = mean_colours(tmp_path / "m.onnx", SIZE_HW)
    with pytest.raises(StartupError, match=r"IMAGE_SIZE is 32x32, but the input of .* is fixed to 64x32"):
        PatchNetwork(path, size_hw=(32, 32))
    grey = constant_model(tmp_path / "g.onnx", {"o": np.zeros((1, 3), np.float32)}, input_shape=(1, 1, 64, 64))
    with pytest.raises(StartupError, match=r"colour pictures \(batch, 3, height, width\). Seen: inputs: images"):
        PatchNetwork(grey)
    flat = constant_model(tmp_path / "f.onnx", {"o": np.zeros((3, 2), np.float32)})
    with pytest.raises(StartupError, match=r"1 pictures along their first axis, got \(3, 2\)"):
        PatchNetwork(flat)
    (tmp_path / "n.onnx").write_bytes(b"nothing")
    with pytest.raises(StartupError, match="can't load it"):
        PatchNetwork(tmp_path / "n.onnx", engine="onnxruntime")
