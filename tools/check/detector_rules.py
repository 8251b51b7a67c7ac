"""A detector's reply: the list of annotations."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from common.config import FunctionConfig
from common.cvat.labels import LABEL_TYPES, Attribute, Label
from common.errors import describe
from tools.check.findings import Finding, error, listed, warning
from tools.check.shape_rules import (
    NOT_SAVED,
    Size,
    check_flat_mask,
    check_inside,
    check_points,
    check_rotation,
    image_size_hw,
    is_number,
    is_numbers,
    is_whole,
    not_numbers,
)
from tools.check.values import did_you_mean, nearest, shown

ENDS_RUN = "CVAT fails on it, and the whole run ends"
_DROPPED = "CVAT drops it and says nothing"
_KEYS = ("label", "type", "points", "mask", "rotation", "elements", "confidence", "attributes", "group_id")
_SHAPE_TYPES = tuple(name for name in LABEL_TYPES if name != "any")


@dataclass(frozen=True, slots=True)
class _Annotation:
    """One annotation of a reply, and what it is to agree with."""

    content: Mapping[str, Any]

    field: str
    """Its path in the reply, such as `reply[2]`."""

    labels: Mapping[str, Label]
    size_hw: Size

    threshold: object
    """The request's, None when it has none."""

    @property
    def label(self) -> Label | None:
        name = self.content.get("label")
        return self.labels.get(name) if isinstance(name, str) else None

    @property
    def type(self) -> str:
        """The shape type, "" for one that does not exist."""
        name = self.content.get("type")
        return name if name in _SHAPE_TYPES else ""


def check_detector_reply(content: object, config: FunctionConfig, request: Mapping[str, Any]) -> Iterator[Finding]:
    """Checks what a detector answered.

    Args:
        content: The JSON value in the reply.
        config: The function's, for its labels.
        request: What was asked, for the image and the threshold.

    Yields:
        What is wrong with the reply.
    """
    if not isinstance(content, list):
        yield error("reply.form", "reply", "a list of annotations", describe(content), ENDS_RUN)
        return
    size_hw = image_size_hw(request.get("image"))
    for i, item in enumerate(content):
        if not isinstance(item, Mapping):
            yield error("reply.form", f"reply[{i}]", "an object", describe(item), ENDS_RUN)
            continue
        annotation = _Annotation(item, f"reply[{i}]", config.labels, size_hw, request.get("threshold"))
        for rule in _RULES:
            yield from rule(annotation)


def _keys(a: _Annotation) -> Iterator[Finding]:
    for key in a.content:
        if key not in _KEYS and (meant := nearest(key, _KEYS)):
            yield warning("reply.key", f"{a.field}.{key}", meant, key, _DROPPED, did_you_mean(key, _KEYS))


def _label(a: _Annotation) -> Iterator[Finding]:
    if a.label is None:
        expected = f"a name in the function's spec: {listed(a.labels)}"
        why = _DROPPED if "label" in a.content else ENDS_RUN
        yield error("reply.label", f"{a.field}.label", expected, shown(a.content.get("label")), why)


def _type(a: _Annotation) -> Iterator[Finding]:
    if not a.type:
        expected, got = f"one of {', '.join(_SHAPE_TYPES)}", shown(a.content.get("type"))
        yield error("reply.type", f"{a.field}.type", expected, got, ENDS_RUN)
    elif a.label is not None and a.label.type not in ("any", a.type):
        report = warning if {a.label.type, a.type} == {"mask", "polygon"} else error
        expected = f"{a.label.type}, as the spec says of {a.label.name}"
        yield report("reply.type", f"{a.field}.type", expected, a.type, "the label of the task is one for other shapes")


def _attributes(a: _Annotation) -> Iterator[Finding]:
    if a.type and a.label is not None:
        yield from _check_attributes(a.content.get("attributes"), a.label, f"{a.field}.attributes")


def _group(a: _Annotation) -> Iterator[Finding]:
    group = a.content.get("group_id")
    if a.type and group is not None and not (is_whole(group) and group >= 0):
        yield error("reply.group", f"{a.field}.group_id", "a whole number of 1 or more", describe(group), ENDS_RUN)


def _geometry(a: _Annotation) -> Iterator[Finding]:
    content, field = a.content, a.field
    points, rotation = content.get("points"), content.get("rotation")
    if a.type:
        yield from check_rotation(rotation, a.type, f"{field}.rotation")
    if a.type == "mask":
        yield from check_flat_mask(content.get("mask"), a.size_hw, f"{field}.mask")
        if "points" in content:
            yield from check_points("polygon", points, a.size_hw, f"{field}.points")
        else:
            why = "a user who asks for polygons gets masks"
            yield warning("reply.outline", f"{field}.points", "a polygon around the mask", "nothing", why)
    elif a.type == "skeleton":
        yield from _check_joints(content.get("elements"), a.label, a.size_hw, f"{field}.elements")
    elif a.type and a.type != "tag":
        yield from check_points(a.type, points, a.size_hw, f"{field}.points", rotation)


