"""Image files as bytes, made by Pillow from arrays."""

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def encode(image: NDArray[Any] | Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    """The file of an array (H, W) or (H, W, 3), or of a Pillow image, with Pillow's options for the format."""
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, file_format, **options)
    return buffer.getvalue()


def to_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def photo(size_hw: tuple[int, int] = (96, 128), seed: int = 0) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 with areas, edges and noise in all colours, different in all four corners."""
    rng = np.random.default_rng(seed)
    height, width = size_hw
    blocks = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3))
    grown = blocks.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
    return np.clip(grown + rng.integers(-12, 13, grown.shape), 0, 255).astype(np.uint8)
