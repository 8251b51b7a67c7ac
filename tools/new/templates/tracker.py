"""A tracker: an object in one frame in, its place in the next out. This one looks for the same pixels; put your model here."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from common.config import FunctionConfig
from common.protocol import Image
from common.shapes import Rectangle, Shape

_SIDE = 32  # pixels of the picture that is kept of an object


class ModelHandler:
    """Looks for the same pixels near the object's last place."""

    # Keyword-only arguments are options: SEARCH in the environment sets `search`.
    def __init__(self, config: FunctionConfig, *, search: float = 2.0):
        # Load the model here: once in each worker.
        self._search = search

    def prepare(self, image: Image) -> Image:
        """What all objects of a frame share, made once for each request. image: (H, W, 3) uint8 RGB."""
        return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)

    def start(self, frame: Image, shape: Shape) -> Any:
        """The state of an object that is at `shape` in this frame.

        A state travels through the browser with every frame: keep it small. It may hold None, bool, int, float, str, bytes,
        and lists and dicts of them.
        """
        assert isinstance(shape, Rectangle)  # as supported_shape_types of function.yaml says
        left, top, right, bottom = (round(side) for side in shape.box_xyxy)
        crop = frame[top : max(bottom, top + 1), left : max(right, left + 1)]
        small = cv2.resize(crop, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
        return {"box": [left, top, right, bottom], "picture": small.tobytes()}

    def track(self, frame: Image, state: Any) -> tuple[Shape | None, Any]:
        """The object's shape in this frame, None when it is lost, and its state after this frame."""
        left, top, right, bottom = state["box"]
        width, height = max(right - left, 1), max(bottom - top, 1)
        reach_x, reach_y = round(width * (self._search - 1) / 2) + 8, round(height * (self._search - 1) / 2) + 8
        x0, y0 = max(left - reach_x, 0), max(top - reach_y, 0)
        area = frame[y0 : bottom + reach_y, x0 : right + reach_x]
        if area.shape[0] < height or area.shape[1] < width:
            return None, state
        picture = np.frombuffer(state["picture"], np.uint8).reshape(_SIDE, _SIDE)
        template = cv2.resize(picture, (width, height))
        likeness = cv2.matchTemplate(area, template, cv2.TM_SQDIFF)
        y, x = np.unravel_index(int(likeness.argmin()), likeness.shape)
        box = [x0 + int(x), y0 + int(y), x0 + int(x) + width, y0 + int(y) + height]
        return Rectangle(box_xyxy=(box[0], box[1], box[2], box[3])), state | {"box": box}
