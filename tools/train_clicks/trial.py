"""How well a network does on drawings that it has never seen, through the same handlers that serve CVAT."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.config import FunctionConfig
from common.mask import mask_to_bitmap
from common.protocol import Prompt
from common.sam.interactor import SamInteractor
from common.sam.model import SAM2, SAM2_VIDEO
from common.sam.tracker import SamTracker
from common.shapes import Mask
from tools.train_clicks.drawings import TRIAL_SEEDS, Bitmap, box_around, click_inside, clip, large_enough, still

_SIZES = ((480, 640), (640, 480), (360, 640))


class Clicks(SamInteractor):
    family = SAM2


class Frames(SamTracker):
    family = SAM2_VIDEO


def click_ious(folder: Path, count: int, *, prompt: str = "click") -> NDArray[np.float64]:
    """The IoU of the found mask and the shape for one click, or box, on each of `count` shapes."""
    config = FunctionConfig(directory=folder, name="trial", kind="interactor")
    handler = Clicks(config, model_path=str(folder))
    rng = np.random.default_rng(TRIAL_SEEDS)
    ious: list[float] = []
    for seed in range(TRIAL_SEEDS, TRIAL_SEEDS + 10 * count):
        scene = still(seed, _SIZES[seed % len(_SIZES)])
        things = [thing for thing in scene.things if large_enough(thing.mask)]
        if not things:
            continue
        thing = things[int(rng.integers(len(things)))]
        points = [click_inside(thing.mask, rng)] if prompt == "click" else []
        box = box_around(thing.mask, rng) if prompt == "box" else None
        found = handler.segment(
            handler.embed(scene.image), Prompt(np.array(points).reshape(-1, 2), np.zeros((0, 2)), box)
        )
        ious.append(iou(found, thing.mask))
        if len(ious) == count:
            break
    return np.array(ious)


def track_ious(folder: Path, count: int, length: int, *, occluded: bool | None = False) -> NDArray[np.float64]:
    """(count, length - 1) IoUs of the followed shape, frame by frame; NaN where it is out of sight and not reported."""
    config = FunctionConfig(directory=folder, name="trial", kind="tracker")
    handler = Frames(config, model_path=str(folder))
    rows: list[list[float]] = []
    for seed in range(TRIAL_SEEDS, TRIAL_SEEDS + 10 * count):
        moving = clip(seed, length, _SIZES[seed % len(_SIZES)], occluded=occluded)
        if not large_enough(moving.masks[0]):
            continue
        state = handler.start(handler.prepare(moving.images[0]), Mask.from_full(moving.masks[0]))
        row: list[float] = []
        for image, truth in zip(moving.images[1:], moving.masks[1:], strict=True):
            shape, state = handler.track(handler.prepare(image), state)
            found = np.zeros(truth.shape, np.bool_)
            if isinstance(shape, Mask):
                found = mask_to_bitmap(shape, (truth.shape[0], truth.shape[1]))
            row.append(iou(found, truth) if truth.any() or found.any() else np.nan)
        rows.append(row)
        if len(rows) == count:
            break
    return np.array(rows)


def iou(a: Bitmap, b: Bitmap) -> float:
    """Intersection over union of two bitmaps; 1 for two empty ones."""
    union = int(np.count_nonzero(a | b))
    return int(np.count_nonzero(a & b)) / union if union else 1.0
