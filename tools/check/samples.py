"""Requests to try a function with: good ones as CVAT sends them, and bad ones that must be refused.

All show one made-up scene: a textured ground, a disc of another texture that can be found, tracked and recognised, and
a line of text. The sizes are small, so that a check takes seconds.
"""

from __future__ import annotations

import base64
import functools
import io
import math
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from common.config import FunctionConfig
from common.shapes import Mask
from common.vision.mask import mask_to_rle
from tools.check.interactor_rules import SAM_ID

JSON = "application/json"
_WIDTH, _HEIGHT = 320, 240
_CENTER, _RADIUS = (130.0, 140.0), 45.0
_BOX = [85.0, 95.0, 175.0, 185.0]
_OUTSIDE = [4 * _WIDTH, 4 * _HEIGHT]


@dataclass(frozen=True, slots=True)
class Sample:
    """One request."""

    name: str
    """What is special about it, for the report."""

    body: Any
    """A JSON value, or the bytes of the body as they are."""

    content_type: str = JSON


def good_requests(config: FunctionConfig) -> list[Sample]:
    """What CVAT may send a function, one sample for each case that functions get wrong.

    Args:
        config: The function.

    Returns:
        The requests, the plainest first; [] for a tracker, whose requests depend on its replies.
    """
    return list(_GOOD[config.kind](config)) if config.kind in _GOOD else []


def tracked_shapes(config: FunctionConfig) -> dict[str, Any]:
    """The shapes to start a track with, as CVAT sends them to a tracker.

    Args:
        config: The tracker.

    Returns:
        Name of a shape type -> the shape: an object with type and points, or the numbers of a box for a tracker that
        lists no types.
    """
    supported = config.annotations.get("supported_shape_types")
    if supported is None:
        return {"rectangle": list(_BOX)}
    names = [name.strip() for name in supported.split(",")]
    return {name: {"type": name, "points": _POINTS[name]()} for name in names if name in _POINTS}


@functools.cache
def frame(step: int) -> str:
    """One frame of a video in which the disc moves by (6, 3) pixels a step.

    Args:
        step: The frame's number, from 0.

    Returns:
        The image file in base64.
    """
    return encode(scene((6 * step, 3 * step)))


@functools.cache
def empty_frame() -> str:
    """The image file, in base64, of the scene's ground alone, without the disc."""
    return encode(scene((10 * _WIDTH, 0)))


def bad_requests(config: FunctionConfig, good: Mapping[str, Any]) -> Iterator[Sample]:
    """Requests that can't be served, made from a good one by one change each.

    Args:
        config: The function.
        good: The body of a good request.
    """
    yield Sample("no body", b"")
    yield Sample("a body that is not JSON", b"image=1")
    yield Sample("a JSON list in place of an object", [1])
    image = "image0" if config.kind == "reid" else "image"
    for name, value in _bad_images(good[image]).items():
        yield Sample(name, {**good, image: value})
    yield Sample("no image", {key: value for key, value in good.items() if key != image})
    if config.name != SAM_ID:  # the browser decodes its replies itself: it asks for embeddings, without points
        yield from _BAD[config.kind](good)


