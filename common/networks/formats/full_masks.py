"""Masks that cover the whole input of the network, one map for each candidate: of its score or logit at each place."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from common.networks.formats.detections import Detections
from common.networks.formats.layout import MaskDecoder
from common.networks.formats.masks import masks_in_boxes
from common.shapes import Mask
from common.vision.letterbox import Letterbox


def masks_of_rows(threshold: float) -> MaskDecoder:
    """A decoder for layouts whose candidates have the index of their map as their first extra value.

    Args:
        threshold: A pixel is set where the map, interpolated at its centre, is over this: 0.5 for probabilities, 0 for logits.

    Returns:
        A decoder for outputs (1, N, h, w), (N, 1, h, w) or (N, h, w).
    """

    def decode(
        output: NDArray[np.floating], found: Detections, boxes_xyxy: NDArray[np.float64], letterbox: Letterbox
    ) -> list[Mask]:
        maps = output.reshape(-1, *output.shape[-2:])
        return [_mask(maps[int(row)], threshold, letterbox) for row in found.extra[:, 0]]

    return decode


def _mask(plane: NDArray[np.floating], threshold: float, letterbox: Letterbox) -> Mask:
    """Only the part around what is over the threshold is interpolated."""
    over = plane > threshold
    rows, columns = np.flatnonzero(over.any(axis=1)), np.flatnonzero(over.any(axis=0))
    if not len(rows):
        return Mask(bitmap=np.zeros((0, 0), np.bool_))
    # A value over the threshold reaches no farther than to the centres of the neighbouring places.
    around = np.array([[columns[0] - 1, rows[0] - 1, columns[-1] + 2, rows[-1] + 2]], np.float64)
    (height, width), (rows_all, columns_all) = letterbox.size_hw, plane.shape
    scale = np.array([width / columns_all, height / rows_all] * 2)
    box = letterbox.boxes_to_image(around * scale)
    box = np.concatenate([np.floor(box[:, :2]), np.ceil(box[:, 2:])], axis=1)
    above = plane.astype(np.float32) - np.float32(threshold)
    (mask,) = masks_in_boxes(above[None, None], np.ones((1, 1), np.float32), box, letterbox)
    return mask
