"""Models of transformers that describe images, such as DINOv2, as a reid handler."""

from __future__ import annotations

import contextlib
import inspect
import itertools
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.config import FunctionConfig
from common.errors import StartupError, describe
from common.networks.embedding import unit_rows
from common.networks.engine import PRECISIONS, torch_device
from common.networks.formats.image_input import read_size
from common.networks.huggingface.folder import ModelFolder, architecture
from common.networks.huggingface.library import offline_transformers
from common.networks.runtime import threads_per_worker
from common.networks.weights import locate
from common.protocol import Image
from common.vision.geometry import pixels_of_box

_LOG = logging.getLogger(__name__)
POOLINGS = ("auto", "pooled", "cls", "mean")
_MOST_AT_ONCE = 16  # pictures; bounds the memory of a request with hundreds of boxes
_SERVED = ("Model", "ForImageClassification", "ForMaskedImageModeling")  # the ends of architectures' names
_DETECTORS = ("num_queries", "num_detection_tokens")  # in the configuration of models that find objects
_TOLERANCE = {"f32": 1e-3, "bf16": 0.1, "f16": 0.02}  # of two runs of the model, as a part of the largest value


class TransformersEmbedding:
    """Describes boxes with a model of transformers.

    Each argument but `config` is an option of that name.

    Args:
        config: The function's function.yaml.
        model_path: A folder as published on the Hugging Face hub, in place of a variant.
        variant: A name in the function's weights.yaml.
        pooling: What the descriptor is: pooled, the model's own; cls, its class token; mean, of all its tokens; auto: the
            first of these that it has.
        image_size: "224x112" (height x width), to which the boxes are stretched; None: the size that the folder says.
        device: cpu, cuda or cuda:<number>.
        precision: f32, bf16 or f16, of the arithmetic.

    Raises:
        StartupError: An option is wrong, or the folder's model doesn't describe images.
    """

    def __init__(
        self,
        config: FunctionConfig,
        *,
        model_path: str | None = None,
        variant: str | None = None,
        pooling: str = "auto",
        image_size: str | None = None,
        device: str = "cpu",
        precision: str = "f32",
    ):
        import torch

        StartupError.check(pooling in POOLINGS, "POOLING", f"one of {', '.join(POOLINGS)}", pooling)
        StartupError.check(precision in PRECISIONS, "PRECISION", f"one of {', '.join(PRECISIONS)}", precision)
        wanted_hw = read_size(image_size, stride=1)
        torch.set_num_threads(threads_per_worker(config.workers))
        self._device = torch_device(device)
        self._dtype = {"f32": None, "bf16": torch.bfloat16, "f16": torch.float16}[precision]
        folder = ModelFolder.open(locate(config, variant, model_path))
        self._model = _describing(folder).to(self._device)
        self._processor = folder.load_image_processor()
        self._size_hw = wanted_hw or _usual_size(folder, self._processor)
        self._pooling, self._tolerance = pooling, _TOLERANCE[precision]
        self._try_out(folder)

    def embed(self, image: Image, boxes_xyxy: NDArray[np.float64]) -> NDArray[np.float32]:
        """Descriptors of the parts of boxes that lie inside the image.

        Args:
            image: (H, W, 3) uint8 RGB.
            boxes_xyxy: (N, 4), N of 1 or more; a box without a pixel inside gets the descriptor of the nearest pixel.

        Returns:
            (N, D) float32 of unit length.
        """
        parts, rows = _parts(image, boxes_xyxy), []
        while batch := list(itertools.islice(parts, _MOST_AT_ONCE)):
            rows.append(self._describe(batch))
        return unit_rows(np.concatenate(rows))

    def _describe(self, parts: list[Image]) -> NDArray[np.float32]:
        """(N, D) descriptors of parts of an image, of any length."""
        import torch

        height, width = self._size_hw
        pixels = self._processor(
            images=[torch.from_numpy(part).permute(2, 0, 1) for part in parts],
            input_data_format="channels_first",
            do_resize=True,
            size={"height": height, "width": width},
            do_center_crop=False,
            return_tensors="pt",
        )["pixel_values"].to(self._device)
        narrow = torch.autocast(self._device.type, dtype=self._dtype) if self._dtype else contextlib.nullcontext()
        with torch.inference_mode(), narrow:
            rows = self._pooled(pixels)
        return np.asarray(rows.float().cpu().numpy())

    def _pooled(self, pixels: Any) -> Any:
        """(N, D) of the model's answer to (N, 3, height, width)."""
        if self._pooling in ("auto", "pooled") and hasattr(self._model, "get_image_features"):
            answer = self._model.get_image_features(pixel_values=pixels)
            return getattr(answer, "pooler_output", answer)
        vision = getattr(self._model, "vision_model", self._model)
        takes_sizes = "interpolate_pos_encoding" in inspect.signature(vision.forward).parameters
        answer = vision(pixel_values=pixels, **({"interpolate_pos_encoding": True} if takes_sizes else {}))
        pooled, tokens = getattr(answer, "pooler_output", None), answer.last_hidden_state
        if self._pooling == "pooled" and pooled is None:
            raise StartupError(f"POOLING: {type(self._model).__name__} has no pooled output: expected cls or mean")
        if self._pooling in ("auto", "pooled") and pooled is not None:
            return pooled.flatten(1)
        if tokens.ndim == 4:
            if self._pooling == "cls":
                raise StartupError(f"POOLING: {type(self._model).__name__} has no class token: expected pooled or mean")
            return tokens.mean(dim=(2, 3))
        has_class_token = any(name.endswith("cls_token") for name, _ in vision.named_parameters())
        if self._pooling == "cls" and not has_class_token:
            raise StartupError(f"POOLING: {type(self._model).__name__} has no class token: expected pooled or mean")
        return tokens[:, 0] if self._pooling != "mean" and has_class_token else tokens.mean(dim=1)

    def _try_out(self, folder: ModelFolder) -> None:
        """Runs the model on noise. Raises StartupError when its answers can't be descriptors."""
        random = np.random.default_rng(0)
        parts = [random.integers(0, 256, (*self._size_hw, 3), np.uint8) for _ in range(2)]
        name = type(self._model).__name__
        try:
            rows, again = self._describe(parts), self._describe(parts[:1])
        except StartupError:
            raise
        except Exception as error:  # each model has its own
            height, width = self._size_hw
            raise StartupError(
                f"{folder.path}: {name} can't describe pictures of {width} x {height}: {' '.join(str(error).split())[:250]}"
            ) from error
        usable = rows.ndim == 2 and len(rows) == 2 and rows.shape[1] > 1 and np.isfinite(rows).all()
        if not usable or not np.allclose(rows[:1], again, atol=self._tolerance * max(float(np.abs(rows).max()), 1e-6)):
            raise StartupError(
                f"{folder.path}: {name} gives no descriptors: expected (2, D) finite numbers, the same in every run, for two "
                f"pictures, got an array of shape {rows.shape}"
            )
        size = f"{self._size_hw[1]} x {self._size_hw[0]}"
        _LOG.info("%s of %s: descriptors of %d numbers, input %s", name, folder.path.name, rows.shape[1], size)


