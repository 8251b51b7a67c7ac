"""Request bodies of the four kinds of functions, checked once and frozen.

What CVAT sends differs between its versions; every form ends in the same value here. Points and boxes are
floating-point pixels of the image in the orientation that CVAT shows. All functions raise BadRequest that names the field.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import pybase64

from common.errors import MISSING, BadRequest, describe
from common.shapes import Cuboid, Ellipse, Mask, Points, Polygon, Polyline, Rectangle, Shape
from common.vision.geometry import FEWEST_POINTS, points_bounds_xyxy, rotated_bounds_xyxy
from common.vision.image import max_pixels
from common.vision.mask import cropped, rle_to_mask
from common.vision.matching import ReidBox

Point = tuple[float, float]

# A mask that covers its box costs the sender a few bytes and us its pixels: all masks of a request together may have
# as many as these images of the largest size.
_MOST_MASKS = 4
_LINE_BREAKS = b" \t\r\n"
_FARTHEST = 1e9  # no image reaches there, and arithmetic with such coordinates still holds, in 32 bit integers too


@dataclass(frozen=True, slots=True)
class DetectorRequest:
    """image: an image file's bytes. threshold: 0 to 1, or None when the caller set none."""

    image: bytes
    threshold: float | None = None

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> DetectorRequest:
        return cls(image=_image(body, "image"), threshold=_number(body, "threshold", 0, 1))


@dataclass(frozen=True, slots=True)
class InteractorRequest:
    """image: an image file's bytes. box_xyxy: ordered corners, or None. At least one positive point or a box."""

    image: bytes
    pos_points: tuple[Point, ...] = ()
    neg_points: tuple[Point, ...] = ()
    box_xyxy: tuple[float, float, float, float] | None = None

    @classmethod
    def parse(cls, body: Mapping[str, Any], *, prompt_needed: bool = True) -> InteractorRequest:
        request = cls(
            image=_image(body, "image"),
            pos_points=_points(body, "pos_points"),
            neg_points=_points(body, "neg_points"),
            box_xyxy=_prompt_box(body, "obj_bbox"),
        )
        if prompt_needed and not request.pos_points and request.box_xyxy is None:
            raise BadRequest("pos_points: expected at least one positive point or a box in obj_bbox, got neither")
        return request

    def check_inside(self, size_hw: tuple[int, int]) -> None:
        """Raises BadRequest when a point or a corner of the box is outside an image of (height, width)."""
        height, width = size_hw
        corners = () if self.box_xyxy is None else (self.box_xyxy[:2], self.box_xyxy[2:])
        for name, points in (("pos_points", self.pos_points), ("neg_points", self.neg_points), ("obj_bbox", corners)):
            for i, (x, y) in enumerate(points):
                if not (0 <= x <= width and 0 <= y <= height):
                    raise BadRequest(
                        f"{name}[{i}]: expected a point inside the image of {width} x {height} pixels, got [{x:g}, {y:g}]"
                    )


@dataclass(frozen=True, slots=True)
class TrackedItem:
    """One object of a tracker request: either a shape to start with, or the state of the last frame.

    bare: the shape came as a bare list of four numbers, as from servers that don't know shape types.
    """

    shape: Shape | None
    state: Any = None
    bare: bool = False


@dataclass(frozen=True, slots=True)
class TrackerRequest:
    image: bytes
    items: tuple[TrackedItem, ...]

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> TrackerRequest:
        image = _image(body, "image")
        shapes, states = _list(body, "shapes"), _list(body, "states")
        if not shapes and not states:
            raise BadRequest("shapes: expected at least one shape to track, got none")
        if shapes and states and len(shapes) != len(states):
            raise BadRequest(
                f"states: expected as many as shapes ({len(shapes)}) or none, got {len(states)}; "
                "shapes and states belong together by their place"
            )
        items: list[TrackedItem] = []
        mask_pixels = 0
        for i in range(max(len(shapes), len(states))):
            state = states[i] if states else None
            if state is not None:
                items.append(TrackedItem(shape=None, state=state))
            elif shapes and shapes[i] is not None:
                shape = parse_shape(shapes[i], f"shapes[{i}]")
                if isinstance(shape, Mask):
                    mask_pixels += shape.bitmap.size
                    if mask_pixels > _MOST_MASKS * max_pixels():
                        raise BadRequest(
                            f"shapes[{i}]: the masks up to here have {mask_pixels} pixels, too many to track"
                        )
                items.append(TrackedItem(shape=shape, bare=not isinstance(shapes[i], Mapping)))
            else:
                raise BadRequest(f"shapes[{i}]: expected a shape, or a state in states[{i}], got neither")
        return cls(image=image, items=tuple(items))


