"""Tiny networks with the inputs and outputs of the Open Model Zoo's, which compute their answers from the colours that they see.

They take BGR from 0 to 255: with the channels in another order, another range or another crop the answers are others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from openvino import opset8 as ops

BLUE, GREEN, RED = 0, 1, 2
EMOTION_SHARES = (0.1, 0.3, 0.46, 0.7, 1.0)
"""The part of its crop that a face fills, for each emotion."""


def save(path: Path, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> Path:
    """Writes an OpenVINO file, .xml with .bin, with names of its inputs and outputs."""
    for name, node in {**inputs, **outputs}.items():
        node.output(0).get_tensor().set_names({name})
    model = openvino.Model(list(outputs.values()), list(inputs.values()))
    openvino.save_model(model, str(path), compress_to_fp16=False)
    return path


def _mean(node: Any, *axes: int) -> Any:
    return ops.reduce_mean(node, np.array(axes), False)


def _part(node: Any, starts: Sequence[int], stops: Sequence[int], axes: Sequence[int]) -> Any:
    return ops.slice(node, np.array(starts), np.array(stops), np.ones(len(axes), np.int64), np.array(axes))


def _share(node: Any) -> Any:
    return ops.multiply(node, np.float32(1 / 255))


def face_detector(path: Path, boxes: Sequence[Sequence[int]]) -> Path:
    """Finds something in each of some boxes, in pixels of its input; the score is the part of blue in the middle of the box."""
    image = ops.parameter([1, 3, 416, 416], np.float32, name="image")
    rows = []
    for left, top, right, bottom in boxes:
        x, y = (left + right) // 2, (top + bottom) // 2
        blue = _share(_mean(_part(image, [BLUE, y - 2, x - 2], [BLUE + 1, y + 2, x + 2], [1, 2, 3]), 2, 3))
        rows.append(ops.concat([np.array([[left, top, right, bottom]], np.float32), blue], 1))
    nothing = np.zeros((200 - len(boxes), 5), np.float32)
    labels = ops.convert(ops.multiply(_mean(image, 0, 1, 2, 3), np.zeros(200, np.float32)), "i64")
    return save(path, {"image": image}, {"boxes": ops.concat([*rows, nothing], 0), "labels": labels})


def age_and_gender(path: Path, age: str = "fc3_a") -> Path:
    """The age is the part of green in the middle of the face, a woman's red."""
    data = ops.parameter([1, 3, 62, 62], np.float32, name="data")
    middle = ops.reduce_mean(_part(data, [29, 29], [33, 33], [2, 3]), np.array([2, 3]), True)
    red = _share(_part(middle, [RED], [RED + 1], [1]))
    outputs = {
        age: _share(_part(middle, [GREEN], [GREEN + 1], [1])),
        "prob": ops.concat([red, ops.subtract(np.float32(1), red)], 1),
    }
    return save(path, {"data": data}, outputs)


def emotion(path: Path) -> Path:
    """The emotion shows how much of the crop the face fills: the mean of blue, as a part of that in the middle."""
    data = ops.parameter([1, 3, 64, 64], np.float32, name="data")
    blue = _part(data, [BLUE], [BLUE + 1], [1])
    whole = ops.reduce_mean(blue, np.array([2, 3]), True)
    middle = ops.reduce_mean(_part(blue, [30, 30], [34, 34], [2, 3]), np.array([2, 3]), True)
    filled = ops.divide(whole, ops.maximum(middle, np.float32(1)))
    shares = np.array(EMOTION_SHARES, np.float32).reshape(1, 5, 1, 1)
    scores = ops.subtract(np.float32(1), ops.abs(ops.subtract(filled, shares)))
    return save(path, {"data": data}, {"prob_emotion": scores})


def people(path: Path) -> Path:
    """256 numbers: the mean colours of a grid of cells of a person, around the middle grey."""
    data = ops.parameter([1, 3, 256, 128], np.float32, name="data")
    cells = ops.avg_pool(data, [32, 16], [0, 0], [0, 0], [32, 16], False, "floor", "explicit")
    numbers = ops.subtract(ops.reshape(cells, np.array([1, 192]), False), np.float32(127))
    return save(path, {"data": data}, {"reid_embedding": ops.concat([numbers, np.zeros((1, 64), np.float32)], 1)})


def mask_rcnn(path: Path, box: tuple[int, int, int, int], label: int, *, channels_last: bool) -> Path:
    """Finds a thing in a box of 330 x 330 pixels of the input; its mask is where the picture is red there.

    A second input has to be the size of the first and 1, or the scores are others. The maps of other classes are full.
    """
    height, width = 800, 1365
    shape = [1, height, width, 3] if channels_last else [1, 3, height, width]
    image = ops.parameter(shape, np.uint8 if channels_last else np.float32, name="image_tensor")
    info = ops.parameter([1, 3], np.float32, name="image_info")
    planes = ops.convert(image, "f32")
    if channels_last:
        planes = ops.transpose(planes, np.array([0, 3, 1, 2]))
    left, top, right, bottom = box
    red = _part(planes, [RED, top, left], [RED + 1, bottom, right], [1, 2, 3])
    places = _share(ops.avg_pool(red, [10, 10], [0, 0], [0, 0], [10, 10], False, "floor", "explicit"))
    full = np.ones((1, 90, 33, 33), np.float32)
    first = ops.concat([full[:, : label - 1], places, full[:, label:]], 1)
    masks = ops.concat([first, np.zeros((2, 90, 33, 33), np.float32)], 0)
    off = ops.reduce_sum(
        ops.abs(ops.subtract(info, np.array([[height, width, 1]], np.float32))), np.array([0, 1]), False
    )
    sides = np.array([width, height, width, height], np.float32)
    rows = np.zeros((3, 7), np.float32)
    rows[0] = [0, label, 0.9, *(np.array(box) / sides)]
    rows[1] = [0, label, 0.1, 0, 0, 1, 1]
    rows[2] = [-1, 0, 0, 0, 0, 0, 0]
    column = np.array([0, 0, 1, 0, 0, 0, 0], np.float32)
    found = ops.add(rows, ops.multiply(off, column))
    return save(path, {"image_tensor": image, "image_info": info}, {"masks": masks, "reshape_do_2d": found})
