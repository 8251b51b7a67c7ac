"""Small grey pictures as bytes in a tracker's state."""

from __future__ import annotations

import numpy as np
import simplejpeg
from numpy.typing import NDArray

Grey = NDArray[np.uint8]

_MOST_BYTES = 1800
_QUALITIES = (90, 80, 65, 50, 35, 20)


def to_jpeg(picture: Grey) -> bytes:
    """A picture as a JPEG file of at most 1800 bytes, unless even the lowest quality takes more.

    Args:
        picture: (h, w) uint8.
    """
    for quality in _QUALITIES:
        data = simplejpeg.encode_jpeg(picture[:, :, None], quality, "GRAY", "Gray")
        if len(data) <= _MOST_BYTES:
            break
    return data


def from_jpeg(data: bytes, size_wh: tuple[int, int]) -> Grey:
    """The inverse of `to_jpeg`, but for what compression changes.

    Args:
        data: The file.
        size_wh: The picture's width and height in pixels.

    Returns:
        (h, w) uint8.

    Raises:
        ValueError: It is not a picture of that size.
    """
    height, width, *_ = simplejpeg.decode_jpeg_header(data)
    if (width, height) != size_wh:
        raise ValueError(f"a patch of {width} x {height} pixels, not {size_wh}")
    return simplejpeg.decode_jpeg(data, "GRAY")[:, :, 0]
