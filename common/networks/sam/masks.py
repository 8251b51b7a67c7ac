"""Padding of a decoder's logits; islands, holes and parts of masks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from common.errors import StartupError
from common.networks.mask_logits import resized
from common.shapes import BoxXyxy, Mask
from common.vision.geometry import box_iou


def resized_without_padding(
    logits: NDArray[np.float32], padded_hw: tuple[int, int], inner_hw: tuple[int, int]
) -> NDArray[np.float32]:
    """Logits of a padded square, resized to its size in pixels, without the padding at the right and below (SAM 1).

    Args:
        logits: (h, w) float32 of the whole square.
        padded_hw: (height, width) of the square in pixels.
        inner_hw: (height, width) of the image in it.

    Returns:
        (height, width) float32 of the image in the square.
    """
    return resized(logits, padded_hw)[: inner_hw[0], : inner_hw[1]]


def without_small_parts(bitmap: NDArray[np.bool_], smallest: int) -> NDArray[np.bool_]:
    """A bitmap without small islands and holes; its largest part always stays.

    Pixels of an island are connected by edges and corners, and the island's size includes its holes; pixels of a hole are
    connected by edges only.

    Args:
        bitmap: (H, W) bool.
        smallest: Islands and holes of fewer pixels are removed.

    Returns:
        (H, W) bool; the bitmap itself when nothing is removed.
    """
    import cv2

    rows, columns = np.flatnonzero(bitmap.any(axis=1)), np.flatnonzero(bitmap.any(axis=0))
    if smallest <= 1 or not rows.size:
        return bitmap
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    part = np.ascontiguousarray(bitmap[box]).astype(np.uint8)
    contours, hierarchy = cv2.findContours(part, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    outer = hierarchy[0, :, 3] < 0
    # Pick's theorem: contours run over the centres of pixels of the object, so those on an island's belong to it, and
    # those on a hole's don't.
    half = np.array([len(contour) / 2 for contour in contours])
    area = np.array([cv2.contourArea(contour) for contour in contours]) + np.where(outer, half, -half) + 1
    small = area < smallest
    small[np.argmax(np.where(outer, area, 0))] = False
    if not small.any():
        return bitmap
    for value, chosen in ((0, small & outer), (1, small & ~outer & ~small[hierarchy[0, :, 3]])):
        cv2.drawContours(part, [contours[i] for i in np.flatnonzero(chosen).tolist()], -1, value, cv2.FILLED)
    cleaned = np.zeros_like(bitmap)
    cleaned[box] = part
    return cleaned


def one_part(mask: Mask, near_xyxy: BoxXyxy | None) -> Mask:
    """The part of a mask that is the object of the last frame: the one whose box shares most with that object's.

    Shared is intersection over union, so that neither a speck on the object nor something large beside it is preferred.

    Args:
        mask: The object and what else the model found; pixels of a part touch by edges or corners.
        near_xyxy: The box of the object in the last frame, if it is known.

    Returns:
        That part, or the largest one when no part's box meets that box.
    """
    import cv2

    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.bitmap.view(np.uint8), connectivity=8)
    if count <= 2:  # the background and one part
        return mask
    parts = stats[1:].astype(np.int64)
    boxes = parts[:, :4] + [mask.left, mask.top, 0, 0]
    boxes[:, 2:] += boxes[:, :2]
    shared = [0.0 if near_xyxy is None else box_iou(tuple(box), near_xyxy) for box in boxes.tolist()]
    chosen = int(np.argmax(shared if any(shared) else parts[:, cv2.CC_STAT_AREA]))
    column, row, width, height = parts[chosen, :4].tolist()
    bitmap = labels[row : row + height, column : column + width] == chosen + 1
    return Mask(bitmap=bitmap, left=mask.left + column, top=mask.top + row)


def check_smallest(smallest: int) -> int:
    """Checks the option SMALLEST_PART.

    Args:
        smallest: Its value, pixels.

    Raises:
        StartupError: It is negative.
    """
    StartupError.check(smallest >= 0, "SMALLEST_PART", "a number of pixels, 0 or more", smallest)
    return smallest
