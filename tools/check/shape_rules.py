"""The geometry of shapes in replies, as CVAT stores it: flat lists of numbers in pixels of the image."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from common.errors import describe
from tools.check.consequences import NOT_SAVED, OUT_OF_PLACE, SAVED_AS_IT_IS
from tools.check.findings import Findings

_FEWEST_POINTS = {"polygon": 3, "polyline": 2, "points": 1, "cuboid": 8}
_ORIENTATION = 0x0112
_TOLERANCE = 1.0  # pixels by which a shape may stick out of the image, for models that round


def image_size_hw(text: Any) -> tuple[int, int] | None:
    """(height, width) of an image file in base64, in the orientation that CVAT shows; None when it is none."""
    try:
        with PillowImage.open(io.BytesIO(base64.b64decode(text))) as image:
            width, height = image.size
            turned = image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
    except (TypeError, ValueError, OSError, PillowImage.DecompressionBombError):
        return None
    return (width, height) if turned else (height, width)


def check_points(
    shape_type: str,
    points: Any,
    size_hw: tuple[int, int] | None,
    field: str,
    findings: Findings,
    *,
    rotation: Any = 0,
) -> None:
    """The `points` of a shape of any type but mask, skeleton and tag.

    size_hw: of the image, None when not known. rotation: of a rectangle, whose corners may lie anywhere when it is turned.
    """
    numbers = finite_numbers(points, field, findings)
    if numbers is None:
        return
    if shape_type in ("rectangle", "ellipse"):
        if len(numbers) != 4:
            expected = "[xtl, ytl, xbr, ybr]" if shape_type == "rectangle" else "[cx, cy, right x, top y]"
            _wrong_count(numbers, expected, field, findings)
        elif shape_type == "rectangle":
            turned = is_number(rotation) and rotation % 180 != 0
            _check_rectangle(numbers, turned, size_hw, field, findings)
        else:
            _check_ellipse(numbers, size_hw, field, findings)
        return
    fewest = _FEWEST_POINTS[shape_type]
    if len(numbers) % 2 or len(numbers) < 2 * fewest or (shape_type == "cuboid" and len(numbers) != 16):
        expected = (
            "16 numbers, x and y of 8 points" if shape_type == "cuboid" else f"x and y of {fewest} points or more"
        )
        _wrong_count(numbers, expected, field, findings)
        return
    _check_inside(np.reshape(numbers, (-1, 2)), size_hw, field, findings, partly=shape_type != "cuboid")


def check_rotation(value: Any, shape_type: str, field: str, findings: Findings) -> None:
    """`rotation` of a rectangle or an ellipse, in degrees."""
    if value is None or (value == 0 and not isinstance(value, bool)):
        return
    if shape_type not in ("rectangle", "ellipse"):
        findings.warn(
            "reply.rotation",
            field,
            expected=f"no rotation for a {shape_type}",
            got=describe(value),
            why="CVAT takes no notice of it",
        )
    elif not is_number(value):
        findings.error("reply.rotation", field, expected="degrees", got=describe(value), why=NOT_SAVED)
    elif not 0 <= value <= 360:
        findings.warn(
            "reply.rotation",
            field,
            expected="0 to 360 degrees, clockwise",
            got=describe(value),
            why="radians or negative angles turn the shape by something else than is meant",
        )


def check_flat_mask(mask: Any, size_hw: tuple[int, int] | None, field: str, findings: Findings) -> None:
    """A detector's mask: 0 or 1 for each pixel of the box, row by row, then its corners, right and bottom inclusive."""
    box = _mask_box(mask, size_hw, field, findings)
    if box is None:
        return
    left, top, right, bottom = box
    width, height = right - left + 1, bottom - top + 1
    values = mask[:-4]
    if len(values) != width * height:
        hint = ""
        if max(values) > 1 and sum(values) == width * height:
            hint = "; they add up to the pixels, so they are run lengths: CVAT's server makes those itself"
        elif len(values) == (width - 1) * (height - 1):
            hint = "; it fits a box whose right and bottom are one too large: they are inclusive"
        findings.error(
            "reply.mask",
            field,
            expected=f"{width * height} values and the box, for {width} x {height} pixels",
            got=f"{len(values)} values and the box {box}{hint}",
            why=OUT_OF_PLACE,
        )
        return
    pixels = np.asarray(values)
    if not np.isin(pixels, (0, 1)).all():
        odd = next(value for value in values if value not in (0, 1))
        findings.error(
            "reply.mask",
            field,
            expected="0 or 1 for each pixel",
            got=describe(odd),
            why="CVAT counts runs of equal values",
        )
    elif not pixels.any():
        findings.error(
            "reply.mask", field, expected="at least one pixel of 1", got="only 0", why="an annotation without pixels"
        )


