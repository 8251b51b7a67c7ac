"""Exported networks of the DETR family against transformers: the same weights, the same picture, number by number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image as PillowImage

from common.networks.exported.model import ExportedModel
from common.networks.formats.signature import Hints
from common.networks.results import Found
from tests.common.networks.exported import tiny_detrs
from tests.common.networks.exported.tiny_detrs import KINDS

SIZES = {"1080p": (1080, 1920), "portrait": (500, 300), "strip": (9, 200)}
THRESHOLD = 0.05


@dataclass(frozen=True)
class Exported:
    """A network and its file."""

    model: Any
    processor: Any
    path: Path


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Exported]:
    made: dict[str, Exported] = {}

    def of(name: str) -> Exported:
        if name not in made:
            torch.set_num_threads(1)
            model, processor = tiny_detrs.network(name)
            path = tiny_detrs.export(tmp_path_factory.mktemp(name), model, processor, free=KINDS[name].free)
            made[name] = Exported(model, processor, path)
        return made[name]

    return of


def picture(name: str) -> NDArray[np.uint8]:
    """Discs on a blurred background."""
    height, width = SIZES[name]
    random = np.random.default_rng(5)
    image = cv2.resize(random.integers(0, 256, (9, 16, 3), np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(30):
        center = int(random.integers(0, width)), int(random.integers(0, height))
        radius = int(random.integers(2, max(3, min(height, width) // 4)))
        cv2.circle(image, center, radius, [int(v) for v in random.integers(0, 256, 3)], -1)
    return np.asarray(image)


def reference(network: Exported, image: NDArray[np.uint8], threshold: float = THRESHOLD) -> dict[str, NDArray[Any]]:
    """What transformers finds: boxes (N, 4) clipped to the image, scores, labels and their masks, the surest first."""
    inputs = network.processor(images=PillowImage.fromarray(image), return_tensors="pt")
    taken = {name: value for name, value in inputs.items() if name in ("pixel_values", "pixel_mask")}
    if not isinstance(network.model, (tiny_detrs.KINDS["detr"].network, tiny_detrs.KINDS["conditional_detr"].network)):
        taken.pop("pixel_mask", None)
    size_hw = image.shape[:2]
    with torch.inference_mode():
        outputs = network.model(**taken)
        (found,) = network.processor.post_process_object_detection(outputs, threshold, target_sizes=[size_hw])
    found = {name: value.numpy() for name, value in found.items()}
    order = np.argsort(-found["scores"], kind="stable")
    found = {name: value[order] for name, value in found.items()}
    limits = np.array([size_hw[1], size_hw[0]] * 2)
    found["boxes"] = np.clip(found["boxes"], 0, limits)
    keep = ((found["boxes"][:, 2:] - found["boxes"][:, :2]) > 0).all(axis=1)
    return {name: value[keep] for name, value in found.items()}


def compare(found: Found, expected: dict[str, NDArray[Any]]) -> int:
    """Asserts that both found the same; returns how many."""
    assert found.boxes_xyxy is not None
    assert len(found.scores) == len(expected["scores"])
    np.testing.assert_allclose(found.scores, expected["scores"], atol=1e-3)
    left = set(range(len(found.scores)))
    for score, label, box in zip(expected["scores"], expected["labels"], expected["boxes"], strict=True):
        # Scores that differ by less than the tolerance can have changed places.
        alike = [i for i in left if found.classes[i] == label and abs(found.scores[i] - score) < 1e-3]
        assert alike, f"no result of class {label} with score {score}"
        nearest = min(alike, key=lambda i: np.abs(found.boxes_xyxy[i] - box).max())
        np.testing.assert_allclose(found.boxes_xyxy[nearest], box, atol=0.5)
        left.remove(nearest)
    return len(found.scores)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", KINDS)
def test_as_transformers(exported: Callable[[str], Exported], name: str, size: str) -> None:
    network, image = exported(name), picture(size)
    # ONNX Runtime has no operator for the positions that Deformable DETR's export computes in 64 bits.
    engine = "openvino" if name == "deformable_detr" else "onnxruntime"
    found = ExportedModel(network.path, engine=engine, hints=Hints(task="detect")).find(image, THRESHOLD)
    assert compare(found, reference(network, image)) >= 5
