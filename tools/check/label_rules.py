"""The labels of a function: the JSON text of the annotation `spec`, as CVAT's server and UI read it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from html.parser import HTMLParser
from typing import Any

from common.config import KINDS
from common.errors import describe
from tools.check.document import Document
from tools.check.findings import Finding, error, warning
from tools.check.schema import compare
from tools.check.values import mapping

_FIELD = "metadata.annotations.spec"
_BREAKS_LIST = "CVAT fails on it, and with it on its whole list of functions"
_NOT_LISTED = "CVAT leaves the function out of its list"
_NO_LABELS = "CVAT drops every annotation whose label is not in the list: all of them"


def check_labels(spec: str, kind: str, document: Document) -> Iterator[Finding]:
    """Checks the labels of a function.

    Args:
        spec: The annotation `spec`.
        kind: What the function is, such as `detector`.
        document: The function.yaml, for the lines inside a block of text.

    Yields:
        What is wrong with the labels.
    """
    if not spec.strip():
        if kind == "detector":
            yield error("labels.empty", _FIELD, "a JSON list with at least one label", "nothing", _NO_LABELS)
        return
    try:
        content = json.loads(spec)
    except (ValueError, RecursionError) as problem:
        yield _json_error(problem, spec, document)
        return
    labels, findings = compare(content, "labels", _FIELD)
    yield from findings
    if content == [] and kind == "detector":
        yield error("labels.empty", _FIELD, "at least one label", "[]", _NO_LABELS)
    if isinstance(content, list) and content and kind in KINDS and kind != "detector":
        why = "CVAT uses the labels of detectors only"
        yield warning("labels.useless", _FIELD, '"", as for everything but a detector', describe(content), why)
    yield from _check_labels(labels, _FIELD)


def _json_error(problem: Exception, spec: str, document: Document) -> Finding:
    place, line = "", document.line_of(_FIELD)
    position = getattr(problem, "pos", 0)
    if isinstance(problem, json.JSONDecodeError):
        place = f" at line {problem.lineno}, column {problem.colno} of the text"
        start = document.block_lines.get(_FIELD)
        line = start + problem.lineno - 1 if start else line
    excerpt = repr(spec[max(position - 20, 0) : position + 20].strip())
    got = f"{getattr(problem, 'msg', problem)}{place}: {excerpt}"
    return error("labels.json", _FIELD, "JSON", got, _BREAKS_LIST, line=line)


def _check_labels(labels: object, field: str) -> Iterator[Finding]:
    """What a schema can't say of labels: names and ids that differ, ranges of numbers, and pictures of skeletons."""
    items = [(f"{field}[{i}]", label) for i, label in enumerate(_list(labels)) if isinstance(label, Mapping)]
    yield from _repeated("labels.unique", "label name", _NOT_LISTED, ((f"{at}.name", m.get("name")) for at, m in items))
    why = "the SDK's auto-annotation, and this project's functions, need ids that differ"
    ids = ((f"{at}.id", label.get("id", i)) for i, (at, label) in enumerate(items))
    yield from _repeated("labels.id", "label id", why, ids)
    for at, label in items:
        yield from _check_attributes(_list(label.get("attributes")), f"{at}.attributes")
        if label.get("type") == "skeleton":
            yield from _check_labels(label.get("sublabels"), f"{at}.sublabels")
            if isinstance(svg := label.get("svg"), str) and svg.strip():
                joints = [mapping(joint).get("name") for joint in _list(label.get("sublabels"))]
                for expected, got, why in _svg_problems(svg, [name for name in joints if isinstance(name, str)]):
                    yield error("labels.svg", f"{at}.svg", expected, got, why)


def _check_attributes(attributes: list[Any], field: str) -> Iterator[Finding]:
    items = [(f"{field}[{i}]", item) for i, item in enumerate(attributes) if isinstance(item, Mapping)]
    names = ((f"{at}.name", item.get("name")) for at, item in items)
    yield from _repeated("labels.unique", "attribute name", _NOT_LISTED, names)
    for at, item in items:
        values = item.get("values")
        if item.get("input_type") == "number" and isinstance(values, list) and not _is_range(values):
            expected = '["minimum", "maximum", "step"], whole numbers, minimum <= maximum, step >= 1'
            why = "CVAT accepts the numbers of that range on that step, and drops the others"
            yield error("labels.values", f"{at}.values", expected, json.dumps(values), why)


