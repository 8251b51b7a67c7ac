"""How pixels become the values that a network takes: the order of the channels, a mean to subtract, a deviation to divide by."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from common.errors import StartupError

Triple = tuple[float, float, float]
IMAGENET_MEAN: Triple = (123.675, 116.28, 103.53)
IMAGENET_DEVIATION: Triple = (58.395, 57.12, 57.375)


@dataclass(frozen=True, slots=True)
class Normalisation:
    """From RGB pixels, 0 to 255, to a network's values; by default as most networks trained on ImageNet take them."""

    bgr: bool = False
    """Whether the network's channels are blue, green, red."""
    mean: Triple = IMAGENET_MEAN
    """Subtracted from the pixels' values; in the order of the network's channels."""
    deviation: Triple = IMAGENET_DEVIATION
    """What the difference is divided by; in the order of the network's channels."""

    @classmethod
    def read(cls, color: str = "rgb", mean: str | None = None, std: str | None = None) -> Normalisation:
        """Reads the options COLOR, MEAN and STD.

        Args:
            color: rgb or bgr.
            mean: One number or three with commas, on the scale of pixels, 0 to 255; None or "" for ImageNet's.
            std: As `mean`; set together with it.

        Raises:
            StartupError: An option can't be read, or only one of `mean` and `std` is set.
        """
        StartupError.check(color.lower() in ("rgb", "bgr"), "COLOR", "rgb or bgr", color)
        bgr = color.lower() == "bgr"
        numbers = read_mean_and_deviation(mean, std)
        if numbers is None:
            numbers = IMAGENET_MEAN, IMAGENET_DEVIATION
            if bgr:
                numbers = _reversed(IMAGENET_MEAN), _reversed(IMAGENET_DEVIATION)
        return cls(bgr, *numbers)

    def planes(self, pictures: NDArray[np.uint8], dtype: DTypeLike = np.float32) -> NDArray[Any]:
        """Pictures as a network takes them.

        Args:
            pictures: (N, H, W, 3) uint8 RGB.
            dtype: Of the input; a network that takes whole numbers gets the pixels as they are.

        Returns:
            (N, 3, H, W) of `dtype`.
        """
        count, height, width, _ = pictures.shape
        planes: NDArray[Any] = np.empty((count, 3, height, width), dtype)
        as_they_are = not np.issubdtype(planes.dtype, np.floating)
        for i in range(3):
            channel = pictures[..., 2 - i if self.bgr else i]
            if as_they_are:
                planes[:, i] = channel
            else:
                shifted = np.subtract(channel, np.float32(self.mean[i]), dtype=np.float32)
                np.divide(shifted, np.float32(self.deviation[i]), out=planes[:, i], casting="same_kind")
        return planes


def _reversed(values: Triple) -> Triple:
    return values[2], values[1], values[0]


def read_mean_and_deviation(mean: str | None, std: str | None) -> tuple[Triple, Triple] | None:
    """Reads the options MEAN and STD.

    Args:
        mean: What is subtracted from the pixels: one number for all channels or three with commas between them, on the scale
            of pixels, 0 to 255; or nothing.
        std: What the difference is divided by, written alike.

    Returns:
        A number of each for each channel; None where both are nothing.

    Raises:
        StartupError: One is set without the other, or is something else.
    """
    means, deviations = _read_channels("MEAN", mean), _read_channels("STD", std)
    if means is None and deviations is None:
        return None
    if means is None or deviations is None:
        raise StartupError("MEAN and STD: set both or neither; for values of 0 to 255: MEAN=0 and STD=1")
    if min(deviations) < 1:
        raise StartupError(
            f"STD: expected numbers of 1 or more, on the scale of pixels from 0 to 255, got {std}; values for pixels from 0 to 1 "
            "have to be multiplied by 255, and those of MEAN too"
        )
    return means, deviations


def _read_channels(option: str, text: str | None) -> Triple | None:
    if not text or not text.strip():
        return None
    try:
        values = [float(number) for number in re.split(r"[\s,]+", text.strip().strip("[]()").strip())]
    except ValueError:
        values = []
    fits = len(values) in (1, 3) and all(np.isfinite(values))
    expected = "one number or three with commas between them, on a scale of 0 to 255, such as 123.675,116.28,103.53"
    StartupError.check(fits, option, expected, text)
    first, second, third = values * 3 if len(values) == 1 else values
    return first, second, third
