"""Class names in lines of text: one on each, with ids or without; darknet's obj.data; TensorFlow's label map."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from common.errors import StartupError
from tools.new.class_lists.class_list import ClassList
from tools.new.class_lists.values import by_id

_SETTING = re.compile(r"\s*(classes|train|valid|names|backup|eval)\s*=\s*(.*?)\s*")
_NUMBERED = re.compile(r"(\d{1,6})\s*(?:[:=,;|\t]|\s)\s*(\S.*)")
_ITEM = re.compile(r"item\s*\{(.*?)\}", re.DOTALL)
_FIELD = re.compile(r"""(\w+)\s*:\s*(?:(\d+)|"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)')""")


def read_names(content: str, path: Path) -> ClassList:
    """One name on each line, with its id in front or without.

    Empty lines, and lines that begin with #, don't count; a single line may have several names with commas between them.

    Args:
        content: The file's text.
        path: The file, for messages and for what darknet's obj.data names.

    Raises:
        StartupError: The file that an obj.data names is missing or has another number of names.
    """
    given = [line.strip() for line in content.splitlines()]
    given = [line for line in given if line and not line.startswith("#")]
    settings = {match[1]: match[2] for line in given if (match := _SETTING.fullmatch(line))}
    if path.suffix.lower() == ".data" or ("names" in settings and len(settings) == len(given)):
        return _read_darknet(settings, path)
    if len(given) == 1 and "," in given[0]:
        given = [name.strip() for name in given[0].split(",") if name.strip()]
    return _numbered(given) or ClassList(tuple(_unquoted(given)))


def read_pbtxt(content: str, path: Path) -> ClassList:
    """TensorFlow's label map: `item { id: 1 name: 'cat' }`.

    Args:
        content: The file's text.
        path: The file, for messages.

    Raises:
        StartupError: An item has no id or no name, or two have the same id.
    """
    names: dict[int, str] = {}
    for item in _ITEM.findall(content):
        fields = {key: number or double or single for key, number, double, single in _FIELD.findall(item)}
        name = fields.get("display_name") or fields.get("name")
        if not name or not fields.get("id", "").isdecimal() or int(fields["id"]) in names:
            raise StartupError(
                f"LABELS: {path}: expected items with an id of their own and a name, got {item.strip()[:80]}"
            )
        names[int(fields["id"])] = name
    return by_id(names)


def _read_darknet(settings: dict[str, str], path: Path) -> ClassList:
    if not settings.get("names"):
        raise StartupError(f"LABELS: {path}: expected a line such as names = obj.names")
    named = Path(settings["names"].replace("\\", "/"))
    # Darknet's paths are relative to where it is run, mostly a folder above that of the file.
    places = [folder / named for folder in path.absolute().parents[:3]] + [path.with_name(named.name)]
    found = next((place for place in places if place.is_file() and place.suffix.lower() != ".data"), None)
    if found is None:
        raise StartupError(f"LABELS: {path}: no such file: {named}, which it says has the names")
    try:
        names = read_names(found.read_text(encoding="utf-8-sig"), found)
    except UnicodeDecodeError as error:
        raise StartupError(f"LABELS: {found}: not a text in UTF-8") from error
    if settings.get("classes", "").isdecimal() and int(settings["classes"]) != len(names.names):
        raise StartupError(
            f"LABELS: {path}: classes is {settings['classes']}, but {found} has {len(names.names)} names"
        )
    return names


def _numbered(given: Sequence[str]) -> ClassList | None:
    """Lines such as `0: cat`, where all ids, 0 or 1 and up without a gap, and different names show that they are ids."""
    matches = [match for line in given if (match := _NUMBERED.fullmatch(line))]
    ids, names = [int(match[1]) for match in matches], _unquoted([match[2] for match in matches])
    counts = ids in (list(range(len(given))), list(range(1, len(given) + 1)))
    if len(given) < 2 or not counts or len(set(names)) != len(names):
        return None
    return by_id(dict(zip(ids, names, strict=True)))


def _unquoted(names: Sequence[str]) -> list[str]:
    """Names without the quotation marks and commas of the list that they were copied from, if all have them."""
    bare = [name.removesuffix(",").rstrip() for name in names]
    for mark in ('"', "'"):
        if all(len(name) > 2 and name[0] == name[-1] == mark for name in bare):
            return [name[1:-1].strip() for name in bare]
    return bare if all(name.endswith(",") for name in names[:-1]) else list(names)
