"""How well a network does on drawings that it has never seen, through the main.py of the functions that serve CVAT."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from common.cvat.reply import read_interactor_reply, read_tracker_reply
from common.cvat.request import interactor_body, tracker_body
from common.shapes import Mask
from common.vision.geometry import clip_box
from common.vision.mask import mask_to_bitmap
from tools.collection import COLLECTION
from tools.wrapper import LoadedFunction, variables
from training.clicks.drawings import TRIAL_SEEDS, Bitmap, box_around, click_inside, clip, large_enough, still
from training.shapes.draw import Thing

_SIZES = ((480, 640), (640, 480), (360, 640))


def click_ious(folder: Path, count: int, *, prompt: str = "click") -> NDArray[np.float64]:
    """How well a prompt finds shapes.

    Args:
        folder: The network's.
        count: How many shapes.
        prompt: "click" or "box".

    Returns:
        (count,) IoUs of the mask that was found and the shape.
    """
    function = _start("edgetam", folder)
    rng = np.random.default_rng(TRIAL_SEEDS)
    ious: list[float] = []
    for image, thing in _things(count, rng):
        height, width = thing.mask.shape
        if prompt == "click":
            body = interactor_body(_png(image), pos_points=[click_inside(thing.mask, rng)])
        else:
            box_xyxy = clip_box(box_around(thing.mask, rng), (height, width))
            body = interactor_body(_png(image), box_xyxy=box_xyxy)
        found = mask_to_bitmap(read_interactor_reply(_ask(function, body)), (height, width))
        ious.append(iou(found, thing.mask))
    return np.array(ious)


def track_ious(folder: Path, count: int, length: int, *, occluded: bool | None = False) -> NDArray[np.float64]:
    """How well a shape is followed.

    Args:
        folder: The network's.
        count: How many clips.
        length: Frames of each.
        occluded: As for `clip`.

    Returns:
        (count, length - 1) IoUs, frame by frame; NaN where the shape is out of sight and reported so.
    """
    function = _start("edgetam-tracker", folder)
    rows: list[list[float]] = []
    for moving in _clips(count, length, occluded):
        body = tracker_body(_png(moving.images[0]), [Mask.from_full(moving.masks[0])])
        states = read_tracker_reply(_ask(function, body)).states
        row: list[float] = []
        for image, truth in zip(moving.images[1:], moving.masks[1:], strict=True):
            reply = read_tracker_reply(_ask(function, tracker_body(_png(image), states=states)))
            (shape,), states = reply.shapes, reply.states
            found = np.zeros(truth.shape, np.bool_)
            if isinstance(shape, Mask) and not reply.lost:
                found = mask_to_bitmap(shape, (truth.shape[0], truth.shape[1]))
            row.append(iou(found, truth) if truth.any() or found.any() else np.nan)
        rows.append(row)
    return np.array(rows)


def iou(a: Bitmap, b: Bitmap) -> float:
    """Intersection over union of two bitmaps; 1 for two empty ones.

    Args:
        a: (H, W) bool.
        b: (H, W) bool.
    """
    union = int(np.count_nonzero(a | b))
    return int(np.count_nonzero(a & b)) / union if union else 1.0


def _things(count: int, rng: np.random.Generator) -> Iterator[tuple[NDArray[np.uint8], Thing]]:
    """Pictures, and one of the things on each."""
    seed = TRIAL_SEEDS
    while count:
        scene = still(seed, _SIZES[seed % len(_SIZES)])
        seed += 1
        if things := [thing for thing in scene.things if large_enough(thing.mask)]:
            yield scene.image, things[int(rng.integers(len(things)))]
            count -= 1


def _clips(count: int, length: int, occluded: bool | None) -> Iterator[Any]:
    seed = TRIAL_SEEDS
    while count:
        moving = clip(seed, length, _SIZES[seed % len(_SIZES)], occluded=occluded)
        seed += 1
        if large_enough(moving.masks[0]):
            yield moving
            count -= 1


def _start(name: str, folder: Path) -> LoadedFunction:
    with variables({"MODEL_PATH": str(folder), "DEVICE": "cpu"}):
        return LoadedFunction(COLLECTION / "pytorch/facebookresearch" / name, unique=True)


def _ask(function: LoadedFunction, body: dict[str, Any]) -> bytes:
    reply = function(json.dumps(body))
    if reply.status != 200:
        raise RuntimeError(f"the function answers {reply.status}: {reply.body[:300]!r}")
    return reply.body


def _png(image: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()
