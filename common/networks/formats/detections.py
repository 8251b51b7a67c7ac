"""From everything that a network proposes to the few detections whose score is high enough, in pixels of its input."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.errors import StartupError
from common.networks.engine import Array

_TOLERANCE = 0.01  # arithmetic of 16 bits can exceed 1 by its rounding
_LARGEST_NORMALISED = 4.0  # an anchor of YOLOR is up to three times as long as its input


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """N detections in one image."""

    boxes: NDArray[np.float32]
    """(N, 4): left, top, right, bottom; or centre x, y, width, height where there are angles. Pixels of the input."""
    scores: NDArray[np.float32]
    """(N,), 0 to 1."""
    classes: NDArray[np.int64]
    """(N,) indices of the model's classes."""
    extra: NDArray[np.float32]
    """(N, E): what else the layout gives for each, such as mask coefficients or joints."""
    angles: NDArray[np.float32] | None = None
    """(N,) radians, clockwise; None for upright boxes."""

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, index: Array) -> Detections:
        """Some of the detections.

        Args:
            index: Their indices, or a bool array (N,).
        """
        return Detections(
            boxes=self.boxes[index],
            scores=self.scores[index],
            classes=self.classes[index],
            extra=self.extra[index],
            angles=None if self.angles is None else self.angles[index],
        )


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Everything that a network proposes for one image: N places, as views of its outputs, nothing copied."""

    boxes: Array
    """(N, 4) in the layout's `box_format`."""
    scores: Array
    """(N, C) probabilities of the classes, or (N,) of the one in `classes`."""
    classes: Array | None = None
    """(N,) class indices; negative: no detection. None where `scores` has a column for each class."""
    objectness: Array | None = None
    """(N,) probabilities that there is an object, by which the scores are multiplied."""
    angles: Array | None = None
    """(N,) radians, clockwise."""
    extra: Array | None = None
    """(N, E) whatever belongs to a place besides."""
    images: Array | None = None
    """(N,) indices of the images in the batch, of which only the first counts; None: all belong to it."""

    def over(self, threshold: float, *, multiple_classes: bool = False) -> Detections:
        """The places whose score reaches a threshold; nothing is computed for the others.

        Args:
            threshold: The lowest score, 0 to 1.
            multiple_classes: Whether a place becomes a detection for each class that reaches it, not for the best alone.

        Returns:
            Detections whose boxes are still in the layout's `box_format`.
        """
        if multiple_classes:
            classes, places = np.nonzero(threshold <= self.scores.T)
            return self._detections(places, _floats(self.scores[places, classes]), classes)
        if self.classes is not None:
            sure = (self.scores >= threshold) & (self.classes >= 0)
            places = np.flatnonzero(sure if self.images is None else sure & (self.images == 0))
            return self._detections(places, _floats(self.scores[places]), self.classes[places])
        # The score of a class is never higher than the objectness.
        bound = _floats(self.scores).max(axis=1) if self.objectness is None else self.objectness
        places = np.flatnonzero(bound >= threshold)
        scores = _floats(self.scores[places])
        if self.objectness is not None:
            scores = scores * _floats(self.objectness[places])[:, None]
        classes = scores.argmax(axis=1)
        best = np.take_along_axis(scores, classes[:, None], axis=1)[:, 0]
        found = self._detections(places, best, classes)
        return found if self.objectness is None else found.take(best >= threshold)

    def check(self, classes: int | None, *, normalised: bool = False, distribution: bool = False) -> None:
        """Checks that the values can be what the layout takes them for.

        Args:
            classes: How many classes the model has, None when that is unknown.
            normalised: Whether the boxes are parts of the input's sides.
            distribution: Whether the scores add up to 1.

        Raises:
            StartupError: Values are not finite, scores are outside 0 to 1 or don't add up to 1, normalised boxes are in
                pixels, or class indices are no such indices.
        """
        parts = {"boxes": self.boxes, "scores": self.scores, "objectness": self.objectness, "angles": self.angles}
        for name, values in parts.items():
            if values is not None and not np.isfinite(values).all():
                raise StartupError(f"the {name} are not all finite numbers")
        for name in ("scores", "objectness"):
            values = parts[name]
            if values is None or not values.size:
                continue
            low, high = float(values.min()), float(values.max())
            if low < -_TOLERANCE or high > 1 + _TOLERANCE:
                raise StartupError(f"the {name} should be probabilities from 0 to 1, but are {low:.4g} to {high:.4g}")
        if distribution and abs(total := float(np.sum(self.scores, dtype=np.float64)) - 1) > _TOLERANCE:
            raise StartupError(f"the scores of all classes should add up to 1, but add up to {total + 1:.4g}")
        if normalised and self.boxes.size and (high := float(np.abs(self.boxes).max())) > _LARGEST_NORMALISED:
            raise StartupError(f"the boxes should be parts of the input's sides, 0 to 1, but reach {high:.4g}")
        for name, indices, end in (("class", self.classes, classes), ("image", self.images, None)):
            if indices is None or not indices.size:
                continue
            low, high = float(indices.min()), float(indices.max())
            if (np.asarray(indices) % 1 != 0).any() or low < -1 or (end is not None and high >= end):
                below = "" if end is None else f" below {end}"
                raise StartupError(
                    f"the {name} indices should be whole numbers{below}, but are {low:.4g} to {high:.4g}"
                )

    def _detections(self, places: NDArray[np.intp], scores: NDArray[np.float32], classes: Array) -> Detections:
        return Detections(
            boxes=_floats(self.boxes[places]),
            scores=scores,
            classes=classes.astype(np.int64),
            extra=np.zeros((len(places), 0), np.float32) if self.extra is None else _floats(self.extra[places]),
            angles=None if self.angles is None else _floats(self.angles[places]),
        )


def _floats(array: Array) -> NDArray[np.float32]:
    return np.asarray(array, np.float32)
