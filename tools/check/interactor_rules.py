"""An interactor's reply: the mask of one object."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import numpy as np

from common.config import FunctionConfig
from common.errors import describe
from tools.check.annotation_rules import SAM_ID
from tools.check.findings import Findings, listed
from tools.check.shape_rules import check_pairs, image_size_hw, is_number, is_whole

_SAM_BLOB_BYTES = 4 * 256 * 64 * 64


def check_interactor_reply(
    content: Any, config: FunctionConfig, request: Mapping[str, Any], findings: Findings
) -> None:
    if config.name == SAM_ID:
        _check_blob(content, findings)
        return
    if not isinstance(content, Mapping) or "mask" not in content:
        findings.error(
            "reply.form",
            "reply",
            expected='an object {"mask": rows, "bounds": box, "points": outline}',
            got=f"an object with {listed(list(content))}" if isinstance(content, Mapping) else describe(content),
            why="CVAT's UI reads `mask`; lists of points are the reply of functions of version 1",
        )
        return
    size_hw = image_size_hw(request.get("image"))
    mask = _rows(content["mask"], findings)
    if mask is None:
        return
    bounds = content.get("bounds")
    if bounds is not None:
        _check_bounds(bounds, mask.shape, size_hw, findings)
    elif size_hw and mask.shape != size_hw:
        findings.error(
            "reply.mask",
            "reply.mask",
            expected=f"{size_hw[0]} rows of {size_hw[1]}, the whole image, or bounds beside it",
            got=f"{mask.shape[0]} rows of {mask.shape[1]}",
            why="without bounds CVAT's UI lays the mask over the whole image"
            + (
                "; height and width are swapped, or the EXIF orientation is not applied"
                if mask.T.shape == size_hw
                else ""
            ),
        )
    if content.get("points") is not None:
        _check_outline(content["points"], bool(mask.any()), size_hw, findings)


def _rows(rows: Any, findings: Findings) -> np.ndarray | None:
    try:
        mask = np.array(rows)
    except ValueError:  # rows of different length
        mask = np.empty(0)
    if not isinstance(rows, list) or mask.ndim != 2 or not mask.size or mask.dtype.kind not in "biuf":
        findings.error(
            "reply.mask",
            "reply.mask",
            expected="rows of equal length, of 0 and other numbers",
            got=describe(rows),
            why="CVAT's UI reads height and width from the rows",
        )
        return None
    return mask


def _check_bounds(bounds: Any, shape: tuple[int, ...], size_hw: tuple[int, int] | None, findings: Findings) -> None:
    field = "reply.bounds"
    if not isinstance(bounds, list) or len(bounds) != 4 or not all(map(is_whole, bounds)):
        findings.error(
            "reply.bounds",
            field,
            expected="[xtl, ytl, xbr, ybr] in whole numbers, corners inclusive",
            got=describe(bounds),
            why="CVAT's UI places the mask by it",
        )
        return
    left, top, right, bottom = bounds
    if (bottom - top + 1, right - left + 1) != shape:
        hint = "; right and bottom are inclusive" if (bottom - top, right - left) == shape else ""
        findings.error(
            "reply.bounds",
            field,
            expected=f"a box of {shape[1]} x {shape[0]} pixels, as the mask has{hint}",
            got=describe(bounds),
            why="CVAT's UI takes row after row of the mask for rows of the box",
        )
    elif left < 0 or top < 0 or (size_hw and (right >= size_hw[1] or bottom >= size_hw[0])):
        findings.error(
            "reply.outside",
            field,
            expected="a box inside the image" + (f" of {size_hw[1]} x {size_hw[0]} pixels" if size_hw else ""),
            got=describe(bounds),
            why="CVAT's UI places the mask by it",
        )


def _check_outline(points: Any, any_pixel: bool, size_hw: tuple[int, int] | None, findings: Findings) -> None:
    field = "reply.points"
    pairs = isinstance(points, list) and all(
        isinstance(point, list) and len(point) == 2 and all(map(is_number, point)) for point in points
    )
    if not pairs or (any_pixel and len(points) < 3):
        findings.error(
            "reply.points",
            field,
            expected="three points [x, y] or more, or no points",
            got=describe(points),
            why="CVAT's UI makes the polygon of it",
        )
    elif points:
        check_pairs(np.array(points, np.float64), size_hw, field, findings)


def _check_blob(content: Any, findings: Findings) -> None:
    blob = content.get("blob") if isinstance(content, Mapping) else None
    try:
        size = len(base64.b64decode(blob, validate=True)) if isinstance(blob, str) else -1
    except binascii.Error:
        size = -1
    if size != _SAM_BLOB_BYTES:
        findings.error(
            "reply.blob",
            "reply.blob",
            expected="base64 of float32 [1, 256, 64, 64]",
            got="nothing" if blob is None else f"{size} bytes" if size >= 0 else describe(blob),
            why=f"for the id {SAM_ID} CVAT's UI decodes the embedding in the browser; any other id gets masks",
        )
