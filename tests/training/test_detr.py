"""What the RT-DETR learns from, whether it learns, and whether its file is the network."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from common.networks.engine import open_engine
from training.detr import train


@pytest.mark.parametrize("number", range(6))
def test_boxes_stay_around_their_shapes(number: int) -> None:
    """The edges that a box touches show a change of colour; the picture mirrored and turned gives the same."""
    sample = train.sample(number)
    rng = np.random.default_rng(number)
    for each in (sample, *(train.varied(sample, rng) for _ in range(5))):
        assert each.image.shape == (train.SIDE, train.SIDE, 3) and len(each.classes) == len(each.boxes_cxcywh)
        assert (each.boxes_cxcywh > 0).all() and (each.boxes_cxcywh < 1).all()
        for (x, y, width, height), original in zip(each.boxes_cxcywh, sample.boxes_cxcywh, strict=True):
            np.testing.assert_allclose(width * height, original[2] * original[3], rtol=1e-5)
            part = crop(each.image, x, y, width, height)
            part_before = crop(sample.image, *original)
            np.testing.assert_allclose(
                sorted(part.reshape(-1, 3).mean(axis=0)), sorted(part_before.reshape(-1, 3).mean(axis=0)), atol=6
            )


def crop(image: np.ndarray, x: float, y: float, width: float, height: float) -> np.ndarray:
    size = image.shape[0]
    left, top, right, bottom = (round(v * size) for v in (x - width / 2, y - height / 2, x + width / 2, y + height / 2))
    return image[max(top, 0) : bottom, max(left, 0) : right]


def test_a_training_learns_and_its_file_is_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    from training.detr.export import export

    monkeypatch.setattr(train, "BATCH", 4)
    monkeypatch.setattr("training.optimization._SAY_EVERY", 10)
    said: list[str] = []
    network = train.train(pictures=8, stages=((64, 30),), say=said.append)
    losses = [float(line.split("loss ")[1].split(",")[0]) for line in said[1:]]
    assert losses[-1] < losses[0] - 1, said
    path = export(network, tmp_path, train.SIDE)
    assert {file.name for file in tmp_path.iterdir()} == {"model.onnx", "config.json", "preprocessor_config.json"}
    pixels = (
        cv2.resize(train.sample(0).image, (train.SIDE, train.SIDE)).astype(np.float32).transpose(2, 0, 1)[None] / 255
    )
    logits, boxes = open_engine(path, engine="onnxruntime").run([pixels])
    with torch.inference_mode():
        for tensor in [*network.parameters(), *network.buffers()]:  # the file's are in half precision
            if tensor.is_floating_point():
                tensor.copy_(tensor.half().float())
        expected = network(pixel_values=torch.from_numpy(pixels))
    # A query is another one where two are nearly equal, so whole answers are compared in the order of their scores.
    np.testing.assert_allclose(np.sort(logits.max(axis=2)), np.sort(expected.logits.numpy().max(axis=2)), atol=0.02)
    assert boxes.shape == tuple(expected.pred_boxes.shape)
