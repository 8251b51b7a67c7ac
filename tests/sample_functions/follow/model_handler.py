"""Moves a shape as the corner of the red box in the picture moves; without red the object is lost."""

from dataclasses import replace
from typing import Any

import numpy as np

from common.config import FunctionConfig
from common.cvat.annotation import LabelIds, from_annotation, to_annotation
from common.protocol import Image
from common.shapes import Ellipse, Mask, Rectangle, Shape

ANY = LabelIds(label=0)


class ModelHandler:
    def __init__(self, config: FunctionConfig):
        pass

    def prepare(self, image: Image) -> list[int] | None:
        wide = image.astype(np.int16)
        red = (wide[..., 0] > 180) & (wide[..., 1] < 90) & (wide[..., 2] < 90)
        if not red.any():
            return None
        return [int(np.flatnonzero(red.any(axis=0))[0]), int(np.flatnonzero(red.any(axis=1))[0])]

    def start(self, frame: list[int] | None, shape: Shape) -> Any:
        return [frame, to_annotation(shape, ANY)]

    def track(self, frame: list[int] | None, state: Any) -> tuple[Shape | None, Any]:
        before, annotation = state
        if frame is None or before is None:
            return None, state
        shape = moved(from_annotation(annotation, "", ANY), frame[0] - before[0], frame[1] - before[1])
        return shape, [frame, to_annotation(shape, ANY)]


def moved(shape: Shape, dx: int, dy: int) -> Shape:
    if isinstance(shape, Rectangle):
        left, top, right, bottom = shape.box_xyxy
        return replace(shape, box_xyxy=(left + dx, top + dy, right + dx, bottom + dy))
    if isinstance(shape, Ellipse):
        return replace(shape, center_xy=(shape.center_xy[0] + dx, shape.center_xy[1] + dy))
    if isinstance(shape, Mask):
        return replace(shape, left=shape.left + dx, top=shape.top + dy)
    return replace(shape, points_xy=shape.points_xy + (dx, dy))
