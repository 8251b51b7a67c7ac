"""An interactor: clicks or a box in, the mask of the object out. This one floods from the clicks; put your model here."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from common.config import FunctionConfig
from common.protocol import Image, Prompt


class ModelHandler:
    """Floods from the clicks."""

    # Keyword-only arguments are options: TOLERANCE in the environment sets `tolerance`.
    def __init__(self, config: FunctionConfig, *, tolerance: int = 20):
        # Load the model here: once in each worker.
        self._tolerance = tolerance

    def embed(self, image: Image) -> Image:
        """Everything about the image that clicks don't change, such as an encoder's features. image: (H, W, 3) uint8 RGB."""
        return cv2.GaussianBlur(image, (3, 3), 0)

    def segment(self, embedding: Image, prompt: Prompt) -> NDArray[np.bool_]:
        """The (H, W) bool bitmap of the object.

        prompt: pos_points_xy and neg_points_xy, (N, 2) float pixels, and box_xyxy or None; all inside the image, and
        there is a positive point or a box.
        """
        height, width = embedding.shape[:2]
        seeds = prompt.pos_points_xy
        if not len(seeds) and prompt.box_xyxy is not None:
            seeds = np.array(prompt.box_xyxy).reshape(2, 2).mean(axis=0, keepdims=True)
        found = np.zeros((height, width), np.bool_)
        for x, y in seeds:
            seed = min(int(x), width - 1), min(int(y), height - 1)
            filled = np.zeros((height + 2, width + 2), np.uint8)
            step = (self._tolerance,) * 3
            cv2.floodFill(embedding.copy(), filled, seed, (0, 0, 0), step, step, cv2.FLOODFILL_MASK_ONLY)
            found |= filled[1:-1, 1:-1] > 0
        if prompt.box_xyxy is not None:
            left, top, right, bottom = (round(side) for side in prompt.box_xyxy)
            outside = np.ones_like(found)
            outside[top:bottom, left:right] = False
            found &= ~outside
        return found
