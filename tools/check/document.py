"""A YAML file with the line of each of its fields."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tools.check.findings import Finding, Findings

_LAST_STEP = re.compile(r"(\.[^.\[\]]*|\[\d+\])$")


@dataclass(frozen=True, slots=True)
class Document:
    """content: the object in the file. lines: field path such as `spec.env[0].name` -> line, from 1.

    block_lines: field path -> line on which the text of a block (`|` or `>`) begins.
    """

    content: dict[Any, Any]
    lines: dict[str, int] = field(default_factory=dict)
    block_lines: dict[str, int] = field(default_factory=dict)

    def line_of(self, path: str) -> int | None:
        """The line of a field, or of the nearest field around it that is there."""
        while path not in self.lines:
            if not (step := _LAST_STEP.search(path)):
                return None
            path = path[: step.start()]
        return self.lines[path]


def read_document(path: Path) -> tuple[Document | None, list[Finding]]:
    """The document in a YAML file, None when there is none to read, and what is wrong with the file as such."""
    findings = Findings(path.name)
    why = "Nuclio reads nothing from it, so the function can't be deployed"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        findings.error("yaml.unreadable", "", expected=f"a file {path.name}", got=error.strerror or str(error), why=why)
        return None, list(findings)
    except UnicodeDecodeError as error:
        findings.error(
            "yaml.syntax", "", expected="a text in UTF-8", got=f"{error.reason} at byte {error.start}", why=why
        )
        return None, list(findings)
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        content = None if node is None else loader.construct_document(node)
    except yaml.YAMLError as error:
        findings.add(_syntax_error(error, path.name, why))
        return None, list(findings)
    finally:
        loader.dispose()
    if not isinstance(content, dict):
        expected = "an object with metadata and spec"
        findings.error(
            "yaml.syntax", "", expected=expected, got="nothing" if content is None else repr(content), why=why
        )
        return None, list(findings)
    assert node is not None  # there is content
    document = Document(content)
    repeated: list[tuple[str, int]] = []
    _walk(node, "", document, repeated, set())
    for name, line in repeated:
        findings.add(
            Finding(
                "warning",
                "yaml.duplicate-key",
                path.name,
                name,
                expected="each key once",
                got=f"a second {name}",
                why="the last one counts and the others are dropped without a word",
                line=line,
            )
        )
    return document, list(findings)


def _syntax_error(error: yaml.YAMLError, file: str, why: str) -> Finding:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    context = getattr(error, "context", None)
    column = f" in column {mark.column + 1}" if mark else ""
    return Finding(
        "error",
        "yaml.syntax",
        file,
        "",
        expected="YAML",
        got=" ".join(f"{problem}{column} {context or ''}".split()),
        why=why,
        line=mark.line + 1 if mark else None,
    )


def _walk(node: yaml.Node, path: str, document: Document, repeated: list[tuple[str, int]], seen: set[int]) -> None:
    if id(node) in seen:  # an alias: its fields stand where the anchor is
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        names = set()
        for key, value in node.value:
            name = f"{path}.{key.value}" if path else str(key.value)
            line = key.start_mark.line + 1
            if name in names and key.value != "<<":
                repeated.append((name, line))
            names.add(name)
            document.lines[name] = line
            _walk(value, name, document, repeated, seen)
    elif isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            document.lines[f"{path}[{i}]"] = item.start_mark.line + 1
            _walk(item, f"{path}[{i}]", document, repeated, seen)
    elif isinstance(node, yaml.ScalarNode) and node.style in ("|", ">"):
        document.block_lines[path] = node.start_mark.line + 2
