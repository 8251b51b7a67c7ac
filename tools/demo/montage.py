"""One picture of the demo's results, for the README: panels side by side, each with a caption below it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

_COLUMNS = 3
_PANEL_WH = (480, 360)
_CAPTION_HEIGHT = 34
_GAP = 10
_BACKGROUND, _TEXT = (255, 255, 255), (36, 41, 47)
_QUALITY = 88  # of the JPEG file


def save_montage(path: Path, panels: Sequence[tuple[str, NDArray[np.uint8]]]) -> None:
    """Writes the panels to a JPEG file, three in a row.

    Args:
        path: The file to write.
        panels: The caption and the picture of each panel, (H, W, 3) uint8 RGB, 4:3; others are cropped around their centre.
    """
    width, height = _PANEL_WH
    rows = -(-len(panels) // _COLUMNS)
    size = (_COLUMNS * (width + _GAP) - _GAP, rows * (height + _CAPTION_HEIGHT + _GAP) - _GAP)
    canvas = Image.new("RGB", size, _BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size=17)
    for i, (caption, picture) in enumerate(panels):
        left, top = (i % _COLUMNS) * (width + _GAP), (i // _COLUMNS) * (height + _CAPTION_HEIGHT + _GAP)
        canvas.paste(_fitted(picture), (left, top))
        draw.text((left + width / 2, top + height + _CAPTION_HEIGHT / 2), caption, _TEXT, font, anchor="mm")
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.save(path, quality=_QUALITY, optimize=True, progressive=True)


def _fitted(picture: NDArray[np.uint8]) -> Image.Image:
    image = Image.fromarray(picture)
    scale = max(_PANEL_WH[0] / image.width, _PANEL_WH[1] / image.height)
    width, height = _PANEL_WH[0] / scale, _PANEL_WH[1] / scale
    left, top = (image.width - width) / 2, (image.height - height) / 2
    return image.resize(_PANEL_WH, Image.Resampling.LANCZOS, (left, top, left + width, top + height))
