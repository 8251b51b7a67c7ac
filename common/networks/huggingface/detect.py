"""Boxes from the models of transformers for object detection."""

from __future__ import annotations

import numpy as np

from common.config import FunctionConfig
from common.errors import StartupError
from common.networks.huggingface.handler import TransformersHandler
from common.networks.huggingface.network import Answer
from common.networks.huggingface.queries import class_scores
from common.networks.results import Found


class Detection(TransformersHandler):
    """Boxes; every query of the model gives one for each of its classes that is likely enough, and none is suppressed.

    Args:
        config: As for every model of transformers.
        variant: As for every model of transformers.
        model_path: As for every model of transformers.
        device: As for every model of transformers.
        precision: As for every model of transformers.
        labels_by: As for every model of transformers.
        max_det: The most boxes of an image.
    """

    task = "detect"

    def __init__(
        self,
        config: FunctionConfig,
        *,
        variant: str | None = None,
        model_path: str | None = None,
        device: str = "cpu",
        precision: str = "f32",
        labels_by: str = "name",
        max_det: int = 300,
    ):
        StartupError.check(max_det >= 1, "MAX_DET", "a whole number of 1 or more", max_det)
        super().__init__(
            config, variant=variant, model_path=model_path, device=device, precision=precision, labels_by=labels_by
        )
        self._most = max_det

    def _fields(self) -> tuple[str, ...]:
        return ("logits", "pred_boxes")

    def _found(self, answer: Answer, threshold: float) -> Found:
        return boxes_found(answer, self.network.architecture, threshold, self._most)


def boxes_found(answer: Answer, architecture: str, threshold: float, most: int) -> Found:
    """The boxes of an image, the highest score first.

    Args:
        answer: Of the model, with logits and pred_boxes.
        architecture: The model's class in transformers.
        threshold: The lowest score, 0 to 1.
        most: How many at most.

    Returns:
        Boxes inside the image, none of them empty.
    """
    scored = class_scores(answer.outputs["logits"], architecture, threshold, most)
    centers, sizes = np.split(answer.outputs["pred_boxes"][scored.queries].astype(np.float64), 2, axis=1)
    height, width = answer.image_hw
    corners = np.concatenate([centers - sizes / 2, centers + sizes / 2], axis=1)
    boxes = np.clip(corners, 0, 1) * [width, height, width, height]
    some = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return Found(scored.scores[some], scored.classes[some], boxes[some])
