"""Masks from the models of transformers for segmentation, made from their raw outputs.

The library's own post-processing gives each pixel to one object; here objects that overlap are whole.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from common.config import FunctionConfig
from common.errors import StartupError
from common.networks.huggingface.architectures import SEMANTIC
from common.networks.huggingface.class_maps import class_masks
from common.networks.huggingface.handler import TransformersHandler
from common.networks.huggingface.network import Answer
from common.networks.huggingface.queries import class_scores, sigmoid, softmax
from common.networks.huggingface.task_text import task_tokens
from common.networks.mask_logits import bitmap_of_logits, resized
from common.networks.results import Found
from common.shapes import Mask

_SEGMENTATIONS = ("auto", "instance", "panoptic", "semantic")
_OF_BOXES = ("DetrForSegmentation", "RfDetrForInstanceSegmentation")  # detectors with masks beside their boxes


class Segmentation(TransformersHandler):
    """Masks: one for each object that a query of the model finds, or one for each class.

    Args:
        config: As for every model of transformers.
        variant: As for every model of transformers.
        model_path: As for every model of transformers.
        device: As for every model of transformers.
        precision: As for every model of transformers.
        labels_by: As for every model of transformers.
        segmentation: instance: a mask for each object; semantic: one for each class in the image; panoptic: as instance,
            and OneFormer is asked for surfaces such as the sky too; auto: semantic for models that know nothing else.
        max_det: The most masks of an image.
    """

    task = "segment"

    def __init__(
        self,
        config: FunctionConfig,
        *,
        variant: str | None = None,
        model_path: str | None = None,
        device: str = "cpu",
        precision: str = "f32",
        labels_by: str = "name",
        segmentation: str = "auto",
        max_det: int = 300,
    ):
        expected = f"one of {', '.join(_SEGMENTATIONS)}"
        StartupError.check(segmentation in _SEGMENTATIONS, "SEGMENTATION", expected, segmentation)
        StartupError.check(max_det >= 1, "MAX_DET", "a whole number of 1 or more", max_det)
        super().__init__(
            config, variant=variant, model_path=model_path, device=device, precision=precision, labels_by=labels_by
        )
        architecture = self.network.architecture
        only_semantic = SEMANTIC in architecture
        if segmentation == "auto":
            segmentation = "semantic" if only_semantic else "instance"
        if only_semantic != (segmentation == "semantic") and (only_semantic or architecture in _OF_BOXES):
            fitting = "semantic" if only_semantic else "instance"
            raise StartupError(f"SEGMENTATION: {architecture} can only do {fitting}, got {segmentation}")
        if architecture == "OneFormerForUniversalSegmentation":
            self.network.give_always("task_inputs", task_tokens(self.network.folder, segmentation))
        self._semantic, self._most = segmentation == "semantic", max_det

    def _fields(self) -> tuple[str, ...]:
        if SEMANTIC in self.network.architecture:
            return ("logits",)
        if self.network.architecture in _OF_BOXES:
            return ("logits", "pred_masks")
        return ("class_queries_logits", "masks_queries_logits")

    def _found(self, answer: Answer, threshold: float) -> Found:
        if not self._semantic:
            return self._objects(answer, threshold)
        if SEMANTIC in self.network.architecture:
            maps = answer.outputs["logits"]
            probabilities = np.moveaxis(softmax(np.moveaxis(maps, 0, -1)), -1, 0)
        else:
            classes, masks = (answer.outputs[name] for name in self._fields())
            queries = softmax(classes)[:, :-1]
            planes = sigmoid(np.stack([_inner(mask, answer) for mask in masks]))
            maps = probabilities = np.einsum("qc,qhw->chw", queries, planes)
        return class_masks(maps, probabilities, answer.image_hw, threshold)

    def _objects(self, answer: Answer, threshold: float) -> Found:
        """A mask for each query that is an object; one at a time at the size of the image."""
        logits, planes = (answer.outputs[name] for name in self._fields())
        scored = class_scores(logits, self.network.architecture, threshold, self._most)
        found: list[tuple[float, int, Mask]] = []
        for query, index, score in zip(*(each.tolist() for each in scored.columns), strict=True):
            # RF-DETR's masks are of the whole image; those of the others lie in the padded input, finer than they are given.
            direct = self.network.architecture == "RfDetrForInstanceSegmentation"
            plane = planes[query] if direct else _inner(planes[query], answer)
            if self.network.architecture not in _OF_BOXES:
                score *= _certainty(plane)
            if score >= threshold and (plane > 0).any():
                mask = Mask.from_full(bitmap_of_logits(plane, answer.image_hw))
                if mask.bitmap.size:
                    found.append((score, index, mask))
        found.sort(key=lambda each: -each[0])
        return Found(
            np.array([score for score, _, _ in found], np.float32),
            np.array([index for _, index, _ in found], np.int64),
            np.array([mask.box_xyxy for _, _, mask in found], np.float64).reshape(-1, 4),
            masks=tuple(mask for _, _, mask in found),
        )


def _inner(plane: NDArray[np.float32], answer: Answer) -> NDArray[np.float32]:
    """A map of the padded input, in the input's pixels, without the padding."""
    height, width = answer.inner_hw
    return np.ascontiguousarray(resized(plane, answer.input_hw)[:height, :width])


def _certainty(plane: NDArray[np.float32]) -> float:
    """The mean probability of the pixels of a mask, 0 to 1."""
    inside = plane[plane > 0]
    return float(sigmoid(inside).mean()) if inside.size else 0.0
