"""ViTPose of transformers: joints as the library's own processor has them."""

from __future__ import annotations

import contextlib
import inspect
import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import StartupError, describe
from common.networks.engine import PRECISIONS, torch_device
from common.networks.huggingface.architectures import POSE
from common.networks.huggingface.folder import ModelFolder
from common.networks.normalisation import Normalisation, Triple
from common.networks.top_down.crop import PADDING, BoxCrop
from common.networks.top_down.decoding import decode_udp, smooth_as_transformers
from common.protocol import Image

_MOST_AT_ONCE = 16  # parts of an image; bounds the memory of a crowd


class VitPose:
    """A ViTPose model of a folder as published on the Hugging Face hub.

    Args:
        path: The folder.
        device: cpu, cuda or cuda:<number>.
        precision: f32, bf16 or f16, of the arithmetic.
        dataset_index: Of a ViTPose+, whose experts are for several data sets: which of them is used; None for the first.
        padding: How many times as large as its box the part is that the network sees.

    Raises:
        StartupError: An option is wrong, or the folder has another model.
    """

    def __init__(
        self,
        path: Path,
        *,
        device: str = "cpu",
        precision: str = "f32",
        dataset_index: int | None = None,
        padding: float = PADDING,
    ):
        import torch

        StartupError.check(precision in PRECISIONS, "PRECISION", f"one of {', '.join(PRECISIONS)}", precision)
        StartupError.check(0.5 <= padding <= 4, "PADDING", "a number from 0.5 to 4", padding)
        folder = ModelFolder.open(path)
        if folder.architecture != POSE:
            raise StartupError(
                f"{folder.path}: config.json: architectures: expected {POSE}, got {describe(folder.architecture)}"
            )
        self._device = torch_device(device)
        self._model = folder.load_model(POSE).to(self._device)
        self._dtype = {"f32": None, "bf16": torch.bfloat16, "f16": torch.float16}[precision]
        self._size_hw, self._normalisation = _preparation(folder)
        self._further = self._experts(folder, dataset_index)
        self._padding = padding
        self.joints = int(self._model.config.num_labels)
        """How many joints it finds."""
        self.joint_names = folder.names
        """The names of the joints; None where config.json has none."""

    def crop(self, box_xyxy: NDArray[np.float64]) -> BoxCrop:
        """As `PoseNetwork.crop`.

        Args:
            box_xyxy: 4 numbers.
        """
        return BoxCrop.around(box_xyxy, self._size_hw, padding=self._padding, unbiased=True, sharp=True)

    def joints_in(self, parts: Iterable[Image]) -> NDArray[np.float64]:
        """As `PoseNetwork.joints_in`.

        Args:
            parts: The parts.
        """
        waiting, places = iter(parts), []
        while batch := list(itertools.islice(waiting, _MOST_AT_ONCE)):
            places.append(decode_udp(self._heatmaps(np.stack(batch)), smooth_as_transformers))
        return np.concatenate(places)

    def _heatmaps(self, parts: NDArray[np.uint8]) -> NDArray[np.float32]:
        import torch

        pixels = torch.from_numpy(self._normalisation.planes(parts)).to(self._device)
        narrow = torch.autocast(self._device.type, dtype=self._dtype) if self._dtype else contextlib.nullcontext()
        further = {name: value.expand(len(parts)) for name, value in self._further.items()}
        with torch.inference_mode(), narrow:
            heatmaps = self._model(pixel_values=pixels, **further).heatmaps
        return np.asarray(heatmaps.float().cpu().numpy())

    def _experts(self, folder: ModelFolder, index: int | None) -> dict[str, Any]:
        """What a model with experts takes besides the image. Raises StartupError."""
        import torch

        experts = int(getattr(self._model.config.backbone_config, "num_experts", 1))
        if index is not None and not 0 <= index < experts:
            raise StartupError(
                f"DATASET_INDEX: {folder.path.name} has experts for {experts} data sets: expected a number from 0 to {experts - 1}, "
                f"got {index}"
            )
        if experts == 1 or "dataset_index" not in inspect.signature(self._model.forward).parameters:
            return {}
        return {"dataset_index": torch.tensor([index or 0], device=self._device)}


def _preparation(folder: ModelFolder) -> tuple[tuple[int, int], Normalisation]:
    """Height and width of the input, and the normalisation, as the folder's preprocessing says. Raises StartupError."""
    processor = folder.load_image_processor()
    size: Any = processor.size
    height, width = int(size["height"]), int(size["width"])
    factor = float(processor.rescale_factor) if processor.do_rescale else 1.0
    if not processor.do_normalize:
        return (height, width), Normalisation(False, (0, 0, 0), _triple([1 / factor] * 3))
    mean, deviation = np.array(processor.image_mean, float), np.array(processor.image_std, float)
    return (height, width), Normalisation(False, _triple(mean / factor), _triple(deviation / factor))


def _triple(values: Any) -> Triple:
    first, second, third = (float(value) for value in values)
    return first, second, third
