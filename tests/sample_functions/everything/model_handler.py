"""One shape of each type, placed by the red box in the picture; none without red.

The first pixel says what goes wrong: blue is an error, green kills the process, yellow takes a minute.
"""

import os
import signal
import time
from collections.abc import Sequence

import numpy as np

from common.config import FunctionConfig
from common.protocol import Image
from common.shapes import (
    Cuboid,
    Ellipse,
    Joint,
    Mask,
    Points,
    Polygon,
    Polyline,
    Rectangle,
    Shape,
    Skeleton,
    Tag,
)  # fmt: skip

SCORES = {"scene": 0.99, "box": 0.9, "turned": 0.8}  # the rest are at 0.7


class ModelHandler:
    def __init__(self, config: FunctionConfig, *, note: str = "", fail: bool = True):
        self._note, self._fail = note, fail
        self.batches: list[int] = []

    def infer_batch(self, images: Sequence[Image], threshold: float) -> list[list[Shape]]:
        self.batches.append(len(images))
        return [self.infer(image, threshold) for image in images]

    def infer(self, image: Image, threshold: float) -> list[Shape]:
        red, green, blue = (int(v) for v in image[0, 0])
        if self._fail and blue > 200 and red < 60:
            raise ValueError("this picture is not to be had")
        if self._fail and green > 200 and red > 200 and blue < 60:
            time.sleep(60)
        if self._fail and green > 200 and red < 60:
            os.kill(os.getpid(), signal.SIGKILL)  # what a crash in a native library looks like from outside
        return [shape for shape in shapes_at(image, self._note) if (shape.score or 0) >= threshold]


def shapes_at(image: Image, note: str = "") -> list[Shape]:
    wide = image.astype(np.int16)
    red = (wide[..., 0] > 180) & (wide[..., 1] < 90) & (wide[..., 2] < 90)
    if not red.any():
        return []
    rows, columns = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
    left, top, right, bottom = (float(v) for v in (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
    w, h = right - left, bottom - top
    attributes = {
        "side": "left" if left + w / 2 < image.shape[1] / 2 else "right", "wide": w > h, "width": round(w), "note": note,
    }  # fmt: skip
    ring = red.copy()
    ring[rows[0] + 2 : rows[-1] - 1, columns[0] + 2 : columns[-1] - 1] = False
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    cuboid = [(left, top), (left, bottom), (left + w / 2, top), (left + w / 2, bottom), (right, top), (right, bottom)]
    cuboid += [(left + w / 4, top), (left + w / 4, bottom)]

    def score(label: str) -> float:
        return SCORES.get(label, 0.7)

    return [
        Tag(label="scene", score=score("scene"), attributes={"weather": "rainy"}),
        Rectangle(label="box", score=score("box"), box_xyxy=(left, top, right, bottom), attributes=attributes, group=1),
        Rectangle(label="turned", score=score("turned"), box_xyxy=(left, top, right, bottom), rotation=30.25, group=1),
        Ellipse(label="disc", score=score("disc"), center_xy=(left + w / 2, top + h / 2), radii_xy=(w / 2, h / 3)),
        Polygon(label="outline", score=score("outline"), points_xy=np.array([*corners[:3]])),
        Polyline(label="line", score=score("line"), points_xy=np.array(corners[:3])),
        Points(label="dots", score=score("dots"), points_xy=np.array(corners)),
        Mask.from_full(ring, label="region", score=score("region")),
        Cuboid(label="block", score=score("block"), points_xy=np.array(cuboid)),
        Skeleton(
            label="figure",
            score=score("figure"),
            joints=(Joint("head", left + w / 2, top), Joint("right foot", right, bottom, visible=False)),
        ),
    ]