def _is_range(values: list[str]) -> bool:
    if not all(isinstance(value, str) for value in values):  # has its own finding
        return True
    try:
        minimum, maximum, step = (int(value) for value in values)
    except ValueError:
        return False
    return minimum <= maximum and step >= 1


def _repeated(rule: str, what: str, why: str, values: Iterable[tuple[str, Any]]) -> Iterator[Finding]:
    seen = set()
    for field, value in values:
        if value in seen:
            yield error(rule, field, f"each {what} once", f"{describe(value)} again", why)
        if value not in (None, ""):
            seen.add(value)


class _Elements(HTMLParser):
    """Circles and lines of an SVG, as the browser finds them."""

    def __init__(self, svg: str) -> None:
        super().__init__()
        self.circles: list[dict[str, str]] = []
        self.lines: list[dict[str, str]] = []
        self.feed(svg)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag in ("circle", "line"):
            (self.circles if tag == "circle" else self.lines).append({k: v or "" for k, v in attributes})


def _svg_problems(svg: str, joints: list[str]) -> Iterator[tuple[str, str, str]]:
    """What CVAT can't draw of a skeleton's picture: expected, got and why."""
    circles, lines = (elements := _Elements(svg)).circles, elements.lines
    drawn = [circle.get("data-label-name", "") for circle in circles]
    for name in joints:
        if drawn.count(name) != 1 or f'data-label-name="{name}"' not in svg:
            got = f"{drawn.count(name)} with that name; there are {', '.join(drawn) or 'no circles'}"
            why = "CVAT finds the joint by this very text; without it the skeleton can't be drawn"
            yield f'one circle with data-label-name="{name}"', got, why
    for name in sorted({name for name in drawn if name not in joints}):
        got = f'a circle with data-label-name="{name}"' if name else "a circle without data-label-name"
        yield "circles of the sublabels only", got, "there is no sublabel of that name"
    for i, circle in enumerate(circles, 1):
        yield from _percents(circle, ("cx", "cy"), f"circle {i}")
        if "r" not in circle or circle.get("data-type") != "element node":
            got = " ".join(f'{key}="{value}"' for key, value in circle.items())[:80] or "none"
            yield f'circle {i} with r and data-type="element node"', got, "CVAT takes no other circle for a joint"
    for attribute in ("data-node-id", "data-element-id"):
        ids = [circle.get(attribute, "") for circle in circles]
        if sorted(ids) != sorted(str(i + 1) for i in range(len(ids))):
            got = ", ".join(each or "none" for each in ids)
            yield f"{attribute} 1 to {len(ids)}, each once", got, "CVAT tells the joints apart by it"
    nodes = {circle.get("data-node-id", "") for circle in circles}
    for i, line in enumerate(lines, 1):
        start, end = line.get("data-node-from", ""), line.get("data-node-to", "")
        if line.get("data-type") != "edge" or not {start, end} <= nodes or start == end:
            expected = f'line {i} with data-type="edge", data-node-from and data-node-to of two circles'
            got = f'data-type="{line.get("data-type", "")}", from {start or "none"} to {end or "none"}'
            yield expected, got, "CVAT draws the edge between the joints of these ids"
        yield from _percents(line, ("x1", "y1", "x2", "y2"), f"line {i}")


def _percents(element: Mapping[str, str], names: Iterable[str], what: str) -> Iterator[tuple[str, str, str]]:
    for name in names:
        if not _is_percent(element.get(name)):
            why = "positions are percentages of the skeleton's box"
            yield f"{name} of {what} from 0 to 100", element.get(name) or "none", why


def _is_percent(text: str | None) -> bool:
    try:
        return 0 <= float(text or "") <= 100
    except ValueError:
        return False


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
