"""Masks and CVAT's forms of them: flat cropped list, run lengths, image-sized bitmap, outline.

Boxes inside these forms are CVAT's: (left, top, right, bottom) with right and bottom *inclusive*.
A `Mask` holds a bitmap of its box; every conversion is from or to that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from common.errors import describe
from common.shapes import Mask

_DIGIT_COMMA = np.array(ord("0") + 256 * ord(","), "<u2")  # "0," as one number: adding 1 makes it "1,"
_BATCH = 4_000_000  # crossings of an outline with rows that are worked on at a time


def cropped(mask: Mask) -> Mask:
    """The same pixels with the smallest box around them.

    Args:
        mask: Any mask.

    Returns:
        The mask; of 0 x 0 pixels when none is true.
    """
    tight = Mask.from_full(mask.bitmap)
    if tight.bitmap.shape == mask.bitmap.shape:
        return mask
    return replace(mask, bitmap=tight.bitmap, left=mask.left + tight.left, top=mask.top + tight.top)


def clipped(mask: Mask, size_hw: tuple[int, int]) -> Mask:
    """The part of a mask that lies in an image, cropped; without its outline if some of it does not.

    Args:
        mask: Any mask.
        size_hw: Height and width of the image.
    """
    left, top, right, bottom = mask.box_xyxy
    if left >= 0 and top >= 0 and right <= size_hw[1] and bottom <= size_hw[0]:
        return cropped(mask)
    x0, y0 = max(left, 0), max(top, 0)
    inside = mask.bitmap[y0 - top : max(size_hw[0] - top, 0), x0 - left : max(size_hw[1] - left, 0)]
    return cropped(replace(mask, bitmap=inside, left=x0, top=y0, outline_xy=None))


def combined(masks: Sequence[Mask], operation: np.ufunc) -> Mask:
    """The pixels of several masks as one.

    Args:
        masks: In any places; empty ones are ignored.
        operation: What becomes of two masks' pixels in the same place, such as `np.logical_or`.

    Returns:
        A mask of the box around them all, without label, score and outline.
    """
    boxes = np.array([mask.box_xyxy for mask in masks if mask.bitmap.size]).reshape(-1, 4)
    if not len(boxes):
        return Mask(bitmap=np.zeros((0, 0), np.bool_))
    (left, top), (right, bottom) = boxes[:, :2].min(axis=0).tolist(), boxes[:, 2:].max(axis=0).tolist()
    bitmap = np.zeros((bottom - top, right - left), np.bool_)
    for mask in masks:
        if mask.bitmap.size:
            x0, y0, x1, y1 = mask.box_xyxy
            window = bitmap[y0 - top : y1 - top, x0 - left : x1 - left]
            operation(window, mask.bitmap, out=window)
    return Mask(bitmap=bitmap, left=left, top=top)


def mask_to_bitmap(mask: Mask, size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """The bitmap of the whole image; what of a mask lies outside is cut off.

    Args:
        mask: Any mask.
        size_hw: Height and width of the image.

    Returns:
        (H, W) bool of `size_hw`.
    """
    full = np.zeros(size_hw, np.bool_)
    inside = clipped(mask, size_hw)
    left, top, right, bottom = inside.box_xyxy
    full[top:bottom, left:right] = inside.bitmap
    return full


def flat_to_mask(flat: Sequence[float]) -> Mask:
    """The inverse of `mask_to_json`, from parsed JSON.

    Args:
        flat: A value for each pixel of the box, row by row, then the box.

    Raises:
        ValueError: The length does not fit the box.
    """
    left, top, right, bottom = _box(flat)
    height, width = bottom - top + 1, right - left + 1
    if len(flat) - 4 != height * width:
        raise ValueError(f"a mask of {width} x {height} pixels needs {height * width} values, got {len(flat) - 4}")
    bitmap = np.asarray(flat[:-4]).reshape(height, width) != 0
    return Mask(bitmap=bitmap, left=left, top=top)


def mask_to_json(mask: Mask) -> bytes:
    """The JSON text of a detector's `mask` field, made without a Python number for each pixel.

    Args:
        mask: Any mask.

    Returns:
        A list: 0 or 1 for each pixel of the box, row by row, then the box.
    """
    left, top, right, bottom = mask.box_xyxy
    digits = mask.bitmap.ravel().view(np.uint8) + _DIGIT_COMMA
    return b"[%b%d,%d,%d,%d]" % (digits.tobytes(), left, top, right - 1, bottom - 1)


def rows_to_json(mask: Mask) -> bytes:
    """The JSON text of an interactor's `mask` field.

    Args:
        mask: Any mask.

    Returns:
        A list of the bitmap's rows, each a list of 0 and 1.
    """
    height, width = mask.bitmap.shape
    if not mask.bitmap.size:
        return b"[]"
    # A row "[0,1,...,0]," takes two bytes a pixel and two more, so its pairs of digit and comma lie on even places
    # behind the bracket that opens the list. The last comma of a row turns into its bracket, the very last of all into
    # that of the list.
    text = np.empty(1 + height * (width + 1), _DIGIT_COMMA.dtype)
    characters = text.view(np.uint8)
    characters[0] = ord("[")
    pairs = text[1:].reshape(height, width + 1)
    np.add(mask.bitmap.view(np.uint8), _DIGIT_COMMA, out=pairs[:, :width])
    rows = characters[1:-1].reshape(height, 2 * width + 2)
    rows[:, 0] = ord("[")
    rows[:, -2] = ord("]")
    rows[:, -1] = ord(",")
    rows[-1, -1] = ord("]")
    return characters[:-1].tobytes()


def bitmap_to_rle(bitmap: NDArray[np.bool_]) -> list[int]:
    """Lengths of the runs of equal pixels, row by row.

    Args:
        bitmap: (h, w) bool.

    Returns:
        Run lengths, background first (0 when the first pixel is true).
    """
    flat = np.asarray(bitmap, np.bool_).ravel()
    if not flat.size:
        return []
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate(([0], changes, [flat.size]))).tolist()
    return [0, *runs] if flat[0] else runs


def rle_to_bitmap(runs: Sequence[float], size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """The inverse of `bitmap_to_rle`.

    Args:
        runs: Run lengths, background first.
        size_hw: Height and width of the bitmap.

    Raises:
        ValueError: Runs are negative or don't fill the size.
    """
    lengths = np.asarray(runs, np.float64)
    if not (np.isfinite(lengths).all() and (lengths >= 0).all() and (lengths == np.floor(lengths)).all()):
        raise ValueError("run lengths must be whole numbers, 0 or more")
    if lengths.sum() != size_hw[0] * size_hw[1]:
        raise ValueError(f"run lengths add up to {lengths.sum():.15g}, the box has {size_hw[0] * size_hw[1]} pixels")
    values = np.arange(lengths.size) % 2 == 1
    return np.repeat(values, lengths.astype(np.int64)).reshape(size_hw)


def mask_to_rle(mask: Mask) -> list[int]:
    """The points of a mask in CVAT's annotations and in tracker requests.

    Args:
        mask: Any mask.

    Returns:
        Run lengths, background first, followed by the box.
    """
    left, top, right, bottom = mask.box_xyxy
    return [*bitmap_to_rle(mask.bitmap), left, top, right - 1, bottom - 1]


def rle_to_mask(points: Sequence[float]) -> Mask:
    """The inverse of `mask_to_rle`.

    Args:
        points: Run lengths, followed by the box.

    Raises:
        ValueError: Runs and box don't fit together.
    """
    left, top, right, bottom = _box(points)
    return Mask(bitmap=rle_to_bitmap(points[:-4], (bottom - top + 1, right - left + 1)), left=left, top=top)


def mask_to_outline(mask: Mask, tolerance: float = 1.0) -> NDArray[np.float64]:
    """The outline of the largest part of a mask, holes ignored; pixels that touch at a corner belong together.

    Args:
        mask: Any mask.
        tolerance: How far, in pixels, the pixels' edges may be from the outline; 0 follows every edge.

    Returns:
        (N, 2) float64 image coordinates of the edges between pixels, so that the polygon covers exactly the pixels'
        area at tolerance 0; N is 3 or more, or 0 for an empty mask.
    """
    if not mask.bitmap.any():
        return np.zeros((0, 2))
    part = _largest_part(mask)
    # OpenCV traces the centres of boundary pixels. On a grid twice as fine, each of those lies beside exactly one
    # corner of the original grid: fine column f belongs to the edge at (f + 1) // 2. Where the trace cuts an inner corner,
    # two of them belong to the same one.
    height, width = part.bitmap.shape
    fine = np.empty((height, 2, width), np.uint16)
    fine[:] = (part.bitmap.view(np.uint8) * np.uint16(0x0101))[:, None]
    outline = (_outer_contours(fine.view(np.uint8).reshape(2 * height, 2 * width))[0] + 1) // 2
    outline = outline[(outline != np.roll(outline, 1, axis=0)).any(axis=1)]
    if tolerance > 0:
        outline = _simplified(outline, tolerance)
    return outline.astype(np.float64) + (part.left, part.top)


def outline_beside(mask: Mask, tolerance: float = 1.0) -> NDArray[np.float64]:
    """The polygon that goes beside a mask: the outline that the model gave, or else `mask_to_outline`.

    Args:
        mask: Any mask.
        tolerance: See `mask_to_outline`.

    Returns:
        (N, 2) image coordinates.
    """
    return mask_to_outline(mask, tolerance) if mask.outline_xy is None else mask.outline_xy


def outline_to_mask(outline_xy: NDArray[np.float64], size_hw: tuple[int, int]) -> Mask:
    """The pixels of an image whose centres lie inside a polygon, by the even-odd rule.

    Args:
        outline_xy: (N, 2) corners in pixels of the image.
        size_hw: Height and width of the image.

    Returns:
        The mask, cropped; 0 x 0 pixels if it is empty.
    """
    points = np.asarray(outline_xy, np.float64).reshape(-1, 2)
    if len(points) < 3:
        return Mask(bitmap=np.zeros((0, 0), np.bool_))
    # The first pixel whose centre is not before the outline, and the first whose centre is behind it.
    limits = (size_hw[1], size_hw[0])
    left, top = np.clip(np.ceil(points.min(axis=0) - 0.5), 0, limits).astype(np.int64)
    right, bottom = np.clip(np.ceil(points.max(axis=0) - 0.5), 0, limits).astype(np.int64)
    # Scan lines through the pixel centres: toggling at each crossing and summing up along the row fills the inside.
    toggles = np.zeros((bottom - top, right - left + 1), np.uint8)
    flat = toggles.reshape(-1)
    (x0, y0), (x1, y1) = points.T, np.roll(points, -1, axis=0).T
    first = np.clip(np.ceil(np.minimum(y0, y1) - 0.5), top, bottom).astype(np.int64)
    crossed = np.clip(np.ceil(np.maximum(y0, y1) - 0.5), top, bottom).astype(np.int64) - first
    for edges in _batches(crossed):
        edge = np.repeat(edges, crossed[edges])
        before = np.cumsum(crossed[edges]) - crossed[edges]
        row = np.arange(edge.size) + np.repeat(first[edges] - before, crossed[edges])
        x = x0[edge] + (row + 0.5 - y0[edge]) * ((x1[edge] - x0[edge]) / (y1[edge] - y0[edge]))
        column = np.clip(np.ceil(x - 0.5), left, right).astype(np.int64)
        np.add.at(flat, (row - top) * toggles.shape[1] + (column - left), 1)  # wraps round, and stays odd or even
    toggles &= 1
    inside = np.bitwise_xor.accumulate(toggles, axis=1)[:, :-1].view(np.bool_)
    return cropped(Mask(bitmap=inside, left=int(left), top=int(top)))


def _box(values: Sequence[float]) -> tuple[int, int, int, int]:
    if len(values) < 5:
        raise ValueError(f"expected pixels followed by a box of 4 numbers, got {len(values)} numbers")
    if not all(math.isfinite(v) and v == math.floor(v) for v in values[-4:]):
        raise ValueError(f"the box {describe(list(values[-4:]))} is not of whole numbers")
    left, top, right, bottom = (int(v) for v in values[-4:])
    if right < left or bottom < top:
        raise ValueError(f"the box {describe([left, top, right, bottom])} is empty")
    return left, top, right, bottom


def _outer_contours(bitmap: NDArray[np.uint8]) -> list[NDArray[np.int32]]:
    """The outer boundary of each part, (N, 2) columns and rows of pixels; only where it turns."""
    import cv2

    contours, _ = cv2.findContours(bitmap, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return [np.asarray(contour, np.int32).reshape(-1, 2) for contour in contours]


def _largest_part(mask: Mask) -> Mask:
    """The part of a mask with the largest area, its holes filled; of a mask in one piece, the mask as it is."""
    import cv2

    contours = _outer_contours(mask.bitmap.view(np.uint8))
    if len(contours) == 1:
        return mask
    largest = contours[int(np.argmax(_pixels_within(contours)))]
    left, top, width, height = cv2.boundingRect(largest)
    part = np.zeros((height, width), np.uint8)
    cv2.drawContours(part, [largest], 0, 1, cv2.FILLED, offset=(-left, -top))
    return Mask(bitmap=part, left=mask.left + left, top=mask.top + top)


def _pixels_within(contours: list[NDArray[np.int32]]) -> NDArray[np.int64]:
    """How many pixels each closed contour of pixels surrounds, its own included."""
    starts = np.cumsum([0, *(len(contour) for contour in contours[:-1])])
    ends = np.append(starts[1:], sum(len(contour) for contour in contours)) - 1
    x, y = np.concatenate(contours).astype(np.int64).T
    after = np.arange(1, x.size + 1)
    after[ends] = starts
    doubled_area = np.abs(np.add.reduceat(x * y[after] - x[after] * y, starts))
    boundary = np.add.reduceat(np.maximum(np.abs(x[after] - x), np.abs(y[after] - y)), starts)
    return (doubled_area + boundary) // 2 + 1  # Pick's theorem: pixel centres are the points of the grid


def _simplified(points: NDArray[np.int32], tolerance: float) -> NDArray[np.int32]:
    """A choice of 3 or more of the points of a closed outline (N, 2), all others at most `tolerance` off its edges."""
    import cv2

    # OpenCV measures to endless lines and so keeps to the tolerance almost everywhere; where it does not, Douglas and
    # Peucker's way leads on: between two chosen points the one farthest off their edge is chosen too, on all edges at once.
    tolerance = min(tolerance, float(np.ptp(points)))  # the outline's size: a larger one changes nothing
    keys = points[:, 0].astype(np.int64) << 32 | points[:, 1]
    x, y = cv2.approxPolyDP(points, tolerance, True).reshape(-1, 2).T.astype(np.int64)
    by_key = np.argsort(keys)
    chosen = np.unique(by_key[np.searchsorted(keys, x << 32 | y, sorter=by_key)])
    points, chosen = np.roll(points, -chosen[0], axis=0), chosen - chosen[0]
    exact = points.astype(np.float64)
    while True:
        edge = np.repeat(np.arange(len(chosen)), np.diff(np.append(chosen, len(exact))))
        start, end = exact[chosen], exact[np.roll(chosen, -1)]
        way, offset = (end - start)[edge], exact - start[edge]
        squared = np.maximum((way**2).sum(axis=1), 1e-12)
        along = np.clip((offset * way).sum(axis=1) / squared, 0, 1)
        away = np.hypot(*(offset - along[:, None] * way).T)
        off = np.flatnonzero((away > tolerance) & (away == np.maximum.reduceat(away, chosen)[edge]))
        if off.size:
            chosen = np.union1d(chosen, off[np.unique(edge[off], return_index=True)[1]])
        elif len(chosen) >= 3:
            return points[chosen]
        else:
            tolerance /= 2  # a part so thin that a line would do


def _batches(counts: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The indices of `counts` that are not zero, in order, in groups whose counts add up to some millions at most."""
    indices = np.flatnonzero(counts)
    group = np.cumsum(counts[indices]) // _BATCH
    return np.split(indices, np.flatnonzero(np.diff(group)) + 1) if indices.size else []
