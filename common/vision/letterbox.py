"""An image fitted into a network's input, and coordinates back again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike, NDArray

from common.vision.geometry import clip_points

PADDING = 114  # the grey that YOLO networks are trained with around an image


@dataclass(frozen=True, slots=True)
class Letterbox:
    """Where an image lies in a network's input."""

    image_hw: tuple[int, int]
    """Height and width of the image."""
    size_hw: tuple[int, int]
    """Height and width of the input."""
    inner_hw: tuple[int, int]
    """Height and width of the scaled image in the input."""
    left: int
    """The column of its corner in the input."""
    top: int
    """The row of its corner in the input."""

    @classmethod
    def fit(cls, image_hw: tuple[int, int], size_hw: tuple[int, int], *, centered: bool = True) -> Letterbox:
        """The whole image with its proportions kept.

        Args:
            image_hw: Height and width of the image.
            size_hw: Height and width of the input.
            centered: In the middle of the input, or else in its top left corner.
        """
        gain = min(size_hw[0] / image_hw[0], size_hw[1] / image_hw[1])
        inner_hw = max(round(image_hw[0] * gain), 1), max(round(image_hw[1] * gain), 1)
        # The smaller half of an odd remainder goes to the top and to the left.
        left = round((size_hw[1] - inner_hw[1]) / 2 - 0.1) if centered else 0
        top = round((size_hw[0] - inner_hw[0]) / 2 - 0.1) if centered else 0
        return cls(image_hw=image_hw, size_hw=size_hw, inner_hw=inner_hw, left=left, top=top)

    @classmethod
    def stretch(cls, image_hw: tuple[int, int], size_hw: tuple[int, int]) -> Letterbox:
        """The image scaled to fill the input, its proportions lost.

        Args:
            image_hw: Height and width of the image.
            size_hw: Height and width of the input.
        """
        return cls(image_hw=image_hw, size_hw=size_hw, inner_hw=size_hw, left=0, top=0)

    @property
    def gain_xy(self) -> tuple[float, float]:
        """Input pixels for one image pixel; the two differ by the rounding of the scaled image's sides."""
        return self.inner_hw[1] / self.image_hw[1], self.inner_hw[0] / self.image_hw[0]

    def apply(self, image: NDArray[np.uint8], padding: int = PADDING) -> NDArray[np.uint8]:
        """An image as the network's input.

        Args:
            image: (H, W, 3) uint8 of `image_hw`.
            padding: The grey around it, 0 to 255.

        Returns:
            (H', W', 3) uint8 of `size_hw`.
        """
        import cv2

        height, width = self.inner_hw
        if self.inner_hw == self.size_hw:
            return image if self.inner_hw == self.image_hw else cv2.resize(image, (width, height))
        canvas = np.full((*self.size_hw, image.shape[2]), padding, np.uint8)
        inside = canvas[self.top : self.top + height, self.left : self.left + width]
        if self.inner_hw == self.image_hw:
            inside[:] = image
        else:
            cv2.resize(image, (width, height), dst=inside)  # bilinear, straight into the canvas
        return canvas

    def to_image(self, points_xy: NDArray[np.floating]) -> NDArray[np.float64]:
        """Points in pixels of the input as pixels of the image.

        Args:
            points_xy: (..., 2) in pixels of the input.

        Returns:
            (..., 2) in pixels of the image, not clipped.
        """
        return (np.asarray(points_xy, np.float64) - (self.left, self.top)) / self.gain_xy

    def to_input(self, points_xy: NDArray[np.floating]) -> NDArray[np.float64]:
        """The inverse of `to_image`.

        Args:
            points_xy: (..., 2) in pixels of the image.
        """
        return np.asarray(points_xy, np.float64) * self.gain_xy + (self.left, self.top)

    def boxes_to_image(self, boxes_xyxy: NDArray[np.floating]) -> NDArray[np.float64]:
        """Boxes in pixels of the input as pixels of the image, clipped to it.

        Args:
            boxes_xyxy: (N, 4) in pixels of the input.
        """
        boxes = self.to_image(np.asarray(boxes_xyxy, np.float64).reshape(-1, 2, 2))
        return clip_points(boxes, self.image_hw).reshape(-1, 4)


def to_planes(image: NDArray[np.uint8], dtype: DTypeLike = np.float32) -> NDArray[np.floating]:
    """An image as a batch of one for a network, its values from 0 to 1.

    Args:
        image: (H, W, C) uint8.
        dtype: Of the result, a floating-point type.

    Returns:
        (1, C, H, W) of `dtype`.
    """
    import cv2

    planes: NDArray[np.floating] = np.empty((1, *image.shape[2:], *image.shape[:2]), dtype)
    # Channel by channel from packed copies: half the time of a strided pass over the whole.
    for plane, channel in zip(planes[0], cv2.split(image), strict=True):
        np.divide(channel, np.float32(255), out=plane, casting="same_kind")
    return planes
