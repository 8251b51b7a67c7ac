"""The request bodies of the four kinds of functions, both directions: readers that check every field, and writers.

What CVAT sends differs between its versions; every form ends in the same value here. Points and boxes are
floating-point pixels of the image in the orientation that CVAT shows.
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

from common.cvat.fields import coordinates, is_number, list_field, number_field, point
from common.cvat.shape_json import parse_shape, write_shape
from common.errors import MISSING, BadRequest, describe
from common.shapes import BoxXyxy, Mask, Shape
from common.vision.geometry import points_bounds_xyxy, rotated_bounds_xyxy
from common.vision.image import max_pixels
from common.vision.matching import ReidBox

Point = tuple[float, float]

# A mask that covers its box costs the sender a few bytes and us its pixels: all masks of a request together may have
# as many as this many images of the largest size.
_MOST_MASKS = 4
_LINE_BREAKS = b" \t\r\n"


@dataclass(frozen=True, slots=True)
class DetectorRequest:
    """What a detector is asked."""

    image: bytes
    """An image file."""
    threshold: float | None = None
    """The lowest confidence, 0 to 1; None when the caller set none."""

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> DetectorRequest:
        """Reads a body, as `detector_body` writes it.

        Args:
            body: The parsed JSON.

        Raises:
            BadRequest: A field is wrong.
        """
        return cls(image=_image(body, "image"), threshold=number_field(body, "threshold", 0, 1))


@dataclass(frozen=True, slots=True)
class InteractorRequest:
    """What an interactor is asked: at least one positive point or a box, in pixels of the image."""

    image: bytes
    """An image file."""
    pos_points: tuple[Point, ...] = ()
    """Clicks on the object, the oldest first."""
    neg_points: tuple[Point, ...] = ()
    """Clicks beside it."""
    box_xyxy: BoxXyxy | None = None
    """The box around it, its corners in order."""

    @classmethod
    def parse(cls, body: Mapping[str, Any], *, prompt_needed: bool = True) -> InteractorRequest:
        """Reads a body, as `interactor_body` writes it.

        Args:
            body: The parsed JSON.
            prompt_needed: Whether a body without a positive point and without a box is an error.

        Raises:
            BadRequest: A field is wrong.
        """
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
        """Makes sure that all points and both corners of the box are inside the image.

        Args:
            size_hw: Height and width of the image.

        Raises:
            BadRequest: One is outside.
        """
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
    """One object of a tracker request: either a shape to start with, or its state after the last frame."""

    shape: Shape | None
    """None for an object that has a state."""
    state: Any = None
    """What the function returned."""
    bare: bool = False
    """Whether the shape came as a bare list of four numbers, as from servers that don't know shape types."""


@dataclass(frozen=True, slots=True)
class TrackerRequest:
    """What a tracker is asked: where objects are in a frame."""

    image: bytes
    """The frame, an image file."""
    items: tuple[TrackedItem, ...]
    """The objects, at least one."""

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> TrackerRequest:
        """Reads a body, as `tracker_body` writes it.

        Args:
            body: The parsed JSON.

        Raises:
            BadRequest: A field is wrong.
        """
        image = _image(body, "image")
        shapes, states = list_field(body, "shapes"), list_field(body, "states")
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
    """What a reid function is asked: which boxes of two images show the same object."""

    image0: bytes
    """The first image file."""
    image1: bytes
    """The second one."""
    boxes0: tuple[ReidBox, ...]
    """The boxes of the first image."""
    boxes1: tuple[ReidBox, ...]
    """The boxes of the second image."""
    threshold: float | None = None
    """The largest distance of appearance, 0 to 1; None when the caller set none."""
    max_distance: float | None = None
    """The largest distance of centres in pixels; None when the caller set none."""

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> ReidRequest:
        """Reads a body, as `reid_body` writes it.

        Args:
            body: The parsed JSON.

        Raises:
            BadRequest: A field is wrong.
        """
        return cls(
            image0=_image(body, "image0"),
            image1=_image(body, "image1"),
            boxes0=parse_reid_boxes(body, "boxes0"),
            boxes1=parse_reid_boxes(body, "boxes1"),
            threshold=number_field(body, "threshold", 0, 1),
            max_distance=number_field(body, "max_distance", 0, math.inf),
        )


def detector_body(image: bytes, threshold: float | None = None) -> dict[str, Any]:
    """The body of a detector's request.

    Args:
        image: An image file.
        threshold: The lowest confidence, 0 to 1; None for the function's own.
    """
    return {"image": _text(image)} | _set(threshold=threshold)


