"""The image input of a model file: its place, size and type, from what the file declares."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import StartupError
from common.networks.engine import Tensor
from common.networks.formats.metadata import Metadata

_DEFAULT_SIDE = 640
_STRIDE = 32


@dataclass(frozen=True, slots=True)
class ImageInput:
    """The input that takes the image, (batch, channels, height, width)."""

    index: int
    """Which of the inputs it is."""
    batch: int
    """How many images it takes at once; the first is used."""
    channels: int
    """3 for colour, 1 for grey."""
    size_hw: tuple[int, int]
    """Height and width, pixels."""
    dtype: np.dtype[Any]
    """Type of its values."""

    @classmethod
    def of(cls, ports: Sequence[Tensor], metadata: Metadata, wanted_hw: tuple[int, int] | None = None) -> ImageInput:
        """The image input among a model's inputs.

        Args:
            ports: The inputs as the file declares them.
            metadata: What the exporter wrote into the file; its image size is for inputs of free size.
            wanted_hw: Height and width set by hand (IMAGE_SIZE), None for the file's own.

        Raises:
            StartupError: None of the inputs is an image, several are, or its size is not the wanted one.
        """
        images = [i for i, port in enumerate(ports) if len(port.shape) == 4]
        if len(images) != 1:
            raise StartupError("expected one input that is an image (batch, channels, height, width)")
        port = ports[images[0]]
        batch, given_channels, height, width = port.shape
        channels = given_channels or metadata.channels
        if channels not in (1, 3):
            raise StartupError(f"expected an input of 3 channels (RGB) or 1 (grey), first, got {port.shape}")
        free = wanted_hw or metadata.size_hw or (_DEFAULT_SIDE, _DEFAULT_SIDE)
        size_hw = height or free[0], width or free[1]
        if wanted_hw and size_hw != wanted_hw:
            raise StartupError(
                f"IMAGE_SIZE is {wanted_hw[0]}x{wanted_hw[1]}, but the file's input is fixed to {size_hw[0]}x{size_hw[1]} "
                "(height x width): leave IMAGE_SIZE empty, or export with dynamic=True"
            )
        return cls(images[0], batch or 1, channels, size_hw, port.dtype)

    def example(self) -> NDArray[Any]:
        """Noise from 0 to 1, (batch, channels, height, width): for measuring, and for seeing what the network answers."""
        noise = np.random.default_rng(0).random((self.batch, self.channels, *self.size_hw), np.float32)
        return noise.astype(self.dtype)

    def filled(self, planes: NDArray[Any]) -> NDArray[Any]:
        """One image in the first place of the batch.

        Args:
            planes: (1, channels, height, width) of `dtype`.

        Returns:
            (batch, channels, height, width), 0 behind the image; `planes` itself for a batch of one.
        """
        if self.batch == 1:
            return planes
        batch = np.zeros((self.batch, *planes.shape[1:]), planes.dtype)
        batch[0] = planes[0]
        return batch


def read_size(text: str | None) -> tuple[int, int] | None:
    """Reads the option IMAGE_SIZE.

    Args:
        text: "640", "384x640" (height x width), or nothing.

    Returns:
        (height, width) in pixels, None for no text.

    Raises:
        StartupError: The text is neither, or the sides are not multiples of the networks' stride.
    """
    if not text:
        return None
    match = re.fullmatch(r"(\d+)(?:\s*[x,]\s*(\d+))?", text.strip())
    size = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    fits = all(side > 0 and side % _STRIDE == 0 for side in size)
    StartupError.check(fits, "IMAGE_SIZE", f"one side or height x width, multiples of {_STRIDE}", text)
    return size
