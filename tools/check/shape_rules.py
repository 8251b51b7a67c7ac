"""The geometry of shapes in replies, as CVAT stores it: flat lists of numbers in pixels of the image."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator, Sequence
from typing import TypeGuard

import numpy as np
from PIL import Image as PillowImage

from common.errors import describe
from tools.check.findings import Finding, error, warning
from tools.check.values import shown

Size = tuple[int, int] | None
"""(height, width) of an image in pixels, in the orientation that CVAT shows; None when it is not known."""

NOT_SAVED = "CVAT refuses to save it, which ends the whole run, or saves what it can't show"
_OUT_OF_PLACE = "CVAT stores masks unchecked: the pixels end up elsewhere, or can't be drawn at all"
_SAVED_AS_IT_IS = "CVAT saves it as it is, outside the image"
_NO_PIXELS = "an annotation without pixels"
_COUNTS = {
    "rectangle": (4, "[xtl, ytl, xbr, ybr]"),
    "ellipse": (4, "[cx, cy, right x, top y]"),
    "cuboid": (16, "16 numbers, x and y of 8 points"),
}
_FEWEST_POINTS = {"polygon": 3, "polyline": 2, "points": 1}
_ORIENTATION = 0x0112
_TOLERANCE = 1.0  # pixels by which a shape may stick out of the image, for models that round


def image_size_hw(text: object) -> Size:
    """The size of an image file.

    Args:
        text: The file in base64.

    Returns:
        (height, width) in pixels, in the orientation that CVAT shows; None when it is not an image file.
    """
    if not isinstance(text, str):
        return None
    try:
        with PillowImage.open(io.BytesIO(base64.b64decode(text))) as image:
            width, height = image.size
            turned = image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
    except (ValueError, OSError, PillowImage.DecompressionBombError):
        return None
    return (width, height) if turned else (height, width)


def check_points(shape_type: str, points: object, size_hw: Size, field: str, rotation: object = 0) -> Iterator[Finding]:
    """Checks the `points` of a shape.

    Args:
        shape_type: Any type but mask, skeleton and tag.
        points: What the reply holds as points: right is a flat list of numbers, in pixels of the image.
        size_hw: The size of the image.
        field: The path of the points in the reply.
        rotation: Degrees by which a rectangle is turned; the corners of a turned one may lie outside the image.

    Yields:
        What is wrong with the points.
    """
    if not is_numbers(points):
        yield not_numbers(points, field)
        return
    count, expected = _COUNTS.get(shape_type, (0, ""))
    fewest = _FEWEST_POINTS.get(shape_type, 0)
    if len(points) != count if count else len(points) % 2 or len(points) < 2 * fewest:
        expected = expected or f"x and y of at least {fewest} point{'s' if fewest > 1 else ''}"
        yield error("reply.points", field, expected, f"{len(points)} numbers", NOT_SAVED)
    elif shape_type == "rectangle" and not (points[0] < points[2] and points[1] < points[3]):
        why = "a box without an area can't be seen or selected; x, y, width and height are a common mix-up"
        yield error("reply.points", field, f"{expected} with xtl < xbr and ytl < ybr", describe(points), why)
    elif shape_type == "ellipse" and not (points[2] > points[0] and points[3] < points[1]):
        why = "CVAT takes the third for the right-most x and the fourth for the top-most y, not for radii"
        yield error("reply.points", field, f"{expected} with right x > cx and top y < cy", describe(points), why)
    else:
        pairs = np.reshape(points, (-1, 2))
        if shape_type == "ellipse":
            pairs = pairs[:1]
        elif shape_type == "rectangle" and is_number(rotation) and rotation % 180 != 0:
            pairs = pairs.mean(axis=0, keepdims=True)
        yield from check_inside(pairs, size_hw, field, partly=shape_type != "cuboid")


def check_inside(points: object, size_hw: Size, field: str, *, partly: bool = True) -> Iterator[Finding]:
    """Checks that points lie in the image.

    Args:
        points: (N, 2) x and y in pixels of the image.
        size_hw: The size of the image.
        field: The path of the points in the reply.
        partly: Also warn when only some of them lie outside.

    Yields:
        An error when all points lie beyond one side of the image, a warning when some do.
    """
    pairs = np.asarray(points, np.float64)
    if size_hw is None or not len(pairs):
        return
    height, width = size_hw
    low, high = pairs.min(axis=0), pairs.max(axis=0)
    expected = f"inside the image of {width} x {height} pixels"
    extent = f"x {low[0]:g} to {high[0]:g}, y {low[1]:g} to {high[1]:g}"
    if high[0] < 0 or high[1] < 0 or low[0] > width or low[1] > height:
        yield error("reply.outside", field, expected, extent, _SAVED_AS_IT_IS)
    elif partly and (low.min() < -_TOLERANCE or high[0] > width + _TOLERANCE or high[1] > height + _TOLERANCE):
        yield warning("reply.outside", field, expected, extent, _SAVED_AS_IT_IS)


def check_rotation(value: object, shape_type: str, field: str) -> Iterator[Finding]:
    """Checks the `rotation` of a shape.

    Args:
        value: What the reply holds as rotation: right is a number of degrees, for a rectangle or an ellipse.
        shape_type: The shape's type.
        field: The path of the rotation in the reply.

    Yields:
        What is wrong with it.
    """
    if value is None or (value == 0 and not isinstance(value, bool)):
        return
    if shape_type not in ("rectangle", "ellipse"):
        yield warning("reply.rotation", field, f"no rotation for a {shape_type}", describe(value), "CVAT ignores it")
    elif not is_number(value):
        yield error("reply.rotation", field, "degrees", describe(value), NOT_SAVED)
    elif not 0 <= value <= 360:
        why = "radians and negative angles turn the shape by another angle than intended"
        yield warning("reply.rotation", field, "0 to 360 degrees, clockwise", describe(value), why)


def check_flat_mask(mask: object, size_hw: Size, field: str) -> Iterator[Finding]:
    """Checks a detector's mask.

    Args:
        mask: What the reply holds as mask: right is 0 or 1 for each pixel of the box, row by row, then the box
            (xtl, ytl, xbr, ybr), right and bottom inclusive.
        size_hw: The size of the image.
        field: The path of the mask in the reply.

    Yields:
        What is wrong with it.
    """
    if not is_numbers(mask):
        yield not_numbers(mask, field)
        return
    if problem := _wrong_box(mask, field):
        yield problem
        return
    yield from _box_outside(mask, size_hw, field)
    width, height = _box_size(mask)
    box, values = tuple(int(value) for value in mask[-4:]), mask[:-4]
    if len(values) != width * height:
        hint = ""
        if max(values) > 1 and sum(values) == width * height:
            hint = "; they add up to the pixels, so they are run lengths: CVAT's server makes those itself"
        elif len(values) == (width - 1) * (height - 1):
            hint = "; it fits a box whose right and bottom are one too large: they are inclusive"
        expected = f"{width * height} values and the box, for {width} x {height} pixels"
        yield error("reply.mask", field, expected, f"{len(values)} values and the box {box}{hint}", _OUT_OF_PLACE)
        return
    pixels = np.asarray(values)
    if not np.isin(pixels, (0, 1)).all():
        odd = next(value for value in values if value not in (0, 1))
        yield error("reply.mask", field, "0 or 1 for each pixel", describe(odd), "CVAT counts runs of equal values")
    elif not pixels.any():
        yield error("reply.mask", field, "at least one pixel of 1", "only 0", _NO_PIXELS)


def check_rle_mask(points: object, size_hw: Size, field: str) -> Iterator[Finding]:
    """Checks a tracker's mask.

    Args:
        points: What the reply holds as points: right are the run lengths of the box's pixels, background first, then
            the box (xtl, ytl, xbr, ybr), right and bottom inclusive.
        size_hw: The size of the image.
        field: The path of the points in the reply.

    Yields:
        What is wrong with them.
    """
    if not is_numbers(points):
        yield not_numbers(points, field)
        return
    if problem := _wrong_box(points, field):
        yield problem
        return
    yield from _box_outside(points, size_hw, field)
    width, height = _box_size(points)
    runs = points[:-4]
    if any(run < 0 or run != int(run) for run in runs) or sum(runs) != width * height:
        hint = "; these are the pixels themselves" if len(runs) == width * height and set(runs) <= {0, 1} else ""
        expected = f"run lengths that add up to {width * height}, then the box {points[-4:]}"
        yield error(
            "reply.mask", field, expected, f"{len(runs)} numbers that add up to {sum(runs):g}{hint}", _OUT_OF_PLACE
        )
    elif not sum(runs[1::2]):
        yield error("reply.mask", field, "at least one pixel", "background only", _NO_PIXELS)


def not_numbers(value: object, field: str) -> Finding:
    """The finding about a value that is not a list of finite numbers.

    Args:
        value: A value of the reply.
        field: Its path there.
    """
    got = shown(value)
    if isinstance(value, list):
        got = f"{describe(next(item for item in value if not is_number(item)))} in it"
    return error("reply.points", field, "a list of finite numbers", got, NOT_SAVED)


def is_numbers(value: object) -> TypeGuard[list[float]]:
    """Whether a JSON value is a list of finite numbers.

    Args:
        value: The value.
    """
    return isinstance(value, list) and all(map(is_number, value))


def is_number(value: object) -> TypeGuard[float]:
    """Whether a JSON value is a finite number.

    Args:
        value: The value; true and false are no numbers.
    """
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def is_whole(value: object) -> TypeGuard[int]:
    """Whether a JSON value is a whole number, written without a point.

    Args:
        value: The value; true and false are no numbers.
    """
    return isinstance(value, int) and not isinstance(value, bool)


def _wrong_box(mask: Sequence[float], field: str) -> Finding | None:
    box = mask[-4:]
    if len(mask) >= 5 and all(value == int(value) for value in box) and box[0] <= box[2] and box[1] <= box[3]:
        return None
    expected = "pixels, then the box [xtl, ytl, xbr, ybr] in whole numbers, corners inclusive"
    got = f"{len(mask)} numbers that end in {box}"
    return error("reply.mask", field, expected, got, "CVAT reads the last four as the mask's box")


def _box_outside(mask: Sequence[float], size_hw: Size, field: str) -> Iterator[Finding]:
    left, top, right, bottom = (int(value) for value in mask[-4:])
    if size_hw and (left < 0 or top < 0 or right >= size_hw[1] or bottom >= size_hw[0]):
        expected = f"a box inside the image of {size_hw[1]} x {size_hw[0]} pixels, corners inclusive"
        yield error("reply.outside", field, expected, f"{(left, top, right, bottom)}", _OUT_OF_PLACE)


def _box_size(mask: Sequence[float]) -> tuple[int, int]:
    """(width, height) of the box at a mask's end, in pixels."""
    return int(mask[-2] - mask[-4]) + 1, int(mask[-1] - mask[-3]) + 1
