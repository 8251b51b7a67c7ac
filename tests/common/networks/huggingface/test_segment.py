"""Masks of every architecture against the library's own processing, where it keeps overlaps, or a plain reference."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from common.config import FunctionConfig
from common.errors import StartupError
from common.networks.huggingface.architectures import INSTANCES
from common.networks.huggingface.class_maps import best_classes
from common.networks.huggingface.network import Answer
from common.networks.huggingface.segment import Segmentation
from common.shapes import Mask, Polygon, Rectangle, Shape
from common.vision.mask import mask_to_bitmap
from tests.common.networks.huggingface.tiny_models import NAMES, save_tiny, transformers
from tests.functions import write_function

SIZES_HW = [(150, 200), (120, 90)]
SEGFORMER = "SegformerForSemanticSegmentation"

Found = tuple[str, float, NDArray[np.bool_]]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("segmenters")


MODELS: dict[str, Any] = {}
HANDLERS: dict[tuple[str, str], Segmentation] = {}


def handler(root: Path, architecture: str, segmentation: str = "auto") -> Segmentation:
    """Each is made once."""
    if architecture not in MODELS:
        MODELS[architecture] = save_tiny(architecture, root / architecture)
    if (architecture, segmentation) not in HANDLERS:
        function = config(root / f"{architecture} {segmentation}")
        made = Segmentation(function, model_path=str(root / architecture), segmentation=segmentation)
        HANDLERS[architecture, segmentation] = made
    return HANDLERS[architecture, segmentation]


def config(folder: Path, type_: str = "mask", names: tuple[str, ...] = NAMES) -> FunctionConfig:
    labels = [{"id": i, "name": name, "type": type_} for i, name in enumerate(names)]
    return FunctionConfig.load(write_function(folder, labels=labels))


def blocks(seed: int, size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Coarse random colours."""
    height, width = size_hw
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), np.uint8)
    return coarse[np.arange(height) * 9 // height][:, np.arange(width) * 12 // width]


def outputs_of(root: Path, architecture: str, image: NDArray[np.uint8], task: str = "instance") -> tuple[Any, Any, Any]:
    """The library's processor, inputs and outputs for an image."""
    if architecture.startswith("OneFormer"):
        processor = transformers.OneFormerProcessor(
            transformers.OneFormerImageProcessor.from_pretrained(root / architecture),
            transformers.AutoTokenizer.from_pretrained(root / architecture),
        )
        inputs = processor(images=image, task_inputs=[task], return_tensors="pt")
    else:
        processor = transformers.AutoImageProcessor.from_pretrained(root / architecture)
        inputs = processor(images=image, return_tensors="pt")
    tensors = {
        k: v for k, v in inputs.items() if torch.is_tensor(v) and not (k == "pixel_mask" and "Rf" in architecture)
    }
    if "Eomt" in architecture:
        tensors = {"pixel_values": tensors["pixel_values"]}
    with torch.no_grad():
        return processor, inputs, MODELS[architecture](**tensors)


def reference(root: Path, architecture: str, image: NDArray[np.uint8]) -> list[Found]:
    """Every query of the outputs: its class, its score and its mask, all at the size of the image."""
    _, inputs, outputs = outputs_of(root, architecture, image)
    if architecture == "RfDetrForInstanceSegmentation":
        (found,) = transformers.RfDetrImageProcessor().post_process_instance_segmentation(
            outputs, threshold=0.0, target_sizes=[image.shape[:2]], return_binary_maps=True
        )
        return [
            (NAMES[info["label_id"]], info["score"], mask.numpy())
            for info, mask in zip(found["segments_info"], found["segmentation"], strict=True)
        ]
    detr = architecture.startswith("Detr")
    classes = (outputs.logits if detr else outputs.class_queries_logits)[0].softmax(-1)[:, :-1]
    planes = (outputs.pred_masks if detr else outputs.masks_queries_logits)[0]
    height, width = inputs["pixel_values"].shape[-2:]
    if "Eomt" in architecture:
        scale = 64 / max(image.shape[:2])
        inner = [int(side * scale) for side in image.shape[:2]]
    else:
        inner = [int(inputs["pixel_mask"][0].any(dim=axis).sum()) for axis in (1, 0)]
    large = interpolate(planes[None], (height, width), mode="bilinear")[:, :, : inner[0], : inner[1]]
    found = []
    for query, probabilities in enumerate(classes):
        plane = large[0, query]
        score, index = probabilities.max(0)
        if not detr and (plane > 0).any():
            score = score * plane.sigmoid()[plane > 0].mean()
        mask = interpolate(plane[None, None], image.shape[:2], mode="bilinear")[0, 0] > 0
        if mask.any():
            found.append((NAMES[int(index)], float(score), mask.numpy()))
    return sorted(found, key=lambda each: -each[1])


def compare(shapes: list[Shape], expected: list[Found], size_hw: tuple[int, int]) -> None:
    assert len(shapes) == len(expected)
    np.testing.assert_allclose([shape.score for shape in shapes], [score for _, score, _ in expected], atol=1e-4)
    rest = list(expected)
    for shape in shapes:
        assert isinstance(shape, Mask)
        bitmap = mask_to_bitmap(shape, size_hw)
        ious = [
            iou(bitmap, mask) if label == shape.label and abs(score - (shape.score or 0)) < 1e-4 else 0.0
            for label, score, mask in rest
        ]
        assert max(ious) > 0.999
        del rest[int(np.argmax(ious))]


def iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return np.count_nonzero(a & b) / max(np.count_nonzero(a | b), 1)


@pytest.mark.parametrize("architecture", INSTANCES)
def test_masks_are_those_of_the_queries(root: Path, architecture: str) -> None:
    ours = handler(root, architecture)
    images = [blocks(i, size) for i, size in enumerate(SIZES_HW)]
    for image in images:
        expected = reference(root, architecture, image)
        assert len(expected) > 2
        compare(ours.infer(image, 0.0), expected, image.shape[:2])
        threshold = float(np.mean([score for _, score, _ in expected]))
        some = [each for each in expected if each[1] >= threshold]
        assert 0 < len(some) < len(expected)
        compare(ours.infer(image, threshold), some, image.shape[:2])


def test_scores_are_those_of_the_librarys_instances(root: Path) -> None:
    """Its masks are interpolated in a coarser way, but its scores and classes are the same."""
    name = "Mask2FormerForUniversalSegmentation"
    ours, image = handler(root, name), blocks(0, SIZES_HW[0])
    processor, _, outputs = outputs_of(root, name, image)
    (found,) = processor.post_process_instance_segmentation(
        outputs, threshold=0.0, target_sizes=[image.shape[:2]], return_binary_maps=True
    )
    best: dict[bytes, tuple[float, str]] = {}  # the library gives a query several classes
    for info, mask in zip(found["segments_info"], found["segmentation"], strict=True):
        key = mask.bool().numpy().tobytes()
        best[key] = max(best.get(key, (0.0, "")), (info["score"], NAMES[info["label_id"]]))
    shapes = ours.infer(image, 0.0)
    theirs = sorted(best.values(), reverse=True)
    assert len(theirs) > 3
    np.testing.assert_allclose([s.score for s in shapes][: len(theirs)], [score for score, _ in theirs], atol=1e-3)


def test_several_images_at_a_time_give_what_each_gives_alone(root: Path) -> None:
    ours = handler(root, "MaskFormerForInstanceSegmentation")
    images = [blocks(i, SIZES_HW[i % 2]) for i in range(3)]
    for together, image in zip(ours.infer_batch(images, 0.0), images, strict=True):
        alone = [(s.label, s.score or 0.0, mask_to_bitmap(s, image.shape[:2])) for s in ours.infer(image, 0.0)]  # type: ignore[arg-type]
        assert alone
        compare(together, alone, image.shape[:2])


def answer_of_two_squares(image_hw: tuple[int, int]) -> Answer:
    """Two queries whose masks overlap: columns 0 to 6 and 4 to 10 of 10, and a third that is no object."""
    planes = np.full((3, 10, 10), -5.0, np.float32)
    planes[0, :, :6] = 5
    planes[1, :, 4:] = 5
    planes[2] = 5
    classes = np.full((3, 4), -9.0, np.float32)
    classes[0, 1] = classes[1, 1] = classes[2, 3] = 9  # both the same class; the last is "no object"
    outputs = {"class_queries_logits": classes, "masks_queries_logits": planes}
    return Answer(outputs, image_hw, (40, 40), (40, 40))


def test_objects_that_overlap_are_both_whole(root: Path) -> None:
    ours = handler(root, "Mask2FormerForUniversalSegmentation")
    found = ours._found(answer_of_two_squares((100, 100)), 0.5)
    assert found.classes.tolist() == [1, 1]
    assert found.masks is not None
    widths = sorted((mask.left, mask.left + mask.bitmap.shape[1]) for mask in found.masks)
    assert widths == [(0, 60), (40, 100)]
    assert all(mask.bitmap.all() for mask in found.masks)


def test_a_large_image_takes_memory_for_one_mask_at_a_time(root: Path) -> None:
    ours = handler(root, "Mask2FormerForUniversalSegmentation")
    answer = answer_of_two_squares((3000, 4000))
    many = {name: np.repeat(value[:2], 25, axis=0) for name, value in answer.outputs.items()}
    tracemalloc.start()
    found = ours._found(Answer(many, answer.image_hw, answer.input_hw, answer.inner_hw), 0.5)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found.scores) == 50
    assert peak - kept < 8 * 3000 * 4000  # bytes: less than two maps of floats of the image's size
    assert kept < 50 * 3000 * 4000 * 0.7  # a byte for each pixel of a mask


