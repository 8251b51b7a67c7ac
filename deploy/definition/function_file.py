"""Reads and writes function.yaml and weights.yaml: YAML, or the JSON that a bundle holds, which is YAML as well."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy.console import DeploymentError
from deploy.host.packages import yaml_module

Fields = dict[str, Any]
"""The content of a file: nested dicts and lists."""
NAME = "function.yaml"
GPU_NAME = "function-gpu.yaml"


def read(path: Path) -> Fields:
    """The content of a file.

    Args:
        path: A function.yaml or weights.yaml.

    Raises:
        DeploymentError: It can't be read, or does not hold a mapping; status 2.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DeploymentError(f"{path} can't be read: {error}", status=2) from error
    try:
        content = json.loads(text)
    except ValueError:
        yaml = yaml_module()
        try:
            content = yaml.safe_load(text)
        except yaml.YAMLError as error:
            mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
            where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
            what = " ".join(str(problem or error).split())
            raise DeploymentError(f"{path} is not YAML: {where}{what}", status=2) from error
    if not isinstance(content, dict):
        raise DeploymentError(f"{path}: expected a mapping, got {type(content).__name__}", status=2)
    return content


def write(path: Path, content: Fields) -> None:
    """Writes a file that nuctl reads.

    Args:
        path: The file.
        content: Its new content.
    """
    path.write_text(text_of(content), encoding="utf-8")


def text_of(content: Fields) -> str:
    """The text of a file: YAML where PyYAML is at hand, else JSON.

    Args:
        content: What it holds.
    """
    yaml = yaml_module(fetch=False)
    if yaml is None:
        # Readers of YAML don't take the two \\u escapes by which JSON writes a character beyond U+FFFF.
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    return str(yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def at(content: object, *keys: str) -> Any:
    """The value at a path of keys; None when a key is missing or something above it is not a mapping.

    Args:
        content: Where to look.
        keys: The keys, from the outermost on.
    """
    for key in keys:
        content = content.get(key) if isinstance(content, dict) else None
    return content


def section(content: Fields, *keys: str) -> Fields:
    """The mapping at a path of keys, created where it is missing.

    Args:
        content: Where to look.
        keys: The keys, from the outermost on.
    """
    for key in keys:
        if not isinstance(content.get(key), dict):
            content[key] = {}
        content = content[key]
    return content


def http_trigger(content: Fields) -> tuple[str, Fields] | None:
    """The name and the fields of a function's HTTP trigger, if it has one.

    Args:
        content: A function.yaml.
    """
    triggers = at(content, "spec", "triggers")
    for name, trigger in triggers.items() if isinstance(triggers, dict) else ():
        if at(trigger, "kind") == "http":
            return name, trigger
    return None


def run_an_image(content: Fields) -> None:
    """Makes nuctl run an existing image: with spec.build.image set it would build one, without the function's code.

    The code entry type is for Nuclio's dashboard, which otherwise expects source code and refuses every change of the function.

    Args:
        content: A function.yaml, which is changed.
    """
    section(content, "spec")["build"] = {"codeEntryType": "image"}


def environment(content: Mapping[str, Any]) -> dict[str, str]:
    """The environment variables of a function, in the order of the file.

    Args:
        content: A function.yaml.
    """
    pairs = at(content, "spec", "env")
    pairs = pairs if isinstance(pairs, list) else []
    return {str(pair["name"]): _text(pair.get("value")) for pair in pairs if at(pair, "name")}


def set_environment(content: Fields, values: dict[str, str]) -> None:
    """Sets environment variables of a function; all others are kept.

    Args:
        content: A function.yaml, which is changed.
        values: The variables.
    """
    spec = section(content, "spec")
    kept = [pair for pair in spec.get("env") or [] if at(pair, "name") not in values]
    spec["env"] = kept + [{"name": name, "value": value} for name, value in values.items()]


def _text(value: object) -> str:
    # YAML's nothing is an empty text to Nuclio; its true and false stay as they are written.
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
