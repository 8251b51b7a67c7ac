"""Fields of a JSON object, checked one by one: the error names the field, what was expected and what came."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from common.errors import BadRequest

_FARTHEST = 1e9  # no image is that large, and arithmetic with such coordinates still holds, in 32-bit integers too


def is_number(value: Any) -> bool:
    """Whether a value is a finite number; true and false are not.

    Args:
        value: Anything that JSON can hold.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def number_field(
    body: Mapping[str, Any], name: str, lowest: float = -math.inf, highest: float = math.inf, where: str = ""
) -> float | None:
    """The number in a field, None when it is missing or null.

    Args:
        body: The object.
        name: The field.
        lowest: The least that it may be.
        highest: The most that it may be.
        where: What errors write before the field's name.

    Raises:
        BadRequest: It is not a number in that range.
    """
    value = body.get(name)
    if value is None:
        return None
    if not is_number(value) or not lowest <= value <= highest:
        limits = f" from {lowest:g} to {highest:g}" if highest < math.inf else f" of {lowest:g} or more"
        raise BadRequest.field(where + name, f"a number{limits if lowest > -math.inf else ''}", value)
    return float(value)


def list_field(body: Mapping[str, Any], name: str) -> Sequence[Any]:
    """The list in a field, empty when it is missing or null.

    Args:
        body: The object.
        name: The field.

    Raises:
        BadRequest: It is not a list.
    """
    value = body.get(name)
    if value is None:
        return ()
    BadRequest.check(isinstance(value, list), name, "a list", value)
    items: list[Any] = value
    return items


def coordinates(value: Any, name: str, expected: str) -> list[float]:
    """The numbers of a list of coordinates.

    Args:
        value: What should be that list.
        name: The field, as the error names it.
        expected: What is expected of it, in words.

    Raises:
        BadRequest: It is not a list of finite numbers, or one is farther away than any image reaches.
    """
    BadRequest.check(isinstance(value, (list, tuple)) and all(map(_is_coordinate, value)), name, expected, value)
    return list(value)


def point(value: Any, name: str) -> tuple[float, float]:
    """A point [x, y].

    Args:
        value: What should be that list of two.
        name: The field, as the error names it.

    Raises:
        BadRequest: It is not a point.
    """
    is_point = isinstance(value, (list, tuple)) and len(value) == 2 and all(map(_is_coordinate, value))
    BadRequest.check(is_point, name, "a point [x, y]", value)
    return float(value[0]), float(value[1])


def _is_coordinate(value: Any) -> bool:
    return is_number(value) and abs(value) <= _FARTHEST
