"""All pixels of the colour that was clicked, inside the box if there is one, without the colours of negative clicks."""

import numpy as np
from numpy.typing import NDArray

from common.config import FunctionConfig
from common.protocol import Image, Prompt


class ModelHandler:
    def __init__(self, config: FunctionConfig, *, tolerance: int = 20):
        self._tolerance, self.embedded = tolerance, 0

    def embed(self, image: Image) -> NDArray[np.int16]:
        self.embedded += 1
        return image.astype(np.int16)

    def segment(self, embedding: NDArray[np.int16], prompt: Prompt) -> NDArray[np.bool_]:
        def like(points_xy: NDArray[np.float64]) -> NDArray[np.bool_]:
            found = np.zeros(embedding.shape[:2], bool)
            for x, y in points_xy:
                found |= np.abs(embedding - embedding[int(y), int(x)]).max(axis=2) <= self._tolerance
            return found

        found = like(prompt.pos_points_xy) & ~like(prompt.neg_points_xy)
        if prompt.box_xyxy is not None:
            left, top, right, bottom = (round(v) for v in prompt.box_xyxy)
            inside = np.zeros_like(found)
            inside[top:bottom, left:right] = True
            found &= inside
        return found
