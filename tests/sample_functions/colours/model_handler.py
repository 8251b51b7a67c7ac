"""The mean colour of a box, as a direction from grey."""

import numpy as np
from numpy.typing import NDArray

from common.config import FunctionConfig
from common.protocol import Image


class ModelHandler:
    def __init__(self, config: FunctionConfig):
        pass

    def embed(self, image: Image, boxes_xyxy: NDArray[np.float64]) -> NDArray[np.float32]:
        if image[0, 0, 2] > 200 and image[0, 0, 0] < 60:
            raise ValueError("this picture is not to be had")
        rows = []
        for left, top, right, bottom in boxes_xyxy:
            part = image[int(top) : max(int(np.ceil(bottom)), int(top) + 1), int(left) : int(np.ceil(right))]
            rows.append(part.reshape(-1, 3).mean(axis=0) - 127.5)
        return np.array(rows, np.float32).reshape(-1, 3)
