"""Boxes of every architecture against the library's own processing of the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from common.config import FunctionConfig
from common.errors import BadRequest, StartupError
from common.networks.huggingface.architectures import DETECT
from common.networks.huggingface.detect import Detection
from common.networks.huggingface.queries import class_scores
from common.shapes import Rectangle, Shape
from tests.common.networks.huggingface.tiny_models import NAMES, save_tiny, transformers
from tests.functions import write_function

_POST_PROCESSING = {  # the library's for this architecture, whatever the published folders name
    "DFineForObjectDetection": "RTDetrImageProcessor",
    "DabDetrForObjectDetection": "ConditionalDetrImageProcessor",
    "Deimv2ForObjectDetection": "RTDetrImageProcessor",
    "LwDetrForObjectDetection": "DeformableDetrImageProcessor",
    "RTDetrV2ForObjectDetection": "RTDetrImageProcessor",
    "TableTransformerForObjectDetection": "DetrImageProcessor",
}
SIZES_HW = [(150, 200), (120, 90)]


class Models:
    """Models and handlers of all architectures, each made once."""

    def __init__(self, root: Path):
        self.root = root
        self._models: dict[str, Any] = {}
        self._handlers: dict[str, Detection] = {}

    def folder(self, architecture: str) -> Path:
        if architecture not in self._models:
            self._models[architecture] = save_tiny(architecture, self.root / architecture)
        return self.root / architecture

    def original(self, architecture: str) -> Any:
        """The model that was saved, as it was in memory."""
        self.folder(architecture)
        return self._models[architecture]

    def handler(self, architecture: str) -> Detection:
        if architecture not in self._handlers:
            function = config(self.root / f"{architecture} function")
            self._handlers[architecture] = Detection(function, model_path=str(self.folder(architecture)))
        return self._handlers[architecture]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(tmp_path_factory.mktemp("detectors"))


def config(folder: Path, names: tuple[str, ...] = NAMES) -> FunctionConfig:
    labels = [{"id": i, "name": name, "type": "rectangle"} for i, name in enumerate(names)]
    return FunctionConfig.load(write_function(folder, labels=labels))


def blocks(seed: int, size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Coarse random colours."""
    height, width = size_hw
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), np.uint8)
    return coarse[np.arange(height) * 9 // height][:, np.arange(width) * 12 // width]


def reference(models: Models, architecture: str, image: NDArray[np.uint8], threshold: float) -> list[tuple[Any, ...]]:
    """(class, score, box) by the library alone, boxes cut at the edges of the image, the highest score first."""
    model = models.original(architecture)
    processor = transformers.AutoImageProcessor.from_pretrained(models.folder(architecture))
    inputs = processor(images=image, return_tensors="pt")
    if architecture == "YolosForObjectDetection":
        inputs.pop("pixel_mask")
    with torch.no_grad():
        outputs = model(**inputs)
    name = _POST_PROCESSING.get(architecture, architecture.replace("ForObjectDetection", "ImageProcessor"))
    more = {"top_k": outputs.logits.shape[1]} if "topk" in name or name.startswith(("Cond", "Deform")) else {}
    (found,) = getattr(transformers, name)().post_process_object_detection(
        outputs, threshold=threshold, target_sizes=[image.shape[:2]], **more
    )
    height, width = image.shape[:2]
    order = found["scores"].argsort(descending=True, stable=True)
    boxes = found["boxes"][order].numpy().clip(0, [width, height, width, height])
    rows = zip(found["labels"][order].tolist(), found["scores"][order].tolist(), boxes, strict=True)
    return [(NAMES[label], score, box) for label, score, box in rows if box[2] > box[0] and box[3] > box[1]]


def compare(shapes: list[Shape], expected: list[tuple[Any, ...]]) -> None:
    """Each shape is one of those expected; two whose scores differ by rounding alone may change places."""
    assert len(shapes) == len(expected)
    np.testing.assert_allclose([shape.score for shape in shapes], [score for _, score, _ in expected], atol=1e-4)
    rest = list(expected)
    for shape in shapes:
        assert isinstance(shape, Rectangle)
        alike = [row for row in rest if row[0] == shape.label and abs(row[1] - (shape.score or 0)) < 1e-4]
        distance, nearest = min(
            (float(np.abs(np.subtract(shape.box_xyxy, row[2])).max()), i)
            for i, row in enumerate(rest)
            if any(row is each for each in alike)
        )
        assert distance < 0.05
        del rest[nearest]


@pytest.mark.parametrize("architecture", DETECT)
def test_boxes_are_the_librarys(models: Models, architecture: str) -> None:
    handler = models.handler(architecture)
    images = [blocks(i, size) for i, size in enumerate(SIZES_HW)]
    for image in images:
        everything = reference(models, architecture, image, 0.0)
        assert len(everything) > 3
        compare(handler.infer(image, 0.0), everything)
        threshold = float(np.mean([score for _, score, _ in everything]))
        some = [row for row in everything if row[1] >= threshold]
        assert 0 < len(some) < len(everything)
        compare(handler.infer(image, threshold), some)


@pytest.mark.parametrize("architecture", ["DFineForObjectDetection", "DetrForObjectDetection"])
def test_several_images_at_a_time_give_what_each_gives_alone(models: Models, architecture: str) -> None:
    handler = models.handler(architecture)
    images = [blocks(i, SIZES_HW[i % 2]) for i in range(5)]
    for together, image in zip(handler.infer_batch(images, 0.0), images, strict=True):
        alone = [(shape.label, shape.score, shape.box_xyxy) for shape in handler.infer(image, 0.0)]  # type: ignore[attr-defined]
        assert alone
        compare(together, alone)


def test_a_class_without_a_label_is_left_out_and_max_det_keeps_the_best(models: Models, tmp_path: Path) -> None:
    folder, image = models.folder("DetrForObjectDetection"), blocks(0, SIZES_HW[0])
    everything = models.handler("DetrForObjectDetection").infer(image, 0.0)
    some = Detection(config(tmp_path / "some", ("dog", "person")), model_path=str(folder)).infer(image, 0.0)
    assert [(s.label, s.score) for s in some] == [(s.label, s.score) for s in everything if s.label != "car"]
    best = Detection(config(tmp_path / "best"), model_path=str(folder), max_det=3).infer(image, 0.0)
    assert [s.score for s in best] == [s.score for s in everything[:3]]


def test_labels_can_be_given_by_the_index_of_their_class(models: Models, tmp_path: Path) -> None:
    folder, image = models.folder("DetrForObjectDetection"), blocks(0, SIZES_HW[0])
    everything = models.handler("DetrForObjectDetection").infer(image, 0.0)
    renamed = Detection(config(tmp_path / "id", ("man", "van", "hound")), model_path=str(folder), labels_by="id")
    other = dict(zip(NAMES, ("man", "van", "hound"), strict=True))
    assert [s.label for s in renamed.infer(image, 0.0)] == [other[s.label] for s in everything]
    with pytest.raises(StartupError, match="the model has no class named man, van, hound"):
        Detection(config(tmp_path / "name", ("man", "van", "hound")), model_path=str(folder))


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 3), (30, 4)])
@pytest.mark.parametrize("architecture", ["DetrForObjectDetection", "RfDetrForObjectDetection"])
def test_boxes_are_inside_images_of_any_size(models: Models, architecture: str, size_hw: tuple[int, int]) -> None:
    found = models.handler(architecture).infer(np.full((*size_hw, 3), 100, np.uint8), 0.0)
    assert found
    for shape in found:
        left, top, right, bottom = shape.box_xyxy  # type: ignore[attr-defined]
        assert 0 <= left < right <= size_hw[1]
        assert 0 <= top < bottom <= size_hw[0]


