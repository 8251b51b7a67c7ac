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
    """What stands in a function.yaml.

    title: what CVAT shows. kind: of the function. labels: as JSON values, of a detector.
    annotations: further ones. environment: options' defaults. build_steps: commands that run when the image is built.
    remarks: comments to put above lines, by how the line begins: `numWorkers:` -> "each loads a model of its own".
    """

    name: str
    title: str
    kind: str
    description: str
    image: str
    base_image: str
    labels: Sequence[Mapping[str, Any]] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    build_steps: Sequence[str] = ()
    workers: int = 2
    event_timeout: str = "30s"
    readiness_seconds: int = 120
    remarks: Mapping[str, str] = field(default_factory=dict)

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
    """A text as YAML that is read back as this text."""
    if _PLAIN.fullmatch(text) and text.lower() not in _YAML_WORDS and ": " not in text:
        return text
    return json.dumps(text, ensure_ascii=False)


def label_lines(labels: Sequence[Mapping[str, Any]]) -> list[str]:
    """A list of labels as lines of JSON, a label in each; a skeleton's joints below it."""
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
