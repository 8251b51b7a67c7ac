"""Takes a square around each positive point, or the box, for the object."""

import numpy as np

from common.config import FunctionConfig
from common.protocol import Prompt


class ModelHandler:
    def __init__(self, config: FunctionConfig):
        pass

    def embed(self, image: np.ndarray) -> tuple[int, int]:
        return image.shape[:2]

    def segment(self, embedding: tuple[int, int], prompt: Prompt) -> np.ndarray:
        bitmap = np.zeros(embedding, np.bool_)
        if prompt.box_xyxy is not None:
            left, top, right, bottom = (int(value) for value in prompt.box_xyxy)
            bitmap[top:bottom, left:right] = True
        for x, y in prompt.pos_points_xy.astype(int).tolist():
            bitmap[max(y - 10, 0) : y + 10, max(x - 10, 0) : x + 10] = True
        return bitmap
