"""Pictures for the functions in tests/sample_functions: a red box on grey, more boxes if wanted."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Box = tuple[int, int, int, int]

GREY, RED, GREEN, BLUE = (128, 128, 128), (220, 30, 30), (30, 220, 30), (30, 30, 220)


def scene(
    boxes: Sequence[tuple[Box, tuple[int, int, int]]],
    size_hw: tuple[int, int] = (60, 90),
    corner: tuple[int, int, int] = GREY,
) -> NDArray[np.uint8]:
    """(H, W, 3) RGB. boxes: (left, top, right, bottom) and colour; `corner`: the colour of the first pixel."""
    image = np.full((*size_hw, 3), GREY, np.uint8)
    for (left, top, right, bottom), color in boxes:
        image[top:bottom, left:right] = color
    image[0, 0] = corner
    return image


def red_box(box: Box, size_hw: tuple[int, int] = (60, 90)) -> NDArray[np.uint8]:
    return scene([(box, RED)], size_hw)


def png(image: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
