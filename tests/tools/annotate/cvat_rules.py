"""What annotations the stand-in for a CVAT server takes: the published schema, and the rules beyond it.

The schema is read off the models of `cvat_sdk.api_client`, which are generated from the server's. Beyond it the server
refuses unknown labels and attributes. What it would take in silence although its own UI could never show it is refused
here as well: frames that the task does not have (the server drops what lies on them), shapes of another type than the
label's, too few points, masks that do not fit their box or the image, values that an attribute does not allow,
skeletons without all their joints.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from cvat_sdk import models
from cvat_sdk.api_client.model_utils import ModelNormal, ModelSimple
from cvat_sdk.attributes import attribute_value_validator
from cvat_sdk.masks import decode_mask

FEWEST_NUMBERS = {"rectangle": 4, "ellipse": 4, "polygon": 6, "polyline": 4, "points": 2, "cuboid": 16, "mask": 5}
EXACT = ("rectangle", "ellipse", "cuboid")


class Refused(Exception):
    """The server's answer is 400 with this message."""


@dataclass(frozen=True)
class _Schema:
    required: frozenset[str]
    types: Mapping[str, tuple[Any, ...]]
    limits: Mapping[str, Mapping[str, float]]


@cache
def _schema(model: type) -> _Schema:
    signature = inspect.signature(model._from_openapi_data)
    required = {n for n, p in signature.parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD and n != "cls"}
    limits = {path[0]: limit for path, limit in model.validations.items() if len(path) == 1}
    return _Schema(frozenset(required), model.openapi_types, limits)


def check_schema(model: type, value: Any, where: str = "body") -> None:
    """Raises Refused unless a JSON value is what the model of the published schema says."""
    if issubclass(model, ModelSimple):
        allowed = model.allowed_values[("value",)].values()
        if value not in allowed:
            raise Refused(f"{where}: {value!r} is not a valid choice")
        return
    if not isinstance(value, dict):
        raise Refused(f"{where}: expected an object")
    schema = _schema(model)
    if missing := schema.required - value.keys():
        raise Refused(f"{where}: {', '.join(sorted(missing))}: this field is required")
    for name, item in value.items():
        if name not in schema.types:
            raise Refused(f"{where}.{name}: there is no such field")
        _check_types(schema.types[name], item, f"{where}.{name}")
        for limit, bound in schema.limits.get(name, {}).items():
            if item is not None and not _within(item, limit, bound):
                raise Refused(f"{where}.{name}: {item!r} is beyond {limit} {bound}")


def _check_types(types: tuple[Any, ...], value: Any, where: str) -> None:
    for kind in types:
        if isinstance(kind, list):
            if isinstance(value, list):
                for i, item in enumerate(value):
                    _check_types(tuple(kind), item, f"{where}[{i}]")
                return
        elif isinstance(kind, type) and issubclass(kind, (ModelNormal, ModelSimple)):
            check_schema(kind, value, where)
            return
        elif kind is float:
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                return
        elif type(value) is kind:
            return
    raise Refused(f"{where}: {value!r} is of the wrong type")


def _within(value: Any, limit: str, bound: float) -> bool:
    return {
        "inclusive_minimum": lambda: value >= bound,
        "inclusive_maximum": lambda: value <= bound,
        "max_length": lambda: len(value) <= bound,
        "min_length": lambda: len(value) >= bound,
    }[limit]()


@dataclass(frozen=True)
class Scope:
    """labels: id -> label, as the server replies it. sizes: (width, height) of each frame. deleted: frames taken out."""

    labels: Mapping[int, Mapping[str, Any]]
    sizes: list[tuple[int, int]]
    deleted: frozenset[int] = frozenset()


def check_annotations(data: dict[str, Any], scope: Scope) -> None:
    """Raises Refused for annotations that the task of `scope` can't have."""
    check_schema(models.PatchedLabeledDataRequest, data)
    for name in ("tags", "shapes", "tracks"):
        for i, item in enumerate(data.get(name) or ()):
            where = f"{name}[{i}]"
            # What the server has itself may lie on frames that were taken out later.
            _check_frame(item["frame"], scope if item.get("id") is None else Scope(scope.labels, scope.sizes), where)
            label = scope.labels.get(item["label_id"])
            if label is None or label.get("parent_id") is not None:
                raise Refused(f"label_id `{item['label_id']}` is invalid")
            if name == "tags":
                _check_kind(label, "tag", where)
                _check_attributes(item, label, where)
            elif name == "shapes":
                _check_shape(item, label, scope, where)
            else:
                _check_track(item, label, scope, where)