def check_rle_mask(points: Any, size_hw: tuple[int, int] | None, field: str, findings: Findings) -> None:
    """A tracker's mask: run lengths of the box's pixels, background first, then its corners."""
    box = _mask_box(points, size_hw, field, findings)
    if box is None:
        return
    area = (box[2] - box[0] + 1) * (box[3] - box[1] + 1)
    runs = points[:-4]
    if any(run < 0 or run != int(run) for run in runs) or sum(runs) != area:
        hint = "; these are the pixels themselves" if len(runs) == area and set(runs) <= {0, 1} else ""
        findings.error(
            "reply.mask",
            field,
            expected=f"run lengths that add up to {area}, then the box {box}",
            got=f"{len(runs)} numbers that add up to {sum(runs):g}{hint}",
            why=OUT_OF_PLACE,
        )
    elif not sum(runs[1::2]):
        findings.error(
            "reply.mask",
            field,
            expected="at least one pixel",
            got="background only",
            why="an annotation without pixels",
        )


def finite_numbers(value: Any, field: str, findings: Findings) -> list[float] | None:
    """The list of numbers that `value` is, or None, with a finding."""
    if isinstance(value, list) and all(map(is_number, value)):
        return value
    if not isinstance(value, list):
        got = "nothing" if value is None else describe(value)
    else:
        got = f"{describe(next(item for item in value if not is_number(item)))} in it"
    findings.error("reply.points", field, expected="a list of finite numbers", got=got, why=NOT_SAVED)
    return None


def is_number(value: Any) -> bool:
    """Whether a JSON value is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def check_pairs(points: NDArray[np.float64], size_hw: tuple[int, int] | None, field: str, findings: Findings) -> None:
    """(N, 2) points of an outline: they must lie in the image."""
    _check_inside(points, size_hw, field, findings)


def _check_rectangle(
    numbers: Sequence[float], turned: bool, size_hw: tuple[int, int] | None, field: str, findings: Findings
) -> None:
    left, top, right, bottom = numbers
    if not (left < right and top < bottom):
        findings.error(
            "reply.points",
            field,
            expected="[xtl, ytl, xbr, ybr] with xtl < xbr and ytl < ybr",
            got=describe(list(numbers)),
            why="a box without an area can't be seen or taken hold of; x, y, width and height are a common mix-up",
        )
        return
    corners = np.reshape(numbers, (2, 2))
    _check_inside(corners.mean(axis=0, keepdims=True) if turned else corners, size_hw, field, findings)


def _check_ellipse(numbers: Sequence[float], size_hw: tuple[int, int] | None, field: str, findings: Findings) -> None:
    center_x, center_y, right, top = numbers
    if not (right > center_x and top < center_y):
        findings.error(
            "reply.points",
            field,
            expected="[cx, cy, right x, top y] with right x > cx and top y < cy",
            got=describe(list(numbers)),
            why="CVAT takes the third for the right-most x and the fourth for the top-most y, not for radii",
        )
        return
    _check_inside(np.array([[center_x, center_y]]), size_hw, field, findings)


def _check_inside(
    points: NDArray[np.float64],
    size_hw: tuple[int, int] | None,
    field: str,
    findings: Findings,
    *,
    partly: bool = True,
) -> None:
    """An error when all points lie beyond one side of the image, a warning when some do. partly: look for some."""
    if size_hw is None or not len(points):
        return
    height, width = size_hw
    low, high = points.min(axis=0), points.max(axis=0)
    expected = f"inside the image of {width} x {height} pixels"
    extent = f"x {low[0]:g} to {high[0]:g}, y {low[1]:g} to {high[1]:g}"
    if high[0] < 0 or high[1] < 0 or low[0] > width or low[1] > height:
        findings.error("reply.outside", field, expected=expected, got=extent, why=SAVED_AS_IT_IS)
    elif partly and (low.min() < -_TOLERANCE or high[0] > width + _TOLERANCE or high[1] > height + _TOLERANCE):
        findings.warn("reply.outside", field, expected=expected, got=extent, why=SAVED_AS_IT_IS)


def _mask_box(
    mask: Any, size_hw: tuple[int, int] | None, field: str, findings: Findings
) -> tuple[int, int, int, int] | None:
    numbers = finite_numbers(mask, field, findings)
    if numbers is None:
        return None
    box = numbers[-4:]
    if len(numbers) < 5 or any(value != int(value) for value in box) or not (box[0] <= box[2] and box[1] <= box[3]):
        findings.error(
            "reply.mask",
            field,
            expected="pixels, then the box [xtl, ytl, xbr, ybr] in whole numbers, corners inclusive",
            got=f"{len(numbers)} numbers that end in {box}",
            why="CVAT reads the last four as the mask's box",
        )
        return None
    left, top, right, bottom = (int(value) for value in box)
    if size_hw and (left < 0 or top < 0 or right >= size_hw[1] or bottom >= size_hw[0]):
        findings.error(
            "reply.outside",
            field,
            expected=f"a box inside the image of {size_hw[1]} x {size_hw[0]} pixels, corners inclusive",
            got=f"{(left, top, right, bottom)}",
            why=OUT_OF_PLACE,
        )
    return left, top, right, bottom


def _wrong_count(numbers: Sequence[float], expected: str, field: str, findings: Findings) -> None:
    findings.error("reply.points", field, expected=expected, got=f"{len(numbers)} numbers", why=NOT_SAVED)
