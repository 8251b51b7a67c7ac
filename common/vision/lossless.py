"""Small colour pictures as bytes, without loss: what a tracker's state keeps of an object."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_LOSSLESS = 101  # the "quality" with which OpenCV writes WebP files without loss


def compressed(picture: NDArray[np.uint8]) -> bytes:
    """A picture as a file; of a photograph a third of its bytes are left.

    Args:
        picture: (H, W, 3) uint8.
    """
    import cv2

    return cv2.imencode(".webp", picture, [cv2.IMWRITE_WEBP_QUALITY, _LOSSLESS])[1].tobytes()


def restored(data: Any, size_wh: tuple[int, int]) -> NDArray[np.uint8]:
    """The inverse of `compressed`.

    Args:
        data: The file.
        size_wh: The picture's width and height in pixels.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ValueError: It is not a picture of that size.
    """
    import cv2

    if not isinstance(data, bytes) or not data:
        raise ValueError("expected the bytes of a picture")
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if picture is None or picture.shape[1::-1] != size_wh:
        raise ValueError(f"expected a picture of {size_wh[0]} x {size_wh[1]} pixels")
    return np.asarray(picture, np.uint8)
