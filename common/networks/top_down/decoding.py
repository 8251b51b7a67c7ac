"""From what a pose network answers to joints, as mmpose's codecs define it.

Joints are given as places in the network's input, shares of its width and height from 0 to 1, with the values at the peaks as
scores. Where no value is above 0 there is no joint, and its score is 0.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from common.networks.engine import Array

Floats = NDArray[np.float32]
Smooth = Callable[[Floats], Floats]
"""Smooths one heat map (h, w)."""
Decoder = Callable[[Array], NDArray[np.float64]]
"""(N, K, h, w) heat maps -> (N, K, 3) x, y as shares of the input's sides, score."""

_SMALLEST, _LARGEST = 1e-3, 50.0  # values of heat maps before their logarithm is taken
_LARGE_MAP = 96  # cells of a side from which networks are trained with wider peaks: sigma 3 where it is 2 else


def decode_quarter(heatmaps: Array) -> NDArray[np.float64]:
    """The codec MSRAHeatmap: the peak, moved by a quarter of a cell towards the higher neighbour.

    Args:
        heatmaps: (N, K, h, w).

    Returns:
        (N, K, 3) x, y, score.
    """
    cells, scores = _peaks(heatmaps)
    x, y = cells[..., 0], cells[..., 1]
    height, width = heatmaps.shape[2:]
    value = partial(_values, heatmaps)
    dx = np.where((x > 1) & (x < width - 1) & (y > 0), np.sign(value(x + 1, y) - value(x - 1, y)), 0)
    dy = np.where((y > 1) & (y < height - 1) & (x > 0), np.sign(value(x, y + 1) - value(x, y - 1)), 0)
    return _joints(np.stack([x + dx * 0.25, y + dy * 0.25], axis=-1) / (width, height), scores)


def decode_dark(heatmaps: Array, smooth: Smooth) -> NDArray[np.float64]:
    """The codec MSRAHeatmap with `unbiased`: the peak of a normal distribution through the cells around it (DARK).

    Args:
        heatmaps: (N, K, h, w).
        smooth: How a map is smoothed before.

    Returns:
        (N, K, 3) x, y, score.
    """
    cells, scores = _peaks(heatmaps)
    x, y = cells[..., 0], cells[..., 1]
    height, width = heatmaps.shape[2:]
    value = partial(_values, np.log(np.maximum(_smoothed(heatmaps, smooth), 1e-10)))
    slope = 0.5 * np.stack([value(x + 1, y) - value(x - 1, y), value(x, y + 1) - value(x, y - 1)], axis=-1)
    middle = value(x, y)
    xx = 0.25 * (value(x + 2, y) - 2 * middle + value(x - 2, y))
    yy = 0.25 * (value(x, y + 2) - 2 * middle + value(x, y - 2))
    xy = 0.25 * (value(x + 1, y + 1) - value(x + 1, y - 1) - value(x - 1, y + 1) + value(x - 1, y - 1))
    inner = (x > 1) & (x < width - 2) & (y > 1) & (y < height - 2) & (xx * yy - xy**2 != 0)
    offset = _newton_step(slope, np.where(inner, xx, 1), np.where(inner, xy, 0), np.where(inner, yy, 1))
    return _joints((cells + np.where(inner[..., None], offset, 0)) / (width, height), scores)


def decode_udp(heatmaps: Array, smooth: Smooth) -> NDArray[np.float64]:
    """The codec UDPHeatmap: as DARK, where the centres of the outermost cells lie on the edges of the part (UDP).

    Args:
        heatmaps: (N, K, h, w).
        smooth: How a map is smoothed before.

    Returns:
        (N, K, 3) x, y, score.
    """
    cells, scores = _peaks(heatmaps)
    x, y = cells[..., 0], cells[..., 1]
    height, width = heatmaps.shape[2:]
    value = partial(_values, np.log(np.clip(_smoothed(heatmaps, smooth), _SMALLEST, _LARGEST)))
    slope = 0.5 * np.stack([value(x + 1, y) - value(x - 1, y), value(x, y + 1) - value(x, y - 1)], axis=-1)
    middle, right, left = value(x, y), value(x + 1, y), value(x - 1, y)
    below, above = value(x, y + 1), value(x, y - 1)
    xx, yy = right - 2 * middle + left, below - 2 * middle + above
    xy = 0.5 * (value(x + 1, y + 1) - right - below + 2 * middle - left - above + value(x - 1, y - 1))
    epsilon = float(np.finfo(np.float32).eps)
    offset = _newton_step(slope, xx + epsilon, xy, yy + epsilon)
    return _joints((cells + offset) / (width - 1, height - 1), scores)


