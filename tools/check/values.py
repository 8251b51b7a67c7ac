"""Values of a function.yaml as Nuclio reads them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

CVAT_TIMEOUT = 120.0  # seconds after which CVAT gives up on a call
_RUNTIME = re.compile(r"python:3\.(\d+)")
_DURATION_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_DURATION_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def mapping(value: Any) -> Mapping[Any, Any]:
    """The object that is `value`, or an empty one: a wrong type has its own finding."""
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


def duration_seconds(text: str) -> float | None:
    """A duration as Go writes it, `1m30s`, in seconds; None for anything else."""
    digits = text.strip().removeprefix("+")
    parts = list(_DURATION_PART.finditer(digits))
    if not parts or "".join(part.group() for part in parts) != digits:
        return None
    return sum(float(part.group(1)) * _DURATION_UNITS[part.group(2)] for part in parts)


def runtime_minor(runtime: Any) -> int | None:
    """The minor version of Python 3 in `spec.runtime`, `python:3.11`; None for anything else."""
    match = _RUNTIME.fullmatch(as_text(runtime))
    return int(match.group(1)) if match else None


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name most like a wrong one, or ""."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    matches = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.75)
    return by_lower[matches[0]] if matches else ""
