"""Leaves every object where it was first seen."""

from typing import Any

import numpy as np

from common.config import FunctionConfig
from common.cvat.shape_json import shape_points
from common.shapes import Cuboid, Ellipse, Mask, Points, Polygon, Polyline, Rectangle, Shape
from common.vision.mask import mask_to_rle, rle_to_mask

_MAKERS = {
    "rectangle": lambda points: Rectangle(box_xyxy=tuple(points)),
    "ellipse": lambda points: Ellipse(
        center_xy=tuple(points[:2]), radii_xy=(points[2] - points[0], points[1] - points[3])
    ),
    "polygon": lambda points: Polygon(points_xy=points),
    "polyline": lambda points: Polyline(points_xy=points),
    "points": lambda points: Points(points_xy=points),
    "cuboid": lambda points: Cuboid(points_xy=points),
    "mask": rle_to_mask,
}


class ModelHandler:
    def __init__(self, config: FunctionConfig):
        pass

    def prepare(self, image: np.ndarray) -> None:
        return None

    def start(self, frame: None, shape: Shape) -> Any:
        points = mask_to_rle(shape) if isinstance(shape, Mask) else shape_points(shape)
        return [shape.type, [float(value) for value in points]]

    def track(self, frame: None, state: Any) -> tuple[Shape | None, Any]:
        kind, points = state
        return _MAKERS[kind](points), state
