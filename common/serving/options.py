"""Options of a function: the keyword-only arguments of its classes, set by environment variables or by name.

A handler declares its options by its own signature, `def __init__(self, config, *, max_side: int = 960)`; the
environment variable is the name in capitals, `MAX_SIDE`. Types are str, int, float, bool, and each of them or None.
"""

from __future__ import annotations

import difflib
import inspect
import math
import typing
from collections.abc import Callable, Iterable, Mapping
from types import NoneType, UnionType
from typing import Any

from common.errors import StartupError, describe

_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}


def names(target: Callable[..., Any]) -> dict[str, tuple[type, bool]]:
    """The options of a class or function.

    Args:
        target: The class or function.

    Returns:
        Option name -> (its type, whether None is allowed).
    """
    hints = typing.get_type_hints(inspect.getattr_static(target, "__init__") if isinstance(target, type) else target)
    found = {}
    for parameter in inspect.signature(target).parameters.values():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            found[parameter.name] = _plain_type(hints.get(parameter.name, str))
    return found


def from_environment(target: Callable[..., Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """The options that the environment sets. An empty variable counts as not set.

    Args:
        target: The class or function whose options they are.
        environment: Variable name -> text.

    Returns:
        Option name -> value.

    Raises:
        StartupError: A text is not of the option's type.
    """
    chosen: dict[str, Any] = {}
    for name, (kind, _) in names(target).items():
        text = environment.get(name.upper(), "").strip()
        if text:
            chosen[name] = _read(name.upper(), text, kind)
    return chosen


def from_mapping(target: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Options given by name, checked.

    Args:
        target: The class or function whose options they are.
        given: Option name -> value, or its text.

    Returns:
        Option name -> value.

    Raises:
        StartupError: There is no such option, or the value is not of its type.
    """
    known = names(target)
    chosen: dict[str, Any] = {}
    for name, value in given.items():
        if name not in known:
            raise _unknown(name, known)
        kind, optional = known[name]
        if value is None and optional:
            chosen[name] = None
        elif isinstance(value, str) and kind is not str:
            chosen[name] = _read(name, value.strip(), kind)
        elif kind is float and isinstance(value, int) and not isinstance(value, bool):
            chosen[name] = float(value)
        elif type(value) is kind and value == value:  # not "nan"
            chosen[name] = value
        else:
            raise StartupError(f"option {name}: expected {_WORDS[kind]}, got {describe(value)}")
    return chosen


def check_range(name: str, value: float, lowest: float = 0, highest: float = math.inf) -> None:
    """Checks an option that is a number.

    Args:
        name: The environment variable, for the message.
        value: The number.
        lowest: The smallest that is allowed.
        highest: The largest that is allowed.

    Raises:
        StartupError: It is out of range.
    """
    limits = f"from {lowest:g} to {highest:g}" if highest < math.inf else f"of {lowest:g} or more"
    StartupError.check(lowest <= value <= highest, name, f"a number {limits}", value)


def divide(given: Mapping[str, Any], *targets: Callable[..., Any]) -> list[dict[str, Any]]:
    """Options given by name, divided among several classes.

    Args:
        given: Option name -> value, or its text.
        targets: Classes or functions; one option may belong to several.

    Returns:
        For each of them, the options that it has.

    Raises:
        StartupError: None of them has such an option, or a value is not of its type.
    """
    known = {name for target in targets for name in names(target)}
    if unknown := [name for name in given if name not in known]:
        raise _unknown(unknown[0], known)
    return [
        from_mapping(target, {name: value for name, value in given.items() if name in names(target)})
        for target in targets
    ]


_WORDS: dict[type, str] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}


def _unknown(name: str, known: Iterable[str]) -> StartupError:
    known = sorted(known)
    nearest = difflib.get_close_matches(name.lower(), known, n=1)
    meant = f"; did you mean {nearest[0]}?" if nearest else ""
    return StartupError(f"unknown option {name!r}; known options: {', '.join(known) or 'none'}{meant}")


def _plain_type(hint: Any) -> tuple[type, bool]:
    optional = False
    if typing.get_origin(hint) in (UnionType, typing.Union):
        arguments = [a for a in typing.get_args(hint) if a is not NoneType]
        optional = len(arguments) < len(typing.get_args(hint))
        hint = arguments[0]
    if hint not in _WORDS:
        raise TypeError(f"an option can't be of type {hint}")
    return hint, optional


def _read(name: str, text: str, kind: type) -> Any:
    if kind is bool:
        if text.lower() in _TRUE | _FALSE:
            return text.lower() in _TRUE
    else:
        try:
            value = kind(text)
            if value == value:  # "nan" is a float to Python, but no value that anybody means
                return value
        except ValueError:
            pass
    raise StartupError(f"{name}: expected {_WORDS[kind]}, got {describe(text)}")
