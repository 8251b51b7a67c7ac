"""A reid function's reply: for each box of the first image its partner in the second."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from common.config import FunctionConfig
from common.errors import describe
from tools.check.findings import Finding, error
from tools.check.shape_rules import is_number, is_whole


def check_reid_reply(content: object, config: FunctionConfig, request: Mapping[str, Any]) -> Iterator[Finding]:
    """Checks what a reid function answered.

    Args:
        content: The JSON value in the reply.
        config: The function's; no rule needs it.
        request: What was asked, for the boxes and the largest distance.

    Yields:
        What is wrong with the reply.
    """
    boxes0, boxes1 = request.get("boxes0") or [], request.get("boxes1") or []
    if not isinstance(content, list) or len(content) != len(boxes0):
        expected = f"a list of {len(boxes0)} numbers, one for each of boxes0"
        why = "CVAT takes the index in the list for the index in boxes0"
        yield error("reply.length", "reply", expected, describe(content), why)
        return
    seen: dict[int, int] = {}
    for i, partner in enumerate(content):
        if not is_whole(partner) or not -1 <= partner < len(boxes1):
            expected = f"an index into boxes1, 0 to {len(boxes1) - 1}, or -1"
            why = "CVAT uses it as the index of the box, unchecked"
            yield error("reply.index", f"reply[{i}]", expected, describe(partner), why)
        elif partner >= 0:
            if partner in seen:
                got, why = f"{partner}, as in reply[{seen[partner]}]", "one object would be in two tracks at once"
                yield error("reply.index", f"reply[{i}]", "each index into boxes1 once", got, why)
            seen[partner] = i
            yield from _check_pair(boxes0[i], boxes1[partner], request.get("max_distance"), f"reply[{i}]")


def _check_pair(first: object, second: object, farthest: object, field: str) -> Iterator[Finding]:
    if not isinstance(first, Mapping) or not isinstance(second, Mapping):
        return
    if first.get("label_id") != second.get("label_id"):
        expected, got = f"a box of label {first.get('label_id')}, or -1", f"one of label {second.get('label_id')}"
        yield error("reply.pair", field, expected, got, "CVAT makes one track of both, with the label of the first")
    if is_number(farthest) and (apart := math.dist(_center(first), _center(second))) > farthest:
        expected = f"a box at most {farthest:g} pixels away, the request's max_distance, or -1"
        yield error(
            "reply.pair", field, expected, f"one {apart:.1f} pixels away", "the user has asked for no such matches"
        )


def _center(box: Mapping[str, Any]) -> tuple[float, float]:
    points = box["points"]
    return (points[0] + points[2]) / 2, (points[1] + points[3]) / 2
