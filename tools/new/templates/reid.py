"""Re-identification: boxes in, a descriptor of each out. This one describes colours; put your model in its place."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from common.config import FunctionConfig
from common.protocol import Image


class ModelHandler:
    """Describes objects by their colours."""

    # Keyword-only arguments are options: BINS in the environment sets `bins`.
    def __init__(self, config: FunctionConfig, *, bins: int = 8):
        # Load the model here: once in each worker.
        self._bins = bins

    def embed(self, image: Image, boxes_xyxy: NDArray[np.float64]) -> NDArray[np.float32]:
        """(N, D) descriptors of unit length of what is in the (N, 4) boxes of an image (H, W, 3) uint8 RGB.

        Boxes of two frames whose descriptors are close are taken for the same object: that part is shared code.
        """
        height, width = image.shape[:2]
        rows = []
        for box in boxes_xyxy:
            left, top = np.clip(np.floor(box[:2]), 0, (width - 1, height - 1)).astype(int)
            right, bottom = np.clip(np.ceil(box[2:]), (left + 1, top + 1), (width, height)).astype(int)
            crop = np.ascontiguousarray(image[top:bottom, left:right])
            counts = cv2.calcHist([crop], [0, 1, 2], None, [self._bins] * 3, [0, 256] * 3).ravel()
            rows.append(np.sqrt(counts / counts.sum()))
        return np.stack(rows).astype(np.float32)