@dataclass(frozen=True, slots=True)
class ReidRequest:
    """threshold: largest distance of appearance, 0 to 1; max_distance: largest distance of centres in pixels."""

    image0: bytes
    image1: bytes
    boxes0: tuple[ReidBox, ...]
    boxes1: tuple[ReidBox, ...]
    threshold: float | None = None
    max_distance: float | None = None

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> ReidRequest:
        return cls(
            image0=_image(body, "image0"),
            image1=_image(body, "image1"),
            boxes0=parse_reid_boxes(body, "boxes0"),
            boxes1=parse_reid_boxes(body, "boxes1"),
            threshold=_number(body, "threshold", 0, 1),
            max_distance=_number(body, "max_distance", 0, math.inf),
        )


def read_body(body: Any) -> dict[str, Any]:
    """The object of a request body: a dict already parsed, or JSON as bytes or text, whatever its content type."""
    if isinstance(body, dict):
        return body
    if body is None or (isinstance(body, (bytes, bytearray, memoryview, str)) and not len(body)):
        raise BadRequest('body: expected a JSON object such as {"image": "<base64>"}, got nothing')
    if isinstance(body, (bytes, bytearray, memoryview, str)):
        try:
            content = orjson.loads(body)
        except ValueError as error:
            try:  # byte order marks, UTF-16 and NaN: the slow parser takes what some clients send
                content = json.loads(bytes(body) if isinstance(body, memoryview) else body)
            except (ValueError, RecursionError):
                raise BadRequest(f"body: expected JSON, got {len(body)} bytes that are not: {error}") from error
        if isinstance(content, dict):
            return content
        body = content
    raise BadRequest(f"body: expected a JSON object, got {describe(body)}")


def _image(body: Mapping[str, Any], name: str) -> bytes:
    value = body.get(name, MISSING)
    if not isinstance(value, str) or not value:
        raise BadRequest.field(name, "an image file in base64", value)
    if value.startswith("data:"):
        value = value.partition(",")[2]
    try:
        return pybase64.b64decode(value, validate=True)
    except ValueError:
        pass
    try:  # line breaks, as the program base64 makes them
        return pybase64.b64decode(value.encode("ascii").translate(None, _LINE_BREAKS), validate=True)
    except ValueError:
        raise BadRequest(f"{name}: expected an image file in base64, got a text of {len(value)} characters") from None


def _number(
    body: Mapping[str, Any], name: str, lowest: float = -math.inf, highest: float = math.inf, where: str = ""
) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    if not _is_number(value) or not lowest <= value <= highest:
        limits = f" from {lowest:g} to {highest:g}" if highest < math.inf else f" of {lowest:g} or more"
        raise BadRequest.field(where + name, f"a number{limits if lowest > -math.inf else ''}", value)
    return float(value)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _is_coordinate(value: Any) -> bool:
    return _is_number(value) and abs(value) <= _FARTHEST


def _list(body: Mapping[str, Any], name: str) -> Sequence[Any]:
    value = body.get(name)
    if value is None:
        return ()
    if not isinstance(value, list):
        raise BadRequest.field(name, "a list", value)
    return value


def _points(body: Mapping[str, Any], name: str) -> tuple[Point, ...]:
    return tuple(_point(value, f"{name}[{i}]") for i, value in enumerate(_list(body, name)))


def _point(value: Any, name: str) -> Point:
    if not isinstance(value, (list, tuple)) or len(value) != 2 or not all(_is_coordinate(v) for v in value):
        raise BadRequest.field(name, "a point [x, y]", value)
    return float(value[0]), float(value[1])


def _prompt_box(body: Mapping[str, Any], name: str) -> tuple[float, float, float, float] | None:
    corners = _list(body, name)
    if not corners:
        return None
    if len(corners) == 4 and all(_is_number(v) for v in corners):
        corners = [corners[:2], corners[2:]]
    if len(corners) != 2:
        raise BadRequest.field(name, "two corners [[x0, y0], [x1, y1]]", body[name])
    (xa, ya), (xb, yb) = _point(corners[0], f"{name}[0]"), _point(corners[1], f"{name}[1]")
    if xa == xb or ya == yb:
        raise BadRequest.field(name, "a box with an area", [xa, ya, xb, yb])
    return min(xa, xb), min(ya, yb), max(xa, xb), max(ya, yb)


