"""The square part of a frame in which a tracker looks for its object, and coordinates back to the frame."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_LARGEST_COPY = (
    4096  # pixels of a side; a larger region, around an object that fills a 4K frame, would take up to 400 MB
)


@dataclass(frozen=True, slots=True)
class SearchRegion:
    """A square of whole pixels in a frame; parts of it, or all of it, may lie outside of the frame."""

    left: int
    """The column of its left edge in the frame."""
    top: int
    """The row of its top edge in the frame."""
    side: int
    """Its width and height in pixels of the frame, 1 or more."""

    @classmethod
    def around(
        cls, center_xy: tuple[float, float], side: int, *, rounding: Callable[[float], int] = math.floor
    ) -> SearchRegion:
        """The square with a given centre, moved to whole pixels.

        Args:
            center_xy: The centre in pixels of the frame; (0, 0) is the outer corner of the top left pixel.
            side: Width and height in pixels of the frame, 1 or more.
            rounding: Makes the corner's coordinates whole: `math.floor` as SiamFC's successors do (PySOT, TransT),
                `math.ceil` as OpenCV's TrackerVit does.
        """
        return cls(rounding(center_xy[0] - side / 2), rounding(center_xy[1] - side / 2), side)

    def crop(
        self, frame: NDArray[np.uint8], size: int, padding: tuple[float, float, float] = (0, 0, 0)
    ) -> NDArray[np.uint8]:
        """The region as a network's input.

        Args:
            frame: (H, W, 3) uint8.
            size: Width and height of the result in pixels.
            padding: The colour outside of the frame, in the frame's channel order, 0 to 255; decimals are cut off.

        Returns:
            (size, size, 3) uint8, resized bilinearly as `cv2.resize` does (to one grey level for a side over 4096).
        """
        import cv2

        color = np.array(padding).astype(np.uint8)
        if self.side > _LARGEST_COPY:
            return self._sampled(frame, size, color)
        height, width = frame.shape[:2]
        left, right = max(self.left, 0), min(self.left + self.side, width)
        top, bottom = max(self.top, 0), min(self.top + self.side, height)
        if left >= right or top >= bottom:
            return np.full((size, size, 3), color, np.uint8)
        region = frame[top:bottom, left:right]
        if region.shape[:2] != (self.side, self.side):
            margins = top - self.top, self.top + self.side - bottom, left - self.left, self.left + self.side - right
            region = cv2.copyMakeBorder(region, *margins, cv2.BORDER_CONSTANT, value=color.tolist())
        return np.asarray(cv2.resize(region, (size, size)), np.uint8)

    def to_frame(self, points_xy: NDArray[np.floating], size: int) -> NDArray[np.float64]:
        """Points in pixels of the crop as pixels of the frame.

        Args:
            points_xy: (..., 2) in pixels of the crop.
            size: Width and height of the crop.

        Returns:
            (..., 2) in pixels of the frame, not clipped.
        """
        return np.asarray(points_xy, np.float64) * (self.side / size) + (self.left, self.top)

    def to_crop(self, points_xy: NDArray[np.floating], size: int) -> NDArray[np.float64]:
        """The inverse of `to_frame`.

        Args:
            points_xy: (..., 2) in pixels of the frame.
            size: Width and height of the crop.
        """
        return (np.asarray(points_xy, np.float64) - (self.left, self.top)) * (size / self.side)

    def _sampled(self, frame: NDArray[np.uint8], size: int, color: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The crop from the four pixels around each of its own, without a copy of the region."""
        places = np.clip((np.arange(size) + 0.5) * (self.side / size) - 0.5, 0, self.side - 1)
        first = places.astype(np.int64)
        second = np.minimum(first + 1, self.side - 1)
        share = (places - first).astype(np.float32)
        columns = share[None, :, None]
        upper, lower = (
            self._pixels(frame, rows, first, color) * (1 - columns) + self._pixels(frame, rows, second, color) * columns
            for rows in (first, second)
        )
        rows = share[:, None, None]
        return np.asarray(np.rint(upper * (1 - rows) + lower * rows), np.uint8)

    def _pixels(
        self, frame: NDArray[np.uint8], rows: NDArray[np.int64], columns: NDArray[np.int64], color: NDArray[np.uint8]
    ) -> NDArray[np.uint8]:
        """The pixels (R, C, 3) at some rows and columns of the region."""
        height, width = frame.shape[:2]
        y, x = rows + self.top, columns + self.left
        pixels = frame[np.clip(y, 0, height - 1)[:, None], np.clip(x, 0, width - 1)[None]]
        inside = ((y >= 0) & (y < height))[:, None] & ((x >= 0) & (x < width))[None]
        return np.where(inside[..., None], pixels, color)
