"""The image input of a model file: its place, size and type, from what the file declares."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from common.errors import StartupError
from common.networks.engine import Tensor
from common.networks.formats.metadata import Metadata

Axes = Literal["NCHW", "NHWC", "CHW"]
"""The order of an image input's axes: batch, channels, height, width."""

_DEFAULT_SIDE = 640
_STRIDE = 32


@dataclass(frozen=True, slots=True)
class ImageInput:
    """The input that takes the image."""

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
    axes: Axes = "NCHW"
    """Their order; without N it takes a single image."""
    free: bool = False
    """Whether it takes images of any size, and IMAGE_SIZE sets none."""

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
        index = image_port(ports)
        if index is None:
            raise StartupError("expected one input that is an image (batch, channels, height, width)")
        port = ports[index]
        axes = _axes(port.shape)
        sides = dict(zip(axes, port.shape, strict=True))
        channels, height, width = sides["C"] or metadata.channels, sides["H"], sides["W"]
        if channels not in (1, 3):
            raise StartupError(f"expected an input of 3 channels (colour) or 1 (grey), first or last, got {port.shape}")
        free = wanted_hw or metadata.size_hw or (_DEFAULT_SIDE, _DEFAULT_SIDE)
        size_hw = height or free[0], width or free[1]
        if wanted_hw and size_hw != wanted_hw:
            raise StartupError(
                f"IMAGE_SIZE is {wanted_hw[0]}x{wanted_hw[1]}, but the file's input is fixed to {size_hw[0]}x{size_hw[1]} "
                "(height x width): leave IMAGE_SIZE empty, or export with dynamic=True"
            )
        free_size = height is None and width is None and wanted_hw is None
        return cls(index, sides.get("N") or 1, channels, size_hw, port.dtype, axes, free_size)

    def example(self) -> NDArray[Any]:
        """Noise, as the input takes it: for measuring, and for seeing what the network answers.

        Returns:
            Values from 0 to 1, or of all levels where the input takes whole numbers.
        """
        noise = np.random.default_rng(0).random((self.batch, self.channels, *self.size_hw), np.float32)
        return self._arranged((noise if np.issubdtype(self.dtype, np.floating) else noise * 255).astype(self.dtype))

    def filled(self, planes: NDArray[Any]) -> NDArray[Any]:
        """One image in the first place of the batch, its axes in the input's order.

        Args:
            planes: (1, channels, height, width) of `dtype`.

        Returns:
            Of `axes`, 0 behind the image; `planes` itself for a batch of one in the usual order.
        """
        if self.batch == 1:
            return self._arranged(planes)
        batch = np.zeros((self.batch, *planes.shape[1:]), planes.dtype)
        batch[0] = planes[0]
        return self._arranged(batch)

    def _arranged(self, planes: NDArray[Any]) -> NDArray[Any]:
        """(batch, channels, height, width) with the axes in the input's order."""
        if self.axes == "CHW":
            return planes[0]
        return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)) if self.axes == "NHWC" else planes


def image_port(ports: Sequence[Tensor]) -> int | None:
    """Which of a model's inputs is the image.

    Args:
        ports: The inputs as the file declares them.

    Returns:
        The index of the only input of four dimensions, else of the only (3, height, width); None without either.
    """
    whole = [i for i, port in enumerate(ports) if len(port.shape) == 4]
    single = [i for i, port in enumerate(ports) if len(port.shape) == 3 and port.shape[0] == 3]
    images = whole or single
    return images[0] if len(images) == 1 else None


def _axes(shape: Sequence[int | None]) -> Axes:
    if len(shape) == 3:
        return "CHW"
    return "NHWC" if shape[1] not in (1, 3) and shape[3] in (1, 3) else "NCHW"


def read_size(text: str | None, stride: int = _STRIDE) -> tuple[int, int] | None:
    """Reads the option IMAGE_SIZE.

    Args:
        text: "640", "384x640" (height x width), or nothing.
        stride: What the sides have to be multiples of.

    Returns:
        (height, width) in pixels, None for no text.

    Raises:
        StartupError: The text is neither, or the sides are not multiples of `stride`.
    """
    if not text:
        return None
    match = re.fullmatch(r"(\d+)(?:\s*[x,]\s*(\d+))?", text.strip())
    size = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    fits = all(side > 0 and side % stride == 0 for side in size)
    multiples = f", multiples of {stride}" if stride > 1 else " in pixels"
    StartupError.check(fits, "IMAGE_SIZE", f"one side or height x width{multiples}", text)
    return size
