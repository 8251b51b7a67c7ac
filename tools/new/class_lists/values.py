"""Class names in the value that a JSON, YAML or Python file holds."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from common.errors import StartupError, describe
from tools.new.class_lists.class_list import ClassList

# Where documents keep their classes, the most telling first: YOLO and Roboflow, COCO, Hugging Face, CVAT, torchvision, mmdet.
_KEYS = (
    *("names", "categories", "id2label", "label2id", "classes", "class_names", "classnames", "class_to_idx", "labels"),
    *("label_names", "label_map", "metainfo", "results", "tags"),
)
_NAME_KEYS = ("name", "class_name", "display_name", "label", "title", "class")
_ID_KEYS = ("id", "class_id", "category_id", "label_id", "index", "trainid")
_CVAT_KEYS = {"attributes", "sublabels", "svg", "type"}


def from_value(value: Any) -> ClassList:
    """Finds class names in a value.

    Args:
        value: A list of names, a map between ids and names, a list of objects with a name, or an object with one of
            these under one of the usual keys.

    Raises:
        StartupError: It has another form; what comes before the colon is for the caller to add.
    """
    if isinstance(value, (list, tuple)):
        return _from_list(value)
    if not isinstance(value, dict):
        raise StartupError(f"expected a list of class names, or ids with names, got {describe(value)}")
    for key in _KEYS:
        under = next((value[given] for given in value if str(given).lower() == key), None)
        if isinstance(under, (list, tuple, dict)) and under:
            found = from_value(under)
            _check_count(value, found)
            return found
    if "names" in value:
        raise StartupError(f"names: expected a list, or ids with names, got {describe(value['names'])}")
    return _from_map(value)


def by_id(names: Mapping[int, str]) -> ClassList:
    """The list of names that have ids.

    Args:
        names: By id, in any order.

    Raises:
        StartupError: An id is negative.
    """
    ids = sorted(names)
    if ids and ids[0] < 0:
        raise StartupError(f"expected ids of 0 or more, got {ids[0]}")
    return ClassList(tuple(names[i] for i in ids), tuple(ids))


def as_id(value: Any) -> int | None:
    """An id, None for anything else.

    Args:
        value: A whole number, or a text with one.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and re.fullmatch(r"\s*-?\d{1,9}\s*", value):
        return int(value)
    return value if isinstance(value, int) else None


def _from_list(items: Sequence[Any]) -> ClassList:
    if items and all(isinstance(item, dict) for item in items):
        return _from_objects(items)
    return ClassList(tuple(_name(item, f"item {i + 1} of the list") for i, item in enumerate(items)))


def _from_objects(items: Sequence[Mapping[Any, Any]]) -> ClassList:
    names = [_name(_first(item, _NAME_KEYS), f"the name of item {i + 1}") for i, item in enumerate(items)]
    found = [as_id(_first(item, _ID_KEYS)) for item in items]
    ids = [i for i in found if i is not None]
    if len(set(ids)) != len(items):
        return ClassList(tuple(names))
    # The ids of CVAT's labels are those of its data base, unless they count from 0; their order is the one to go by.
    of_cvat = any(_CVAT_KEYS & item.keys() or isinstance(item.get("color"), str) for item in items)
    if of_cvat and sorted(ids) != list(range(len(ids))):
        return ClassList(tuple(names))
    return by_id(dict(zip(ids, names, strict=True)))


def _from_map(value: Mapping[Any, Any]) -> ClassList:
    ids = [as_id(key) for key in value]
    if value and None not in ids:
        names = {}
        for number, name in zip(ids, value.values(), strict=True):
            own = _first(name, _NAME_KEYS) if isinstance(name, dict) else name
            names[number or 0] = _name(own, f"the name of class {number}")
        if len(names) != len(ids):
            raise StartupError("two names have the same id")
        return by_id(names)
    ids = [as_id(number) for number in value.values()]
    if not value or None in ids:
        raise StartupError(
            f"expected a list of class names, ids with names, or one of these under {', '.join(_KEYS[:5])}, got "
            f"{describe(value)}{f': {describe(next(iter(value)))}, ...' if value else ''}"
        )
    if len(set(ids)) != len(ids):
        raise StartupError("two names have the same id")
    return by_id({number or 0: _name(name, "a name") for name, number in zip(value, ids, strict=True)})


def _check_count(value: Mapping[Any, Any], found: ClassList) -> None:
    count = as_id(value.get("nc"))
    if count is not None and count != len(found.names):
        raise StartupError(f"nc is {count}, but there are {len(found.names)} names")


def _first(item: Mapping[Any, Any], keys: Sequence[str]) -> Any:
    lower = {str(key).lower(): value for key, value in item.items()}
    return next((lower[key] for key in keys if key in lower), None)


def _name(value: Any, what: str) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise StartupError(f"{what}: expected a text, got {describe(value)}")
    text = " ".join(str(value).split())
    if not text:
        raise StartupError(f"{what} is empty")
    return text
