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
import torchvision
from numpy.typing import NDArray
from PIL import Image as PillowImage
from torch import nn
from torchvision.transforms import functional
from transformers.image_transforms import get_size_with_aspect_ratio

from common.networks.engine import Tensor
from common.networks.exported.model import ExportedModel
from common.networks.formats import detr
from common.networks.formats.preparation import Placement, Preparation
from common.networks.formats.signature import Hints
from common.networks.results import Found
from common.vision.letterbox import Letterbox
from common.vision.mask import mask_to_bitmap
from tests.common.networks.exported import tiny_detrs
from tests.common.networks.exported.tiny_detrs import KINDS, SIDE

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
    return inside(found, size_hw)


def inside(found: dict[str, torch.Tensor], size_hw: tuple[int, int]) -> dict[str, NDArray[Any]]:
    """What transformers found, the surest first, clipped to the image and without what has no area in it."""
    arrays = {name: value.numpy() for name, value in found.items()}
    order = np.argsort(-arrays["scores"], kind="stable")
    arrays = {name: value[order] for name, value in arrays.items()}
    arrays["boxes"] = np.clip(arrays["boxes"], 0, np.array([size_hw[1], size_hw[0]] * 2))
    keep = ((arrays["boxes"][:, 2:] - arrays["boxes"][:, :2]) > 0).all(axis=1)
    return {name: value[keep] for name, value in arrays.items()}


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


@pytest.mark.parametrize("name", ["detr", "yolos", "rt_detr", "rf_detr"])
def test_openvino_agrees(exported: Callable[[str], Exported], name: str) -> None:
    network, image = exported(name), picture("1080p")
    found = ExportedModel(network.path, engine="openvino").find(image, THRESHOLD)
    assert compare(found, reference(network, image)) >= 5


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["rf_detr_seg", "detr_seg"])
def test_masks(exported: Callable[[str], Exported], name: str, size: str, engine: str) -> None:
    """Each object's own mask: the logits enlarged to the image, over 0. Those of transformers for DETR don't overlap."""
    network, image = exported(name), picture(size)
    found = ExportedModel(network.path, engine=engine).find(image, THRESHOLD, most=8)
    inputs = network.processor(images=PillowImage.fromarray(image), return_tensors="pt")
    with torch.inference_mode():
        outputs = network.model(pixel_values=inputs["pixel_values"])
    enlarged = torch.nn.functional.interpolate(outputs.pred_masks, image.shape[:2], mode="bilinear")[0].numpy() > 0
    if name == "detr_seg":
        best = outputs.logits.softmax(-1)[0, :, :-1].max(-1)
        scores, labels = best.values.numpy(), best.indices.numpy()
        queries = np.argsort(-scores, kind="stable")
        maps, scores, labels = enlarged[queries], scores[queries], labels[queries]
    else:
        (result,) = network.processor.post_process_instance_segmentation(
            outputs, THRESHOLD, target_sizes=[image.shape[:2]], return_binary_maps=True
        )
        maps = result["segmentation"].numpy()
        scores = np.array([info["score"] for info in result["segments_info"]])
        labels = np.array([info["label_id"] for info in result["segments_info"]])
    assert found.masks is not None and len(found.masks) >= 3
    for score, label, mask in zip(found.scores, found.classes, found.masks, strict=True):
        bitmap = mask_to_bitmap(mask, image.shape[:2])
        alike = maps[(labels == label) & (np.abs(scores - score) < 1e-3)]
        overlaps = [(bitmap & other).sum() / (bitmap | other).sum() for other in alike]
        assert max(overlaps, default=0) > 0.99


def test_pixel_mask(tmp_path: Path) -> None:
    """In an input of fixed size an image that keeps its proportions is padded, and the network is told where."""
    torch.set_num_threads(1)
    model, processor = tiny_detrs.network("detr")
    processor.pad_size = {"height": SIDE, "width": SIDE + 32}
    inputs = [torch.rand(1, 3, SIDE, SIDE + 32), torch.ones(1, SIDE, SIDE + 32, dtype=torch.int64)]
    names = ("logits", "pred_boxes")
    module = tiny_detrs.NamedOutputs(model, names, masked=True)
    path = tiny_detrs.write_onnx(tmp_path / "model.onnx", module, inputs, ["pixel_values", "pixel_mask"], names)
    model.config.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    network, image = Exported(model, processor, path), picture("1080p")
    size_hw = image.shape[:2]
    taken = processor(images=PillowImage.fromarray(image), return_tensors="pt")
    opened = ExportedModel(path, engine="onnxruntime")
    pixels, mask = opened.prepare(image, opened.fit(size_hw))
    assert 0 < mask.sum() < mask.size
    np.testing.assert_array_equal(mask, taken["pixel_mask"])
    np.testing.assert_allclose(pixels, taken["pixel_values"], atol=1.01 / 57)  # a level of a channel
    # Parts of the padded input are parts of the image, too.
    with torch.inference_mode():
        outputs = model(**taken)
    inner_hw = opened.fit(size_hw).inner_hw
    scaled = [(round(SIDE * size_hw[0] / inner_hw[0]), round((SIDE + 32) * size_hw[1] / inner_hw[1]))]
    (expected,) = network.processor.post_process_object_detection(outputs, THRESHOLD, target_sizes=scaled)
    assert compare(opened.find(image, THRESHOLD), inside(expected, size_hw)) >= 5


