"""How an image becomes a network's input: where it lies in it, the order of its channels, the scale of its values.

Few files say how they take the image: what a layout assumes can be set by hand, by the options COLOR, MEAN, STD and RESIZE.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from PIL import Image as PillowImage

from common.errors import StartupError
from common.networks.normalisation import read_mean_and_deviation
from common.vision import averaging
from common.vision.letterbox import PADDING, Letterbox, to_planes

Color = tuple[float, float, float]
"""A value for each channel, in the order of the input."""


class Placement(Enum):
    """Where an image lies in the input."""

    CENTERED = auto()
    """Whole, its proportions kept, in the middle of a grey canvas."""
    CORNER = auto()
    """Whole, its proportions kept, in the top left corner."""
    STRETCHED = auto()
    """Whole, filling the input."""
    SCALED = auto()
    """Whole, its proportions kept, filling an input whose size follows from `Preparation.edges`."""
    CROPPED = auto()
    """Only its middle, filling the input, as classifiers take it."""
    SQUARE = auto()
    """Only its middle square, filling the input; resized with OpenCV, after the cut, as YOLOv5's classifiers take it."""


_UNSCALED = ((0, 0, 0), (1, 1, 1))
PLACEMENTS = {"center": Placement.CENTERED, "corner": Placement.CORNER, "stretch": Placement.STRETCHED}
"""The values of RESIZE."""


@dataclass(frozen=True, slots=True)
class InputOptions:
    """What is set by hand about how a network takes an image; empty: as its layout has it."""

    color: str = ""
    """The option COLOR, the order of the channels: rgb or bgr."""
    mean: str = ""
    """The option MEAN, subtracted from the channels (0 to 255): a number for each, in the order of the input."""
    std: str = ""
    """The option STD, what they are divided by."""
    resize: str = ""
    """The option RESIZE, where the image lies in the input: one of PLACEMENTS."""


