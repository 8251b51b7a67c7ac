"""The labels of a function: the `spec` annotation of its function.yaml."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common.errors import StartupError, describe

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
    if not isinstance(spec, str):
        raise StartupError(f"spec: expected a text that holds a JSON list of labels, got {describe(spec)}")
    try:
        items = json.loads(spec or "[]")
    except ValueError as error:
        raise StartupError(f"spec: not JSON: {error}") from error
    if not isinstance(items, list):
        raise StartupError(f"spec: expected a list of labels, got {describe(items)}")
    labels = tuple(_parse_label(item, f"spec[{i}]", i, LABEL_TYPES) for i, item in enumerate(items))
    _unique([label.name for label in labels], "spec", "label name")
    _unique([label.id for label in labels], "spec", "label id")
    return Labels(tuple(sorted(labels, key=lambda label: label.id)))


def _parse_label(item: Any, where: str, position: int, types: tuple[str, ...]) -> Label:
    """types: the allowed ones; the last is what a label without a type has."""
    if not isinstance(item, dict):
        raise StartupError(f"{where}: expected a label object, got {describe(item)}")
    name = item.get("name")
    if not isinstance(name, str) or not name.strip():
        raise StartupError(f"{where}.name: expected a non-empty text, got {describe(name)}")
    identifier = item.get("id", position)
    if isinstance(identifier, bool) or not isinstance(identifier, int):
        raise StartupError(f"{where}.id: expected an integer, got {describe(identifier)}")
    kind = item.get("type", types[-1])
    if kind not in types:
        raise StartupError(f"{where}.type: expected {_one_of(types)}, got {describe(kind)}")
    color = item.get("color") or ""
    if not isinstance(color, str):
        raise StartupError(f"{where}.color: expected a text such as #ff8000, got {describe(color)}")
    raw_attributes = item.get("attributes") or []
    if not isinstance(raw_attributes, list):
        raise StartupError(f"{where}.attributes: expected a list, got {describe(raw_attributes)}")
    attributes = tuple(_parse_attribute(a, f"{where}.attributes[{i}]") for i, a in enumerate(raw_attributes))
    _unique([a.name for a in attributes], f"{where}.attributes", "attribute name")
    sublabels: tuple[Label, ...] = ()
    svg = item.get("svg", "")
    if kind == "skeleton":
        raw_sublabels = item.get("sublabels")
        if not isinstance(raw_sublabels, list) or not raw_sublabels:
            raise StartupError(f"{where}.sublabels: expected the joints of the skeleton, got {describe(raw_sublabels)}")
        sublabels = tuple(
            _parse_label(s, f"{where}.sublabels[{i}]", i, ("points",)) for i, s in enumerate(raw_sublabels)
        )
        _unique([s.name for s in sublabels], f"{where}.sublabels", "joint name")
        _unique([s.id for s in sublabels], f"{where}.sublabels", "joint id")
        if not isinstance(svg, str) or not svg.strip():
            raise StartupError(f"{where}.svg: expected the SVG of the skeleton, got {describe(svg)}")
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
    if not isinstance(item, dict):
        raise StartupError(f"{where}: expected an attribute object, got {describe(item)}")
    name = item.get("name")
    if not isinstance(name, str) or not name.strip():
        raise StartupError(f"{where}.name: expected a non-empty text, got {describe(name)}")
    input_type = item.get("input_type")
    if input_type not in INPUT_TYPES:
        raise StartupError(f"{where}.input_type: expected {_one_of(INPUT_TYPES)}, got {describe(input_type)}")
    values = item.get("values")
    if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
        raise StartupError(f"{where}.values: expected a list of texts, got {describe(values)}")
    if input_type == "number":
        try:
            minimum, maximum, step = (int(v) for v in values)
        except ValueError as error:
            raise StartupError(
                f"{where}.values: expected minimum, maximum and step as integers, got {describe(values)}"
            ) from error
        if minimum > maximum or step < 1:
            raise StartupError(f"{where}.values: expected minimum <= maximum and step >= 1, got {describe(values)}")
    elif input_type in ("select", "radio") and not values:
        raise StartupError(f"{where}.values: expected at least one value, got {describe(values)}")
    default_value = item.get("default_value", values[0] if values else "")
    if not isinstance(default_value, str):
        raise StartupError(f"{where}.default_value: expected a text, got {describe(default_value)}")
    if input_type in ("select", "radio") and default_value not in values:
        raise StartupError(f"{where}.default_value: expected {_one_of(values)}, got {describe(default_value)}")
    return Attribute(
        name=name,
        input_type=input_type,
        values=tuple(values),
        mutable=bool(item.get("mutable", False)),
        default_value=default_value,
    )


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