def check_describes(config: Mapping[str, Any], where: str) -> str:
    """Checks that a model describes images, by what its config.json says; needs neither torch nor transformers.

    Args:
        config: The content of that file.
        where: What a message calls the model.

    Returns:
        The name of the model's class in transformers.

    Raises:
        StartupError: It is for something else.
    """
    name = architecture(config) or "AutoModel"
    if name.endswith(_SERVED) and not any(key in config for key in _DETECTORS):
        return name
    raise StartupError(
        f"{where}: config.json: architectures: expected a model that describes images, such as Dinov2Model, or any "
        f"...ForImageClassification; got {describe(name)}"
    )


def _describing(folder: ModelFolder) -> Any:
    """The model of a folder without a head, loaded whole. Raises StartupError when it doesn't describe images."""
    name = check_describes(folder.config, str(folder.path))
    if not hasattr(offline_transformers(), name):
        raise StartupError(f"{folder.path}: config.json: architectures: transformers has no {name}")
    # Loaded as it was saved, so that every tensor has its place; a classifier's last layers are then left out.
    loaded = folder.load_model(name)
    model = loaded if name.endswith("Model") else loaded.base_model
    if hasattr(model, "get_image_features"):
        return model
    if "pixel_values" not in inspect.signature(model.forward).parameters:
        raise StartupError(f"{folder.path}: {name} takes no images")
    return model


def _usual_size(folder: ModelFolder, processor: Any) -> tuple[int, int]:
    """Height and width of what the model sees of a picture, as the folder's preprocessing says. Raises StartupError."""
    crops = getattr(processor, "do_center_crop", None) and getattr(processor, "crop_size", None)
    size: Any = processor.crop_size if crops else processor.size
    height, width = size.get("height"), size.get("width")
    if height and width:
        return int(height), int(width)
    if side := size.get("shortest_edge"):
        return int(side), int(side)
    raise StartupError(f"{folder.path}: the preprocessing says no size: set IMAGE_SIZE, such as 224x224")


def _parts(image: Image, boxes_xyxy: NDArray[np.float64]) -> Iterator[Image]:
    """The pixels of an image in each box, at least one; the nearest of a box outside."""
    for box in boxes_xyxy:
        left, top, right, bottom = pixels_of_box(box, image.shape[:2])
        yield np.array(image[top:bottom, left:right])
