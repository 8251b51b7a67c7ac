"""What the ModelHandlers for folders of the Hugging Face hub have in common."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import ClassVar

from common.config import FunctionConfig
from common.errors import StartupError
from common.networks.huggingface.folder import CONFIG
from common.networks.huggingface.network import Answer, Network
from common.networks.results import Found, check_types, class_labels, to_shapes
from common.protocol import Image
from common.shapes import Shape

_LOG = logging.getLogger(__name__)


class TransformersHandler:
    """A model of transformers; subclasses say what its outputs mean.

    Each argument but `config` is an option of that name.

    Args:
        config: The function's function.yaml.
        variant: A name in the function's weights.yaml.
        model_path: A folder as published on the hub, in place of a variant.
        device: cpu, cuda or cuda:<number>.
        precision: f32, bf16 or f16, of the arithmetic.
        labels_by: name: labels are the model's class names; id: their ids are its class indices.

    Raises:
        StartupError: An option is wrong, or the folder can't be used with the function's labels.
    """

    task: ClassVar[str]
    """detect, segment or classify."""

    def __init__(
        self,
        config: FunctionConfig,
        *,
        variant: str | None = None,
        model_path: str | None = None,
        device: str = "cpu",
        precision: str = "f32",
        labels_by: str = "name",
    ):
        StartupError.check(labels_by in ("name", "id"), "LABELS_BY", "name or id", labels_by)
        check_types(config.labels, self.task)
        self.network = Network(
            config, self.task, variant=variant, model_path=model_path, device=device, precision=precision
        )
        names, count = self.network.names, int(self.network.config.num_labels)
        if names is None and labels_by == "name":
            raise StartupError(
                f"{self.network.folder.path / CONFIG}: id2label: there are no class names: if the ids of function.yaml's labels "
                "are the model's class indices, set LABELS_BY=id"
            )
        self._labels = class_labels(config.labels, names, count, labels_by == "id")
        if count > len(self._labels):
            _LOG.warning(
                "The model has %d classes, %d of them have a label; the others are left out", count, len(self._labels)
            )

    def infer(self, image: Image, threshold: float) -> list[Shape]:
        """What the model finds.

        Args:
            image: (H, W, 3) uint8 RGB.
            threshold: The lowest score, 0 to 1.
        """
        (shapes,) = self.infer_batch([image], threshold)
        return shapes

    def infer_batch(self, images: Sequence[Image], threshold: float) -> list[list[Shape]]:
        """As `infer` for several images; those whose inputs have the same size go through the model together.

        Args:
            images: (H, W, 3) uint8 RGB each.
            threshold: The lowest score, 0 to 1.
        """
        answers = self.network.run(images, self._fields())
        return [to_shapes(self._found(answer, threshold), self._labels, 0.0) for answer in answers]

    def _fields(self) -> tuple[str, ...]:
        """The names of the outputs that are read."""
        raise NotImplementedError

    def _found(self, answer: Answer, threshold: float) -> Found:
        """What an answer means."""
        raise NotImplementedError
