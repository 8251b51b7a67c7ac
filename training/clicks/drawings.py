"""What the network learns from and is tried on: drawn scenes with exact masks, still and as clips with one moving shape."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from training.shapes.draw import Scene, draw_rectangles, draw_shapes, draw_single

Bitmap = NDArray[np.bool_]
TRIAL_SEEDS = 10_000_000  # scenes and clips from this seed on are never trained on
_FEWEST_PIXELS = 30
_MOVING = 0.6  # of the clips have a shape in front of the moving one's way


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """images: (T, H, W, 3) uint8 RGB. masks: (T, H, W) bool, what is seen of the moving shape."""

    images: NDArray[np.uint8]
    masks: NDArray[np.bool_]


def still(seed: int, size_hw: tuple[int, int]) -> Scene:
    """A scene of circles, squares, triangles, or of bars and tiles.

    Args:
        seed: The same seed and size give the same scene.
        size_hw: (height, width) in pixels.
    """
    return (draw_shapes, draw_rectangles, draw_shapes, draw_single)[seed % 4](seed, size_hw)


def clip(seed: int, length: int, size_hw: tuple[int, int], *, occluded: bool | None = None) -> Clip:
    """A shape cut out of one scene that moves, turns and grows a little over another one.

    Args:
        seed: The same seed, length and size give the same clip.
        length: Number of frames.
        size_hw: (height, width) in pixels.
        occluded: Whether a shape of the other scene lies on top of it; None: by chance.
    """
    rng = np.random.default_rng(seed)
    cast, stage = _cast(rng, size_hw), draw_shapes(int(rng.integers(2**31)), size_hw)
    sprite, mask = cast
    front = np.zeros(size_hw, np.bool_)
    if rng.random() < _MOVING if occluded is None else occluded:
        front = stage.things[int(rng.integers(len(stage.things)))].mask if stage.things else front
    height, width = size_hw
    rows, columns = np.nonzero(mask)
    middle = np.array([columns.mean(), rows.mean()])
    place = np.array([width, height]) * rng.uniform(0.2, 0.8, 2)
    speed = min(size_hw) * rng.uniform(0.01, 0.045) * _direction(rng)
    bend, turn, growth = rng.uniform(-0.12, 0.12), rng.uniform(-6, 6), rng.uniform(0.985, 1.015)
    images, masks = [], []
    for number in range(length):
        matrix = cv2.getRotationMatrix2D((float(middle[0]), float(middle[1])), turn * number, growth**number)
        matrix[:, 2] += place - middle
        moved = cv2.warpAffine(sprite, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        cover = cv2.warpAffine(mask.astype(np.float32), matrix, (width, height), flags=cv2.INTER_LINEAR)
        cover *= ~front
        image = stage.image + cover[..., None] * (moved.astype(np.float32) - stage.image)
        images.append(np.clip(image + rng.normal(0, 2, image.shape), 0, 255).astype(np.uint8))
        masks.append(cover > 0.5)
        place = place + speed
        for axis, limit in enumerate((width, height)):  # it turns round at the edge of the picture
            if not 0 <= place[axis] <= limit:
                speed[axis] = -speed[axis]
                place[axis] = np.clip(place[axis], 0, limit)
        speed = np.array([[math.cos(bend), -math.sin(bend)], [math.sin(bend), math.cos(bend)]]) @ speed
    return Clip(np.stack(images), np.stack(masks))


def large_enough(mask: Bitmap) -> bool:
    """Whether there is something to click on.

    Args:
        mask: (H, W) bool.
    """
    return int(np.count_nonzero(mask)) >= _FEWEST_PIXELS


def click_inside(mask: Bitmap, rng: np.random.Generator) -> tuple[float, float]:
    """A point on a mask, rather in its middle than at its edge.

    Args:
        mask: (H, W) bool with at least one pixel.
        rng: The source of chance.

    Returns:
        (x, y) in pixels.
    """
    distance = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    rows, columns = np.nonzero(distance >= rng.uniform(0.2, 0.9) * distance.max())
    i = int(rng.integers(len(rows)))
    return float(columns[i]) + 0.5, float(rows[i]) + 0.5


def box_around(mask: Bitmap, rng: np.random.Generator, slack: float = 0.08) -> tuple[float, float, float, float]:
    """A box around a mask.

    Args:
        mask: (H, W) bool with at least one pixel.
        rng: The source of chance.
        slack: How far each side may be off, as a part of the box.

    Returns:
        (left, top, right, bottom) in pixels.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float64)
    size = np.array([box[2] - box[0], box[3] - box[1]] * 2)
    left, top, right, bottom = (box + size * rng.uniform(-slack, slack, 4)).tolist()
    return left, top, right, bottom


def _cast(rng: np.random.Generator, size_hw: tuple[int, int]) -> tuple[NDArray[np.uint8], Bitmap]:
    """A scene's picture and the mask of its last shape, which nothing covers."""
    while True:
        scene = still(int(rng.integers(2**31)), size_hw)
        if scene.things and large_enough(scene.things[-1].mask):
            return scene.image, scene.things[-1].mask


def _direction(rng: np.random.Generator) -> NDArray[np.float64]:
    angle = rng.uniform(0, 2 * math.pi)
    return np.array([math.cos(angle), math.sin(angle)])
