"""Tags from the models of transformers for image classification."""

from __future__ import annotations

import numpy as np

from common.config import FunctionConfig
from common.errors import StartupError
from common.networks.huggingface.handler import TransformersHandler
from common.networks.huggingface.network import Answer
from common.networks.huggingface.queries import sigmoid, softmax
from common.networks.results import Found


class Classification(TransformersHandler):
    """The likeliest classes of the whole image as tags.

    Args:
        config: As for every model of transformers.
        variant: As for every model of transformers.
        model_path: As for every model of transformers.
        device: As for every model of transformers.
        precision: As for every model of transformers.
        labels_by: As for every model of transformers.
        top: The most tags of an image.
    """

    task = "classify"

    def __init__(
        self,
        config: FunctionConfig,
        *,
        variant: str | None = None,
        model_path: str | None = None,
        device: str = "cpu",
        precision: str = "f32",
        labels_by: str = "name",
        top: int = 5,
    ):
        StartupError.check(top >= 1, "TOP", "a whole number of 1 or more", top)
        super().__init__(
            config, variant=variant, model_path=model_path, device=device, precision=precision, labels_by=labels_by
        )
        problem = getattr(self.network.config, "problem_type", None)
        if problem == "regression":
            raise StartupError(
                f"{self.network.folder.path}: the model was trained to give a number (regression), not classes"
            )
        # A single class is present or not; a softmax over it would always be 1.
        self._independent = problem == "multi_label_classification" or self.network.config.num_labels == 1
        self._top = top

    def _fields(self) -> tuple[str, ...]:
        return ("logits",)

    def _found(self, answer: Answer, threshold: float) -> Found:
        logits = answer.outputs["logits"]
        scores = sigmoid(logits) if self._independent else softmax(logits)
        best = np.argsort(-scores, kind="stable")[: self._top]
        best = best[scores[best] >= threshold]
        return Found(scores[best], best)
