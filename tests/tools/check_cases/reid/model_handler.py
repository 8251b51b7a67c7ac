"""Finds all boxes alike, so that distance and label alone decide."""

import numpy as np

from common.config import FunctionConfig


class ModelHandler:
    def __init__(self, config: FunctionConfig):
        pass

    def embed(self, image: np.ndarray, boxes_xyxy: np.ndarray) -> np.ndarray:
        return np.full((len(boxes_xyxy), 4), 0.5, np.float32)
