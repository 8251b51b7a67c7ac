"""A tracker's reply: shapes and states of the objects that were asked about."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from common.config import FunctionConfig
from common.errors import describe
from tools.check.detector_rules import ENDS_RUN
from tools.check.findings import Finding, error, warning
from tools.check.shape_rules import Size, check_points, check_rle_mask, check_rotation, image_size_hw
from tools.check.values import shown

TRACKED_TYPES = ("rectangle", "ellipse", "polygon", "polyline", "points", "cuboid", "mask", "skeleton")
LARGEST_STATE = 64 * 1024
"""Characters of JSON; more is worth a warning."""


def check_tracker_reply(content: object, config: FunctionConfig, request: Mapping[str, Any]) -> Iterator[Finding]:
    """Checks what a tracker answered.

    Args:
        content: The JSON value in the reply.
        config: The function's, for the types of shapes that it supports.
        request: What was asked, for the image and the number and types of shapes.

    Yields:
        What is wrong with the reply.
    """
    if not isinstance(content, Mapping):
        yield error("reply.form", "reply", 'an object {"shapes", "states"}', describe(content), ENDS_RUN)
        return
    asked = max(len(request.get("shapes") or ()), len(request.get("states") or ()))
    for name in ("shapes", "states"):
        value = content.get(name)
        if not isinstance(value, list) or len(value) != asked:
            expected, why = f"a list of {asked}, in the order of the request", "CVAT identifies objects by their index"
            yield error("reply.length", f"reply.{name}", expected, shown(value), why)
            return
    size_hw, given = image_size_hw(request.get("image")), request.get("shapes") or [None] * asked
    for i, (shape, state) in enumerate(zip(content["shapes"], content["states"], strict=True)):
        if shape is None:
            why = "CVAT's tools panel fails on null, and tracks no object of this tracker any more"
            remedy = "functions of this collection do so with LOST=last, their default"
            yield warning("reply.lost", f"reply.shapes[{i}]", "a shape, the object's last one", "null", why, remedy)
        else:
            before = given[i] if i < len(given) else None
            yield from _check_shape(shape, before, config, size_hw, f"reply.shapes[{i}]")
        yield from _check_state(state, shape is None, f"reply.states[{i}]")


def _check_shape(shape: object, before: object, config: FunctionConfig, size_hw: Size, field: str) -> Iterator[Finding]:
    supported = config.annotations.get("supported_shape_types")
    if supported is None:  # the old interface: the numbers of a box, and nothing around them
        if isinstance(shape, list):
            yield from check_points("rectangle", shape, size_hw, field)
        else:
            expected = "[xtl, ytl, xbr, ybr], as there are no supported_shape_types"
            why = "CVAT makes a rectangle of these numbers itself"
            yield error("reply.shape", field, expected, describe(shape), why)
        return
    types = [name.strip() for name in supported.split(",") if name.strip()]
    if isinstance(before, Mapping) and "type" in before:
        types = [before["type"]]
    shape_type = shape.get("type") if isinstance(shape, Mapping) else None
    if not isinstance(shape, Mapping) or shape_type not in types or shape_type not in TRACKED_TYPES:
        expected = f'an object {{"type", "points"}} with type {" or ".join(map(str, types))}'
        place, got = (f"{field}.type", shape_type) if isinstance(shape, Mapping) else (field, shape)
        yield error(
            "reply.shape", place, expected, describe(got), "a track keeps its type of shape from its first frame on"
        )
        return
    yield from check_rotation(shape.get("rotation"), shape_type, f"{field}.rotation")
    if shape_type == "mask":
        yield from check_rle_mask(shape.get("points"), size_hw, f"{field}.points")
    elif shape_type != "skeleton":
        yield from check_points(shape_type, shape.get("points"), size_hw, f"{field}.points", shape.get("rotation"))


def _check_state(state: object, lost: bool, field: str) -> Iterator[Finding]:
    if state is None and not lost:
        why = "the next request brings only the state, so the object is gone"
        yield error("reply.state", field, "a state", "null", why)
    size = len(json.dumps(state, separators=(",", ":")))
    if size > LARGEST_STATE:
        why = "it travels through the server and the browser and back with every frame, for every object"
        yield warning("reply.state", field, f"at most {LARGEST_STATE // 1024} kB of JSON", f"{size / 1024:.0f} kB", why)
