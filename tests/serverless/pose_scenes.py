"""Pictures of figures whose joints are coloured discs, and a detector that finds their boxes."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tests.common.networks.computed_files import JOINT_COLOURS
from tests.common.networks.onnx_files import constant_model
from tools.wrapper import LoadedFunction

SIZE_HW = (480, 960)
BOXES = ([60, 40, 190, 330], [400, 200, 600, 260], [800, 330, 960, 480])  # upright, lying, at the corner
_CELLS = 8400  # of a YOLO for 640 x 640


def figures(seed: int = 0, boxes: Sequence[Sequence[int]] = BOXES) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """A grey picture with discs in each box, and their middles, (N, K, 2) as indices of columns and rows."""
    rng = np.random.default_rng(seed)
    image = np.full((*SIZE_HW, 3), 128, np.uint8)
    middles = np.zeros((len(boxes), len(JOINT_COLOURS), 2))
    for box, joints in zip(boxes, middles, strict=True):
        left, top, right, bottom = box
        radius = max(min(right - left, bottom - top) // 10, 4)
        places = rng.permutation([(0.2, 0.2), (0.8, 0.25), (0.25, 0.8), (0.8, 0.8)])
        for joint, place, colour in zip(joints, places, JOINT_COLOURS.values(), strict=True):
            joint[:] = np.round(
                [left, top] + (np.array(place) + rng.uniform(-0.04, 0.04, 2)) * [right - left, bottom - top]
            )
            cv2.circle(image, tuple(int(v) for v in joint), radius, colour, -1, cv2.LINE_AA)
    return image, middles


def detector(
    path: Path, boxes: Sequence[Sequence[int]] = BOXES, names: Sequence[str] = ("dog", "person"), index: int = 1
) -> Path:
    """A YOLOv8 file of constant outputs for pictures of SIZE_HW: some boxes of a class, the score of the first is 0.9, then 0.8."""
    table = np.zeros((1, 4 + len(names), _CELLS), np.float32)
    gain = 640 / max(SIZE_HW)
    offset = (640 - SIZE_HW[0] * gain) / 2  # of the picture in the middle of the input
    for i, (left, top, right, bottom) in enumerate(boxes):
        table[0, :4, 100 * i + 7] = (
            np.array([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]) * gain
        )
        table[0, 1, 100 * i + 7] += offset
        table[0, 4 + index, 100 * i + 7] = 0.9 - 0.1 * i
    metadata = {"names": str(dict(enumerate(names))), "task": "detect", "stride": 32, "end2end": False}
    return constant_model(path, {"output0": table}, input_shape=(1, 3, 640, 640), metadata=metadata)


def ask(function: LoadedFunction, image: NDArray[np.uint8], threshold: float = 0.3) -> list[dict[str, Any]]:
    """The shapes that a function finds in a picture."""
    png = cv2.imencode(".png", image[..., ::-1])[1].tobytes()
    reply = function({"image": base64.b64encode(png).decode(), "threshold": threshold})
    assert reply.status == 200, reply.body
    return list(reply.json())


def joints_of(shape: dict[str, Any]) -> NDArray[np.float64]:
    """The places of a skeleton's joints, (K, 2)."""
    return np.array([element["points"] for element in shape["elements"]])
