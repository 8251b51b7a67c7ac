"""Frames with boxes for reid functions: the same coloured things in two frames, shuffled."""

from __future__ import annotations

import base64
from typing import Any

import cv2
import numpy as np

from tests.serverless.opencv_scenes import texture
from tools.wrapper import LoadedFunction

SIZE_HW = (480, 640)


def png(image: np.ndarray) -> str:
    return base64.b64encode(cv2.imencode(".png", image[:, :, ::-1])[1].tobytes()).decode()


def shape(box: Any) -> dict[str, Any]:
    return {"type": "rectangle", "points": [float(v) for v in box], "label_id": 1, "frame": 0, "attributes": []}


def request(before: np.ndarray, after: np.ndarray, boxes0: Any, boxes1: Any, **more: Any) -> dict[str, Any]:
    return {
        "image0": png(before),
        "image1": png(after),
        "boxes0": [shape(box) for box in boxes0],
        "boxes1": [shape(box) for box in boxes1],
        **more,
    }


def frame(seed: int, things: list[np.ndarray], order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A textured frame with things at random places of a grid; (H, W, 3) and the box of each in the given order, (N, 4)."""
    rng = np.random.default_rng(seed)
    image, boxes = texture(rng, SIZE_HW, (120, 120, 120)), np.zeros((len(things), 4))
    light = rng.uniform(0.85, 1.15)
    for place, i in enumerate(order):
        left, top = 30 + 120 * (place % 5) + rng.integers(0, 20), 20 + 150 * (place // 5) + rng.integers(0, 20)
        width, height = rng.integers(60, 90), rng.integers(90, 120)
        thing = cv2.resize(things[i], (int(width), int(height)), interpolation=cv2.INTER_AREA)
        noise = rng.normal(0, 5, thing.shape)
        image[top : top + height, left : left + width] = np.clip(thing * light + noise, 0, 255)
        boxes[i] = [left - 2, top - 2, left + width + 2, top + height + 2]
    return image, boxes


def things(seed: int, count: int) -> list[np.ndarray]:
    """Coloured patches: halves of different colours with a texture."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        upper, lower = rng.uniform(20, 235, (2, 3))
        found.append(np.vstack([texture(rng, (64, 80), tuple(upper)), texture(rng, (64, 80), tuple(lower))]))
    return found


def part_found_again(reid: LoadedFunction, scenes: int, **more: Any) -> float:
    """Which part of shuffled boxes a function pairs with the same thing, 10 in each of some scenes."""
    right = total = 0
    for seed in range(scenes):
        rng = np.random.default_rng(1000 + seed)
        shown = things(seed, 10)
        (before, boxes0), (after, boxes1) = (frame(2 * seed + i, shown, rng.permutation(10)) for i in range(2))
        order = rng.permutation(10)
        reply = reid(request(before, after, boxes0, boxes1[order], **more))
        assert reply.status == 200, reply.body
        partners = np.array(reply.json())
        right += int((order[partners] == np.arange(10))[partners >= 0].sum())
        total += 10
    return right / total