def test_an_image_that_would_lose_its_width_is_refused_by_name(models: Models) -> None:
    image = np.full((400, 2, 3), 100, np.uint8)
    assert models.handler("RfDetrForObjectDetection").infer(image, 0.0), "stretched to a square"
    with pytest.raises(BadRequest, match="image: 2 x 400 pixels can't be resized for this model: it is too narrow"):
        models.handler("DetrForObjectDetection").infer(image, 0.0)


def test_half_precision_gives_nearly_the_same(models: Models, tmp_path: Path) -> None:
    folder, image = str(models.folder("DetrForObjectDetection")), blocks(0, SIZES_HW[0])
    exact = models.handler("DetrForObjectDetection").infer(image, 0.0)
    rough = Detection(config(tmp_path), model_path=folder, precision="bf16").infer(image, 0.0)
    scores = [shape.score for shape in exact]
    np.testing.assert_allclose(sorted(scores), sorted(shape.score for shape in rough), atol=0.1)  # type: ignore[type-var]
    assert scores != [shape.score for shape in rough]
    with pytest.raises(StartupError, match="PRECISION: expected one of f32, bf16, f16"):
        Detection(config(tmp_path), model_path=folder, precision="int8")


def test_a_score_at_the_threshold_counts() -> None:
    logits = np.array([[0.0, -9.0], [1.0, 2.0]], np.float32)
    scored = class_scores(logits, "DFineForObjectDetection", 0.5, 300)
    assert [*zip(scored.queries.tolist(), scored.classes.tolist(), strict=True)] == [
        (1, 1),
        (1, 0),
    ]  # two at most for two
    assert class_scores(logits[:1], "DFineForObjectDetection", 0.5, 300).scores.tolist() == [0.5]


def test_a_folder_for_another_function_is_named(tmp_path: Path) -> None:
    save_tiny("ViTForImageClassification", tmp_path / "vit")
    with pytest.raises(
        StartupError, match="ViTForImageClassification is for the function pytorch/huggingface/classify"
    ):
        Detection(config(tmp_path / "f"), model_path=str(tmp_path / "vit"))
