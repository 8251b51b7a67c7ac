"""Non-maximum suppression: of boxes that show the same object, the one with the highest score."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MOST_CANDIDATES = 30_000  # boxes that are looked at, those with the highest scores
_BLOCK = 1024


def nms(
    boxes_xyxy: NDArray[np.floating],
    scores: NDArray[np.floating],
    classes: NDArray[np.integer] | None,
    iou: float,
    most: int,
) -> NDArray[np.intp]:
    """Suppresses boxes that overlap a better one of their class that stays.

    Args:
        boxes_xyxy: (N, 4) left, top, right, bottom, in any unit.
        scores: (N,) the higher the better.
        classes: (N,) class indices, None to let boxes of any class suppress each other.
        iou: How much two boxes may overlap, 0 to 1.
        most: How many may stay.

    Returns:
        Indices of the boxes that stay, the highest score first.
    """
    import cv2

    order = best_first(scores)
    if not order.size:
        return order
    rectangles = np.asarray(boxes_xyxy, np.float64)[order]
    rectangles[:, 2:] -= rectangles[:, :2]
    ranks = np.arange(order.size, 0, -1, dtype=np.float32)  # for scores: OpenCV leaves out those of 0
    if classes is None:
        kept = cv2.dnn.NMSBoxes(rectangles, ranks, 0.0, iou)  # type: ignore[arg-type]
    else:
        labels = np.asarray(classes, np.int32)[order]
        kept = cv2.dnn.NMSBoxesBatched(rectangles, ranks, labels, 0.0, iou)  # type: ignore[arg-type]
    return order[np.asarray(kept, np.intp).ravel()[:most]]


def rotated_nms(
    boxes_xywhr: NDArray[np.floating],
    scores: NDArray[np.floating],
    classes: NDArray[np.integer] | None,
    iou: float,
    most: int,
) -> NDArray[np.intp]:
    """As `nms`, for turned boxes, as Ultralytics does it for its networks.

    The overlap is that of the boxes' normal distributions (`gaussian_iou`), and a box is suppressed when any better one
    of its class overlaps it, even one that is suppressed itself.

    Args:
        boxes_xywhr: (N, 5) centre x, y, width, height in any unit, angle in radians.
        scores: (N,) the higher the better.
        classes: (N,) class indices, None to let boxes of any class suppress each other.
        iou: How much two boxes may overlap, 0 to 1.
        most: How many may stay.

    Returns:
        Indices of the boxes that stay, the highest score first.
    """
    order = best_first(scores)
    boxes = np.asarray(boxes_xywhr, np.float32)[order]
    labels = np.zeros(order.size, np.int64) if classes is None else np.asarray(classes)[order]
    stays = np.ones(order.size, np.bool_)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        for start in range(0, members.size, _BLOCK):
            block = members[start : start + _BLOCK]
            overlaps = gaussian_iou(boxes[members[: start + block.size]], boxes[block])
            better = np.arange(start + block.size)[:, None] < np.arange(start, start + block.size)
            stays[block] = ~((overlaps > iou) & better).any(axis=0)
    return order[stays][:most]


def rotated_nms_exact(
    boxes_xywhr: NDArray[np.floating],
    scores: NDArray[np.floating],
    classes: NDArray[np.integer] | None,
    iou: float,
    most: int,
) -> NDArray[np.intp]:
    """As `nms`, for turned boxes, with the overlap of their areas.

    Args:
        boxes_xywhr: (N, 5) centre x, y, width, height in any unit, angle in radians.
        scores: (N,) the higher the better.
        classes: (N,) class indices, None to let boxes of any class suppress each other.
        iou: How much two boxes may overlap, 0 to 1.
        most: How many may stay.

    Returns:
        Indices of the boxes that stay, the highest score first.
    """
    import cv2

    labels = np.zeros(len(scores), np.int64) if classes is None else classes
    kept = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        boxes = [
            ((float(x), float(y)), (float(w), float(h)), float(np.degrees(angle)))
            for x, y, w, h, angle in boxes_xywhr[members]
        ]
        stay = cv2.dnn.NMSBoxesRotated(boxes, scores[members].astype(np.float32).tolist(), 0.0, iou)
        kept.append(members[np.asarray(stay, np.intp).ravel()])
    together = np.concatenate(kept) if kept else np.zeros(0, np.intp)
    return together[best_first(scores[together])][:most]


def gaussian_iou(first_xywhr: NDArray[np.floating], second_xywhr: NDArray[np.floating]) -> NDArray[np.float32]:
    """Overlaps of turned boxes taken as normal distributions: 1 less their Hellinger distance.

    From "Gaussian Bounding Boxes and Probabilistic Intersection-over-Union", arXiv 2106.06072.

    Args:
        first_xywhr: (N, 5) centre x, y, width, height in any unit, angle in radians.
        second_xywhr: (M, 5) likewise.

    Returns:
        (N, M), 0 to 1.
    """
    tiny = np.float32(1e-7)
    x1, y1, a1, b1, c1 = _gaussians(first_xywhr)[:, :, None]
    x2, y2, a2, b2, c2 = _gaussians(second_xywhr)[:, None, :]
    a, b, c = a1 + a2, b1 + b2, c1 + c2
    determinant = a * b - c**2
    nearness = (a * (y1 - y2) ** 2 + b * (x1 - x2) ** 2) / (determinant + tiny) * 0.25
    slant = c * (x2 - x1) * (y1 - y2) / (determinant + tiny) * 0.5
    sizes = np.maximum(a1 * b1 - c1**2, 0) * np.maximum(a2 * b2 - c2**2, 0)
    spread = np.log(determinant / (4 * np.sqrt(sizes) + tiny) + tiny) * 0.5
    distance = np.clip(nearness + slant + spread, tiny, 100)
    overlaps: NDArray[np.float32] = 1 - np.sqrt(1 - np.exp(-distance) + tiny)
    return overlaps


def best_first(scores: NDArray[np.floating]) -> NDArray[np.intp]:
    """The order of scores.

    Args:
        scores: (N,).

    Returns:
        Indices of the scores from the highest on, equal ones in their order; at most MOST_CANDIDATES.
    """
    return np.argsort(-np.asarray(scores, np.float32), kind="stable")[:MOST_CANDIDATES]


def _gaussians(boxes_xywhr: NDArray[np.floating]) -> NDArray[np.float32]:
    """(5, N): centre x and y, then variance of x, variance of y, covariance."""
    x, y, w, h, angle = np.asarray(boxes_xywhr, np.float32).T
    along, across = w**2 / 12, h**2 / 12
    cos, sin = np.cos(angle), np.sin(angle)
    a = along * cos**2 + across * sin**2
    b = along * sin**2 + across * cos**2
    return np.stack([x, y, a, b, (along - across) * cos * sin])
