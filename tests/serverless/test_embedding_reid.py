"""Reid with an embedding network in a file, through its real main.py: things are found again, other files are refused."""

from __future__ import annotations

import logging
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.config import FunctionConfig
from common.errors import StartupError
from common.networks.embedding import ExportedEmbedding
from tests.common.networks.computed_files import mean_colours
from tests.common.networks.onnx_files import constant_model
from tests.serverless import reid_scenes as scenes
from tools.collection import COLLECTION
from tools.wrapper import LoadedFunction

DIRECTORY = COLLECTION / "onnx/embedding/reid"
CONFIG = FunctionConfig.load(DIRECTORY)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mean_colours(tmp_path_factory.mktemp("embedding") / "colours.onnx", (64, 32))


@pytest.fixture
def reid(file: Path, monkeypatch: pytest.MonkeyPatch) -> LoadedFunction:
    monkeypatch.setenv("MODEL_PATH", str(file))
    monkeypatch.setenv("ENGINE", "onnxruntime")
    return LoadedFunction(DIRECTORY, unique=True)


def handler(path: Path, **options: str) -> ExportedEmbedding:
    return ExportedEmbedding(CONFIG, model_path=str(path), **{"engine": "onnxruntime", **options})


def test_shuffled_boxes_are_found_again(reid: LoadedFunction) -> None:
    assert scenes.part_found_again(reid, 6) >= 0.95


@pytest.mark.parametrize(
    "box", [[-50, -40, -10, -5], [700, 500, 800, 600], [10, 10, 10, 10], [5, 5, 5.4, 5.2], [-10, -10, 650, 490]]
)
def test_odd_boxes_do_no_harm(reid: LoadedFunction, box: list[float]) -> None:
    before, boxes = scenes.frame(1, scenes.things(1, 3), np.arange(3))
    reply = reid(scenes.request(before, before, [*boxes, box], [*boxes, box]))
    assert reply.status == 200, reply.body
    assert reply.json()[:3] == [0, 1, 2]


def test_no_boxes(reid: LoadedFunction) -> None:
    before, boxes = scenes.frame(1, scenes.things(1, 2), np.arange(2))
    assert reid(scenes.request(before, before, [], boxes)).json() == []
    assert reid(scenes.request(before, before, boxes, [])).json() == [-1, -1]


def test_descriptors_are_those_of_the_network_on_the_stretched_crop(file: Path) -> None:
    image = np.random.default_rng(3).integers(0, 256, (100, 150, 3), np.uint8)
    boxes = np.array([[10, 20, 60, 90], [-20, 50.5, 30.2, 130]], np.float64)
    found = handler(file, color="bgr", mean="10,20,30", std="2").embed(image, boxes)
    assert found.dtype == np.float32 and found.shape == (2, 24)
    for row, (left, top, right, bottom) in zip(found, [(10, 20, 60, 90), (0, 50, 31, 100)], strict=True):
        crop = np.asarray(Image.fromarray(image[top:bottom, left:right]).resize((32, 64), Image.Resampling.BILINEAR))
        cells = crop[..., ::-1].reshape(4, 16, 2, 16, 3).mean(axis=(1, 3))
        expected = ((cells - (10, 20, 30)) / 2).transpose(2, 0, 1).ravel()
        np.testing.assert_allclose(row, expected / np.linalg.norm(expected), atol=1e-5)


def test_the_order_of_the_channels_is_an_option(file: Path) -> None:
    """With ImageNet's numbers, a network of mean colours sees the same values in another order."""
    image = np.random.default_rng(3).integers(0, 256, (100, 150, 3), np.uint8)
    boxes = np.array([[10, 20, 60, 90.0]])
    rgb, bgr = (handler(file, color=color).embed(image, boxes).reshape(3, 8) for color in ("rgb", "bgr"))
    np.testing.assert_allclose(rgb, bgr[::-1], atol=1e-6)
    assert np.abs(rgb - bgr).max() > 0.01


def test_hundreds_of_boxes_in_little_memory(tmp_path: Path) -> None:
    """300 crops of 512 x 512 would take 0.9 GB as the network's input."""
    embedding = handler(mean_colours(tmp_path / "m.onnx", (512, 512)))
    image = np.random.default_rng(3).integers(0, 256, (200, 300, 3), np.uint8)
    boxes = np.tile(np.array([[10, 20, 60, 90.0]]), (300, 1))
    tracemalloc.start()
    found = embedding.embed(image, boxes)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 150e6
    np.testing.assert_allclose(found, np.repeat(found[:1], 300, axis=0), atol=1e-6)


def test_openvino_files(file: Path, tmp_path: Path) -> None:
    import openvino

    openvino.save_model(openvino.convert_model(str(file)), str(tmp_path / "m.xml"), compress_to_fp16=False)
    image = np.random.default_rng(3).integers(0, 256, (100, 150, 3), np.uint8)
    boxes = np.array([[10, 20, 60, 90.0], [0, 0, 30, 30]])
    found = handler(tmp_path / "m.xml", engine="auto").embed(image, boxes)
    np.testing.assert_allclose(found, handler(file).embed(image, boxes), atol=1e-4)


def test_an_output_of_several(tmp_path: Path) -> None:
    outputs = {"tokens": np.ones((1, 5, 8), np.float32), "pooled": np.arange(8, dtype=np.float32)[None]}
    path = constant_model(tmp_path / "m.onnx", outputs)
    with pytest.raises(StartupError, match=r"set OUTPUT to the name .*tokens float32 \(1, 5, 8\), pooled"):
        handler(path)
    found = handler(path, output="pooled").embed(np.zeros((9, 9, 3), np.uint8), np.array([[0, 0, 5, 5.0]]))
    np.testing.assert_allclose(found, np.arange(8)[None] / np.linalg.norm(np.arange(8)), atol=1e-6)
    with pytest.raises(StartupError, match="OUTPUT: expected one of tokens, pooled, got cls"):
        handler(path, output="cls")


def test_an_output_with_axes_of_one(tmp_path: Path) -> None:
    path = constant_model(tmp_path / "m.onnx", {"o": np.ones((1, 8, 1, 1), np.float32)})
    assert handler(path).embed(np.zeros((9, 9, 3), np.uint8), np.array([[0, 0, 5, 5.0]])).shape == (1, 8)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (np.zeros((1, 84, 84), np.float32), r"expected an output \(batch, D\).*without a head. Seen: inputs"),
        (np.zeros((1, 8, 7, 7), np.float32), r"export the network with its pooling"),
        (np.zeros((1, 1), np.float32), r"expected an output \(batch, D\)"),
        (np.zeros((1, 8), np.int64), "finite floating-point numbers"),
        (np.full((1, 8), np.nan, np.float32), "finite floating-point numbers"),
    ],
)
def test_files_that_are_no_embedding_networks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: np.ndarray, message: str
) -> None:
    monkeypatch.setenv("MODEL_PATH", str(constant_model(tmp_path / "m.onnx", {"o": output})))
    monkeypatch.setenv("ENGINE", "onnxruntime")
    with pytest.raises(StartupError, match=message):
        LoadedFunction(DIRECTORY, unique=True)


def test_a_classifier_is_named_as_such(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        handler(mean_colours(tmp_path / "m.onnx", (64, 32), softmax=True))
    assert "looks like a classifier" in caplog.text


def test_without_a_file_the_start_says_what_to_do() -> None:
    with pytest.raises(StartupError, match=r"MODEL_PATH: there is no .*; mount the folder of your weights"):
        LoadedFunction(DIRECTORY, unique=True)