def decode_simcc(rows_x: Array, rows_y: Array) -> NDArray[np.float64]:
    """The codec SimCCLabel: the place with the highest score along each axis; the lower of the two scores counts.

    Args:
        rows_x: (N, K, w) scores of the places along x.
        rows_y: (N, K, h) scores of the places along y.

    Returns:
        (N, K, 3) x, y, score.
    """
    places = np.stack([rows_x.argmax(axis=2) / rows_x.shape[2], rows_y.argmax(axis=2) / rows_y.shape[2]], axis=-1)
    return _joints(places, np.minimum(rows_x.max(axis=2), rows_y.max(axis=2)))


def smooth_as_mmpose(heatmap: Floats, kernel: int) -> Floats:
    """Smooths a heat map on a black surface and keeps the height of its peak.

    Args:
        heatmap: (h, w) float32.
        kernel: Cells of the filter's side, odd; its width follows from that as in OpenCV.

    Returns:
        (h, w) float32.
    """
    import cv2

    border = (kernel - 1) // 2
    smoothed = cv2.GaussianBlur(np.pad(heatmap, border), (kernel, kernel), 0)[border:-border, border:-border]
    highest = float(smoothed.max())
    return np.asarray(smoothed * (float(heatmap.max()) / highest) if highest else smoothed, np.float32)


def smooth_as_transformers(heatmap: Floats, kernel: int = 11, sigma: float = 0.8) -> Floats:
    """Smooths a heat map that is mirrored at its edges.

    Args:
        heatmap: (h, w) float32.
        kernel: Cells of the filter's side, odd.
        sigma: Standard deviation of the filter, cells.

    Returns:
        (h, w) float32.
    """
    import cv2

    return np.asarray(cv2.GaussianBlur(heatmap, (kernel, kernel), sigma, borderType=cv2.BORDER_REFLECT), np.float32)


def usual_kernel(map_hw: tuple[int, int]) -> int:
    """The side of the filter that mmpose smooths maps of a size with.

    Args:
        map_hw: Height and width of the maps, cells.
    """
    return 17 if max(map_hw) >= _LARGE_MAP else 11


def _peaks(heatmaps: Array) -> tuple[NDArray[np.int64], Array]:
    """The highest cell of each map: x and y (N, K, 2), and its value (N, K)."""
    count, joints, height, width = heatmaps.shape
    flat = heatmaps.reshape(count, joints, height * width)
    best = flat.argmax(axis=2)
    values = np.take_along_axis(flat, best[..., None], axis=2)[..., 0]
    return np.stack([best % width, best // width], axis=-1).astype(np.int64), values


def _values(maps: Array, x: NDArray[np.int64], y: NDArray[np.int64]) -> Floats:
    """The values of (N, K, h, w) maps at a cell of each, (N, K); of cells outside, those at the edge."""
    count, joints, height, width = maps.shape
    of_image, of_joint = np.ogrid[:count, :joints]
    return np.asarray(maps[of_image, of_joint, np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)], np.float64)


def _smoothed(heatmaps: Array, smooth: Smooth) -> Floats:
    maps = heatmaps.reshape(-1, *heatmaps.shape[2:]).astype(np.float32)
    return np.stack([smooth(each) for each in maps]).reshape(heatmaps.shape)


def _newton_step(slope: Array, xx: Array, xy: Array, yy: Array) -> NDArray[np.float64]:
    """From a cell to the top of the parabola through it; (N, K, 2), 0 where no parabola fits."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        determinant = xx * yy - xy * xy
        step = -np.stack([yy * slope[..., 0] - xy * slope[..., 1], xx * slope[..., 1] - xy * slope[..., 0]], axis=-1)
        step = step / determinant[..., None]
    return np.where(np.isfinite(step).all(axis=-1, keepdims=True), step, 0.0)


def _joints(places_xy: Array, scores: Array) -> NDArray[np.float64]:
    return np.concatenate([places_xy, np.clip(scores, 0, 1)[..., None]], axis=-1).astype(np.float64)
