"""A model of a folder with its preprocessing on a device: images in, raw outputs out."""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from common.config import FunctionConfig
from common.errors import BadRequest, StartupError, describe
from common.networks.engine import PRECISIONS, torch_device
from common.networks.huggingface.architectures import served, task_of
from common.networks.huggingface.folder import TIMM, ModelFolder, class_names
from common.networks.runtime import keep_freed_memory, threads_per_worker
from common.networks.weights import locate
from common.protocol import Image

_LOG = logging.getLogger(__name__)
_NARROW = 20  # times as long as wide: there the shorter side may become 0 pixels
_INPUTS = ("pixel_values", "pixel_mask", "task_inputs")  # of all models that are served
_UNUSED = {
    # Read by the training alone, which compares the queries with a text.
    "OneFormerForUniversalSegmentation": (r"(^|\.)text_mapper\.",),
}
_PROCESSING = {
    # A file on the hub with names that only its post-processing reads.
    "OneFormerForUniversalSegmentation": {"class_info_file": None},
}


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What a model says about one image."""

    outputs: Mapping[str, NDArray[np.float32]]
    """The model's outputs by their names in transformers, without the axis of the batch."""
    image_hw: tuple[int, int]
    """Height and width of the image in pixels."""
    input_hw: tuple[int, int]
    """Height and width of the model's input."""
    inner_hw: tuple[int, int]
    """Height and width of the image in the input, from its top left corner; the rest is padding."""


