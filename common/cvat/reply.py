"""Shapes -> the JSON text of a reply, one function for each kind.

Coordinates are rounded to hundredths of a pixel, which is what CVAT's UI keeps; masks are written as text directly.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import orjson
import pybase64
from numpy.typing import ArrayLike, NDArray

from common.shapes import Cuboid, Ellipse, Mask, Points, Polygon, Polyline, Rectangle, Shape, Skeleton
from common.vision.mask import mask_to_json, mask_to_outline, mask_to_rle, rows_to_json

_DECIMALS = 2


def detector_reply(shapes: Iterable[Shape], tolerance: float = 1.0) -> str:
    """The list of annotations of shapes that went through `conform`.

    tolerance: how far, in pixels, the polygon beside a mask may leave the mask's edge.
    """
    return orjson.dumps([_annotation(shape, tolerance) for shape in shapes]).decode()


def interactor_reply(mask: Mask, tolerance: float = 1.0) -> str:
    """`mask` (rows of the box around the pixels), `bounds` and `points` (outline of the largest part).

    An empty mask is a legal answer, but the browser needs rows: one background pixel in the image's corner stands for it.
    """
    if not mask.bitmap.any():
        mask = Mask(bitmap=np.zeros((1, 1), np.bool_))
    left, top, right, bottom = mask.box_xyxy
    reply = {
        "mask": orjson.Fragment(rows_to_json(mask)),
        "bounds": [left, top, right - 1, bottom - 1],
        "points": _pairs(mask_to_outline(mask, tolerance)),
    }
    return orjson.dumps(reply).decode()


def blob_reply(embedding: NDArray[np.float32]) -> str:
    """`blob`, the image embedding (1, 256, 64, 64) of SAM ViT-H that CVAT's UI decodes itself."""
    return orjson.dumps({"blob": pybase64.b64encode_as_string(np.ascontiguousarray(embedding, "<f4"))}).decode()


def tracker_reply(shapes: Sequence[tuple[Shape | None, bool]], states: Sequence[Any], lost: Sequence[int] = ()) -> str:
    """`shapes` and `states` in the order of the request, and `lost` when an object is.

    Args:
        shapes: For each object its shape, None for null; and whether to write it as the bare box of servers that don't
            know shape types.
        states: For each object its state.
        lost: The indices of the objects that are out of sight, whose shapes are their last ones. CVAT ignores the field.
    """
    reply: dict[str, Any] = {
        "shapes": [None if shape is None else _tracked(shape, bare) for shape, bare in shapes],
        "states": list(states),
    }
    return orjson.dumps(reply | ({"lost": list(lost)} if lost else {})).decode()


def reid_reply(matches: Iterable[int]) -> str:
    """For each box of the first image the index of the same object in the second, or -1."""
    return orjson.dumps([int(match) for match in matches]).decode()


def shape_points(shape: Shape) -> list[float]:
    """The flat list of numbers by which CVAT stores a shape's geometry (run lengths for a mask)."""
    if isinstance(shape, Rectangle):
        return _round(shape.box_xyxy)
    if isinstance(shape, Ellipse):
        (cx, cy), (rx, ry) = shape.center_xy, shape.radii_xy
        return _round((cx, cy, cx + rx, cy - ry))
    if isinstance(shape, (Polygon, Polyline, Points, Cuboid)):
        return _round(shape.points_xy)
    if isinstance(shape, Mask):
        return [float(v) for v in mask_to_rle(shape)]
    raise TypeError(f"a {shape.type} has no points")


def _annotation(shape: Shape, tolerance: float) -> dict[str, Any]:
    annotation: dict[str, Any] = {"label": shape.label, "type": shape.type}
    if shape.score is not None:
        annotation["confidence"] = f"{shape.score:.4f}"
    if isinstance(shape, Mask):
        outline = shape.outline_xy if shape.outline_xy is not None else mask_to_outline(shape, tolerance)
        annotation["mask"] = orjson.Fragment(mask_to_json(shape))
        annotation["points"] = _round(outline)
    elif isinstance(shape, Skeleton):
        annotation["elements"] = [
            {"label": j.name, "type": "points", "points": _round((j.x, j.y)), "outside": int(not j.visible)}
            for j in shape.joints
        ]
    elif shape.type != "tag":
        annotation["points"] = shape_points(shape)
    if isinstance(shape, (Rectangle, Ellipse)) and shape.rotation:
        annotation["rotation"] = round(shape.rotation, _DECIMALS)
    if shape.attributes:
        annotation["attributes"] = [{"name": name, "value": value} for name, value in shape.attributes.items()]
    if shape.group:
        annotation["group_id"] = shape.group
    return annotation


def _tracked(shape: Shape, bare: bool) -> Any:
    points = shape_points(shape)
    if bare:
        return points
    tracked: dict[str, Any] = {"type": shape.type, "points": points}
    if isinstance(shape, (Rectangle, Ellipse)) and shape.rotation:
        tracked["rotation"] = round(shape.rotation, _DECIMALS)
    return tracked


def _round(values: ArrayLike) -> list[float]:
    rounded: list[float] = np.round(np.asarray(values, np.float64).ravel(), _DECIMALS).tolist()
    return rounded


def _pairs(points: ArrayLike) -> list[list[float]]:
    pairs: list[list[float]] = np.round(np.asarray(points, np.float64).reshape(-1, 2), _DECIMALS).tolist()
    return pairs
