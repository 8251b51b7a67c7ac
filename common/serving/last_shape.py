"""The last shape of a tracked object, small enough for its state.

Points are kept as the reply has them, hundredths of a pixel. A mask is kept by what changes from row to row, deflated: some
1.5 kB for an object of 500 x 500 pixels. One that would take more than `_LARGEST_MASK` bytes is kept at half the resolution, or a
quarter, and so on: it is shown only while the object is out of sight.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.cvat.shape_json import shape_of_points, shape_points
from common.shapes import Ellipse, Mask, Rectangle, Shape
from common.vision.image import max_pixels

_LARGEST_MASK = 4096


def pack_shape(shape: Shape) -> list[Any]:
    """A shape as plain values.

    Args:
        shape: Any but a tag or a skeleton.

    Returns:
        [type, numbers as bytes, rotation in degrees]; of a mask [type, pixels as bytes, [left, top, height, width, step]],
        where `step` is the pixels of the image, across and down, for each pixel that is kept.
    """
    if isinstance(shape, Mask):
        for step in (1, 2, 4, 8, 16, 32):
            data = _pack_bitmap(_coarser(shape.bitmap, step))
            if len(data) <= _LARGEST_MASK:
                break
        return [shape.type, data, [shape.left, shape.top, *shape.bitmap.shape, step]]
    rotation = shape.rotation if isinstance(shape, (Rectangle, Ellipse)) else 0.0
    # 32 bits are exact to a hundredth of a pixel up to coordinates of 65,000.
    return [shape.type, np.array(shape_points(shape), "<f4").tobytes(), rotation]


def unpack_shape(packed: Any) -> Shape:
    """The inverse of `pack_shape`.

    Args:
        packed: What `pack_shape` returned.

    Raises:
        ValueError: It did not return that.
    """
    try:
        kind, data, more = packed
        if kind == "mask":
            left, top, height, width, step = map(int, more)
            if not (0 < height * width <= max_pixels() and height > 0 and 1 <= step <= 32):
                raise ValueError("of no size")
            bitmap = _unpack_bitmap(data, (-(-height // step), -(-width // step)))
            bitmap = bitmap.repeat(step, axis=0).repeat(step, axis=1)[:height, :width]
            return Mask(bitmap=bitmap, left=left, top=top)
        numbers = np.frombuffer(data, "<f4").astype(np.float64)
        if not np.isfinite(numbers).all():
            raise ValueError("not finite")
        return shape_of_points(kind, numbers.tolist(), float(more))
    except (TypeError, ValueError, OverflowError, zlib.error) as error:
        raise ValueError(f"not a packed shape: {error}") from error


def _coarser(bitmap: NDArray[np.bool_], step: int) -> NDArray[np.bool_]:
    """A pixel for each block of step x step, set where one of the block's is."""
    if step == 1:
        return bitmap
    rows, columns = (np.arange(0, length, step) for length in bitmap.shape)
    coarse: NDArray[np.bool_] = np.logical_or.reduceat(np.logical_or.reduceat(bitmap, rows, axis=0), columns, axis=1)
    return coarse


def _pack_bitmap(bitmap: NDArray[np.bool_]) -> bytes:
    changes = bitmap.copy()
    changes[1:] ^= bitmap[:-1]
    return zlib.compress(np.packbits(changes).tobytes())


def _unpack_bitmap(data: bytes, size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    count = size_hw[0] * size_hw[1]
    raw = zlib.decompressobj().decompress(data, (count + 7) // 8)
    if len(raw) != (count + 7) // 8:
        raise ValueError("cut")
    changes = np.unpackbits(np.frombuffer(raw, np.uint8), count=count).reshape(size_hw)
    bitmap: NDArray[np.bool_] = np.bitwise_xor.accumulate(changes, axis=0).view(np.bool_)
    return bitmap