@dataclass(frozen=True, slots=True)
class Preparation:
    """The way from an image to a network's input."""

    placement: Placement = Placement.CENTERED
    """Where the image lies in the input."""
    bgr: bool = False
    """Whether the channels are blue, green, red."""
    mean: Color | None = None
    """Subtracted from the channels, 0 to 255. None: 0."""
    deviation: Color = (255, 255, 255)
    """What the channels are divided by where there is a mean; without one it is 255."""
    resampling: PillowImage.Resampling | None = None
    """Pillow's filter for resizing, which averages the pixels of a larger image; None: OpenCV's bilinear one, which
    doesn't."""
    edges: tuple[int, int] | None = None
    """For `Placement.SCALED`: the shorter side of the input, and the most that the longer one may have, pixels."""
    padding: int | None = None
    """The grey around the image, 0 to 255, as if it were part of it. None: 114, or the value 0 where there is a mean."""

    def with_options(self, options: InputOptions) -> Preparation:
        """The same with what is set by hand.

        Args:
            options: What is set.

        Raises:
            StartupError: An option is wrong.
        """
        color, resize = options.color.strip().lower(), options.resize.strip().lower()
        StartupError.check(color in ("", "rgb", "bgr"), "COLOR", "rgb or bgr", color)
        StartupError.check(resize in ("", *PLACEMENTS), "RESIZE", f"one of {', '.join(PLACEMENTS)}", resize)
        changed = self
        if color and (color == "bgr") != self.bgr:  # the layout's own numbers go with their channels
            mean = None if self.mean is None else self.mean[::-1]
            changed = replace(changed, bgr=not self.bgr, mean=mean, deviation=self.deviation[::-1])
        if resize:
            changed = replace(changed, placement=PLACEMENTS[resize])
        if numbers := read_mean_and_deviation(options.mean, options.std):
            changed = replace(changed, mean=numbers[0], deviation=numbers[1])
        return changed

    def __str__(self) -> str:
        color, place = "BGR" if self.bgr else "RGB", self.placement.name.lower()
        mean = (0.0, 0.0, 0.0) if self.mean is None else self.mean
        deviation = (255.0, 255.0, 255.0) if self.mean is None else self.deviation
        return f"{color}, mean {_listed(mean)}, std {_listed(deviation)}, {place}"

    def fit(self, image_hw: tuple[int, int], size_hw: tuple[int, int]) -> Letterbox:
        """How an image lies in the input.

        Args:
            image_hw: Height and width of the image, pixels.
            size_hw: Height and width of the input, pixels.
        """
        if self.placement is Placement.SCALED and self.edges is not None:
            return Letterbox.stretch(image_hw, _scaled_hw(image_hw, *self.edges))
        if self.placement is Placement.STRETCHED:
            return Letterbox.stretch(image_hw, size_hw)
        return Letterbox.fit(image_hw, size_hw, centered=self.placement is not Placement.CORNER)

    def planes(self, image: NDArray[np.uint8], letterbox: Letterbox, channels: int, dtype: DTypeLike) -> NDArray[Any]:
        """An image as the input takes it.

        Args:
            image: (H, W, 3) uint8 RGB.
            letterbox: How it lies in the input, from `fit`.
            channels: Of the input: 3, or 1 for grey.
            dtype: Of the input.

        Returns:
            (1, channels, H', W') of `dtype`.
        """
        import cv2

        if self.placement in (Placement.CROPPED, Placement.SQUARE):
            crop = _center_crop if self.placement is Placement.CROPPED else _center_square
            pixels, inside = crop(image, letterbox.size_hw), (slice(None), slice(None))
        else:
            inside = np.s_[:, :]
            if self.resampling is not None and letterbox.inner_hw != letterbox.image_hw:
                image = averaging.resize(image, letterbox.inner_hw, self.resampling, threads=cv2.getNumThreads())
                letterbox = replace(letterbox, image_hw=letterbox.inner_hw)
            pixels = letterbox.apply(image, padding=PADDING if self.padding is None else self.padding)
            if self.padding is None:
                height, width = letterbox.inner_hw
                inside = np.s_[letterbox.top : letterbox.top + height, letterbox.left : letterbox.left + width]
        if channels == 1:
            pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[:, :, None]
        elif self.bgr:
            pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
        if self.mean is None and np.issubdtype(dtype, np.floating):
            return to_planes(pixels, dtype)
        planes: NDArray[Any] = np.zeros((1, channels, *letterbox.size_hw), dtype)
        if self.mean is None or (self.mean, self.deviation) == _UNSCALED:
            planes[(0, slice(None), *inside)] = pixels[inside].transpose(2, 0, 1)
            return planes
        mean, deviation = np.array([self.mean, self.deviation], np.float32)[:, :channels]
        values = (pixels[inside].astype(np.float32) - mean) / deviation
        planes[(0, slice(None), *inside)] = values.transpose(2, 0, 1)
        return planes


def _scaled_hw(image_hw: tuple[int, int], shortest: int, longest: int) -> tuple[int, int]:
    """The size of an image scaled to these sides, rounded as the processors of transformers do it."""
    shorter, longer = sorted(image_hw)
    side = min(float(shortest), longest * shorter / longer)
    small = round(side)
    large = longer if small == shorter else int(side * longer / shorter)
    small, large = max(small, 1), max(large, 1)
    return (small, large) if image_hw[0] <= image_hw[1] else (large, small)


def _listed(values: Color) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _center_crop(image: NDArray[np.uint8], size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """The middle of an image, resized as torchvision does it with Pillow."""
    (height, width), scaled_hw = image.shape[:2], size_hw
    if size_hw[0] == size_hw[1]:  # its shorter side fills the square
        side, shorter = size_hw[0], min(height, width)
        scaled_hw = int(side * height / shorter), int(side * width / shorter)
    picture = PillowImage.fromarray(image).resize(scaled_hw[::-1], PillowImage.Resampling.BILINEAR)
    top, left = round((scaled_hw[0] - size_hw[0]) / 2), round((scaled_hw[1] - size_hw[1]) / 2)
    return np.asarray(picture)[top : top + size_hw[0], left : left + size_hw[1]]


def _center_square(image: NDArray[np.uint8], size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """The middle square of an image, resized without averaging."""
    import cv2

    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[top : top + side, left : left + side]
    return np.asarray(cv2.resize(square, size_hw[::-1], interpolation=cv2.INTER_LINEAR), np.uint8)
