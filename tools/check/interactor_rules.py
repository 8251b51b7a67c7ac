"""An interactor's reply: the mask of one object."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from common.config import FunctionConfig
from common.errors import describe
from tools.check.findings import Finding, error, listed
from tools.check.shape_rules import Size, check_inside, image_size_hw, is_numbers, is_whole

SAM_ID = "pth-facebookresearch-sam-vit-h"
"""The one function whose replies CVAT's UI decodes itself."""

_SAM_BLOB_BYTES = 4 * 256 * 64 * 64
_PLACES = "CVAT's UI places the mask by it"


def check_interactor_reply(content: object, config: FunctionConfig, request: Mapping[str, Any]) -> Iterator[Finding]:
    """Checks what an interactor answered.

    Args:
        content: The JSON value in the reply.
        config: The function's, for its id.
        request: What was asked, for the image.

    Yields:
        What is wrong with the reply.
    """
    if config.name == SAM_ID:
        yield from _check_blob(content.get("blob") if isinstance(content, Mapping) else None)
        return
    if not isinstance(content, Mapping) or "mask" not in content:
        got = f"an object with {listed(content)}" if isinstance(content, Mapping) else describe(content)
        why = "CVAT's UI reads `mask`; lists of points are the reply of functions of version 1"
        yield error("reply.form", "reply", 'an object {"mask": rows, "bounds": box, "points": outline}', got, why)
        return
    size_hw, rows, bounds, points = image_size_hw(request.get("image")), *map(content.get, ("mask", "bounds", "points"))
    try:
        mask = np.array(rows)
    except ValueError:  # rows of different length
        mask = np.empty(0)
    if not isinstance(rows, list) or mask.ndim != 2 or not mask.size or mask.dtype.kind not in "biuf":
        why = "CVAT's UI reads height and width from the rows"
        yield error("reply.mask", "reply.mask", "rows of equal length, of 0 and other numbers", describe(rows), why)
        return
    if bounds is not None:
        yield from _check_bounds(bounds, mask.shape, size_hw)
    elif size_hw and mask.shape != size_hw:
        expected = f"{size_hw[0]} rows of {size_hw[1]}, the whole image, or bounds beside it"
        why = "without bounds CVAT's UI lays the mask over the whole image"
        if mask.T.shape == size_hw:
            why += "; height and width are swapped, or the EXIF orientation is not applied"
        yield error("reply.mask", "reply.mask", expected, f"{mask.shape[0]} rows of {mask.shape[1]}", why)
    if points is not None:
        yield from _check_outline(points, bool(mask.any()), size_hw)


def _check_bounds(bounds: object, shape: tuple[int, ...], size_hw: Size) -> Iterator[Finding]:
    if not isinstance(bounds, list) or len(bounds) != 4 or not all(map(is_whole, bounds)):
        expected = "[xtl, ytl, xbr, ybr] in whole numbers, corners inclusive"
        yield error("reply.bounds", "reply.bounds", expected, describe(bounds), _PLACES)
        return
    left, top, right, bottom = bounds
    if (bottom - top + 1, right - left + 1) != shape:
        hint = "; right and bottom are inclusive" if (bottom - top, right - left) == shape else ""
        expected = f"a box of {shape[1]} x {shape[0]} pixels, as the mask has{hint}"
        why = "CVAT's UI takes the rows of the mask for those of the box"
        yield error("reply.bounds", "reply.bounds", expected, describe(bounds), why)
    elif left < 0 or top < 0 or (size_hw and (right >= size_hw[1] or bottom >= size_hw[0])):
        expected = "a box inside the image" + (f" of {size_hw[1]} x {size_hw[0]} pixels" if size_hw else "")
        yield error("reply.outside", "reply.bounds", expected, describe(bounds), _PLACES)


def _check_outline(points: object, any_pixel: bool, size_hw: Size) -> Iterator[Finding]:
    pairs = points if isinstance(points, list) else [None]
    if not all(is_numbers(point) and len(point) == 2 for point in pairs) or (any_pixel and len(pairs) < 3):
        expected, why = "at least three points [x, y], or no points", "CVAT's UI makes the polygon of it"
        yield error("reply.points", "reply.points", expected, describe(points), why)
    else:
        yield from check_inside(pairs, size_hw, "reply.points")


def _check_blob(blob: object) -> Iterator[Finding]:
    try:
        size = len(base64.b64decode(blob, validate=True)) if isinstance(blob, str) else -1
    except (ValueError, binascii.Error):
        size = -1
    if size != _SAM_BLOB_BYTES:
        got = "nothing" if blob is None else f"{size} bytes" if size >= 0 else describe(blob)
        why = f"for the id {SAM_ID} CVAT's UI decodes the embedding in the browser; any other id gets masks"
        yield error("reply.blob", "reply.blob", "base64 of float32 [1, 256, 64, 64]", got, why)
