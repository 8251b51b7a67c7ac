"""Images made smaller as Pillow does it, by the mean of the pixels that become one, on several cores."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

_WORTH_IT = 1_000_000  # pixels from which on threads pay


def resize(
    image: NDArray[np.uint8], size_hw: tuple[int, int], resampling: PillowImage.Resampling, threads: int = 1
) -> NDArray[np.uint8]:
    """Resizes an image as `PIL.Image.resize` does: in bands, which Pillow computes from the whole image.

    Args:
        image: (H, W, 3) uint8.
        size_hw: Height and width of the result.
        resampling: Pillow's filter.
        threads: How many bands are computed at a time.

    Returns:
        (height, width, 3) uint8; to one grey level that of Pillow, whose bands begin at single precision.
    """
    picture = PillowImage.fromarray(image)
    height, width = size_hw
    bands = min(threads, height)
    if bands < 2 or picture.width * picture.height < _WORTH_IT or resampling is PillowImage.Resampling.NEAREST:
        return np.asarray(picture.resize((width, height), resampling))
    rows = [round(i * height / bands) for i in range(bands + 1)]
    scale = image.shape[0] / height
    result = np.empty((height, width, image.shape[2]), np.uint8)

    def fill(first: int, end: int) -> None:
        box = (0, first * scale, image.shape[1], min(end * scale, image.shape[0]))
        # Pillow lets other threads run meanwhile.
        result[first:end] = np.asarray(picture.resize((width, end - first), resampling, box=box))

    with ThreadPoolExecutor(bands) as pool:
        list(pool.map(fill, rows[:-1], rows[1:]))
    return result