class Network:
    """A model that is loaded whole, ready to run.

    Args:
        config: The function's function.yaml.
        task: detect, segment or classify; the model must be for it.
        variant: A name in weights.yaml.
        model_path: A folder that takes precedence over it.
        device: cpu, cuda or cuda:<number>.
        precision: f32, bf16 or f16, of the arithmetic.

    Raises:
        StartupError: An option is wrong, or the folder can't be used.
    """

    def __init__(
        self,
        config: FunctionConfig,
        task: str,
        *,
        variant: str | None = None,
        model_path: str | None = None,
        device: str = "cpu",
        precision: str = "f32",
    ):
        import torch

        StartupError.check(precision in PRECISIONS, "PRECISION", f"one of {', '.join(PRECISIONS)}", precision)
        threads = threads_per_worker(config.workers)
        torch.set_num_threads(threads)
        self._device = torch_device(device)
        if self._device.type == "cpu":
            keep_freed_memory()
        folder = ModelFolder.open(locate(config, variant, model_path))
        self.architecture = checked_architecture(folder, task)
        """The model's class in transformers."""
        model = folder.load_model(self.architecture, unused=_UNUSED.get(self.architecture, ()))
        self._model = model.to(self._device)
        self._taken = set(inspect.signature(model.forward).parameters)
        self._processor = folder.load_image_processor(**_PROCESSING.get(self.architecture, {}))
        taken = set(getattr(self._processor, "model_input_names", _INPUTS))
        if not taken <= set(_INPUTS):
            raise StartupError(
                f"{folder.path}: {self.architecture} also takes {', '.join(sorted(taken - set(_INPUTS)))}: such models are not served"
            )
        if getattr(self._processor, "do_split_image", False):
            raise StartupError(
                f"{folder.path}: the model sees an image in several parts (do_split_image), as EoMT's models of semantic "
                "segmentation do; these are not served"
            )
        self._further: dict[str, Any] = {}
        self._dtype = {"f32": None, "bf16": torch.bfloat16, "f16": torch.float16}[precision]
        self.folder = folder
        """Where the model came from."""
        self.config: Any = model.config
        """The model's configuration in transformers."""
        where = f"CPU, {threads} threads" if self._device.type == "cpu" else str(self._device)
        _LOG.info(
            "%s of %s: torch %s on %s, %s", self.architecture, folder.path.name, torch.__version__, where, precision
        )

    @property
    def names(self) -> tuple[str, ...] | None:
        """The names of the model's classes by index; None when it has none."""
        return class_names({"id2label": self.config.id2label}, str(self.folder.path))

    def give_always(self, name: str, value: Any) -> None:
        """Gives the model a further input with every image.

        Args:
            name: The input's name.
            value: A tensor whose first axis is the batch, of length 1.
        """
        self._further[name] = value.to(self._device)

    def run(self, images: Sequence[Image], fields: Sequence[str]) -> list[Answer]:
        """The model's outputs for some images; those whose inputs have the same size go through it together.

        Args:
            images: (H, W, 3) uint8 RGB each.
            fields: The names of the outputs that are wanted.

        Returns:
            The answers in the order of the images.
        """
        inputs = [self._prepare(image) for image in images]
        alike: dict[tuple[int, ...], list[int]] = {}
        for i, each in enumerate(inputs):
            alike.setdefault(tuple(each["pixel_values"].shape), []).append(i)
        found: dict[int, Answer] = {}
        for indices in alike.values():
            outputs = self._forward([inputs[i] for i in indices], fields)
            for row, i in enumerate(indices):
                image_hw = images[i].shape[0], images[i].shape[1]
                values = {name: value[row] for name, value in outputs.items()}
                found[i] = Answer(values, image_hw, *self._sizes(inputs[i], image_hw))
        return [found[i] for i in range(len(images))]

    def _prepare(self, image: Image) -> dict[str, Any]:
        """The library's own preprocessing of an image."""
        import torch

        try:
            if self.architecture == TIMM:  # timm resizes pictures, not arrays
                return {
                    "pixel_values": self._processor(PillowImage.fromarray(image), return_tensors="pt")["pixel_values"]
                }
            pixels = torch.from_numpy(np.require(image, requirements=["C", "W"]))
            prepared = self._processor(images=pixels, input_data_format="channels_last", return_tensors="pt")
        except (ValueError, RuntimeError) as error:
            height, width = image.shape[:2]
            if max(height, width) < _NARROW * min(height, width):
                raise
            raise BadRequest(
                f"image: {width} x {height} pixels can't be resized for this model: it is too narrow"
            ) from error
        return {name: prepared[name] for name in ("pixel_values", "pixel_mask") if name in prepared}

    def _forward(self, inputs: Sequence[dict[str, Any]], fields: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        import torch

        batch = {
            name: torch.cat([each[name] for each in inputs]).to(self._device)
            for name in inputs[0]
            if name in self._taken
        }
        further = {name: value.expand(len(inputs), *value.shape[1:]) for name, value in self._further.items()}
        narrow = torch.autocast(self._device.type, dtype=self._dtype) if self._dtype else contextlib.nullcontext()
        with torch.inference_mode(), narrow:
            outputs = self._model(**batch, **further)
        return {name: outputs[name].float().cpu().numpy() for name in fields}

    def _sizes(self, inputs: Mapping[str, Any], image_hw: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
        """(height, width) of the input, and of the image in it."""
        height, width = inputs["pixel_values"].shape[-2:]
        mask = inputs.get("pixel_mask")
        if mask is not None:
            rows, columns = mask[0].any(dim=1).sum(), mask[0].any(dim=0).sum()
            return (height, width), (int(rows), int(columns))
        size = getattr(self._processor, "size", None)
        if getattr(self._processor, "do_pad", False) and size is not None and size.shortest_edge and size.longest_edge:
            from transformers.image_transforms import get_size_with_aspect_ratio  # padding without a mask of it: EoMT

            inner = get_size_with_aspect_ratio(image_hw, size.shortest_edge, size.longest_edge)
            return (height, width), (min(int(inner[0]), height), min(int(inner[1]), width))
        return (height, width), (height, width)


def checked_architecture(folder: ModelFolder, task: str) -> str:
    """The class of a folder's model.

    Args:
        folder: The model's.
        task: What it has to be for: detect, segment or classify.

    Returns:
        The name of its class in transformers.

    Raises:
        StartupError: It is for something else, or is not served; with what is.
    """
    name = folder.architecture
    found = task_of(name)
    if found == task:
        return name
    if found:
        raise StartupError(
            f"{folder.path}: a model of {name} is for the function pytorch/huggingface/{found}; this one ({task}) serves "
            f"{served(task)}"
        )
    raise StartupError(
        f"{folder.path}: config.json: architectures: expected {served(task)}; got {describe(name) if name else 'nothing'}"
    )
