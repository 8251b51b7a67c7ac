"""function.yaml, read once: the only place that has a function's name, kind, labels and options."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from common.cvat.labels import Labels, parse_labels
from common.errors import StartupError, describe

KindName = Literal["detector", "interactor", "tracker", "reid"]
KINDS: tuple[KindName, ...] = get_args(KindName)


@dataclass(frozen=True)
class FunctionConfig:
    """What a function's own code needs of its function.yaml."""

    directory: Path
    """Where function.yaml is."""
    name: str
    """`metadata.name`, the id that CVAT knows the function by."""
    kind: KindName
    """`metadata.annotations.type`."""
    labels: Labels = field(default_factory=Labels)
    """`metadata.annotations.spec`; empty for a function without labels."""
    annotations: dict[str, str] = field(default_factory=dict)
    """`metadata.annotations` as name -> text."""
    environment: dict[str, str] = field(default_factory=dict)
    """`spec.env` as name -> text; the defaults of the function's options."""
    description: str = ""
    """`spec.description`."""
    workers: int = 1
    """`numWorkers` of the HTTP trigger: how many processes share the machine."""

    @classmethod
    def load(cls, directory: str | Path) -> FunctionConfig:
        """Reads a function's function.yaml.

        Args:
            directory: The function's directory.

        Raises:
            StartupError: The file is missing or wrong; the message names the field.
        """
        path = Path(directory).resolve() / "function.yaml"
        content = read_yaml(path)
        metadata, spec = section(content, "metadata", path), section(content, "spec", path)
        annotations = section(metadata, "annotations", path, "metadata.")
        name: Any = metadata.get("name")
        StartupError.check(isinstance(name, str) and name, f"{path}: metadata.name", "a text", name)
        kind: Any = annotations.get("type")
        StartupError.check(kind in KINDS, f"{path}: metadata.annotations.type", f"one of {', '.join(KINDS)}", kind)
        try:
            labels = parse_labels(annotations.get("spec") or "[]")
        except StartupError as error:
            raise StartupError(f"{path}: metadata.annotations.{error}") from error
        workers = http_trigger(spec).get("numWorkers")
        workers = 1 if workers is None else workers
        are_some = type(workers) is int and workers >= 1
        StartupError.check(are_some, f"{path}: numWorkers of the http trigger", "a whole number of 1 or more", workers)
        return cls(
            directory=path.parent,
            name=name,
            kind=kind,
            labels=labels,
            annotations={str(key): _text(value) for key, value in annotations.items()},
            environment=_environment(spec.get("env") or [], path),
            description=str(spec.get("description") or ""),
            workers=workers,
        )


def read_yaml(path: Path) -> dict[str, Any]:
    """The object in a YAML file.

    Args:
        path: The file.

    Raises:
        StartupError: It can't be read, or holds something else.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StartupError(f"{path}: can't be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise StartupError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise StartupError(f"{path}: expected an object with metadata and spec, got {describe(content)}")
    return content


def section(content: dict[str, Any], key: str, path: Path, prefix: str = "") -> dict[str, Any]:
    """The object under a key of another.

    Args:
        content: The outer object.
        key: The key.
        path: The file, for the message.
        prefix: What the message writes before the key, such as "metadata.".

    Raises:
        StartupError: It is missing or something else.
    """
    value = content.get(key)
    if not isinstance(value, dict):
        raise StartupError(f"{path}: {prefix}{key}: expected an object, got {describe(value)}")
    return value


def http_trigger(spec: dict[str, Any]) -> dict[str, Any]:
    """The HTTP trigger of a function.yaml, or an empty object.

    Args:
        spec: `spec` of the file.
    """
    triggers = spec.get("triggers")
    candidates = triggers.values() if isinstance(triggers, dict) else ()
    return next((t for t in candidates if isinstance(t, dict) and t.get("kind") == "http"), {})


def _environment(entries: Any, path: Path) -> dict[str, str]:
    StartupError.check(isinstance(entries, list), f"{path}: spec.env", "a list of name and value", entries)
    environment = {}
    for i, entry in enumerate(entries):
        is_named = isinstance(entry, dict) and isinstance(entry.get("name"), str) and entry["name"]
        StartupError.check(is_named, f"{path}: spec.env[{i}]", "an object with a name", entry)
        environment[entry["name"]] = _text(entry.get("value"))
    return environment


def _text(value: Any) -> str:
    # YAML's nothing is an empty text to Nuclio; its true and false stay as they are written.
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
