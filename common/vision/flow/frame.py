"""A frame of a video, sampled at any place, size and rotation, in grey and in colour."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from common.vision.flow.pose import Grid, Pose

Grey = NDArray[np.uint8]
Rgb = NDArray[np.uint8]
Bitmap = NDArray[np.bool_]

_BLUR = 0.4  # pixels of the image, of a patch that is enlarged


class Frame:
    """An image, and grey copies of its size and of half, a quarter, ... of it, made when they are needed.

    Args:
        image: (H, W, 3) uint8 RGB.
    """

    def __init__(self, image: Rgb):
        self.size_hw = image.shape[0], image.shape[1]
        self._image = image
        self._levels: list[Grey] = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)]

    def patch(self, grid: Grid, pose: Pose) -> Grey:
        """The object's grey picture.

        Args:
            grid: The pixels of the patch.
            pose: Where the object is.

        Returns:
            (h, w) uint8, of the grid's size.
        """
        step = pose.size / grid.scale
        patch = self.sample(pose.center, step, grid.size_wh)
        # Enlarged noise has the size of an object's marks, and would be followed.
        return patch if abs(step) >= 1 else cv2.GaussianBlur(patch, (0, 0), _BLUR / abs(step))

    def sample(self, center: complex, step: complex, size_wh: tuple[int, int]) -> Grey:
        """The grey picture around a point.

        Args:
            center: The point, in pixels of the image.
            step: The way in the image from one of the picture's pixels to the next on the right.
            size_wh: Width and height of the picture in its own pixels.

        Returns:
            (h, w) uint8; outside the image its border is repeated.
        """
        level = _level(step)
        while len(self._levels) <= level:
            smaller = _halved(self._levels[-1])
            if smaller is None:
                break
            self._levels.append(smaller)
        level = min(level, len(self._levels) - 1)
        return Region(self._levels[level], 0j, 2**level).sample(center, step, size_wh)

    def region(self, center: complex, reach: float, step: float) -> Region:
        """The part of the image around a point, in colour.

        Args:
            center: The point, in pixels of the image.
            reach: How far from the point it extends to each side, in pixels of the image.
            step: The way in the image between the pixels in which it will be sampled: it is made so much smaller.
        """
        height, width = self.size_hw
        size = 2 ** _level(step)
        left, top = (int(max(at - reach, 0)) // size * size for at in (center.real, center.imag))
        left, top = min(left, width - 1), min(top, height - 1)
        right, bottom = math.ceil(center.real + reach), math.ceil(center.imag + reach)
        picture = self._image[top : max(bottom, top + 1), left : max(right, left + 1)]
        factor = 1
        while factor < size and (smaller := _halved(picture)) is not None:
            picture, factor = smaller, 2 * factor
        return Region(picture, complex(left, top), factor)

    def shows(self, grid: Grid, pose: Pose) -> Bitmap:
        """Which pixels of a patch lie in the image.

        Args:
            grid: The pixels of the patch.
            pose: Where the object is.

        Returns:
            (h, w) bool, of the grid's size.
        """
        width, height = grid.size_wh
        x, y = np.arange(width) + 0.5 - width / 2, np.arange(height) + 0.5 - height / 2
        places = pose.center + pose.size / grid.scale * (x[None] + 1j * y[:, None])
        return (
            (places.real >= 0)
            & (places.imag >= 0)
            & (places.real <= self.size_hw[1])
            & (places.imag <= self.size_hw[0])
        )


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """A part of an image, made smaller."""

    picture: NDArray[Any]
    """(h, w) or (h, w, 3) uint8 or float32."""
    corner: complex
    """Its top left corner, in pixels of the image."""
    factor: int
    """How many pixels of the image make one of its own, along each side."""

    def sample(self, center: complex, step: complex, size_wh: tuple[int, int]) -> NDArray[Any]:
        """The picture around a point.

        Args:
            center: The point, in pixels of the image.
            step: The way in the image from one of the sample's pixels to the next on the right.
            size_wh: Width and height of the sample in its own pixels.

        Returns:
            (h, w) or (h, w, 3), of the picture's type; outside the region its border is repeated.
        """
        center, step = (center - self.corner) / self.factor, step / self.factor
        corner = center - step * complex(size_wh[0] - 1, size_wh[1] - 1) / 2 - complex(0.5, 0.5)
        matrix = np.array([[step.real, -step.imag, corner.real], [step.imag, step.real, corner.imag]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(self.picture, matrix, size_wh, flags=flags, borderMode=cv2.BORDER_REPLICATE)


def _level(step: complex) -> int:
    """How often to halve an image that is sampled in steps of so many pixels."""
    return max(round(math.log2(max(abs(step), 1e-6))), 0)


def _halved(picture: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    height, width = (side // 2 for side in picture.shape[:2])
    if not height or not width:
        return None
    return cv2.resize(picture[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)
