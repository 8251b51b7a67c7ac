"""A tracker's reply: shapes and states of the objects that were asked about."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from common.config import FunctionConfig
from common.errors import describe
from tools.check.annotation_rules import TRACKED_TYPES
from tools.check.consequences import ENDS_RUN
from tools.check.findings import Findings
from tools.check.shape_rules import check_points, check_rle_mask, check_rotation, image_size_hw

LARGEST_STATE = 64 * 1024  # characters of JSON


def check_tracker_reply(content: Any, config: FunctionConfig, request: Mapping[str, Any], findings: Findings) -> None:
    if not isinstance(content, Mapping):
        findings.error(
            "reply.form", "reply", expected='an object {"shapes", "states"}', got=describe(content), why=ENDS_RUN
        )
        return
    asked = max(len(request.get("shapes") or ()), len(request.get("states") or ()))
    for name in ("shapes", "states"):
        value = content.get(name)
        if not isinstance(value, list) or len(value) != asked:
            findings.error(
                "reply.length",
                f"reply.{name}",
                expected=f"a list of {asked}, in the order of the request",
                got="nothing" if value is None else describe(value),
                why="CVAT tells the objects apart by their places in the lists",
            )
            return
    size_hw = image_size_hw(request.get("image"))
    given = request.get("shapes") or [None] * asked
    for i, (shape, state) in enumerate(zip(content["shapes"], content["states"], strict=True)):
        if shape is not None:
            _check_tracked(shape, given[i] if i < len(given) else None, config, size_hw, f"reply.shapes[{i}]", findings)
        _check_state(state, shape is None, f"reply.states[{i}]", findings)


def _check_tracked(
    shape: Any,
    given: Any,
    config: FunctionConfig,
    size_hw: tuple[int, int] | None,
    field: str,
    findings: Findings,
) -> None:
    supported = config.annotations.get("supported_shape_types")
    if supported is None:  # the old interface: the numbers of a box, and nothing around them
        if isinstance(shape, list):
            check_points("rectangle", shape, size_hw, field, findings)
        else:
            findings.error(
                "reply.shape",
                field,
                expected="[xtl, ytl, xbr, ybr], as there are no supported_shape_types",
                got=describe(shape),
                why="CVAT puts the shape around these numbers itself",
            )
        return
    types = [name.strip() for name in supported.split(",") if name.strip()]
    shape_type = shape.get("type") if isinstance(shape, Mapping) else None
    wanted = [given["type"]] if isinstance(given, Mapping) and "type" in given else types
    if not isinstance(shape, Mapping) or shape_type not in wanted or shape_type not in TRACKED_TYPES:
        findings.error(
            "reply.shape",
            field if not isinstance(shape, Mapping) else f"{field}.type",
            expected=f'an object {{"type", "points"}} with type {" or ".join(map(str, wanted))}',
            got=describe(shape) if not isinstance(shape, Mapping) else describe(shape_type),
            why="a track has one type of shape from its first frame on",
        )
        return
    check_rotation(shape.get("rotation"), shape_type, f"{field}.rotation", findings)
    if shape_type == "mask":
        check_rle_mask(shape.get("points"), size_hw, f"{field}.points", findings)
    elif shape_type not in ("skeleton",):
        rotation, points = shape.get("rotation"), shape.get("points")
        check_points(shape_type, points, size_hw, f"{field}.points", findings, rotation=rotation)


def _check_state(state: Any, lost: bool, field: str, findings: Findings) -> None:
    if state is None and not lost:
        findings.error(
            "reply.state",
            field,
            expected="a state",
            got="null",
            why="the next request brings nothing but the state, so the object is gone",
        )
    size = len(json.dumps(state, separators=(",", ":")))
    if size > LARGEST_STATE:
        findings.warn(
            "reply.state",
            field,
            expected=f"at most {LARGEST_STATE // 1024} kB of JSON",
            got=f"{size / 1024:.0f} kB",
            why="it travels through the server and the browser and back with every frame, for every object",
        )
