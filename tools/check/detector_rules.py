"""A detector's reply: the list of annotations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from common.config import FunctionConfig
from common.cvat.labels import LABEL_TYPES, Attribute, Label
from common.errors import describe
from tools.check.consequences import DROPPED, ENDS_RUN, NOT_SAVED
from tools.check.findings import Findings, listed
from tools.check.shape_rules import (
    check_flat_mask,
    check_pairs,
    check_points,
    check_rotation,
    finite_numbers,
    image_size_hw,
    is_number,
    is_whole,
)
from tools.check.values import nearest

_ANNOTATION_KEYS = ("label", "type", "points", "mask", "rotation", "elements", "confidence", "attributes", "group_id")
_SHAPE_TYPES = tuple(name for name in LABEL_TYPES if name != "any")


def check_detector_reply(content: Any, config: FunctionConfig, request: Mapping[str, Any], findings: Findings) -> None:
    if not isinstance(content, list):
        findings.error("reply.form", "reply", expected="a list of annotations", got=describe(content), why=ENDS_RUN)
        return
    size_hw = image_size_hw(request.get("image"))
    threshold = request.get("threshold")
    for i, annotation in enumerate(content):
        field = f"reply[{i}]"
        if not isinstance(annotation, Mapping):
            findings.error("reply.form", field, expected="an object", got=describe(annotation), why=ENDS_RUN)
            continue
        _check_annotation(annotation, config, size_hw, field, findings)
        _check_confidence(annotation.get("confidence"), threshold, f"{field}.confidence", findings)


def _check_annotation(
    annotation: Mapping[str, Any],
    config: FunctionConfig,
    size_hw: tuple[int, int] | None,
    field: str,
    findings: Findings,
) -> None:
    for key in annotation:
        if key not in _ANNOTATION_KEYS and (meant := nearest(key, _ANNOTATION_KEYS)):
            findings.warn(
                "reply.key", f"{field}.{key}", expected=meant, got=key, why=DROPPED, remedy=f"did you mean {meant}?"
            )
    label = _label_of(annotation, config, field, findings)
    shape_type = annotation.get("type")
    if shape_type not in _SHAPE_TYPES:
        findings.error(
            "reply.type",
            f"{field}.type",
            expected=f"one of {', '.join(_SHAPE_TYPES)}",
            got="nothing" if shape_type is None else describe(shape_type),
            why=ENDS_RUN,
        )
        return
    if label is not None:
        _check_label_type(label, shape_type, f"{field}.type", findings)
        _check_attributes(annotation.get("attributes"), label, f"{field}.attributes", findings)
    group = annotation.get("group_id")
    if group is not None and not (is_whole(group) and group >= 0):
        findings.error(
            "reply.group",
            f"{field}.group_id",
            expected="a whole number of 1 or more",
            got=describe(group),
            why=ENDS_RUN,
        )
    check_rotation(annotation.get("rotation"), shape_type, f"{field}.rotation", findings)
    if shape_type == "mask":
        _check_detected_mask(annotation, size_hw, field, findings)
    elif shape_type == "skeleton":
        _check_skeleton(annotation.get("elements"), label, size_hw, f"{field}.elements", findings)
    elif shape_type != "tag":
        rotation, points = annotation.get("rotation"), annotation.get("points")
        check_points(shape_type, points, size_hw, f"{field}.points", findings, rotation=rotation)


def _label_of(annotation: Mapping[str, Any], config: FunctionConfig, field: str, findings: Findings) -> Label | None:
    name = annotation.get("label")
    if isinstance(name, str) and name in config.labels:
        return config.labels[name]
    findings.error(
        "reply.label",
        f"{field}.label",
        expected=f"a name of the function's spec: {listed(list(config.labels))}",
        got="nothing" if name is None else describe(name),
        why=ENDS_RUN if "label" not in annotation else DROPPED,
    )
    return None


def _check_label_type(label: Label, shape_type: str, field: str, findings: Findings) -> None:
    if label.type in ("any", shape_type):
        return
    message = {
        "expected": f"{label.type}, as the spec says of {label.name}",
        "got": shape_type,
        "why": "the label of the task is one for other shapes",
    }
    if {label.type, shape_type} == {"mask", "polygon"}:
        findings.warn("reply.type", field, **message)
    else:
        findings.error("reply.type", field, **message)


def _check_detected_mask(
    annotation: Mapping[str, Any], size_hw: tuple[int, int] | None, field: str, findings: Findings
) -> None:
    check_flat_mask(annotation.get("mask"), size_hw, f"{field}.mask", findings)
    if "points" not in annotation:
        findings.warn(
            "reply.outline",
            f"{field}.points",
            expected="a polygon around the mask",
            got="nothing",
            why="a user who asks for polygons gets masks",
        )
    else:
        check_points("polygon", annotation["points"], size_hw, f"{field}.points", findings)


def _check_skeleton(
    elements: Any, label: Label | None, size_hw: tuple[int, int] | None, field: str, findings: Findings
) -> None:
    if not isinstance(elements, list) or not elements:
        findings.error(
            "reply.elements",
            field,
            expected="a list of joints",
            got="nothing" if elements is None else describe(elements),
            why=ENDS_RUN if not isinstance(elements, list) else DROPPED,
        )
        return
    joints = {joint.name: joint for joint in label.sublabels} if label is not None else {}
    seen = set()
    for i, element in enumerate(elements):
        where = f"{field}[{i}]"
        if not isinstance(element, Mapping):
            findings.error("reply.elements", where, expected="an object", got=describe(element), why=ENDS_RUN)
            continue
        name = element.get("label")
        if label is not None and (not isinstance(name, str) or name not in joints):
            findings.error(
                "reply.elements",
                f"{where}.label",
                expected=f"a joint of {label.name}: {listed(list(joints))}",
                got="nothing" if name is None else describe(name),
                why=DROPPED if "label" in element else ENDS_RUN,
            )
        elif str(name) in seen:
            findings.error(
                "reply.elements",
                f"{where}.label",
                expected="each joint once",
                got=f"{describe(name)} again",
                why=DROPPED,
            )
        elif label is not None:
            _check_attributes(element.get("attributes"), joints[str(name)], f"{where}.attributes", findings)
        seen.add(str(name))
        _check_joint(element, size_hw, where, findings)
    if all(isinstance(element, Mapping) and element.get("outside") for element in elements):
        findings.error(
            "reply.elements",
            field,
            expected="at least one joint with outside 0",
            got="all outside",
            why="CVAT drops a skeleton whose joints are all outside",
        )


def _check_joint(element: Mapping[str, Any], size_hw: tuple[int, int] | None, field: str, findings: Findings) -> None:
    if element.get("type") != "points":
        findings.error(
            "reply.elements",
            f"{field}.type",
            expected="points",
            got="nothing" if element.get("type") is None else describe(element["type"]),
            why=ENDS_RUN,
        )
    if element.get("outside", 0) not in (0, 1):
        findings.error(
            "reply.elements",
            f"{field}.outside",
            expected="0 or 1",
            got=describe(element["outside"]),
            why="CVAT takes anything but 0, false and null for true",
        )
    points = finite_numbers(element.get("points"), f"{field}.points", findings)
    if points is not None and len(points) != 2:
        findings.error(
            "reply.elements", f"{field}.points", expected="[x, y]", got=f"{len(points)} numbers", why=NOT_SAVED
        )
    elif points is not None and not element.get("outside"):
        check_pairs(np.reshape(points, (1, 2)), size_hw, f"{field}.points", findings)


def _check_attributes(attributes: Any, label: Label, field: str, findings: Findings) -> None:
    if attributes is None:
        return
    if not isinstance(attributes, list):
        findings.error(
            "reply.attributes",
            field,
            expected='a list of {"name", "value"}',
            got=describe(attributes),
            why=ENDS_RUN,
        )
        return
    seen = set()
    for i, item in enumerate(attributes):
        where = f"{field}[{i}]"
        if not isinstance(item, Mapping) or not {"name", "value"} <= set(item):
            findings.error(
                "reply.attributes", where, expected='an object {"name", "value"}', got=describe(item), why=ENDS_RUN
            )
            continue
        name = item["name"]
        attribute = label.attribute(name) if isinstance(name, str) else None
        if attribute is None:
            findings.error(
                "reply.attributes",
                f"{where}.name",
                expected=f"an attribute of {label.name}: {listed([a.name for a in label.attributes])}",
                got=describe(name),
                why=DROPPED,
            )
            continue
        if name in seen:
            findings.error(
                "reply.attributes", f"{where}.name", expected="each attribute once", got=f"{name} again", why=NOT_SAVED
            )
        seen.add(name)
        _check_value(item["value"], attribute, f"{where}.value", findings)


def _check_value(value: Any, attribute: Attribute, field: str, findings: Findings) -> None:
    if not isinstance(value, str):
        findings.error(
            "reply.attributes",
            field,
            expected="a text",
            got=describe(value),
            why="CVAT compares values as texts, and drops or fails on anything else",
        )
        return
    if attribute.input_type == "number":
        minimum, maximum, step = attribute.number_range
        try:
            number = int(value)
        except ValueError:
            number = None
        if number is None or not minimum <= number <= maximum or (number - minimum) % step:
            expected = f"a whole number from {minimum} to {maximum} in steps of {step}"
            findings.error("reply.attributes", field, expected=expected, got=describe(value), why=DROPPED)
        return
    allowed: Sequence[str] | None = {
        "checkbox": ("true", "false"),
        "select": attribute.values,
        "radio": attribute.values,
    }.get(attribute.input_type)
    if allowed is not None and value not in allowed:
        findings.error(
            "reply.attributes", field, expected=f"one of {listed(list(allowed))}", got=describe(value), why=DROPPED
        )


def _check_confidence(value: Any, threshold: Any, field: str, findings: Findings) -> None:
    if value is None:
        return
    try:
        number = float(value) if isinstance(value, str) or is_number(value) else math.nan
    except ValueError:
        number = math.nan
    if not 0 <= number <= 1:
        findings.warn(
            "reply.confidence",
            field,
            expected='a text such as "0.87", from 0 to 1',
            got=describe(value),
            why="CVAT does not store it; those who read replies take it for a share",
        )
    elif is_number(threshold) and number < threshold - 1e-3:
        findings.warn(
            "reply.threshold",
            field,
            expected=f"{threshold:g} or more, the threshold of the request",
            got=describe(value),
            why="CVAT leaves the threshold to the function: the user's choice does nothing",
        )