def test_labels_can_be_polygons_and_boxes(root: Path, tmp_path: Path) -> None:
    name = "RfDetrForInstanceSegmentation"
    masks = handler(root, name).infer(blocks(0, SIZES_HW[0]), 0.3)
    for type_, kind in (("polygon", Polygon), ("rectangle", Rectangle)):
        other = Segmentation(config(tmp_path / type_, type_), model_path=str(root / name))
        found = other.infer(blocks(0, SIZES_HW[0]), 0.3)
        assert found
        assert all(isinstance(shape, kind) for shape in found)
    assert [s.box_xyxy for s in found] == [m.box_xyxy for m in masks]  # type: ignore[attr-defined]


def test_a_semantic_model_gives_one_mask_for_each_class(root: Path) -> None:
    ours, image = handler(root, SEGFORMER), blocks(0, SIZES_HW[0])
    processor, _, outputs = outputs_of(root, SEGFORMER, image)
    (expected,) = processor.post_process_semantic_segmentation(outputs, target_sizes=[image.shape[:2]])
    found = ours.infer(image, 0.0)
    assert sorted(shape.label for shape in found) == sorted(NAMES[i] for i in expected.unique().tolist())
    assert len(found) > 1
    for shape in found:
        assert iou(mask_to_bitmap(shape, image.shape[:2]), expected.numpy() == NAMES.index(shape.label)) > 0.999  # type: ignore[arg-type]
        assert 1 / 3 <= (shape.score or 0) <= 1


