"""Masks of a segmenting network: prototypes for the whole input, a few coefficients for each object."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.networks.formats.detections import Detections
from common.shapes import Mask
from common.vision.letterbox import Letterbox

_MARGIN = 2  # prototype pixels around a box that its edges are interpolated from
_RESIZE_GAIN = 8  # how much faster OpenCV enlarges a picture as a whole than from any place to any place


def masks_of_prototypes(
    output: NDArray[np.floating], found: Detections, boxes_xyxy: NDArray[np.float64], letterbox: Letterbox
) -> list[Mask]:
    """As `masks_in_boxes`, with the coefficients that detections have as their extra values.

    Args:
        output: (batch, C, h, w) prototypes over the network's input; those of the first image are used.
        found: N detections.
        boxes_xyxy: (N, 4) pixels of the image, inside it.
        letterbox: How the image lies in the network's input.
    """
    return masks_in_boxes(output, found.extra, boxes_xyxy, letterbox)


def masks_in_boxes(
    output: NDArray[np.floating],
    coefficients: NDArray[np.float32],
    boxes_xyxy: NDArray[np.float64],
    letterbox: Letterbox,
) -> list[Mask]:
    """The mask of each object in its box, at the resolution of the image.

    A pixel is set where the weighted sum of the prototypes, interpolated at its centre, is over 0. Only the part of the
    prototypes under a box is summed, and only the box is interpolated: a small object in a large image costs little.

    Args:
        output: (batch, C, h, w) prototypes over the network's input; those of the first image are used.
        coefficients: (N, C), how much of each prototype is in each object's mask.
        boxes_xyxy: (N, 4) pixels of the image, inside it.
        letterbox: How the image lies in the network's input.

    Returns:
        N masks in pixels of the image; an empty one has a bitmap of 0 x 0.
    """
    grid = _Grid.of(letterbox, output.shape[2:])
    tables = np.asarray(output[0], np.float32)
    return [
        _mask(tables, weights, [math.ceil(side) for side in box], grid)
        for weights, box in zip(coefficients, boxes_xyxy.tolist(), strict=True)
    ]


@dataclass(frozen=True, slots=True)
class _Grid:
    """How the image lies in the prototypes, enlarged so that it begins and ends on whole pixels."""

    finer: int
    """How many times the prototypes are enlarged."""
    x: _Axis
    """From left to right."""
    y: _Axis
    """From top to bottom."""

    @classmethod
    def of(cls, letterbox: Letterbox, size_hw: Sequence[int]) -> _Grid:
        scale_x, scale_y = size_hw[1] / letterbox.size_hw[1], size_hw[0] / letterbox.size_hw[0]
        x = [letterbox.left * scale_x, (letterbox.left + letterbox.inner_hw[1]) * scale_x]
        y = [letterbox.top * scale_y, (letterbox.top + letterbox.inner_hw[0]) * scale_y]
        whole = (f for f in (1, 2, 4) if all((side * f).is_integer() for side in (*x, *y)))
        finer = next(whole, 4)
        (left, right), (top, bottom) = ([round(side * finer) for side in sides] for sides in (x, y))
        height, width = letterbox.image_hw
        return cls(finer, _Axis(left, right - left, width), _Axis(top, bottom - top, height))


@dataclass(frozen=True, slots=True)
class _Axis:
    """The same along one side of the image."""

    start: int
    """Where the image begins, in enlarged prototype pixels."""
    fine: int
    """How many of them lie under the image."""
    length: int
    """The image's side in its own pixels."""

    def part(self, first: int, last: int) -> tuple[int, int]:
        """The enlarged prototype pixels, from `start` on, that image pixels first to last are interpolated from."""
        begin, end = first * self.fine // self.length, -(-last * self.fine // self.length)
        return max(begin - _MARGIN, 0), min(end + _MARGIN, self.fine)

    def span(self, first: int, last: int) -> _Span:
        """The smallest span around image pixels first to last and around what they are interpolated from.

        Prototype and image pixels have edges in common at each of the parts of their numbers' greatest common divisor.
        """
        parts = math.gcd(self.fine, self.length)
        source = self.part(first, last)
        begin, end = source[0] * parts // self.fine, -(-source[1] * parts // self.fine)
        pixels, fine = self.length // parts, self.fine // parts
        return _Span(begin * pixels, (end - begin) * pixels, (begin * fine, end * fine))


def _mask(prototypes: NDArray[np.float32], weights: NDArray[np.float32], box: Sequence[int], grid: _Grid) -> Mask:
    import cv2

    left, top, right, bottom = box
    if right <= left or bottom <= top:
        return Mask(bitmap=np.zeros((0, 0), np.bool_))
    x, y = grid.x.span(left, right), grid.y.span(top, bottom)
    if x.size * y.size <= _RESIZE_GAIN * (right - left) * (bottom - top):
        sums = _sums(prototypes, weights, grid, x.source, y.source)
        values = cv2.resize(sums, (x.size, y.size), interpolation=cv2.INTER_LINEAR)
        values = values[top - y.first : bottom - y.first, left - x.first : right - x.first]
    else:
        x_source, y_source = grid.x.part(left, right), grid.y.part(top, bottom)
        sums = _sums(prototypes, weights, grid, x_source, y_source)
        step_x, step_y = grid.x.fine / grid.x.length, grid.y.fine / grid.y.length
        # Where the centre of the box's pixel (0, 0) lies in `sums`, whose pixel centres are whole numbers here.
        origin_x, origin_y = (left + 0.5) * step_x - 0.5 - x_source[0], (top + 0.5) * step_y - 0.5 - y_source[0]
        values = cv2.warpAffine(
            sums,
            np.array([[step_x, 0, origin_x], [0, step_y, origin_y]]),
            (right - left, bottom - top),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
    inside = Mask.from_full(values > 0)
    return Mask(bitmap=inside.bitmap, left=left + inside.left, top=top + inside.top)


@dataclass(frozen=True, slots=True)
class _Span:
    """Image pixels from `first`, `size` of them, that are exactly the finer prototype pixels of `source`."""

    first: int
    size: int
    source: tuple[int, int]


def _sums(
    prototypes: NDArray[np.float32], weights: NDArray[np.float32], grid: _Grid, x: tuple[int, int], y: tuple[int, int]
) -> NDArray[np.float32]:
    """The weighted sum of the prototypes, in finer pixels, counted from where the image begins in them.

    What the network says about the padding around the image has no part in it.
    """
    import cv2

    columns, rows = (x[0] + grid.x.start, x[1] + grid.x.start), (y[0] + grid.y.start, y[1] + grid.y.start)
    if grid.finer == 1:
        part = prototypes[:, rows[0] : rows[1], columns[0] : columns[1]]
        return np.tensordot(weights, part, axes=1)
    # A pixel more on each side, so that the finer ones along the edges are interpolated from both sides.
    first_column, first_row = max(columns[0] // grid.finer - 1, 0), max(rows[0] // grid.finer - 1, 0)
    last_column, last_row = -(-columns[1] // grid.finer) + 1, -(-rows[1] // grid.finer) + 1
    part = prototypes[:, first_row:last_row, first_column:last_column]
    coarse = np.tensordot(weights, part, axes=1)
    sums = cv2.resize(coarse, None, fx=grid.finer, fy=grid.finer, interpolation=cv2.INTER_LINEAR)
    return sums[
        rows[0] - first_row * grid.finer : rows[1] - first_row * grid.finer,
        columns[0] - first_column * grid.finer : columns[1] - first_column * grid.finer,
    ]
