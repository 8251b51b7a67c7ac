"""The text of a function.yaml, written as the collection's own are."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_PLAIN = re.compile(r"[A-Za-z/][\w ./()+,'-]*[\w./()+]|[A-Za-z]")
_YAML_WORDS = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}


@dataclass(frozen=True)
class Document:
    """The content of a function.yaml."""

    name: str
    title: str
    """The name that CVAT shows."""
    kind: str
    description: str
    image: str
    base_image: str
    labels: Sequence[Mapping[str, Any]] = ()
    """Of a detector, as JSON values."""
    annotations: Mapping[str, str] = field(default_factory=dict)
    """Further annotations for CVAT, by name."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Defaults of the options, by name."""
    build_steps: Sequence[str] = ()
    """Commands that run when the image is built."""
    workers: int = 2
    event_timeout: str = "30s"
    readiness_seconds: int = 120
    remarks: Mapping[str, str] = field(default_factory=dict)
    """Comments to put above lines, by how the line begins: `numWorkers:` -> "each loads its own model"."""

    def text(self) -> str:
        """The file's content."""
        lines: list[str] = []
        for line in [*self._metadata(), "", *self._spec(), ""]:
            content = line.strip()
            for beginning, remark in self.remarks.items():
                if content.startswith(beginning):
                    indent = line[: len(line) - len(content)]
                    lines += [f"{indent}# {part}" for part in remark.splitlines()]
            lines.append(line)
        return "\n".join(lines)

    def _metadata(self) -> list[str]:
        lines = ["metadata:", f"  name: {self.name}", "  namespace: cvat", "  annotations:"]
        lines += [f"    name: {scalar(self.title)}", f"    type: {self.kind}"]
        if self.labels:
            lines += ["    spec: |", *(f"      {line}" for line in label_lines(self.labels))]
        else:
            lines.append('    spec: ""')
        return lines + [f"    {key}: {scalar(value)}" for key, value in self.annotations.items()]

    def _spec(self) -> list[str]:
        lines = [
            "spec:",
            f"  description: {scalar(self.description)}",
            "  runtime: python:3.11",
            "  handler: main:handler",
            f"  eventTimeout: {self.event_timeout}",
            f"  readinessTimeoutSeconds: {self.readiness_seconds}",
            "",
        ]
        if self.environment:
            lines.append("  env:")
            for name, value in self.environment.items():
                lines += [f"    - name: {name}", f"      value: {scalar(value)}"]
            lines.append("")
        lines += ["  build:", f"    image: {self.image}", f"    baseImage: {self.base_image}"]
        if self.build_steps:
            lines += ["    directives:", "      postCopy:"]
            for step in self.build_steps:
                lines += ["        - kind: RUN", f"          value: {step}"]
        return [
            *lines,
            "",
            "  triggers:",
            "    myHttpTrigger:",
            "      kind: http",
            f"      numWorkers: {self.workers}",
            "      workerAvailabilityTimeoutMilliseconds: 10000",
            "      attributes:",
            "        maxRequestBodySize: 33554432 # 32 MB",
            "",
            "  platform:",
            "    attributes:",
            "      restartPolicy:",
            "        name: always",
            "        maximumRetryCount: 3",
        ]


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


def label_lines(labels: Sequence[Mapping[str, Any]]) -> list[str]:
    """Formats a list of labels as JSON, one label on each line and a skeleton's joints below it.

    Args:
        labels: Labels as JSON values.

    Returns:
        The lines.
    """
    lines = ["["]
    for i, label in enumerate(labels):
        comma = "" if i == len(labels) - 1 else ","
        joints = label.get("sublabels")
        if not joints:
            lines.append(f"  {_json(label)}{comma}")
            continue
        plain = {key: value for key, value in label.items() if key not in ("sublabels", "svg")}
        lines.append(f'  {_json(plain)[:-1]}, "sublabels": [')
        lines += [f"    {_json(joint)}{'' if k == len(joints) - 1 else ','}" for k, joint in enumerate(joints)]
        lines.append(f'  ], "svg": {_json(label["svg"])}}}{comma}')
    return [*lines, "]"]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
