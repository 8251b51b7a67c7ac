"""The labels of a function: the `spec` annotation of its function.yaml."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common.errors import StartupError

LABEL_TYPES = (
    "tag", "rectangle", "polygon", "polyline", "points", "ellipse", "cuboid", "mask", "skeleton", "any",
)  # fmt: skip
INPUT_TYPES = ("select", "radio", "checkbox", "number", "text")


@dataclass(frozen=True, slots=True)
class Attribute:
    """A property of an annotation."""

    name: str
    """Unique within the label."""
    input_type: str
    """One of INPUT_TYPES."""
    values: tuple[str, ...] = ()
    """The allowed values; for a number its minimum, maximum and step; ignored for a text."""
    mutable: bool = False
    """Whether it may differ from frame to frame of a track."""
    default_value: str = ""
    """Its value in a new annotation."""

    @property
    def number_range(self) -> tuple[int, int, int]:
        """(minimum, maximum, step) of a number."""
        minimum, maximum, step = (int(v) for v in self.values)
        return minimum, maximum, step


@dataclass(frozen=True, slots=True)
class Label:
    """A class of annotations."""

    name: str
    """Unique within the function."""
    id: int
    """Unique within the function; of the labels of most models, the index of the class."""
    type: str = "any"
    """One of LABEL_TYPES."""
    attributes: tuple[Attribute, ...] = ()
    """The properties of its annotations."""
    sublabels: tuple[Label, ...] = ()
    """The joints of a skeleton."""
    svg: str = ""
    """The template of a skeleton, which places its joints; see `common.cvat.skeleton`."""
    color: str = ""
    """Such as "#ff8000"; "" leaves it to CVAT."""

    def attribute(self, name: str) -> Attribute | None:
        """The attribute of a name, or None.

        Args:
            name: The name.
        """
        return next((a for a in self.attributes if a.name == name), None)


class Labels(Mapping[str, Label]):
    """The labels of a function by name, in the order of their ids."""

    def __init__(self, labels: tuple[Label, ...] = ()):
        self._by_name = {label.name: label for label in labels}

    def __getitem__(self, name: str) -> Label:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    @property
    def names_by_id(self) -> dict[int, str]:
        """What a model's class index is called."""
        return {label.id: name for name, label in self._by_name.items()}

    def to_raw(self) -> list[dict[str, Any]]:
        """Label descriptions that can be pasted into the Raw tab of CVAT's label constructor."""
        return [_raw_label(label) for label in self.values()]


def parse_labels(spec: str) -> Labels:
    """The labels of a `spec` annotation.

    Args:
        spec: JSON text; an empty one has no labels.

    Raises:
        StartupError: A field is wrong; the message names it.
    """
    StartupError.check(isinstance(spec, str), "spec", "a text that holds a JSON list of labels", spec)
    try:
        items = json.loads(spec or "[]")
    except ValueError as error:
        raise StartupError(f"spec: not JSON: {error}") from error
    StartupError.check(isinstance(items, list), "spec", "a list of labels", items)
    labels = tuple(_parse_label(item, f"spec[{i}]", i, LABEL_TYPES) for i, item in enumerate(items))
    _unique([label.name for label in labels], "spec", "label name")
    _unique([label.id for label in labels], "spec", "label id")
    return Labels(tuple(sorted(labels, key=lambda label: label.id)))


