"""A detector: an image in, shapes out. This one finds bright areas; put your model in its place."""

from __future__ import annotations

import cv2
import numpy as np

from common.config import FunctionConfig
from common.protocol import Image
from common.shapes import Rectangle, Shape


class ModelHandler:
    """Finds bright areas."""

    # Keyword-only arguments are options: BRIGHTNESS in the environment sets `brightness`. Types: str, int, float, bool.
    def __init__(self, config: FunctionConfig, *, brightness: float = 0.6):
        # Load the model here: once in each worker, never in `infer`. `common.networks.weights.locate` finds its file, and
        # `common.networks.engine.open_engine` opens .onnx and OpenVINO files. config.labels are the labels of function.yaml.
        self._label = next(iter(config.labels))
        self._level = brightness * 255

    def infer(self, image: Image, threshold: float) -> list[Shape]:
        """image: (H, W, 3) uint8 RGB, as CVAT shows it. threshold: the lowest confidence, 0 to 1.

        Returns shapes of common.shapes (Rectangle, Polygon, Mask, Skeleton, Tag, ...) in pixels of the image, their labels
        those of function.yaml. No result is an empty list; an error is an exception.
        """
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        count, _, statistics, _ = cv2.connectedComponentsWithStats((grey >= self._level).astype(np.uint8))
        shapes: list[Shape] = []
        for i in range(1, count):
            left, top, width, height, pixels = (int(value) for value in statistics[i])
            score = pixels / (width * height)  # how well the box is filled
            if pixels >= 16 and score >= threshold:
                box = (left, top, left + width, top + height)
                shapes.append(Rectangle(label=self._label, score=score, box_xyxy=box))
        return shapes
