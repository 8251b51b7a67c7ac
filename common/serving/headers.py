"""The headers of a request, as Nuclio's Python wrapper hands them to a function."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def header(headers: Mapping[Any, Any] | None, name: str) -> str:
    """The value of a header.

    Args:
        headers: Of the request; names and values are bytes where NUCLIO_PYTHON_DECODE_EVENT_STRINGS is "false".
        name: The header's name in small letters; headers match it in any case.

    Returns:
        The value, or "" when the request has no such header.
    """
    return next((_text(value) for key, value in (headers or {}).items() if _text(key).lower() == name), "")


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
