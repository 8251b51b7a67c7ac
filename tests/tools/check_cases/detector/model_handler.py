"""Finds a disc, an area and a pair of points, always in the same places."""

import numpy as np

from common.config import FunctionConfig
from common.shapes import Joint, Mask, Rectangle, Shape, Skeleton


class ModelHandler:
    def __init__(self, config: FunctionConfig):
        self._labels = config.labels

    def infer(self, image: np.ndarray, threshold: float) -> list[Shape]:
        box = (85.0, 95.0, 175.0, 185.0)
        shapes = [
            Rectangle(label="disc", score=0.9, box_xyxy=box, attributes={"size": 45, "colour": "red"}),
            Mask(label="area", score=0.7, bitmap=np.ones((20, 30), np.bool_), left=100, top=120),
            Skeleton(label="pair", score=0.4, joints=(Joint("left", 10, 10), Joint("right", 0, 0, visible=False))),
        ]
        return [shape for shape in shapes if shape.score is not None and shape.score >= threshold]
