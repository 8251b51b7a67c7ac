"""The part of an image around a box as a pose network sees it, and points back to the image; as mmpose defines them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.protocol import Image

PADDING = 1.25
_MOST_PIXELS = 16000  # of a side that OpenCV can sample from


@dataclass(frozen=True, slots=True)
class BoxCrop:
    """A part of an image with the proportions of a network's input; it may lie partly, or wholly, outside the image."""

    center_xy: tuple[float, float]
    """The middle of the box, pixels of the image."""
    extent_wh: tuple[float, float]
    """Width and height of the part, pixels of the image."""
    input_hw: tuple[int, int]
    """Height and width of the network's input, pixels."""
    unbiased: bool = False
    """Whether the centres of the outermost pixels of the input, not its edges, lie on the edges of the part: UDP."""
    sharp: bool = False
    """Whether the image ends at the centres of its outermost pixels, as in transformers; else it fades to black over one more
    pixel, as in mmpose."""

    @classmethod
    def around(
        cls,
        box_xyxy: NDArray[np.floating],
        input_hw: tuple[int, int],
        *,
        padding: float = PADDING,
        unbiased: bool = False,
        sharp: bool = False,
    ) -> BoxCrop:
        """The part around a box: the box enlarged, and widened or heightened to the proportions of the input.

        Args:
            box_xyxy: 4 numbers, pixels of the image, with an area.
            input_hw: Height and width of the network's input.
            padding: How many times as large as the box.
            unbiased: See `BoxCrop.unbiased`.
            sharp: See `BoxCrop.sharp`.
        """
        left, top, right, bottom = (float(value) for value in box_xyxy)
        width, height = (right - left) * padding, (bottom - top) * padding
        aspect = input_hw[1] / input_hw[0]
        extent_wh = (width, width / aspect) if width > height * aspect else (height * aspect, height)
        return cls(((left + right) / 2, (top + bottom) / 2), extent_wh, input_hw, unbiased, sharp)

    def apply(self, image: Image) -> Image:
        """The part as the network's input; black outside the image.

        Args:
            image: (H, W, 3) uint8.

        Returns:
            (height, width, 3) uint8 of `input_hw`.
        """
        import cv2

        # Only what can be seen is given to OpenCV, which takes no sides of 32768 pixels.
        columns, rows = (self._seen(axis, image.shape[1 - axis]) for axis in (0, 1))
        step = math.ceil(max(columns.stop - columns.start, rows.stop - rows.start, 1) / _MOST_PIXELS)
        region = image[rows.start : rows.stop : step, columns.start : columns.stop : step]
        height, width = self.input_hw
        if not region.size:
            return np.zeros((height, width, 3), np.uint8)
        (gain_x, gain_y), (left, top) = self._gain_xy, self._corner_xy
        matrix = np.array(
            [[gain_x * step, 0, gain_x * (columns.start - left)], [0, gain_y * step, gain_y * (rows.start - top)]],
            np.float64,
        )
        border = cv2.BORDER_REPLICATE if self.sharp else cv2.BORDER_CONSTANT
        shown = np.asarray(
            cv2.warpAffine(region, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=border), np.uint8
        )
        if self.sharp:
            shown[self._outside(1, image.shape[0])] = 0
            shown[:, self._outside(0, image.shape[1])] = 0
        return shown

    def to_image(self, places_xy: NDArray[np.floating]) -> NDArray[np.float64]:
        """Places in the part as pixels of the image.

        Args:
            places_xy: (..., 2) as shares of the part's width and height, 0 to 1.

        Returns:
            (..., 2) pixels of the image, not clipped.
        """
        return np.asarray(places_xy, np.float64) * self.extent_wh + self._corner_xy

    def to_part(self, points_xy: NDArray[np.floating]) -> NDArray[np.float64]:
        """The inverse of `to_image`.

        Args:
            points_xy: (..., 2) pixels of the image.
        """
        return (np.asarray(points_xy, np.float64) - self._corner_xy) / self.extent_wh

    @property
    def _corner_xy(self) -> tuple[float, float]:
        return self.center_xy[0] - self.extent_wh[0] / 2, self.center_xy[1] - self.extent_wh[1] / 2

    @property
    def _gain_xy(self) -> tuple[float, float]:
        """Pixels of the input for one of the image."""
        height, width = (side - 1 if self.unbiased else side for side in self.input_hw)
        return width / self.extent_wh[0], height / self.extent_wh[1]

    def _seen(self, axis: int, side: int) -> range:
        """The image's columns (axis 0) or rows (axis 1) that can be seen in the part."""
        begin = self._corner_xy[axis]
        margin = 2 / self._gain_xy[axis] + 2
        first, end = math.floor(begin - margin), math.ceil(begin + self.extent_wh[axis] + margin)
        return range(min(max(first, 0), side), min(max(end, 0), side))

    def _outside(self, axis: int, side: int) -> NDArray[np.bool_]:
        """Which of the input's columns (axis 0) or rows (axis 1) have their centres beyond those of the image's."""
        places = np.arange(self.input_hw[1 - axis]) / self._gain_xy[axis] + self._corner_xy[axis]
        return (places < 0) | (places > side - 1)