def _parse_label(item: Any, where: str, position: int, types: tuple[str, ...]) -> Label:
    """types: the allowed ones; the last is what a label without a type has."""
    check = StartupError.check
    check(isinstance(item, dict), where, "a label object", item)
    name = item.get("name")
    check(_is_text(name), f"{where}.name", "a non-empty text", name)
    identifier = item.get("id", position)
    check(type(identifier) is int, f"{where}.id", "an integer", identifier)
    kind = item.get("type", types[-1])
    check(kind in types, f"{where}.type", _one_of(types), kind)
    color = item.get("color") or ""
    check(isinstance(color, str), f"{where}.color", "a text such as #ff8000", color)
    raw_attributes = item.get("attributes") or []
    check(isinstance(raw_attributes, list), f"{where}.attributes", "a list", raw_attributes)
    attributes = tuple(_parse_attribute(a, f"{where}.attributes[{i}]") for i, a in enumerate(raw_attributes))
    _unique([a.name for a in attributes], f"{where}.attributes", "attribute name")
    sublabels: tuple[Label, ...] = ()
    svg = item.get("svg", "")
    if kind == "skeleton":
        raw_sublabels = item.get("sublabels")
        are_joints = isinstance(raw_sublabels, list) and raw_sublabels
        check(are_joints, f"{where}.sublabels", "the joints of the skeleton", raw_sublabels)
        sublabels = tuple(
            _parse_label(s, f"{where}.sublabels[{i}]", i, ("points",)) for i, s in enumerate(raw_sublabels)
        )
        _unique([s.name for s in sublabels], f"{where}.sublabels", "joint name")
        _unique([s.id for s in sublabels], f"{where}.sublabels", "joint id")
        check(_is_text(svg), f"{where}.svg", "the SVG of the skeleton", svg)
    return Label(
        name=name,
        id=identifier,
        type=kind,
        attributes=attributes,
        sublabels=sublabels,
        svg=svg,
        color=color,
    )


def _parse_attribute(item: Any, where: str) -> Attribute:
    check = StartupError.check
    check(isinstance(item, dict), where, "an attribute object", item)
    name = item.get("name")
    check(_is_text(name), f"{where}.name", "a non-empty text", name)
    input_type = item.get("input_type")
    check(input_type in INPUT_TYPES, f"{where}.input_type", _one_of(INPUT_TYPES), input_type)
    values = item.get("values")
    are_texts = isinstance(values, list) and all(isinstance(v, str) for v in values)
    check(are_texts, f"{where}.values", "a list of texts", values)
    if input_type == "number":
        try:
            minimum, maximum, step = (int(v) for v in values)
        except ValueError as error:
            raise StartupError.field(f"{where}.values", "minimum, maximum and step as integers", values) from error
        check(minimum <= maximum and step >= 1, f"{where}.values", "minimum <= maximum and step >= 1", values)
    chosen = input_type in ("select", "radio")
    check(values or not chosen, f"{where}.values", "at least one value", values)
    default_value = item.get("default_value", values[0] if values else "")
    check(isinstance(default_value, str), f"{where}.default_value", "a text", default_value)
    if chosen:
        check(default_value in values, f"{where}.default_value", _one_of(values), default_value)
    return Attribute(
        name=name,
        input_type=input_type,
        values=tuple(values),
        mutable=bool(item.get("mutable", False)),
        default_value=default_value,
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value.strip() != ""


def _one_of(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"one of {', '.join(words)}"


def _unique(values: list[Any], where: str, what: str) -> None:
    if repeated := [str(value) for value, count in Counter(values).items() if count > 1]:
        raise StartupError(f"{where}: the {what} {', '.join(repeated)} is listed twice")


def _raw_label(label: Label) -> dict[str, Any]:
    raw: dict[str, Any] = {"name": label.name, "type": label.type}
    if label.color:
        raw["color"] = label.color
    raw["attributes"] = [
        {
            "name": a.name,
            "input_type": a.input_type,
            "mutable": a.mutable,
            # A checkbox without values and a text without a default break CVAT's constructor.
            "values": list(a.values) or (["false"] if a.input_type == "checkbox" else [""]),
            "default_value": a.default_value or ("false" if a.input_type == "checkbox" else ""),
        }
        for a in label.attributes
    ]
    if label.sublabels:
        raw["svg"] = label.svg
        raw["sublabels"] = [_raw_label(sublabel) for sublabel in label.sublabels]
    return raw