def _confidence(a: _Annotation) -> Iterator[Finding]:
    value, field = a.content.get("confidence"), f"{a.field}.confidence"
    if value is None:
        return
    try:
        number = float(value) if isinstance(value, str) or is_number(value) else math.nan
    except ValueError:
        number = math.nan
    if not 0 <= number <= 1:
        why = "CVAT does not store it; other readers of the reply take it for a value from 0 to 1"
        yield warning("reply.confidence", field, 'a text such as "0.87", from 0 to 1', describe(value), why)
    elif is_number(a.threshold) and number < a.threshold - 1e-3:
        why = "CVAT leaves the threshold to the function: the user's choice has no effect"
        yield warning(
            "reply.threshold", field, f"{a.threshold:g} or more, the request's threshold", describe(value), why
        )


_RULES: tuple[Callable[[_Annotation], Iterator[Finding]], ...] = (
    _keys,
    _label,
    _type,
    _attributes,
    _group,
    _geometry,
    _confidence,
)


def _check_joints(elements: object, label: Label | None, size_hw: Size, field: str) -> Iterator[Finding]:
    rule = "reply.elements"
    if not isinstance(elements, list) or not elements:
        why = _DROPPED if isinstance(elements, list) else ENDS_RUN
        yield error(rule, field, "a list of joints", shown(elements), why)
        return
    joints = {joint.name: joint for joint in label.sublabels} if label is not None else {}
    names = [element.get("label") if isinstance(element, Mapping) else None for element in elements]
    for i, (element, name) in enumerate(zip(elements, names, strict=True)):
        where = f"{field}[{i}]"
        if not isinstance(element, Mapping):
            yield error(rule, where, "an object", describe(element), ENDS_RUN)
            continue
        joint = joints.get(name) if isinstance(name, str) else None
        if label is not None and joint is None:
            expected, why = f"a joint of {label.name}: {listed(joints)}", _DROPPED if "label" in element else ENDS_RUN
            yield error(rule, f"{where}.label", expected, shown(name), why)
        elif name in names[:i]:
            yield error(rule, f"{where}.label", "each joint once", f"{describe(name)} again", _DROPPED)
        elif joint is not None:
            yield from _check_attributes(element.get("attributes"), joint, f"{where}.attributes")
        yield from _check_joint(element, size_hw, where)
    if all(isinstance(element, Mapping) and element.get("outside") for element in elements):
        why = "CVAT drops a skeleton whose joints are all outside"
        yield error(rule, field, "at least one joint with outside 0", "all outside", why)


def _check_joint(element: Mapping[str, Any], size_hw: Size, field: str) -> Iterator[Finding]:
    rule, points = "reply.elements", element.get("points")
    if element.get("type") != "points":
        yield error(rule, f"{field}.type", "points", shown(element.get("type")), ENDS_RUN)
    if element.get("outside", 0) not in (0, 1):
        why = "CVAT takes anything but 0, false and null for true"
        yield error(rule, f"{field}.outside", "0 or 1", describe(element["outside"]), why)
    if not is_numbers(points):
        yield not_numbers(points, f"{field}.points")
    elif len(points) != 2:
        yield error(rule, f"{field}.points", "[x, y]", f"{len(points)} numbers", NOT_SAVED)
    elif not element.get("outside"):
        yield from check_inside([points], size_hw, f"{field}.points")


def _check_attributes(attributes: object, label: Label, field: str) -> Iterator[Finding]:
    rule = "reply.attributes"
    if attributes is not None and not isinstance(attributes, list):
        yield error(rule, field, 'a list of {"name", "value"}', describe(attributes), ENDS_RUN)
        return
    seen = set()
    for i, item in enumerate(attributes or ()):
        where = f"{field}[{i}]"
        if not isinstance(item, Mapping) or not {"name", "value"} <= set(item):
            yield error(rule, where, 'an object {"name", "value"}', describe(item), ENDS_RUN)
            continue
        name = item["name"]
        attribute = label.attribute(name) if isinstance(name, str) else None
        if attribute is None:
            expected = f"an attribute of {label.name}: {listed(a.name for a in label.attributes)}"
            yield error(rule, f"{where}.name", expected, describe(name), _DROPPED)
            continue
        if name in seen:
            yield error(rule, f"{where}.name", "each attribute once", f"{name} again", NOT_SAVED)
        seen.add(name)
        if not isinstance(item["value"], str):
            why = "CVAT compares values as texts, and drops or fails on anything else"
            yield error(rule, f"{where}.value", "a text", describe(item["value"]), why)
        elif expected := _allowed_values(item["value"], attribute):
            yield error(rule, f"{where}.value", expected, describe(item["value"]), _DROPPED)


def _allowed_values(value: str, attribute: Attribute) -> str:
    """What an attribute takes, in words; "" when the value is allowed."""
    if attribute.input_type == "number":
        minimum, maximum, step = attribute.number_range
        try:
            number = int(value)
        except ValueError:
            number = minimum - 1
        good = minimum <= number <= maximum and (number - minimum) % step == 0
        return "" if good else f"a whole number from {minimum} to {maximum} in steps of {step}"
    if attribute.input_type == "text":
        return ""
    allowed = ("true", "false") if attribute.input_type == "checkbox" else attribute.values
    return "" if value in allowed else f"one of {listed(allowed)}"