def interactor_body(
    image: bytes, pos_points: Sequence[Point] = (), neg_points: Sequence[Point] = (), box_xyxy: BoxXyxy | None = None
) -> dict[str, Any]:
    """The body of an interactor's request.

    Args:
        image: An image file.
        pos_points: (x, y) of clicks on the object, in pixels.
        neg_points: (x, y) of clicks beside it.
        box_xyxy: The box around it.
    """
    return {
        "image": _text(image),
        "pos_points": [list(xy) for xy in pos_points],
        "neg_points": [list(xy) for xy in neg_points],
        "obj_bbox": [] if box_xyxy is None else [list(box_xyxy[:2]), list(box_xyxy[2:])],
    }


def tracker_body(image: bytes, shapes: Sequence[Shape | None] = (), states: Sequence[Any] = ()) -> dict[str, Any]:
    """The body of a tracker's request.

    Args:
        image: The frame, an image file.
        shapes: The objects to start with; for those that have a state None, or nothing when all have one.
        states: The states that the function returned for the last frame, in the order of the objects.
    """
    written = [None if shape is None else write_shape(shape) for shape in shapes or [None] * len(states)]
    return {"image": _text(image), "shapes": written, "states": list(states)}


def reid_body(
    image0: bytes,
    image1: bytes,
    boxes0: Sequence[Mapping[str, Any]],
    boxes1: Sequence[Mapping[str, Any]],
    threshold: float | None = None,
    max_distance: float | None = None,
) -> dict[str, Any]:
    """The body of a reid function's request.

    Args:
        image0: The first image file.
        image1: The second one.
        boxes0: The boxes of the first image, as CVAT's annotations (`label_id`, `points` and what else they have).
        boxes1: The boxes of the second image.
        threshold: The largest distance of appearance, 0 to 1; None for the function's own.
        max_distance: The largest distance of centres in pixels; None for the function's own.
    """
    images = {"image0": _text(image0), "image1": _text(image1)}
    boxes = {"boxes0": list(boxes0), "boxes1": list(boxes1)}
    return images | boxes | _set(threshold=threshold, max_distance=max_distance)


def read_body(body: Any) -> dict[str, Any]:
    """The object of a request body, whatever its content type.

    Args:
        body: A dict already parsed, or JSON as bytes or text.

    Raises:
        BadRequest: It is something else.
    """
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


def _text(image: bytes) -> str:
    """The inverse of `_image`."""
    return pybase64.b64encode_as_string(image)


def _set(**fields: float | None) -> dict[str, float]:
    return {name: value for name, value in fields.items() if value is not None}


def _points(body: Mapping[str, Any], name: str) -> tuple[Point, ...]:
    return tuple(point(value, f"{name}[{i}]") for i, value in enumerate(list_field(body, name)))


def _prompt_box(body: Mapping[str, Any], name: str) -> tuple[float, float, float, float] | None:
    corners = list_field(body, name)
    if not corners:
        return None
    if len(corners) == 4 and all(is_number(v) for v in corners):
        corners = [corners[:2], corners[2:]]
    if len(corners) != 2:
        raise BadRequest.field(name, "two corners [[x0, y0], [x1, y1]]", body[name])
    (xa, ya), (xb, yb) = point(corners[0], f"{name}[0]"), point(corners[1], f"{name}[1]")
    if xa == xb or ya == yb:
        raise BadRequest.field(name, "a box with an area", [xa, ya, xb, yb])
    return min(xa, xb), min(ya, yb), max(xa, xb), max(ya, yb)


def parse_reid_boxes(body: Mapping[str, Any], name: str) -> tuple[ReidBox, ...]:
    """The shapes in a field of a reid request, as upright boxes.

    Args:
        body: The request's body.
        name: The field.

    Raises:
        BadRequest: It is not a list of shapes.
    """
    BadRequest.check(body.get(name) is not None, name, "a list of shapes", body.get(name, MISSING))
    return tuple(_reid_box(value, f"{name}[{i}]") for i, value in enumerate(list_field(body, name)))


def _reid_box(value: Any, name: str) -> ReidBox:
    label_id = value.get("label_id") if isinstance(value, Mapping) else None
    if label_id is not None and (isinstance(label_id, bool) or not isinstance(label_id, int)):
        raise BadRequest.field(f"{name}.label_id", "an integer", label_id)
    raw = value.get("points", MISSING) if isinstance(value, Mapping) else value
    where = f"{name}.points" if isinstance(value, Mapping) else name
    points = coordinates(raw, where, "the shape's points")
    if isinstance(value, Mapping) and value.get("type") == "mask" and len(points) > 4:
        left, top, right, bottom = points[-4:]
        points = [left, top, right + 1, bottom + 1]
    BadRequest.check(len(points) >= 4 and len(points) % 2 == 0, where, "x and y of two points or more", points)
    box = points_bounds_xyxy(np.reshape(points, (-1, 2)))
    rotation = number_field(value, "rotation", where=f"{name}.") if isinstance(value, Mapping) else None
    return ReidBox(box_xyxy=rotated_bounds_xyxy(box, rotation or 0.0), label_id=label_id)
