"""What an exported file answers on some pictures, against what the original answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.networks.exported.model import ExportedModel
from common.networks.results import Found
from common.vision.geometry import rotated_corners

_PIXELS, _SCORE, _MASKS = 1.0, 0.01, 0.95  # what still counts as the same: at most, at most, at least
_UNMATCHED = 0.05  # the part that may be missing: near a tie, the suppression of overlaps keeps one box or the other

Answer = Mapping[str, NDArray[Any]]
"""Of the original: `scores`, `classes` and `boxes` (xyxy) or `rotated` (xywhr), perhaps `masks` and `joints`; or
`probabilities` of a classifier. In pixels of the picture."""


@dataclass
class Comparison:
    """How far the answers of two models are apart, over all pictures."""

    detections: int = 0
    """How many were compared; of a classifier, pictures."""
    unmatched: int = 0
    """How many of these the exported file doesn't have, or has elsewhere."""
    pixels: float = 0.0
    """The largest distance between corners, or joints, of the others."""
    score: float = 0.0
    """The largest difference between their scores."""
    overlap: float = 1.0
    """The smallest overlap (IoU) of their masks."""

    @property
    def agrees(self) -> bool:
        """Whether the two models are the same but for rounding."""
        return self.unmatched <= self.detections * _UNMATCHED

    def add(self, model: ExportedModel, picture: NDArray[np.uint8], answer: Answer, lowest_score: float) -> None:
        """Compares the answers on a picture.

        Args:
            model: The exported file.
            picture: (H, W, 3) uint8 RGB.
            answer: What the original answered.
            lowest_score: Of its answer.
        """
        found = model.find(picture, lowest_score / 2, most=300)
        if "probabilities" in answer:
            self._add_classification(found, answer["probabilities"])
            return
        for i in range(len(answer["scores"])):
            self.detections += 1
            alike = np.flatnonzero(found.classes == int(answer["classes"][i]))
            distances = [_distance(found, int(j), answer, i) for j in alike]
            if not distances or min(distances) > _PIXELS:
                self.unmatched += 1
                continue
            self._add_detection(found, int(alike[int(np.argmin(distances))]), answer, i, min(distances))

    def _add_detection(self, found: Found, j: int, answer: Answer, i: int, distance: float) -> None:
        score = abs(float(found.scores[j]) - float(answer["scores"][i]))
        overlap = 1.0
        if found.masks is not None and "masks" in answer:
            overlap = _overlap(found, j, answer["masks"][i])
        if score > _SCORE or overlap < _MASKS:
            self.unmatched += 1
            return
        self.pixels, self.score = max(self.pixels, distance), max(self.score, score)
        self.overlap = min(self.overlap, overlap)

    def _add_classification(self, found: Found, probabilities: NDArray[Any]) -> None:
        given = np.zeros(len(probabilities))
        given[found.classes] = found.scores
        asked = probabilities >= 2 * _SCORE  # the others may be under the lowest score
        difference = float(np.abs(given - probabilities)[asked].max(initial=0))
        self.detections += 1
        self.unmatched += difference > _SCORE
        self.score = max(self.score, difference)

    def __str__(self) -> str:
        if self.overlap < 1:
            return f"{self._differences}, masks overlap by {self.overlap:.3f} or more"
        return self._differences

    @property
    def _differences(self) -> str:
        return f"{self.pixels:.2g} px and {self.score:.2g} in score at most"


def _distance(found: Found, j: int, answer: Answer, i: int) -> float:
    """The largest distance between corners and joints of two detections, in pixels of the picture."""
    if "rotated" in answer:
        assert found.rotated_xywhr is not None
        first, second = (_corners(row) for row in (found.rotated_xywhr[j], answer["rotated"][i]))
        # The corner that comes first depends on the angle, of which there are four for a rectangle.
        return min(float(np.abs(first - np.roll(second, turn, axis=0)).max()) for turn in range(4))
    assert found.boxes_xyxy is not None
    distance = float(np.abs(found.boxes_xyxy[j] - answer["boxes"][i]).max())
    if found.joints is not None and "joints" in answer:
        distance = max(distance, float(np.abs(found.joints[j, :, :2] - answer["joints"][i][:, :2]).max()))
    return distance


def _corners(xywhr: NDArray[Any]) -> NDArray[np.float64]:
    x, y, width, height, angle = (float(value) for value in xywhr)
    return np.asarray(rotated_corners((x, y), (width, height), float(np.degrees(angle))))


def _overlap(found: Found, j: int, bitmap: NDArray[np.bool_]) -> float:
    assert found.masks is not None
    mask = found.masks[j]
    height, width = mask.bitmap.shape
    both = int((bitmap[mask.top : mask.top + height, mask.left : mask.left + width] & mask.bitmap).sum())
    return both / max(int(bitmap.sum()) + int(mask.bitmap.sum()) - both, 1)
