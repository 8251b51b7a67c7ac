"""Requests with a large image, as cameras and annotators have them: the scene of tools.check.samples, enlarged."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image as PillowImage

from common.config import FunctionConfig
from common.shapes import Mask
from common.vision.mask import mask_to_rle
from tools.check.samples import encode, good_requests, scene, tracked_shapes

Ask = Callable[[str, dict[str, Any]], Any]
"""Sends a request, with a name for messages; returns the JSON value of the reply, None for a reply without one."""

_GRAIN = 12  # grey values: what makes the file as large as a camera's
_QUALITY = 90


def send_large(config: FunctionConfig, megapixels: float, ask: Ask) -> None:
    """Sends a function requests with a large image: the plainest of its kind, and those that take more memory.

    Args:
        config: The function.
        megapixels: The size of the image.
        ask: Sends one.
    """
    plain = scene()
    scale = math.sqrt(megapixels * 1e6 / (plain.width * plain.height))
    image = _enlarged(plain, scale)
    name = f"an image of {megapixels:g} megapixels"
    if config.kind == "tracker":
        shapes = tracked_shapes(config)
        first = next(iter(shapes), None)
        for kind, shape in shapes.items():
            if kind in (first, "mask"):  # a mask is as large as the image, the others are a few numbers
                _track(f"{name} and a {kind}", image, _scaled_shape(kind, shape, plain, scale), ask)
        return
    body = good_requests(config)[0].body
    for what, request in _variants(config, body, plain):
        images = {key: image for key in body if key in ("image", "image0", "image1")}
        ask(f"{name}{what}", {**_scaled(request, scale), **images})


def _variants(config: FunctionConfig, body: dict[str, Any], plain: PillowImage.Image) -> Iterator[tuple[str, Any]]:
    yield "", body
    if config.kind == "interactor" and config.annotations.get("startswith_box"):
        yield " and a box around all of it", {**body, "obj_bbox": [[0, 0], [plain.width - 1, plain.height - 1]]}


def _track(name: str, image: str, shape: Any, ask: Ask) -> None:
    reply = ask(name, {"image": image, "shapes": [shape], "states": []})
    if isinstance(reply, dict) and isinstance(reply.get("states"), list):
        ask(f"{name}, the next frame", {"image": image, "shapes": [None], "states": reply["states"]})


def _scaled_shape(kind: str, shape: Any, plain: PillowImage.Image, scale: float) -> Any:
    if kind != "mask":
        return _scaled(shape, scale)
    width, height = (round(side * scale) for side in plain.size)
    y, x = np.ogrid[:height, :width]
    disc = np.hypot(x - width / 2, y - height / 2) <= height / 4
    return {"type": "mask", "points": [float(value) for value in mask_to_rle(Mask.from_full(disc))]}


def _scaled(value: Any, scale: float) -> Any:
    """A request with its coordinates enlarged; other numbers stay as they are."""
    if isinstance(value, dict):
        places = ("points", "pos_points", "neg_points", "obj_bbox", "boxes0", "boxes1")
        return {key: _scaled(each, scale) if key in places else each for key, each in value.items()}
    if isinstance(value, list):
        return [_scaled(each, scale) for each in value]
    return value * scale if isinstance(value, (int, float)) else value


def _enlarged(plain: PillowImage.Image, scale: float) -> str:
    size = (round(plain.width * scale), round(plain.height * scale))
    pixels = np.asarray(plain.resize(size, PillowImage.Resampling.BILINEAR))
    noise = np.random.default_rng(0).integers(-_GRAIN, _GRAIN + 1, pixels.shape, np.int16)
    return encode(PillowImage.fromarray((pixels + noise).clip(0, 255).astype(np.uint8)), quality=_QUALITY)