def _numbers(value: Any, name: str, expected: str) -> list[float]:
    if not isinstance(value, (list, tuple)) or not all(_is_coordinate(v) for v in value):
        raise BadRequest.field(name, expected, value)
    return list(value)


def parse_shape(value: Any, name: str) -> Shape:
    """A tracker's shape: {"type", "points", "rotation"?}, or the bare numbers of a box."""
    if isinstance(value, Mapping):
        kind, where = value.get("type", MISSING), f"{name}.points"
        points = _numbers(value.get("points", MISSING), where, "a list of numbers")
        rotation = _number(value, "rotation", where=f"{name}.") or 0.0
    else:
        kind, where, rotation = "rectangle", name, 0.0
        points = _numbers(value, name, 'a shape {"type", "points"} or a box [xtl, ytl, xbr, ybr]')
    if kind == "rectangle":
        _check(len(points) == 4, where, "4 numbers, xtl, ytl, xbr, ybr", points)
        left, right = sorted((points[0], points[2]))
        top, bottom = sorted((points[1], points[3]))
        _check(right > left and bottom > top, where, "a box with an area", points)
        return Rectangle(box_xyxy=(left, top, right, bottom), rotation=rotation)
    if kind == "ellipse":
        _check(len(points) == 4, where, "4 numbers, cx, cy, right x, top y", points)
        cx, cy, right, top = points
        _check(right > cx and top < cy, where, "an ellipse with an area", points)
        return Ellipse(center_xy=(cx, cy), radii_xy=(right - cx, cy - top), rotation=rotation)
    if kind == "mask":
        return _mask(points, where)
    minimum = FEWEST_POINTS.get(kind) if isinstance(kind, str) else None
    if minimum is None:
        raise BadRequest.field(f"{name}.type", "rectangle, ellipse, polygon, polyline, points, cuboid or mask", kind)
    _check(
        len(points) % 2 == 0 and len(points) >= 2 * minimum,
        where,
        f"x and y of {minimum} point{'s' if minimum > 1 else ''} or more",
        points,
    )
    maker = {"polygon": Polygon, "polyline": Polyline, "points": Points, "cuboid": Cuboid}[kind]
    return maker(points_xy=np.array(points, np.float64))


def _mask(points: list[float], where: str) -> Mask:
    _check(len(points) > 4, where, "run lengths and a box", points)
    left, top, right, bottom = points[-4:]
    # The box is looked at before anything of its size is made.
    _check((right - left + 1) * (bottom - top + 1) <= max_pixels(), where, "a mask no larger than an image", points)
    try:
        mask = rle_to_mask(points)
    except ValueError as error:
        raise BadRequest(f"{where}: {error}") from error
    mask = cropped(mask)
    _check(mask.bitmap.size > 0, where, "a mask with at least one pixel", points)
    return mask


def parse_reid_boxes(body: Mapping[str, Any], name: str) -> tuple[ReidBox, ...]:
    """The shapes in a field of a reid request, as upright boxes."""
    if body.get(name) is None:
        raise BadRequest.field(name, "a list of shapes", body.get(name, MISSING))
    return tuple(_reid_box(value, f"{name}[{i}]") for i, value in enumerate(_list(body, name)))


def _reid_box(value: Any, name: str) -> ReidBox:
    label_id = value.get("label_id") if isinstance(value, Mapping) else None
    if label_id is not None and (isinstance(label_id, bool) or not isinstance(label_id, int)):
        raise BadRequest.field(f"{name}.label_id", "an integer", label_id)
    raw = value.get("points", MISSING) if isinstance(value, Mapping) else value
    where = f"{name}.points" if isinstance(value, Mapping) else name
    points = _numbers(raw, where, "the shape's points")
    if isinstance(value, Mapping) and value.get("type") == "mask" and len(points) > 4:
        left, top, right, bottom = points[-4:]
        points = [left, top, right + 1, bottom + 1]
    _check(len(points) >= 4 and len(points) % 2 == 0, where, "x and y of two points or more", points)
    box = points_bounds_xyxy(np.reshape(points, (-1, 2)))
    rotation = _number(value, "rotation", where=f"{name}.") if isinstance(value, Mapping) else None
    return ReidBox(box_xyxy=rotated_bounds_xyxy(box, rotation or 0.0), label_id=label_id)


def _check(condition: bool, name: str, expected: str, got: Any) -> None:
    if not condition:
        raise BadRequest.field(name, expected, got)
