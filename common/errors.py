"""The errors of a function, one class for each reaction to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

_LONGEST_MESSAGE = 500
_LONGEST_TEXT = 40  # characters of a value that a message shows; longer ones are counted
_LONGEST_LIST = 80


class FunctionError(Exception):
    """Base of all errors that a function answers on purpose; `status` is the HTTP status of the reply."""

    status = 500

    def __init__(self, message: str):
        # A message ends up in replies and logs, and a long one blocks Nuclio's log pipe: never more than a line or two.
        super().__init__(message if len(message) <= _LONGEST_MESSAGE else message[: _LONGEST_MESSAGE - 3] + "...")

    @classmethod
    def field(cls, name: str, expected: str, got: Any) -> Self:
        """The error for a field or an option, with what was expected and a short description of what came.

        Args:
            name: The field.
            expected: What is expected, in words.
            got: The value that came.
        """
        return cls(f"{name}: expected {expected}, got {describe(got)}")

    @classmethod
    def check(cls, condition: object, name: str, expected: str, got: Any) -> None:
        """Raises the error for a field unless a condition holds.

        Args:
            condition: What must be true.
            name: The field, as the error names it.
            expected: What is expected of it, in words.
            got: Its value.
        """
        if not condition:
            raise cls.field(name, expected, got)


class BadRequest(FunctionError):
    """The caller's fault: the request can't be served as it is."""

    status = 400


class Gone(BadRequest):
    """The caller's fault as well: what the request builds on existed, and has expired."""

    status = 410


class Misdirected(BadRequest):
    """The caller's route is wrong: the request is meant for another function."""

    status = 421


class BadState(BadRequest):
    """What a handler raises for a tracker's state that it did not make; the field's name is added to the message later."""


class Unavailable(FunctionError):
    """Nobody's fault: a service that the request needs does not answer; a later try may succeed."""

    status = 503


class ModelError(FunctionError):
    """Our fault: the model or its handler produced something that CVAT can't take."""

    status = 500


class NothingInside(ModelError):
    """A shape of which nothing lies inside the image: for a tracker, an object that has left it."""


class StartupError(FunctionError):
    """The function can't start: a wrong option, missing weights, a device that doesn't exist."""


class MissingType:
    """The type of `MISSING`, the value of a field that the request doesn't have."""

    def __repr__(self) -> str:
        return "nothing"


MISSING = MissingType()


def describe(value: Any) -> str:
    """A description of a value in some 80 characters at most; never the content of an image.

    Args:
        value: Anything, however large or deep.
    """
    if getattr(value, "ndim", None) == 0:  # numpy's numbers, like Python's
        value = value.item()
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):  # Python refuses to write out the longest ones
        return str(value) if value.bit_length() <= 128 else f"a whole number of {value.bit_length()} bits"
    if isinstance(value, (float, MissingType)):
        return repr(value)
    if isinstance(value, str):
        text = repr(value) if len(value) <= _LONGEST_TEXT else ""
        return f"the text {text}" if 0 < len(text) <= _LONGEST_LIST else f"a text of {len(value)} characters"
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"{len(value)} bytes"
    if isinstance(value, (list, tuple)):
        text = f"[{', '.join(_item(v) for v in value)}]" if len(value) <= 4 else ""
        return text if 0 < len(text) <= _LONGEST_LIST else f"a list of {len(value)} items"
    if isinstance(value, dict):
        return f"an object of {len(value)} field{'' if len(value) == 1 else 's'}"
    return f"a value of type {type(value).__name__}"


def listed(names: Sequence[str], most: int) -> str:
    """The first of some names, for a message, and how many more there are.

    Args:
        names: All of them.
        most: How many are written out.

    Returns:
        Such as "a, b and 3 more"; "none" for no names.
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more or "none"


def _item(value: Any) -> str:
    # Only one level deep: what is nested without end would take the description along.
    if isinstance(value, (list, tuple)):
        return "[...]" if value else "[]"
    if isinstance(value, dict):
        return "{...}" if value else "{}"
    if isinstance(value, str) and len(value) <= _LONGEST_TEXT:
        return repr(value)
    return describe(value)
