"""Class names in JSON, YAML and Python literals."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import yaml

from common.errors import StartupError
from tools.new.class_lists.class_list import ClassList
from tools.new.class_lists.values import from_value


class _TextLoader(yaml.SafeLoader):
    """Takes every scalar for a text."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (the base class declares it so)


def read_json(content: str, path: Path) -> ClassList:
    """Class names in JSON.

    Args:
        content: The file's text.
        path: The file, for messages.

    Raises:
        StartupError: It isn't JSON, or has no class names.
    """
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise StartupError(f"LABELS: {path}: not JSON: {error}") from error
    return _named(value, path)


def read_yaml(content: str, path: Path) -> ClassList:
    """Class names in YAML, all of whose values are taken as texts: `no` is a name, not False.

    Args:
        content: The file's text.
        path: The file, for messages.

    Raises:
        StartupError: It isn't YAML, or has no class names.
    """
    try:
        value = yaml.load(content, Loader=_TextLoader)  # noqa: S506 (a SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise StartupError(f"LABELS: {path}: not YAML: {' '.join(str(error).split())}") from error
    return _named(value, path)


def read_literal(content: str, path: Path) -> ClassList:
    """Class names in a list or map, as JSON or as a Python literal.

    Args:
        content: The file's text.
        path: The file, for messages.

    Raises:
        StartupError: It is neither, or has no class names.
    """
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        try:
            value = ast.literal_eval(content.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
            raise StartupError(f"LABELS: {path}: begins as a list or map, but is neither JSON nor Python") from error
    return _named(value, path)


def _named(value: Any, path: Path) -> ClassList:
    try:
        return from_value(value)
    except (StartupError, RecursionError) as error:
        raise StartupError(f"LABELS: {path}: {error}") from error
