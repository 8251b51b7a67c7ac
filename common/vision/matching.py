"""Which boxes of two frames show the same object: appearance, motion and label, matched one to one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import lap
import numpy as np
from numpy.typing import NDArray

_NEARNESS = 1e-6  # what a pair at the threshold still saves; a little more for nearer centres


@dataclass(frozen=True, slots=True)
class ReidBox:
    """The box of an object that may be in both frames."""

    box_xyxy: tuple[float, float, float, float]
    """(left, top, right, bottom) of the upright box around the shape, in pixels of the image."""
    label_id: int | None = None
    """Objects of different labels never match; None when the label is unknown."""


def cosine_distances(embeddings0: NDArray[np.float32], embeddings1: NDArray[np.float32]) -> NDArray[np.float64]:
    """Distances between all descriptors of two images.

    Args:
        embeddings0: (N, D), of any length.
        embeddings1: (M, D), of any length.

    Returns:
        (N, M) from 0 (same direction) to 1 (orthogonal or opposed).
    """

    def unit(rows: NDArray[np.float32]) -> NDArray[np.float64]:
        exact = rows.astype(np.float64)
        return exact / np.maximum(np.linalg.norm(exact, axis=1, keepdims=True), 1e-12)

    # Rounded, so that equal rows are at 0 and not some way off in the last digit: a threshold of 0 means the same.
    return np.clip(np.round(1 - unit(embeddings0) @ unit(embeddings1).T, 12), 0, 1)


def match(
    distances: NDArray[np.float64],
    boxes0: Sequence[ReidBox],
    boxes1: Sequence[ReidBox],
    *,
    threshold: float,
    max_distance: float,
) -> list[int]:
    """Finds the best one-to-one assignment of boxes that may show the same object.

    A box without a partner counts as much as one at a distance of `threshold`, so that one sure pair is worth more than
    two doubtful ones. Among equals, the nearer centres win.

    Args:
        distances: (len(boxes0), len(boxes1)) of appearance on any scale, 0 = identical; NaN and infinity never match.
        boxes0: The boxes of the first image.
        boxes1: The boxes of the second image; only those of the same label may match.
        threshold: The largest distance at which two boxes may match.
        max_distance: The largest distance of their centres, in pixels.

    Returns:
        For each of `boxes0` the index of its partner in `boxes1`, or -1; no index twice.
    """
    if not boxes0 or not boxes1:
        return [-1] * len(boxes0)
    apart = np.hypot(*(_centers(boxes0)[:, None] - _centers(boxes1)[None]).transpose(2, 0, 1))
    numbers = {label: number for number, label in enumerate({box.label_id for box in (*boxes0, *boxes1)})}
    labels0, labels1 = (np.array([numbers[box.label_id] for box in boxes]) for boxes in (boxes0, boxes1))
    allowed = (labels0[:, None] == labels1[None]) & (apart <= max_distance) & (distances <= threshold)
    saved = threshold - distances + _NEARNESS * (2 - apart / max(float(apart.max()), 1.0))
    _, columns, _ = lap.lapjv(-np.where(allowed, saved, 0.0), extend_cost=True)
    return [column if column >= 0 and allowed[row, column] else -1 for row, column in enumerate(columns.tolist())]


def _centers(boxes: Sequence[ReidBox]) -> NDArray[np.float64]:
    corners = np.array([box.box_xyxy for box in boxes], np.float64)
    return (corners[:, :2] + corners[:, 2:]) / 2
