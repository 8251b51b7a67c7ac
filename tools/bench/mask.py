"""The JSON text of a mask of a megapixel: ours against the plain way."""

from __future__ import annotations

import json

import cv2
import numpy as np

from common.shapes import Mask
from common.vision.mask import mask_to_json
from tools.bench.compare import report, times_ms


def run() -> None:
    """Measures, and prints the times."""
    bitmap = np.zeros((1000, 1000), np.uint8)
    cv2.circle(bitmap, (500, 500), 499, 1, -1)
    mask = Mask(bitmap=bitmap.astype(bool))
    box = [0, 0, 999, 999]

    def plain() -> str:
        return json.dumps([*bitmap.flat[:].tolist(), *box])

    def ours() -> bytes:
        return mask_to_json(mask)

    assert json.loads(plain()) == json.loads(ours())
    report("Mask of 1000 x 1000 pixels to JSON text", times_ms({"plain": plain, "ours": ours}), "plain")