def scene(shift: tuple[float, float] = (0, 0)) -> PillowImage.Image:
    """The picture that all samples show.

    Args:
        shift: (x, y) pixels by which the disc is moved.
    """
    y, x = np.mgrid[:_HEIGHT, :_WIDTH].astype(np.float64)
    ground = 70 + 25 * np.sin(x / 7) * np.sin(y / 9) + 10 * np.sin((x + 2 * y) / 23)
    u, v = x - _CENTER[0] - shift[0], y - _CENTER[1] - shift[1]
    disc = 185 + 35 * np.sin(u / 4) * np.cos(v / 5) + 15 * np.sin((u - v) / 11)
    inside = (np.hypot(u, v) <= _RADIUS)[..., None]
    pixels = np.where(
        inside, np.dstack([disc, disc * 0.55, disc * 0.3]), np.dstack([ground * 0.6, ground, ground * 1.1])
    )
    image = PillowImage.fromarray(pixels.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    draw.rectangle((10, 12, 210, 52), fill=(245, 245, 240))
    draw.text((18, 16), "CVAT 2026", fill=(20, 20, 30), font=ImageFont.load_default(30))
    return image


def encode(image: PillowImage.Image, form: str = "JPEG", **options: Any) -> str:
    """An image as a file.

    Args:
        image: The image.
        form: Pillow's name of the format.
        **options: Pillow's options for that format.

    Returns:
        The file in base64.
    """
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return base64.b64encode(buffer.getvalue()).decode()


def in_other_forms(body: Mapping[str, Any]) -> Iterator[Sample]:
    """The same request with a charset in its content type, and with its images in the forms in which frames come.

    Args:
        body: A good request's.
    """
    yield Sample("a content type with a charset", body, f"{JSON}; charset=utf-8")
    for name, image in _image_forms().items():
        yield Sample(name, {**body, **{key: image for key in body if key in ("image", "image0", "image1")}})


@functools.cache
def _image_forms() -> Mapping[str, str]:
    """The plain scene as other image files, by what is special about them."""
    image = scene()
    exif = PillowImage.Exif()
    exif[0x0112] = 6  # stored lying on its side, shown upright
    grey = np.asarray(image.convert("L")).astype(np.uint16) << 8
    return {
        "a PNG with transparency": encode(image.convert("RGBA"), "PNG"),
        "a grey PNG": encode(image.convert("L"), "PNG"),
        "a grey PNG of 16 bit": encode(PillowImage.fromarray(grey), "PNG"),
        "a palette GIF": encode(image.convert("P"), "GIF"),
        "a CMYK JPEG": encode(image.convert("CMYK")),
        "a JPEG with an EXIF orientation": encode(image.transpose(PillowImage.Transpose.ROTATE_90), exif=exif),
    }


def _detector_requests(config: FunctionConfig) -> Iterator[Sample]:
    body = {"image": frame(0)}
    yield Sample("an image", body)
    yield Sample("a threshold of 0.5", {**body, "threshold": 0.5})
    yield Sample("a threshold of 1", {**body, "threshold": 1})
    yield from in_other_forms(body)


def _interactor_requests(config: FunctionConfig) -> Iterator[Sample]:
    if config.name == SAM_ID:
        yield Sample("an image alone", {"image": frame(0), "pos_points": [], "neg_points": [], "obj_bbox": None})
        return
    settings = config.annotations
    starts_with_box = bool(settings.get("startswith_box"))
    box_needed = starts_with_box and not settings.get("startswith_box_optional")
    takes_box = starts_with_box or bool(settings.get("startswith_box_optional"))
    positive = _clicks(max(_number(settings.get("min_pos_points"), 1), 1), _CENTER)
    negatives = _number(settings.get("min_neg_points"), -1)
    negative = _clicks(max(negatives, 0), (270.0, 200.0))
    corners = [_BOX[:2], _BOX[2:]]
    clicks = {
        "image": frame(0),
        "pos_points": positive,
        "neg_points": negative,
        "obj_bbox": corners if box_needed else None,
    }
    yield Sample("positive points" + (" and a box" if box_needed else ""), clicks)
    if takes_box:
        yield Sample("a box alone", {**clicks, "pos_points": [], "neg_points": [], "obj_bbox": corners})
        yield Sample("a box and positive points", {**clicks, "obj_bbox": corners})
    if not box_needed:
        yield Sample("an empty list for the box", {**clicks, "obj_bbox": []})
    if negatives >= 0:
        yield Sample("a negative point too", {**clicks, "neg_points": _clicks(max(negatives, 1), (270.0, 200.0))})
    yield from in_other_forms(clicks)


def _reid_requests(config: FunctionConfig) -> Iterator[Sample]:
    boxes0: list[list[float]] = [[20, 80, 80, 140], list(_BOX), [220, 30, 300, 110], [230, 150, 300, 220]]
    order = [2, 0, 3, 1]
    body: dict[str, Any] = {
        "image0": frame(0),
        "image1": frame(1),
        "boxes0": [_rectangle(box, 1 + (i == 3), 0) for i, box in enumerate(boxes0)],
        "boxes1": [_rectangle([v + 2 for v in boxes0[i]], 1 + (i == 3), 1) for i in order],
        "threshold": 0.9,
        "max_distance": 50,
    }
    yield Sample("four boxes in each image", body)
    yield Sample(
        "no threshold and no max_distance", {k: v for k, v in body.items() if k not in ("threshold", "max_distance")}
    )
    yield Sample("a max_distance of 1", {**body, "max_distance": 1})
    yield Sample("fewer boxes in the second image", {**body, "boxes1": body["boxes1"][:1]})
    yield from in_other_forms(body)


_GOOD: dict[str, Callable[[FunctionConfig], Iterator[Sample]]] = {
    "detector": _detector_requests,
    "interactor": _interactor_requests,
    "reid": _reid_requests,
}


def _bad_images(good: str) -> dict[str, Any]:
    data = base64.b64decode(good)
    return {
        "an image that is not base64": "this is *not* base64!",
        "an image that is a number": 1,
        "an image that is not an image file": base64.b64encode(b"GIF? no, text " * 20).decode(),
        "a truncated image": base64.b64encode(data[: len(data) // 2]).decode(),
        "an image of 1,600 megapixels": base64.b64encode(_huge_png(40000)).decode(),
    }


def _huge_png(side: int) -> bytes:
    """A PNG file of a few bytes whose header claims side x side pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(side // 8 + 1) * 4)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def _bad_thresholds(good: Mapping[str, Any]) -> Iterator[Sample]:
    yield Sample('a threshold of "abc"', {**good, "threshold": "abc"})
    yield Sample("a threshold of 7", {**good, "threshold": 7})


def _bad_prompts(good: Mapping[str, Any]) -> Iterator[Sample]:
    yield Sample("a positive point outside the image", {**good, "pos_points": [_OUTSIDE]})
    yield Sample("a negative point outside the image", {**good, "neg_points": [_OUTSIDE]})
    yield Sample("points that are a text", {**good, "pos_points": "abc"})
    yield Sample("a point of three numbers", {**good, "pos_points": [[1, 2, 3]]})
    yield Sample("neither points nor a box", {**good, "pos_points": [], "neg_points": [], "obj_bbox": None})


def _bad_tracks(good: Mapping[str, Any]) -> Iterator[Sample]:
    shape, state = good["shapes"][0], good["states"][0]
    start = {**good, "shapes": [shape], "states": []}
    follow = {**good, "shapes": [None]}
    points = shape["points"] if isinstance(shape, Mapping) else shape
    wrong = {**shape, "points": ["a", *points[1:]]} if isinstance(shape, Mapping) else ["a", *points[1:]]
    yield Sample("neither shapes nor states", {**good, "shapes": [], "states": []})
    yield Sample("a shape that is a text", {**start, "shapes": ["abc"]})
    yield Sample("a shape with a letter among its points", {**start, "shapes": [wrong]})
    yield Sample("more states than shapes", {**good, "shapes": [None], "states": [state, state]})
    yield Sample("a state of someone else", {**follow, "states": ["someone-else.1.0123456789abcdef.e30="]})
    yield Sample("a state that is a number", {**follow, "states": [1]})
    if (tampered := _tampered(state)) is not None:
        yield Sample("a state that was tampered with", {**follow, "states": [tampered]})


def _bad_boxes(good: Mapping[str, Any]) -> Iterator[Sample]:
    yield from _bad_thresholds(good)
    yield Sample("boxes that are a text", {**good, "boxes0": "abc"})
    yield Sample("no boxes", {key: value for key, value in good.items() if key != "boxes1"})
    yield Sample("a box without points", {**good, "boxes1": [{"label_id": 1}]})
    yield Sample('a max_distance of "abc"', {**good, "max_distance": "abc"})


_BAD: dict[str, Callable[[Mapping[str, Any]], Iterator[Sample]]] = {
    "detector": _bad_thresholds,
    "interactor": _bad_prompts,
    "tracker": _bad_tracks,
    "reid": _bad_boxes,
}


def _tampered(state: object) -> Any:
    """A state with one character changed in its middle; None for one that is no text of some length."""
    if not isinstance(state, str) or len(state) < 16:
        return None
    place = len(state) * 3 // 4
    return state[:place] + ("A" if state[place] != "A" else "B") + state[place + 1 :]


def _number(text: str | None, default: int) -> int:
    try:
        return int(text or "")
    except ValueError:
        return default


def _clicks(count: int, around: tuple[float, float]) -> list[list[float]]:
    """Points on a small circle around a place; a single one lies in its middle."""
    if count == 1:
        return [list(around)]
    turns = (2 * math.pi * i / count for i in range(count))
    return [[round(around[0] + 15 * math.cos(t), 1), round(around[1] + 15 * math.sin(t), 1)] for t in turns]


def _rectangle(box: list[float], label_id: int, frame_number: int) -> dict[str, Any]:
    """A box as CVAT's server stores shapes and sends them to reid functions."""
    return {
        "type": "rectangle",
        "points": [float(value) for value in box],
        "label_id": label_id,
        "frame": frame_number,
        "rotation": 0.0,
        "occluded": False,
        "outside": False,
        "z_order": 0,
        "group": 0,
        "source": "manual",
        "attributes": [],
    }


def _ring(count: int, radius: float) -> list[float]:
    turns = (2 * math.pi * i / count for i in range(count))
    points = ((_CENTER[0] + radius * math.cos(t), _CENTER[1] + radius * math.sin(t)) for t in turns)
    return [round(value, 1) for point in points for value in point]


def _disc() -> NDArray[np.bool_]:
    y, x = np.mgrid[:_HEIGHT, :_WIDTH] + 0.5
    return np.hypot(x - _CENTER[0], y - _CENTER[1]) <= _RADIUS


def _cuboid() -> list[float]:
    left, top, right, bottom = _BOX
    front = [(left, top), (left, bottom), (right - 20, top), (right - 20, bottom)]
    return [v for dx, dy in ((0, 0), (20, -10)) for x, y in front for v in (x + dx, y + dy)]


_POINTS: dict[str, Callable[[], list[float]]] = {
    "rectangle": lambda: list(_BOX),
    "ellipse": lambda: [_CENTER[0], _CENTER[1], _CENTER[0] + _RADIUS, _CENTER[1] - _RADIUS],
    "polygon": lambda: _ring(10, _RADIUS),
    "polyline": lambda: _ring(5, _RADIUS * 0.7),
    "points": lambda: _ring(4, _RADIUS * 0.5),
    "cuboid": _cuboid,
    "mask": lambda: [float(value) for value in mask_to_rle(Mask.from_full(_disc()))],
}
