"""The text of a function.yaml, written as the collection's own are: `templates/function.yaml`, filled in."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.config import read_yaml

TEMPLATES = Path(__file__).with_name("templates")
_PLAIN = re.compile(r"[A-Za-z/][\w ./()+,'-]*[\w./()+]|[A-Za-z]")
_YAML_WORDS = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}
_INSTALL_REQUIREMENTS = "pip install --no-cache-dir --no-deps -r /opt/nuclio/requirements.txt"
_FETCH_WEIGHTS = "python -m common.networks.weights /opt/nuclio"
_CHOOSE_ENGINE = "python -m common.serving.choose /opt/nuclio"  # while the image is built: it starts sooner


@dataclass(frozen=True)
class Document:
    """The content of a function.yaml."""

    name: str
    kind: str
    description: str
    base_image: str
    options_remark: str
    """A comment above the options."""
    labels: Sequence[Mapping[str, Any]] = ()
    """Of a detector, as JSON values."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Defaults of the options, by name."""
    own_packages: bool = False
    """Whether the image gets the packages of the function's own requirements.txt."""
    fetched: bool = False
    """Whether weights are fetched when the image is built."""
    memory: str = "4Gi"
    """The limit of the container."""
    event_timeout: str = "30s"
    """After which a worker is killed that has not answered."""
    readiness_seconds: int = 120
    """In which the function has to be ready."""
    workers: int = 2
    """How many processes."""
    worker_wait_ms: int = 10000
    """How long a request waits for a worker, in milliseconds."""
    commented: bool = False
    """Whether to keep the comments of the template."""

    @property
    def title(self) -> str:
        """The name that CVAT shows."""
        return self.name.replace("-", " ").capitalize()

    def text(self) -> str:
        """The file's content."""
        template, annotations = read_template("function.yaml"), kinds()[self.kind]["annotations"]
        if not self.commented:
            template, annotations = (re.sub(r"(?m)^ *#.*\n", "", text) for text in (template, annotations))
        environment = (f"- name: {name}\n  value: {scalar(value)}" for name, value in self.environment.items())
        values = {
            "name": self.name,
            "title": scalar(self.title),
            "kind": self.kind,
            "description": scalar(self.description),
            "annotations": fill(annotations, {"labels": label_lines(self.labels)}),
            "event_timeout": self.event_timeout,
            "readiness_seconds": str(self.readiness_seconds),
            "workers": str(self.workers),
            "worker_wait_ms": str(self.worker_wait_ms),
            "options_remark": f"# {self.options_remark}",
            "environment": "\n".join(environment),
            "base_image": self.base_image,
            "memory": self.memory,
            "directives": self._directives(),
        }
        return fill(template, values)

    def _directives(self) -> str:
        commands = [_INSTALL_REQUIREMENTS] if self.own_packages else []
        commands += [_FETCH_WEIGHTS] if self.fetched else []
        if self.base_image == "cvat.onnx.base" and not self.commented:
            commands.append(_CHOOSE_ENGINE)
        lines = [f"\n        - kind: RUN\n          value: {command}" for command in commands]
        return "".join(["\n    directives:\n      postCopy:", *lines]) if lines else ""


def fill(template: str, values: Mapping[str, str]) -> str:
    """A template with values in it.

    Args:
        template: Has `{{key}}` where a value belongs.
        values: By key; one of several lines is indented as its place is.
    """
    return re.sub(
        r"( *)\{\{(\w+)\}\}", lambda place: (place[1] + values[place[2]]).replace("\n", "\n" + place[1]), template
    )


def read_template(name: str) -> str:
    """The text of a template.

    Args:
        name: Its file, below `templates`.
    """
    return (TEMPLATES / name).read_text(encoding="utf-8")


def kinds() -> dict[str, Any]:
    """What each kind of function adds to function.yaml: annotations, the options of its template, its purpose."""
    return read_yaml(TEMPLATES / "kinds.yaml")


def scalar(text: str) -> str:
    """Quotes a text for YAML where it needs to be.

    Args:
        text: Any text.

    Returns:
        YAML that is read back as this text.
    """
    if _PLAIN.fullmatch(text) and text.lower() not in _YAML_WORDS and ": " not in text:
        return text
    return json.dumps(text, ensure_ascii=False)


def label_lines(labels: Sequence[Mapping[str, Any]]) -> str:
    """Formats a list of labels as JSON, one label on each line and a skeleton's joints below it.

    Args:
        labels: Labels as JSON values.

    Returns:
        JSON, on several lines.
    """
    return "[\n" + ",\n".join(map(_label, labels)) + "\n]"


def _label(label: Mapping[str, Any]) -> str:
    if not (joints := label.get("sublabels")):
        return f"  {_json(label)}"
    plain = {key: value for key, value in label.items() if key not in ("sublabels", "svg")}
    lines = ",\n".join(f"    {_json(joint)}" for joint in joints)
    return f'  {_json(plain)[:-1]}, "sublabels": [\n{lines}\n  ], "svg": {_json(label["svg"])}}}'


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
