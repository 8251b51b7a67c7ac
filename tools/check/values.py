"""Values of a function.yaml as Nuclio reads them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from common.errors import describe
from tools import durations

CVAT_TIMEOUT = 120.0
"""Seconds after which CVAT gives up on a call."""

_RUNTIME = re.compile(r"python:3\.(\d+)")


def mapping(value: Any) -> Mapping[Any, Any]:
    """The value if it is an object, else an empty one: a value of another type has its own finding."""
    return value if isinstance(value, Mapping) else {}


def as_text(value: Any) -> str:
    """A scalar as the text that Nuclio makes of it where it wants a text."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    return str(value)


def shown(value: Any) -> str:
    """A value in the words of a message; "nothing" where there is none."""
    return "nothing" if value is None else describe(value)


def event_timeout(spec: Mapping[Any, Any]) -> float:
    """Seconds of `spec.eventTimeout`; 0 where there is none, or none that Nuclio accepts."""
    try:
        return max(durations.seconds(as_text(spec.get("eventTimeout"))), 0.0)
    except ValueError:
        return 0.0


def runtime_minor(runtime: Any) -> int | None:
    """The minor version of Python 3 in `spec.runtime`, `python:3.11`; None for anything else."""
    match = _RUNTIME.fullmatch(as_text(runtime))
    return int(match.group(1)) if match else None


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name most like a wrong one, or ""."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    matches = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.75)
    return by_lower[matches[0]] if matches else ""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The question after the known name most like a wrong one, or ""."""
    meant = nearest(name, known)
    return f"did you mean {meant}?" if meant else ""
