"""Masks that a network predicts for a box, as a small map of scores over it: pasted into the box at the image's resolution.

A pixel is set where the map, interpolated at the pixel's centre, is over 0.5; beyond its edges the map is 0. Two conventions say
where in the image the map lies:

    exact     its edges are those of the box, to a part of a pixel: mmdetection
    rounded   the box, enlarged by a place of the map on each side, is cut to whole pixels and covers those on both of its edges:
              torchvision, Detectron, and OpenVINO's accuracy checker, with which the figures of the Open Model Zoo were measured
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.shapes import Mask

_THRESHOLD = 0.5


@dataclass(frozen=True, slots=True)
class Span:
    """Where a map lies along one axis of the image."""

    start: float
    """Where its first place begins, pixels."""
    length: float
    """Of all its places, pixels."""

    @classmethod
    def exact(cls, first: float, last: float, places: int) -> Span:
        """A map that lies from edge to edge of its box.

        Args:
            first: The box's left or top edge, pixels.
            last: Its right or bottom edge.
            places: Of the map along this axis.
        """
        return cls(first, last - first)

    @classmethod
    def rounded(cls, first: float, last: float, places: int) -> Span:
        """A map in a box that is cut to whole pixels, with a place of 0 on both sides.

        Args:
            first: The box's left or top edge, pixels.
            last: Its right or bottom edge.
            places: Of the map along this axis.
        """
        # In 32 bits as there, so that an edge close to a whole pixel is cut alike.
        low, high = np.float32(first), np.float32(last)
        center, half = (
            (high + low) * np.float32(0.5),
            (high - low) * np.float32(0.5) * np.float32((places + 2) / places),
        )
        begin, end = float(np.trunc(center - half)), float(np.trunc(center + half))
        pixels = max(end - begin + 1, 1)  # the edges' own pixels belong to it
        place = pixels / (places + 2)
        return cls(begin + place, pixels - 2 * place)

    def pixels(self, size: int, places: int) -> range:
        """The pixels that the map can be over 0 at.

        Args:
            size: Of the image along this axis, pixels.
            places: Of the map.
        """
        margin = self.length / places
        first, last = self.start - margin, self.start + self.length + margin
        return range(int(np.clip(np.floor(first), 0, size)), int(np.clip(np.ceil(last), 0, size)))

    def weights(self, pixels: range, places: int) -> NDArray[np.float32]:
        """How much of each place of the map there is at the centre of each pixel.

        Args:
            pixels: Of the image along this axis.
            places: Of the map.

        Returns:
            (pixels, places).
        """
        centers = (np.arange(pixels.start, pixels.stop) + 0.5 - self.start) / self.length * places - 0.5
        low = np.floor(centers)
        part = centers - low
        table = np.zeros((len(pixels), places), np.float32)
        for index, share in ((low.astype(int), 1 - part), (low.astype(int) + 1, part)):
            inside = (index >= 0) & (index < places)
            table[np.flatnonzero(inside), index[inside]] += share[inside]
        return table


def paste(
    scores: NDArray[np.floating], box_xyxy: Sequence[float], image_hw: tuple[int, int], *, rounded: bool = False
) -> Mask:
    """A map of a box as a mask of the image.

    Args:
        scores: (h, w) of each place, 0 to 1.
        box_xyxy: (left, top, right, bottom) in pixels of the image, not clipped to it.
        image_hw: Height and width of the image.
        rounded: Whether the map lies in whole pixels, not exactly in the box.

    Returns:
        The mask; an empty one has a bitmap of 0 x 0.
    """
    left, top, right, bottom = box_xyxy
    span = Span.rounded if rounded else Span.exact
    (rows, columns), (height, width) = scores.shape, image_hw
    across, down = span(left, right, columns), span(top, bottom, rows)
    if min(across.length, down.length) <= 0:
        return Mask(bitmap=np.zeros((0, 0), np.bool_))
    x, y = across.pixels(width, columns), down.pixels(height, rows)
    values = down.weights(y, rows) @ np.asarray(scores, np.float32) @ across.weights(x, columns).T
    inside = Mask.from_full(values > _THRESHOLD)
    return Mask(bitmap=inside.bitmap, left=x.start + inside.left, top=y.start + inside.top)
