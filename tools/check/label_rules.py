"""The labels of a function: the JSON text of the `spec` annotation, as CVAT's server and UI read it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Any

from common.config import KINDS
from common.cvat.labels import INPUT_TYPES, LABEL_TYPES
from common.errors import describe
from tools.check.consequences import BREAKS_LIST, NOT_LISTED
from tools.check.document import Document
from tools.check.findings import Finding, Findings
from tools.check.values import nearest

_FIELD = "metadata.annotations.spec"


def check_spec(spec: Any, kind: Any, document: Document, findings: Findings) -> None:
    """The `spec` annotation of a function of that kind. document: the file, for the lines inside a block of text."""
    if spec is None or (isinstance(spec, str) and not spec.strip()):
        if kind == "detector":
            findings.error(
                "labels.empty",
                _FIELD,
                expected="a JSON list with at least one label",
                got="nothing",
                why="CVAT drops every annotation whose label is not in the list: all of them",
            )
        return
    if not isinstance(spec, str):
        return  # the wrong type has a finding of its own
    try:
        labels = json.loads(spec)
    except ValueError as error:
        findings.add(_json_error(error, spec, document, findings.file))
        return
    if not isinstance(labels, list):
        findings.error("labels.json", _FIELD, expected="a JSON list of labels", got=describe(labels), why=BREAKS_LIST)
        return
    if labels and kind in KINDS and kind != "detector":
        findings.warn(
            "labels.useless",
            _FIELD,
            expected='"", as for everything but a detector',
            got=describe(labels),
            why="CVAT uses the labels of detectors only",
        )
    if not labels and kind == "detector":
        findings.error(
            "labels.empty",
            _FIELD,
            expected="at least one label",
            got="[]",
            why="CVAT drops every annotation whose label is not in the list: all of them",
        )
    _check_labels(labels, _FIELD, findings)


def _json_error(error: ValueError, spec: str, document: Document, file: str) -> Finding:
    start = document.block_lines.get(_FIELD)
    place, line = "", document.line_of(_FIELD)
    if isinstance(error, json.JSONDecodeError):
        place = f" at line {error.lineno}, column {error.colno} of the text"
        line = start + error.lineno - 1 if start else line
    return Finding(
        "error",
        "labels.json",
        file,
        _FIELD,
        expected="JSON",
        got=f"{getattr(error, 'msg', error)}{place}: {_excerpt(error, spec)}",
        why=BREAKS_LIST,
        line=line,
    )


def _excerpt(error: ValueError, spec: str) -> str:
    position = getattr(error, "pos", 0)
    return repr(spec[max(position - 20, 0) : position + 20].strip())


def _check_labels(labels: list[Any], field: str, findings: Findings, *, joints: bool = False) -> None:
    names, ids = [], []
    for i, label in enumerate(labels):
        where = f"{field}[{i}]"
        if not isinstance(label, Mapping):
            findings.error("labels.json", where, expected="a label object", got=describe(label), why=BREAKS_LIST)
            continue
        if _is_name(label, where, "labels.name", findings):
            names.append((label["name"], f"{where}.name"))
        ids.append((_check_id(label, i, where, findings), f"{where}.id"))
        _check_label(label, where, joints, findings)
    _check_unique(names, "labels.unique", "label name", NOT_LISTED, findings)
    why = "the SDK's auto-annotation, and this project's functions, need ids that differ"
    _check_unique([(i, place) for i, place in ids if i is not None], "labels.id", "label id", why, findings)


def _check_label(label: Mapping[str, Any], field: str, joint: bool, findings: Findings) -> None:
    kind = label.get("type", "any")
    if joint and kind != "points":
        findings.error(
            "labels.type",
            f"{field}.type",
            expected="points",
            got="nothing" if "type" not in label else describe(kind),
            why="the joints of a skeleton are points, and nothing else maps to them",
        )
    elif kind not in LABEL_TYPES:
        meant = nearest(str(kind), LABEL_TYPES)
        findings.error(
            "labels.type",
            f"{field}.type",
            expected=f"one of {', '.join(LABEL_TYPES)}",
            got=describe(kind),
            why="no label of a task fits it, so every annotation is dropped",
            remedy=f"did you mean {meant}?" if meant else "",
        )
    attributes = label.get("attributes", [])
    if not isinstance(attributes, list):
        findings.error(
            "labels.attributes",
            f"{field}.attributes",
            expected="a list",
            got=describe(attributes),
            why=BREAKS_LIST,
        )
    else:
        _check_attributes(attributes, f"{field}.attributes", findings)
    if kind == "skeleton":
        _check_skeleton(label, field, findings)
    elif label.get("sublabels"):
        findings.warn(
            "labels.sublabels",
            f"{field}.sublabels",
            expected=f"no sublabels for type {describe(kind)}, or the type skeleton",
            got=describe(label["sublabels"]),
            why="CVAT takes no notice of them",
        )


def _check_attributes(attributes: list[Any], field: str, findings: Findings) -> None:
    names = []
    for i, attribute in enumerate(attributes):
        where = f"{field}[{i}]"
        if not isinstance(attribute, Mapping):
            findings.error(
                "labels.attributes", where, expected="an attribute object", got=describe(attribute), why=BREAKS_LIST
            )
            continue
        if _is_name(attribute, where, "labels.attributes", findings):
            names.append((attribute["name"], f"{where}.name"))
        input_type = attribute.get("input_type")
        if input_type not in INPUT_TYPES:
            meant = nearest(str(input_type), INPUT_TYPES)
            findings.error(
                "labels.input-type",
                f"{where}.input_type",
                expected=f"one of {', '.join(INPUT_TYPES)}",
                got="nothing" if input_type is None else describe(input_type),
                why=BREAKS_LIST if input_type is None else "CVAT drops the values of an attribute of another type",
                remedy=f"did you mean {meant}?" if meant else "",
            )
        _check_values(attribute, input_type, f"{where}.values", findings)
    _check_unique(names, "labels.unique", "attribute name", NOT_LISTED, findings)


def _check_values(attribute: Mapping[str, Any], input_type: Any, field: str, findings: Findings) -> None:
    values = attribute.get("values")
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        bad = next((v for v in values if not isinstance(v, str)), None) if isinstance(values, list) else values
        findings.error(
            "labels.values",
            field,
            expected='a list of texts, such as ["0", "100", "1"]',
            got="nothing" if values is None else f"{describe(bad)}{' in it' if isinstance(values, list) else ''}",
            why=BREAKS_LIST if values is None else "CVAT compares the values as texts",
        )
        return
    if input_type == "number" and not _is_range(values):
        findings.error(
            "labels.values",
            field,
            expected='["minimum", "maximum", "step"], whole numbers, minimum <= maximum, step >= 1',
            got=json.dumps(values),
            why="CVAT accepts the numbers of that range on that step, and drops the others",
        )
    elif input_type in ("select", "radio") and not values:
        findings.error(
            "labels.values",
            field,
            expected="the values to choose from",
            got="[]",
            why="CVAT drops a value that is not one of them: every value",
        )
    elif input_type == "checkbox" and not set(values) <= {"true", "false"}:
        findings.warn(
            "labels.values",
            field,
            expected='"true" and "false", or []',
            got=json.dumps(values),
            why="CVAT drops any other value of a checkbox",
        )


def _is_range(values: list[str]) -> bool:
    try:
        minimum, maximum, step = (int(value) for value in values)
    except ValueError:
        return False
    return minimum <= maximum and step >= 1


def _check_skeleton(label: Mapping[str, Any], field: str, findings: Findings) -> None:
    sublabels, svg = label.get("sublabels"), label.get("svg")
    if not isinstance(sublabels, list) or not sublabels:
        findings.error(
            "labels.sublabels",
            f"{field}.sublabels",
            expected="a list of the skeleton's joints",
            got="nothing" if sublabels is None else describe(sublabels),
            why=BREAKS_LIST,
        )
        sublabels = []
    _check_labels(sublabels, f"{field}.sublabels", findings, joints=True)
    if not isinstance(svg, str) or not svg.strip():
        findings.error(
            "labels.svg",
            f"{field}.svg",
            expected="the picture of the skeleton, a circle for each joint",
            got="nothing" if svg is None else describe(svg),
            why=BREAKS_LIST,
        )
        return
    joints = [sublabel["name"] for sublabel in sublabels if isinstance(sublabel, Mapping) and "name" in sublabel]
    _check_svg(svg, [str(name) for name in joints], f"{field}.svg", findings)


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


def _check_svg(svg: str, joints: list[str], field: str, findings: Findings) -> None:
    elements = _Elements(svg)
    drawn = [circle.get("data-label-name", "") for circle in elements.circles]
    for name in joints:
        if drawn.count(name) != 1 or f'data-label-name="{name}"' not in svg:
            findings.error(
                "labels.svg",
                field,
                expected=f'one circle with data-label-name="{name}"',
                got=f"{drawn.count(name)} with that name; there are {', '.join(drawn) or 'no circles'}",
                why="CVAT finds the joint by this very text; without it the skeleton can't be drawn",
            )
    for name in sorted({name for name in drawn if name not in joints}):
        findings.error(
            "labels.svg",
            field,
            expected="circles of the sublabels only",
            got=f'a circle with data-label-name="{name}"' if name else "a circle without data-label-name",
            why="there is no sublabel of that name",
        )
    for i, circle in enumerate(elements.circles):
        _check_circle(circle, f"circle {i + 1}", field, findings)
    for attribute in ("data-node-id", "data-element-id"):
        ids = [circle.get(attribute, "") for circle in elements.circles]
        wanted = [str(i + 1) for i in range(len(ids))]
        if ids and sorted(ids) != sorted(wanted):
            findings.error(
                "labels.svg",
                field,
                expected=f"{attribute} 1 to {len(ids)}, each once",
                got=", ".join(each or "none" for each in ids),
                why="CVAT tells the joints apart by it",
            )
    nodes = {circle.get("data-node-id", "") for circle in elements.circles}
    for i, line in enumerate(elements.lines):
        _check_line(line, nodes, f"line {i + 1}", field, findings)


def _check_circle(circle: Mapping[str, str], what: str, field: str, findings: Findings) -> None:
    for name in ("cx", "cy"):
        if not _is_percent(circle.get(name)):
            findings.error(
                "labels.svg",
                field,
                expected=f"{name} of {what} from 0 to 100",
                got=circle.get(name) or "none",
                why="places are percent of the skeleton's box",
            )
    if "r" not in circle or circle.get("data-type") != "element node":
        findings.error(
            "labels.svg",
            field,
            expected=f'{what} with r and data-type="element node"',
            got=" ".join(f'{key}="{value}"' for key, value in circle.items())[:80] or "none",
            why="CVAT takes no other circle for a joint",
        )


def _check_line(line: Mapping[str, str], nodes: set[str], what: str, field: str, findings: Findings) -> None:
    ends = [line.get("data-node-from", ""), line.get("data-node-to", "")]
    if line.get("data-type") != "edge" or not set(ends) <= nodes or ends[0] == ends[1]:
        findings.error(
            "labels.svg",
            field,
            expected=f'{what} with data-type="edge", data-node-from and data-node-to of two circles',
            got=f'data-type="{line.get("data-type", "")}", from {ends[0] or "none"} to {ends[1] or "none"}',
            why="CVAT draws the edge between the joints of these ids",
        )
    if missing := [name for name in ("x1", "y1", "x2", "y2") if not _is_percent(line.get(name))]:
        findings.error(
            "labels.svg",
            field,
            expected=f"{', '.join(missing)} of {what} from 0 to 100",
            got=", ".join(line.get(name) or "none" for name in missing),
            why="places are percent of the skeleton's box",
        )


def _is_percent(text: str | None) -> bool:
    try:
        return 0 <= float(text or "") <= 100
    except ValueError:
        return False


def _is_name(item: Mapping[str, Any], field: str, rule: str, findings: Findings) -> bool:
    name = item.get("name")
    if not isinstance(name, str) or not name.strip():
        findings.error(
            rule,
            f"{field}.name",
            expected="a name",
            got="nothing" if name is None else describe(name),
            why=BREAKS_LIST if name is None else "nothing can be mapped to it",
        )
        return False
    if name != name.strip():
        findings.warn(
            rule,
            f"{field}.name",
            expected=describe(name.strip()),
            got=describe(name),
            why="it matches the names of a task to the letter only",
        )
    return True


def _check_id(label: Mapping[str, Any], position: int, field: str, findings: Findings) -> int | None:
    identifier = label.get("id", position)
    if isinstance(identifier, bool) or not isinstance(identifier, int):
        findings.error(
            "labels.id",
            f"{field}.id",
            expected="a whole number",
            got=describe(identifier),
            why="the SDK's auto-annotation, and this project's functions, refuse anything else",
        )
        return None
    return identifier


def _check_unique(values: list[tuple[Any, str]], rule: str, what: str, why: str, findings: Findings) -> None:
    seen = set()
    for value, field in values:
        if value in seen:
            findings.error(rule, field, expected=f"each {what} once", got=f"{describe(value)} again", why=why)
        seen.add(value)
