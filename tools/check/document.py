"""A YAML file with the line of each of its fields."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tools.check.findings import Finding, error, located, warning

_WHY = "Nuclio reads nothing from it, so the function can't be deployed"
_LAST_STEP = re.compile(r"(\.[^.\[\]]*|\[\d+\])$")


@dataclass(frozen=True, slots=True)
class Document:
    """The object in a YAML file, and where its fields are."""

    content: dict[Any, Any]

    lines: dict[str, int] = field(default_factory=dict)
    """Field path, such as `spec.env[0].name` -> line, from 1."""

    block_lines: dict[str, int] = field(default_factory=dict)
    """Field path -> line on which the text of a block (`|` or `>`) begins."""

    def line_of(self, path: str) -> int | None:
        """The line of a field, or of the innermost field around it that is in the file.

        Args:
            path: The field's path, such as `spec.env[0].name`.

        Returns:
            The line, from 1; None when not even the outermost key is there.
        """
        while path not in self.lines:
            if not (step := _LAST_STEP.search(path)):
                return None
            path = path[: step.start()]
        return self.lines[path]


def read_document(path: Path) -> tuple[Document | None, list[Finding]]:
    """Reads a YAML file.

    Args:
        path: The file.

    Returns:
        The document, None when it can't be read, and what is wrong with the file as such.
    """
    document, findings = _read(path)
    return document, located(findings, path.name)


def _read(path: Path) -> tuple[Document | None, list[Finding]]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as problem:
        got = problem.strerror or str(problem)
        return None, [error("yaml.unreadable", "", f"a file {path.name}", got, _WHY)]
    except UnicodeDecodeError as problem:
        return None, [error("yaml.syntax", "", "a text in UTF-8", f"{problem.reason} at byte {problem.start}", _WHY)]
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        content = None if node is None else loader.construct_document(node)
    except yaml.YAMLError as problem:
        return None, [_syntax_error(problem)]
    finally:
        loader.dispose()
    if node is None or not isinstance(content, dict):
        got = "nothing" if content is None else repr(content)
        return None, [error("yaml.syntax", "", "an object with metadata and spec", got, _WHY)]
    document = Document(content)
    repeated: list[tuple[str, int]] = []
    if _walk(node, "", document, repeated, [], set()):
        return None, [error("yaml.syntax", "", "a tree of values", "an anchor inside itself", _WHY)]
    why = "the last one takes effect, and nothing is said about the others"
    return document, [
        warning("yaml.duplicate-key", name, "each key once", f"a second {name}", why, line=line)
        for name, line in repeated
    ]


def _syntax_error(problem: yaml.YAMLError) -> Finding:
    mark = getattr(problem, "problem_mark", None) or getattr(problem, "context_mark", None)
    text = getattr(problem, "problem", None) or getattr(problem, "reason", None) or str(problem)
    column = f" in column {mark.column + 1}" if mark else ""
    got = " ".join(f"{text}{column} {getattr(problem, 'context', None) or ''}".split())
    return error("yaml.syntax", "", "YAML", got, _WHY, line=mark.line + 1 if mark else None)


def _walk(
    node: yaml.Node,
    path: str,
    document: Document,
    repeated: list[tuple[str, int]],
    around: list[yaml.Node],
    seen: set[int],
) -> bool:
    """Notes the lines of a node's fields, and the keys that are repeated. Returns whether the node holds itself."""
    if node in around:
        return True
    if id(node) in seen:  # an alias: its fields have the lines of the anchor
        return False
    seen.add(id(node))
    found = False
    around.append(node)
    if isinstance(node, yaml.MappingNode):
        names = set()
        for key, value in node.value:
            name = f"{path}.{key.value}" if path else str(key.value)
            line = key.start_mark.line + 1
            if name in names and key.value != "<<":
                repeated.append((name, line))
            names.add(name)
            document.lines[name] = line
            found |= _walk(value, name, document, repeated, around, seen)
    elif isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            document.lines[f"{path}[{i}]"] = item.start_mark.line + 1
            found |= _walk(item, f"{path}[{i}]", document, repeated, around, seen)
    elif isinstance(node, yaml.ScalarNode) and node.style in ("|", ">"):
        document.block_lines[path] = node.start_mark.line + 2
    around.pop()
    return found
