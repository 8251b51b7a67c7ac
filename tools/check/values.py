"""Values of a function.yaml as Nuclio reads them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any

from common.errors import describe
from tools import durations, quantities

CVAT_TIMEOUT = 120.0
"""Seconds after which CVAT gives up on a call."""

_RUNTIME = re.compile(r"python:3\.(\d+)")


def mapping(value: object) -> Mapping[Any, Any]:
    """The object that a value is.

    Args:
        value: A value of a document.

    Returns:
        The value, or an empty object in place of one of another type, which has its own finding.
    """
    return value if isinstance(value, Mapping) else {}


def as_text(value: object) -> str:
    """A scalar as the text that Nuclio makes of it where it wants a text.

    Args:
        value: A scalar of a YAML file, or None.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    return str(value)


def shown(value: object) -> str:
    """A value as messages describe it.

    Args:
        value: The value, None for one that is missing.
    """
    return "nothing" if value is None else describe(value)


def event_timeout(spec: Mapping[Any, Any]) -> float:
    """The time that a request may take.

    Args:
        spec: `spec` of a function.yaml.

    Returns:
        Seconds; 0 where it says nothing, or nothing that Nuclio accepts.
    """
    try:
        return max(durations.seconds(as_text(spec.get("eventTimeout"))), 0.0)
    except ValueError:
        return 0.0


def quantity(value: object) -> Fraction | None:
    """The number that a value of `spec.resources` stands for: bytes of memory, or CPUs.

    Args:
        value: A scalar of a YAML file.

    Returns:
        The number; None for what Kubernetes can't read.
    """
    try:
        return quantities.parse(as_text(value))
    except ValueError:
        return None


def runtime_minor(runtime: object) -> int | None:
    """The minor version of Python 3 that a function runs on.

    Args:
        runtime: `spec.runtime`, such as `python:3.11`.

    Returns:
        The minor version, such as 11; None for any other text.
    """
    match = _RUNTIME.fullmatch(as_text(runtime))
    return int(match.group(1)) if match else None


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name most like a wrong one.

    Args:
        name: The wrong name.
        known: The right ones.

    Returns:
        One of the known names, or "" when none is like it.
    """
    by_lower = {candidate.lower(): candidate for candidate in known}
    matches = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.75)
    return by_lower[matches[0]] if matches else ""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The question for the known name most like a wrong one.

    Args:
        name: The wrong name.
        known: The right ones.

    Returns:
        "did you mean ...?", or "" when no known name is like it.
    """
    meant = nearest(name, known)
    return f"did you mean {meant}?" if meant else ""
