"""How well a network follows shapes in clips that it has never seen, through the main.py of the function that serves CVAT."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from common.cvat.reply import read_tracker_reply
from common.cvat.request import tracker_body
from common.shapes import Rectangle
from common.vision.geometry import box_iou
from tools.collection import COLLECTION
from tools.wrapper import LoadedFunction, variables
from training.clicks.drawings import TRIAL_SEEDS, clip
from training.tracker.train import Box, visible_box

_SIZES = ((480, 640), (640, 480), (360, 640))
_SEEN = 0.5  # of the most that is seen of a shape; with less of it in the frame, a frame doesn't count


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """A clip in which a shape moves, and then some frames without it."""

    images: NDArray[np.uint8]
    """(T, H, W, 3) RGB, those without the shape last."""
    boxes_xyxy: tuple[Box | None, ...]
    """Of the shape, in pixels; None where hardly any of it is seen, and where it is gone."""
    gone: int
    """How many frames at the end don't show it."""


def unseen_clips(count: int, length: int, gone: int = 0) -> Iterator[Trial]:
    """Clips that no network was trained on; nothing covers the shape.

    Args:
        count: How many.
        length: Frames with the shape.
        gone: Frames without it after these, of the same scene.
    """
    seed = TRIAL_SEEDS
    while count:
        moving = clip(seed, length, _SIZES[seed % len(_SIZES)], occluded=False)
        seed += 1
        areas = moving.masks.reshape(length, -1).sum(axis=1)
        if areas[0] < _SEEN * areas.max():
            continue
        boxes = [
            visible_box(m) if area >= _SEEN * areas.max() else None for m, area in zip(moving.masks, areas, strict=True)
        ]
        images = [moving.images]
        if gone:
            images.append(np.repeat(empty_stage(moving.images, moving.masks)[None], gone, axis=0))
        yield Trial(np.concatenate(images), (*boxes, *[None] * gone), gone)
        count -= 1


def empty_stage(images: NDArray[np.uint8], masks: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The scene of a clip without the shape that moves in it.

    Args:
        images: (T, H, W, 3) RGB.
        masks: (T, H, W) bool, the shape.

    Returns:
        (H, W, 3): each pixel of the first frame that doesn't show the shape there; where all of them do, the mean colour.
    """
    stage = np.empty_like(images[0])
    stage[:] = images[0].mean(axis=(0, 1))
    unknown = np.ones(masks.shape[1:], np.bool_)
    for image, mask in zip(images, masks, strict=True):
        around = cv2.dilate(mask.view(np.uint8), np.ones((5, 5), np.uint8)) > 0  # its edge is blended with the scene
        shown = unknown & ~around
        stage[shown] = image[shown]
        unknown &= around
    return stage


@dataclass(frozen=True, slots=True)
class Score:
    """How a clip was followed."""

    ious: tuple[float, ...]
    """With the shape's box, for each frame that shows it but the first; 0 where it was reported lost."""
    lost: tuple[bool, ...]
    """For each frame at the end that doesn't show it, whether it was reported lost."""


def follow(function: LoadedFunction, trial: Trial) -> Score:
    """Follows the shape of a clip as CVAT does: frame by frame, with states that went through JSON.

    Args:
        function: The tracker.
        trial: The clip.

    Raises:
        RuntimeError: The function answers with an error.
    """
    first = trial.boxes_xyxy[0]
    assert first is not None
    reply = function(json.dumps(tracker_body(_png(trial.images[0]), [Rectangle(box_xyxy=first)])))
    ious: list[float] = []
    lost: list[bool] = []
    for number, (image, truth) in enumerate(zip(trial.images[1:], trial.boxes_xyxy[1:], strict=True), 1):
        if reply.status != 200:
            raise RuntimeError(f"the function answers {reply.status}: {reply.body[:300]!r}")
        states = read_tracker_reply(reply.body).states
        reply = function(json.dumps(tracker_body(_png(image), states=states)))
        answer = read_tracker_reply(reply.body)
        (shape,) = answer.shapes
        if number >= len(trial.images) - trial.gone:
            lost.append(bool(answer.lost))
        elif truth is not None:
            found = isinstance(shape, Rectangle) and not answer.lost
            ious.append(box_iou(shape.box_xyxy, truth) if found and isinstance(shape, Rectangle) else 0.0)
    return Score(tuple(ious), tuple(lost))


def start(model: Path) -> LoadedFunction:
    """The function that serves CVAT, with a network.

    Args:
        model: The network's file.
    """
    with variables({"MODEL_PATH": str(model), "DEVICE": "cpu", "VARIANT": ""}):
        return LoadedFunction(COLLECTION / "onnx/opencv/vittrack", unique=True)


def _png(image: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", compress_level=1)
    return file.getvalue()