@pytest.mark.parametrize(
    "architecture",
    ["Mask2FormerForUniversalSegmentation", "EomtForUniversalSegmentation", "OneFormerForUniversalSegmentation"],
)
def test_queries_can_be_joined_to_one_mask_for_each_class(root: Path, architecture: str) -> None:
    image = blocks(0, (64, 64) if "Eomt" in architecture else SIZES_HW[0])
    ours = handler(root, architecture, "semantic")
    processor, inputs, outputs = outputs_of(root, architecture, image, "semantic")
    (expected,) = processor.post_process_semantic_segmentation(outputs, target_sizes=[image.shape[:2]])
    found = ours.infer(image, 0.0)
    together = np.full(image.shape[:2], -1)
    for shape in found:
        bitmap = mask_to_bitmap(shape, image.shape[:2])  # type: ignore[arg-type]
        assert (together[bitmap] == -1).all()
        together[bitmap] = NAMES.index(shape.label)
    padded = "pixel_mask" in inputs and not inputs["pixel_mask"].all()
    if not padded:  # the library takes the padding for a part of the image
        assert (together == expected.numpy()).mean() > 0.99
    assert (together >= 0).all()


def test_oneformer_is_asked_for_its_task(root: Path) -> None:
    name, image = "OneFormerForUniversalSegmentation", blocks(0, SIZES_HW[0])
    instances, panoptic = handler(root, name), handler(root, name, "panoptic")
    assert [s.score for s in instances.infer(image, 0.0)] != [s.score for s in panoptic.infer(image, 0.0)]


def test_what_a_model_can_not_do_is_refused(root: Path, tmp_path: Path) -> None:
    name = "RfDetrForInstanceSegmentation"
    handler(root, SEGFORMER)
    handler(root, name)
    with pytest.raises(StartupError, match="SegformerForSemanticSegmentation can only do semantic, got instance"):
        Segmentation(config(tmp_path), model_path=str(root / SEGFORMER), segmentation="instance")
    with pytest.raises(StartupError, match="RfDetrForInstanceSegmentation can only do instance, got semantic"):
        Segmentation(config(tmp_path), model_path=str(root / name), segmentation="semantic")


def test_the_best_class_of_each_pixel_is_that_of_all_maps_at_once() -> None:
    maps = np.random.default_rng(0).standard_normal((40, 12, 16)).astype(np.float32)
    maps[7] -= 20  # nowhere the best
    expected = interpolate(torch.from_numpy(maps)[None], (90, 130), mode="bilinear")[0].argmax(0).numpy()
    np.testing.assert_array_equal(best_classes(maps, (90, 130)), expected)
