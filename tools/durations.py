"""Durations as Go writes them, such as `1m30s`: what Nuclio's `time.ParseDuration` accepts, and nothing else.

Only Python's standard library is needed, of any version from 3.9 on.
"""

from __future__ import annotations

import re

_NS_PER_S = 10**9
_LARGEST_NS = 2**63 - 1  # a Go duration is an int64; the most negative one reaches one further
_NS_OF_UNIT = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,  # U+00B5, the micro sign
    "μs": 10**3,  # U+03BC, the Greek letter mu
    "ms": 10**6,
    "s": _NS_PER_S,
    "m": 60 * _NS_PER_S,
    "h": 3600 * _NS_PER_S,
}
# Digits before the point, after it, and a unit; one of the two groups of digits may be empty.
_PART = re.compile(r"(?=\.?[0-9])([0-9]*)(?:\.([0-9]*))?([^.0-9]+)")


def seconds(text: str) -> float:
    """The seconds of a duration.

    Args:
        text: The duration as Go writes it: an optional sign, then numbers with their units, such as `30s`, `1h2m3.5s`,
            `.5s` or `100us`; or `0`. Spaces are not allowed.

    Returns:
        The duration in seconds, negative after a minus sign.

    Raises:
        ValueError: Go can't read the text, or the duration is longer than an int64 of nanoseconds holds (292 years).
    """
    return nanoseconds(text) / _NS_PER_S


def nanoseconds(text: str) -> int:
    """The nanoseconds of a duration, to the digit those of Go.

    Args:
        text: The duration, as for `seconds`.

    Returns:
        The duration in nanoseconds; what lies below one nanosecond is cut off, part by part.

    Raises:
        ValueError: As for `seconds`.
    """
    negative = text.startswith("-")
    rest = text[1:] if text.startswith(("-", "+")) else text
    if rest == "0":
        return 0
    total, position = 0, 0
    while position < len(rest) or not rest:
        part = _PART.match(rest, position)
        unit = _NS_OF_UNIT.get(part.group(3)) if part else None
        if part is None or unit is None:
            raise ValueError(f"expected a duration such as 30s or 1m30s, got {text!r}")
        total += int(part.group(1) or 0) * unit + _fraction_ns(part.group(2) or "", unit)
        position = part.end()
    if total > _LARGEST_NS + negative:
        raise ValueError(f"expected a duration of at most 292 years, got {text!r}")
    return -total if negative else total


def _fraction_ns(digits: str, unit: int) -> int:
    # In floats, as Go computes it, and without the digits that its 64 bits don't hold.
    value, scale = 0, 1.0
    for digit in digits:
        if value * 10 + int(digit) > 2**63:
            break
        value, scale = value * 10 + int(digit), scale * 10
    return int(value * (unit / scale))