class _Upstream(nn.Module):
    """What the authors of RT-DETR and D-FINE export: the network and its post-processing."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor, orig_target_sizes: torch.Tensor) -> tuple[torch.Tensor, ...]:
        outputs = self.model(pixel_values=images)
        boxes = (
            torchvision.ops.box_convert(outputs.pred_boxes, "cxcywh", "xyxy") * orig_target_sizes.repeat(1, 2)[:, None]
        )
        count = outputs.logits.shape[2]
        scores, index = outputs.logits.sigmoid().flatten(1).topk(outputs.logits.shape[1], dim=-1)
        places = torch.div(index, count, rounding_mode="floor")
        return index % count, boxes.gather(1, places[..., None].repeat(1, 1, 4)), scores


def test_upstream(exported: Callable[[str], Exported], tmp_path: Path) -> None:
    network = exported("rt_detr")
    inputs = [torch.rand(1, 3, SIDE, SIDE), torch.tensor([[SIDE, SIDE]])]
    names = (["images", "orig_target_sizes"], ["labels", "boxes", "scores"])
    path = tiny_detrs.write_onnx(tmp_path / "model.onnx", _Upstream(network.model), inputs, *names)
    model = ExportedModel(path, engine="onnxruntime")
    assert model.layout.name == "rtdetr-upstream"
    for image in map(picture, SIZES):
        assert compare(model.find(image, THRESHOLD), reference(network, image)) >= 5


def test_rfdetr(exported: Callable[[str], Exported], tmp_path: Path) -> None:
    """As the package exports its networks and prepares images: boxes first, the outputs under other names."""
    network = exported("rf_detr")
    module = tiny_detrs.NamedOutputs(network.model, ("pred_boxes", "logits"), masked=False)
    inputs = [torch.rand(1, 3, SIDE, SIDE)]
    path = tiny_detrs.write_onnx(tmp_path / "model.onnx", module, inputs, ["input"], ["dets", "labels"])
    model = ExportedModel(path, engine="onnxruntime")
    assert model.layout.name == "rfdetr"
    for image in map(picture, SIZES):
        pixels = functional.normalize(functional.to_tensor(image), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
        with torch.inference_mode():
            outputs = network.model(pixel_values=functional.resize(pixels, [SIDE, SIDE])[None])
        (found,) = network.processor.post_process_object_detection(outputs, THRESHOLD, target_sizes=[image.shape[:2]])
        assert compare(model.find(image, THRESHOLD), inside(found, image.shape[:2])) >= 5


def test_a_mask_of_another_size_than_the_input() -> None:
    """Some files of the hub take a mask of 64 x 64 for an input of any size."""
    letterbox = Letterbox.fit((100, 200), (64, 64), centered=False)  # 32 rows of 64
    make = detr.HUB[0].further_inputs["pixel_mask"]
    mask = make(letterbox, Tensor("pixel_mask", (None, 16, 16), np.dtype(np.int64)))
    assert mask.shape == (1, 16, 16) and mask.dtype == np.int64
    np.testing.assert_array_equal(mask[0], np.repeat([1] * 8 + [0] * 8, 16).reshape(16, 16))


def test_sizes_with_proportions_kept() -> None:
    random = np.random.default_rng(1)
    for height, width in [(800, 800), (1, 5000), (480, 640), *random.integers(1, 5000, (200, 2)).tolist()]:
        for edges in ((800, 1333), (64, 96), (512, 10_000)):
            preparation = Preparation(Placement.SCALED, edges=edges)
            expected = get_size_with_aspect_ratio((height, width), *edges)
            assert preparation.fit((height, width), (0, 0)).size_hw == tuple(max(side, 1) for side in expected)
