"""From a network's mask logits to the pixels of an image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MOST_OF_WINDOW = 1 / 8  # of the image; beyond that torch's own resize of the whole is faster than ours of the part


def bitmap_of_logits(logits: NDArray[np.float32], size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """Where logits are above 0 once resized bilinearly to an image.

    The result is that of `torch.nn.functional.interpolate(..., mode="bilinear") > 0`, but for a small object in a large image
    only the region around it is computed.

    Args:
        logits: (h, w) float32.
        size_hw: (height, width) of the image in pixels.

    Returns:
        (height, width) bool.
    """
    positive = logits > 0
    rows, columns = np.flatnonzero(positive.any(axis=1)), np.flatnonzero(positive.any(axis=0))
    if not rows.size:
        return np.zeros(size_hw, np.bool_)
    # A pixel lies between two values of each axis, so it is above 0 only where one of its neighbours is.
    top, bottom = _reach(rows[0], rows[-1], logits.shape[0], size_hw[0])
    left, right = _reach(columns[0], columns[-1], logits.shape[1], size_hw[1])
    if (bottom - top) * (right - left) > _MOST_OF_WINDOW * size_hw[0] * size_hw[1]:
        return resized(logits, size_hw) > 0
    above, below, down = _weights(logits.shape[0], size_hw[0], top, bottom)
    before, after, across = _weights(logits.shape[1], size_hw[1], left, right)
    part = logits[above[0] : below[-1] + 1]
    wide = part[:, before] * (1 - across) + part[:, after] * across
    window = wide[above - above[0]] * (1 - down)[:, None] + wide[below - above[0]] * down[:, None]
    bitmap = np.zeros(size_hw, np.bool_)
    bitmap[top:bottom, left:right] = window > 0
    return bitmap


def resized(logits: NDArray[np.float32], size_hw: tuple[int, int]) -> NDArray[np.float32]:
    """Logits resized bilinearly, as `torch.nn.functional.interpolate` does it.

    Args:
        logits: (h, w) float32.
        size_hw: (height, width) to resize to.

    Returns:
        (height, width) float32.
    """
    import torch
    from torch.nn.functional import interpolate

    tensor = torch.from_numpy(np.ascontiguousarray(logits))[None, None]
    values: NDArray[np.float32] = interpolate(tensor, size_hw, mode="bilinear", align_corners=False)[0, 0].numpy()
    return values


def _reach(first: int, last: int, old: int, new: int) -> tuple[int, int]:
    """The range of `new` pixels that a value from `first` to `last` of `old` ones has an influence on."""
    scale = new / old
    return max(int((first - 0.5) * scale) - 1, 0), min(int((last + 1.5) * scale) + 2, new)


def _weights(
    old: int, new: int, first: int, last: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """For pixels `first` to `last` of `new`: the two of `old` values they lie between, and how near to the second.

    In torch's arithmetic, single precision from the start, so that no pixel falls on another side of 0.
    """
    half = np.float32(0.5)
    place = np.float32(old) / np.float32(new) * (np.arange(first, last, dtype=np.float32) + half) - half
    place = np.maximum(place, np.float32(0))
    before = np.minimum(place.astype(np.int64), old - 1)
    after = np.minimum(before + 1, old - 1)
    return before, after, np.clip(place - before.astype(np.float32), 0, 1).astype(np.float32)
