"""A reid function's reply: for each box of the first image its partner in the second."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from common.config import FunctionConfig
from common.errors import describe
from tools.check.findings import Findings
from tools.check.shape_rules import is_number, is_whole


def check_reid_reply(content: Any, config: FunctionConfig, request: Mapping[str, Any], findings: Findings) -> None:
    boxes0, boxes1 = request.get("boxes0") or [], request.get("boxes1") or []
    if not isinstance(content, list) or len(content) != len(boxes0):
        findings.error(
            "reply.length",
            "reply",
            expected=f"a list of {len(boxes0)} numbers, one for each of boxes0",
            got=describe(content),
            why="CVAT takes the place in the list for the place in boxes0",
        )
        return
    seen: dict[int, int] = {}
    for i, partner in enumerate(content):
        field = f"reply[{i}]"
        if not is_whole(partner) or not -1 <= partner < len(boxes1):
            findings.error(
                "reply.index",
                field,
                expected=f"a place in boxes1, 0 to {len(boxes1) - 1}, or -1",
                got=describe(partner),
                why="CVAT looks the box up at this place, as it stands",
            )
        elif partner >= 0:
            if partner in seen:
                findings.error(
                    "reply.index",
                    field,
                    expected="each place in boxes1 once",
                    got=f"{partner}, as in reply[{seen[partner]}]",
                    why="one object would be in two tracks at once",
                )
            seen[partner] = i
            _check_pair(boxes0[i], boxes1[partner], request.get("max_distance"), field, findings)


def _check_pair(first: Any, second: Any, farthest: Any, field: str, findings: Findings) -> None:
    if not isinstance(first, Mapping) or not isinstance(second, Mapping):
        return
    if first.get("label_id") != second.get("label_id"):
        findings.error(
            "reply.pair",
            field,
            expected=f"a box of label {first.get('label_id')}, or -1",
            got=f"one of label {second.get('label_id')}",
            why="CVAT makes one track of both, with the label of the first",
        )
    if is_number(farthest):
        apart = math.dist(_center(first), _center(second))
        if apart > farthest:
            findings.error(
                "reply.pair",
                field,
                expected=f"a box at most {farthest:g} pixels away, the request's max_distance, or -1",
                got=f"one {apart:.1f} pixels away",
                why="the user has asked for no such matches",
            )


def _center(box: Mapping[str, Any]) -> tuple[float, float]:
    points = box["points"]
    return (points[0] + points[2]) / 2, (points[1] + points[3]) / 2
