"""Class names in Python source, which is parsed and never run."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common.errors import StartupError
from tools.new.class_lists.class_list import ClassList
from tools.new.class_lists.values import from_value

_NAMES = re.compile(r"_*(?:\w+_)?(classes|class_?names|names|labels|categories|metainfo|id2label|label_?map)", re.I)


def read(content: str, path: Path) -> ClassList:
    """The value of a variable such as CLASSES, in a module or a class: a list, a tuple, or a map.

    Args:
        content: The source.
        path: The file, for messages.

    Raises:
        StartupError: It isn't Python, or no variable, or several different ones, hold class names.
    """
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise StartupError(f"LABELS: {path}: not Python source: {error}") from error
    found: dict[str, ClassList] = {}
    for name, node in _assignments(tree):
        if _NAMES.fullmatch(name) and (value := _literal(node)):
            try:
                # ("cat") is a text, though a tuple was meant.
                found[name] = from_value([value] if isinstance(value, str) else value)
            except StartupError:  # such as a list of colours under a name like the others
                continue
    if not found:
        raise StartupError(
            f"LABELS: {path}: expected a variable such as CLASSES = ('cat', 'dog') whose value is written out; the source is "
            "read, not run"
        )
    if len({entry.names for entry in found.values()}) > 1:
        raise StartupError(
            f"LABELS: {path}: {', '.join(found)} are different lists: copy the right one to a file, a name on each line"
        )
    return next(iter(found.values()))


def _assignments(tree: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    yield target.id, node.value
                elif isinstance(target, ast.Attribute):
                    yield target.attr, node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            yield node.target.id, node.value


def _literal(node: ast.expr) -> Any:
    """The value of an expression; None for one that would have to be run."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("dict", "list", "tuple"):
        if node.args:
            return _literal(node.args[0]) if len(node.args) == 1 and not node.keywords else None
        named = {entry.arg: _literal(entry.value) for entry in node.keywords if entry.arg}
        return {key: value for key, value in named.items() if value is not None}
    if isinstance(node, ast.Dict):
        pairs = [(_literal(key), _literal(value)) for key, value in zip(node.keys, node.values, strict=True) if key]
        return {key: value for key, value in pairs if value is not None and isinstance(key, (str, int))}
    try:
        value = ast.literal_eval(node)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
    return value
