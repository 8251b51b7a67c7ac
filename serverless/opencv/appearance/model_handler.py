"""What a box shows as a vector: its colours and the directions of its edges, cell by cell.

A change of exposure, noise, or a box that is a few pixels off changes it little; different objects are about orthogonal.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from common.config import FunctionConfig
from common.protocol import Image
from common.vision.geometry import pixels_of_box

_SIDE = 64  # pixels: every box is scaled to a square of this side
_CELLS = 4  # cells along a side; each has histograms of its own, so that the place of a colour counts
_LEVELS = (6, 8, 8)  # bins of lightness and of the two colour axes of Lab
_DIRECTIONS = 9  # bins of the gradient's direction, 20 degrees each
_COLOR_WEIGHT = 0.7  # of the squared length of a descriptor
_CHANNEL_WEIGHTS = (0.5, 1.0, 1.0)  # lightness changes with the light, colour less so

Rows = NDArray[np.float32]


class ModelHandler:
    """Descriptors of boxes from soft histograms of Lab colours and of gradient directions on a grid of cells.

    Args:
        config: The function's configuration; there are no options.
    """

    def __init__(self, config: FunctionConfig):
        pass

    def embed(self, image: Image, boxes_xyxy: NDArray[np.float64]) -> Rows:
        """(N, D) float32 descriptors of unit length of the parts of the (N, 4) boxes that lie inside the image.

        A box without a pixel inside gets the descriptor of the nearest pixel.
        """
        return np.stack([_describe(_patch(image, box)) for box in boxes_xyxy])


def _patch(image: Image, box_xyxy: NDArray[np.float64]) -> Image:
    """The part of the image in a box, at least one pixel of it, as a square of _SIDE."""
    left, top, right, bottom = pixels_of_box(box_xyxy, image.shape[:2])
    crop = image[top:bottom, left:right]
    # Averaged where it shrinks: a descriptor must not depend on which pixels happen to be hit.
    sides = min(crop.shape[1], _SIDE), min(crop.shape[0], _SIDE)
    shrunk = cv2.resize(crop, sides, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(shrunk, (_SIDE, _SIDE), interpolation=cv2.INTER_LINEAR))


def _describe(patch: Image) -> Rows:
    lab = cv2.cvtColor(patch.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)  # L 0 to 100, a and b -128 to 127
    lightness = lab[:, :, 0]
    # A change of exposure scales and shifts lightness: its place in the patch's own range stays.
    spread = max(float(lightness.std()), 4.0)
    levelled = np.clip((lightness - lightness.mean()) / (4 * spread) + 0.5, 0, 1)
    channels = (levelled, _spread(lab[:, :, 1]), _spread(lab[:, :, 2]))
    colors = [
        weight * _soft_histograms(channel, bins, np.ones_like(channel))
        for channel, bins, weight in zip(channels, _LEVELS, _CHANNEL_WEIGHTS, strict=True)
    ]
    across, down = cv2.Sobel(lightness, cv2.CV_32F, 1, 0), cv2.Sobel(lightness, cv2.CV_32F, 0, 1)
    direction = np.arctan2(down, across) / np.pi % 1.0  # a line has the same direction from both sides
    gradients = _soft_histograms(direction, _DIRECTIONS, np.hypot(across, down), circular=True)
    color = _unit(_centered(np.concatenate([histogram.ravel() for histogram in colors])))
    shape = _unit(_centered(gradients.ravel()))
    return _unit(np.concatenate([color * np.sqrt(_COLOR_WEIGHT), shape * np.sqrt(1 - _COLOR_WEIGHT)]))


def _spread(axis: Rows) -> Rows:
    """A colour axis of Lab as 0 to 1, with the greyish middle, where most of the world is, drawn apart."""
    return np.clip(np.sign(axis) * np.sqrt(np.abs(axis) / 100) * 0.5 + 0.5, 0, 1).astype(np.float32)


def _centered(histograms: Rows) -> Rows:
    """Square roots about their mean: large counts don't drown small ones, and different objects become orthogonal."""
    roots = np.sqrt(histograms)
    return np.asarray(roots - roots.mean(), np.float32)


def _soft_histograms(values: Rows, bins: int, weights: Rows, circular: bool = False) -> Rows:
    """(_CELLS, _CELLS, bins) histograms of values from 0 to 1, each value shared by the two bins next to it."""
    place = values * bins - 0.5 if circular else values * (bins - 1)
    low = np.floor(place).astype(int)
    part = (place - low).astype(np.float32)
    step = _SIDE // _CELLS
    cell = np.repeat(np.arange(_CELLS), step)
    row, column = cell[:, None], cell[None, :]
    counts = np.zeros((_CELLS, _CELLS, bins), np.float32)
    for index, share in ((low, 1 - part), (low + 1, part)):
        slot = index % bins if circular else np.clip(index, 0, bins - 1)
        flat = (row * _CELLS + column) * bins + slot
        counts += np.bincount(flat.ravel(), (weights * share).ravel(), counts.size).reshape(counts.shape)
    return counts / np.float32(step * step)


def _unit(vector: Rows) -> Rows:
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-9), np.float32)