def _check_frame(frame: int, scope: Scope, where: str) -> None:
    if not 0 <= frame < len(scope.sizes) or frame in scope.deleted:
        raise Refused(f"{where}.frame: the task has no frame {frame}")


def _check_kind(label: Mapping[str, Any], kind: str, where: str) -> None:
    if label["type"] not in ("any", kind):
        raise Refused(f"{where}: the label {label['name']} is of type {label['type']}, not {kind}")


def _check_attributes(item: dict[str, Any], label: Mapping[str, Any], where: str, mutable: bool | None = None) -> None:
    specs = {spec["id"]: spec for spec in label["attributes"] if mutable in (None, spec["mutable"])}
    seen = set()
    for value in item.get("attributes") or ():
        spec = specs.get(value["spec_id"])
        if spec is None or value["spec_id"] in seen:
            raise Refused(f"spec_id `{value['spec_id']}` is invalid")
        seen.add(value["spec_id"])
        model = models.AttributeRequest(
            name=spec["name"], mutable=spec["mutable"], input_type=spec["input_type"], values=spec["values"]
        )
        if not attribute_value_validator(model)(value["value"]):
            raise Refused(f"{where}: {value['value']!r} is no value of the attribute {spec['name']}")


def _check_shape(item: dict[str, Any], label: Mapping[str, Any], scope: Scope, where: str) -> None:
    _check_kind(label, item["type"], where)
    _check_attributes(item, label, where)
    _check_points(item, scope.sizes[item["frame"]], where)
    if item["type"] != "skeleton":
        if item.get("elements"):
            raise Refused(f"{where}: only skeletons have elements")
        return
    elements = item.get("elements") or []
    if sorted(e["label_id"] for e in elements) != sorted(s["id"] for s in label["sublabels"]):
        raise Refused(f"{where}.elements: expected each joint of {label['name']} once")
    if all(e.get("outside") for e in elements):
        raise Refused(f"{where}.elements: all joints are outside")
    sublabels = {s["id"]: s for s in label["sublabels"]}
    for j, element in enumerate(elements):
        if element["frame"] != item["frame"]:
            raise Refused(f"{where}.elements[{j}]: is on another frame")
        _check_kind(sublabels[element["label_id"]], element["type"], f"{where}.elements[{j}]")
        _check_attributes(element, sublabels[element["label_id"]], f"{where}.elements[{j}]")
        _check_points(element, scope.sizes[item["frame"]], f"{where}.elements[{j}]")


def _check_points(item: dict[str, Any], size_wh: tuple[int, int], where: str) -> None:
    kind, points = item["type"], item.get("points") or []
    if kind == "skeleton":
        if points:
            raise Refused(f"{where}.points: skeletons have none")
        return
    fewest = FEWEST_NUMBERS[kind]
    if len(points) < fewest or (kind in EXACT and len(points) != fewest) or (kind != "mask" and len(points) % 2):
        raise Refused(f"{where}.points: {len(points)} numbers make no {kind}")
    if kind == "mask":
        try:
            bitmap = decode_mask(points, image_width=size_wh[0], image_height=size_wh[1])
        except ValueError as error:
            raise Refused(f"{where}.points: {error}") from error
        if not bitmap.any():
            raise Refused(f"{where}.points: the mask is empty")
    if item.get("rotation") and kind not in ("rectangle", "ellipse"):
        raise Refused(f"{where}.rotation: a {kind} has none")


def _check_track(item: dict[str, Any], label: Mapping[str, Any], scope: Scope, where: str) -> None:
    _check_attributes(item, label, where, mutable=False)
    if not item["shapes"]:
        raise Refused(f"{where}.shapes: expected at least one")
    frames = [shape["frame"] for shape in item["shapes"]]
    if len(set(frames)) != len(frames):
        raise Refused(f"{where}.shapes: two on one frame")
    for j, shape in enumerate(item["shapes"]):
        at = f"{where}.shapes[{j}]"
        _check_frame(shape["frame"], Scope(scope.labels, scope.sizes), at)
        _check_kind(label, shape["type"], at)
        _check_attributes(shape, label, at, mutable=True)
        _check_points(shape, scope.sizes[shape["frame"]], at)
