"""Maps the labels of a function to those of a task: by name, or as a file or the command line says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from common.cvat.annotation import LabelIds
from common.cvat.labels import Attribute, Label, Labels
from common.errors import describe
from tools.annotate.errors import CannotRun


@dataclass(frozen=True, slots=True)
class TaskLabel:
    """A label of a task."""

    label: Label
    """With the ids of the label and its sublabels."""
    attribute_ids: Mapping[str, int] = field(default_factory=dict)
    """The ids of its attributes by name."""

    @classmethod
    def from_server(cls, raw: Mapping[str, Any]) -> TaskLabel:
        """A label as the server's REST API describes it.

        Args:
            raw: the JSON object.
        """
        return cls(_label(raw), {attribute["name"]: attribute["id"] for attribute in raw.get("attributes") or ()})

    @property
    def ids(self) -> LabelIds:
        """Its ids, by the task's own names."""
        joints = [(sublabel.id, sublabel.name) for sublabel in self.label.sublabels]
        return LabelIds(self.label.id, self.attribute_ids, joints)

    @classmethod
    def own(cls, label: Label) -> TaskLabel:
        """A label of a function as if a task had it, with the ids of `LabelIds.own`.

        Args:
            label: the function's.
        """
        return cls(label, LabelIds.own(label).attributes)


@dataclass(frozen=True, slots=True)
class Target:
    """Where the annotations of a function's label go."""

    label: Label
    """The task's."""
    ids: LabelIds
    """The task's ids, by the function's names of attributes and joints."""
    attributes: Mapping[str, Attribute]
    """The task's, by the function's names."""


@dataclass(frozen=True)
class LabelMapping:
    """The task's labels by those of the function."""

    targets: Mapping[str, Target | None]
    """Function's label -> where it goes, None when it is left out."""
    leave_out_unknown: bool = False
    """Whether shapes that have no place in the task are left out; otherwise they are errors."""

    def rows(self) -> list[tuple[str, str]]:
        """What goes where, in words: (function's label, task's label with its attributes)."""
        return [(name, "left out" if target is None else _words(target)) for name, target in self.targets.items()]


Given = Mapping[str, Any]
"""What the user says: function's label -> task's label, None, or {"name", "attributes", "sublabels"}."""


def read_mapping(path: Path | None, pairs: Sequence[str]) -> dict[str, Any]:
    """What the options --mapping and --map say.

    Args:
        path: a JSON or YAML file; None for none.
        pairs: texts such as "car=vehicle", which take precedence over the file.

    Raises:
        CannotRun: when one of them has another form.
    """
    given: dict[str, Any] = {}
    if path is not None:
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise CannotRun(f"{path}: can't be read: {error}") from error
        if not isinstance(content, dict):
            raise CannotRun(f"{path}: expected an object of function's label: task's label, got {describe(content)}")
        given.update({str(name): _wish(value, f"{path}: label {str(name)!r}") for name, value in content.items()})
    for pair in pairs:
        name, separator, target = pair.partition("=")
        if not separator or not name:
            raise CannotRun(f"--map: expected FUNCTION_LABEL=TASK_LABEL, got {pair!r}")
        given[name] = target or None
    return given


def _wish(value: Any, where: str) -> Any:
    """What a mapping file says of one label, checked to be as `Given` describes it."""
    if not isinstance(value, Mapping):
        return _partner(value, where)
    if unknown := sorted(str(key) for key in value.keys() - {"name", "attributes", "sublabels"}):
        raise CannotRun(f"{where}: expected name, attributes and sublabels, got {', '.join(unknown)}")
    wish: dict[str, Any] = {}
    if "name" in value:
        wish["name"] = _partner(value["name"], f"{where}, name")
    for part in value.keys() & {"attributes", "sublabels"}:
        pairs = value[part] or {}
        if not isinstance(pairs, Mapping):
            raise CannotRun(f"{where}, {part}: expected an object of function's: task's, got {describe(pairs)}")
        wish[part] = {}
        for name, target in pairs.items():
            # CVAT's own form of a mapping has an object for a joint.
            named = target.get("name", name) if part == "sublabels" and isinstance(target, Mapping) else target
            wish[part][str(name)] = _partner(named, f"{where}, {part}, {name}")
    return wish


def _partner(value: Any, where: str) -> str | None:
    """The name of a label, attribute or joint of the task, or None. YAML takes some names for numbers."""
    if value is None or (isinstance(value, (str, int, float)) and not isinstance(value, bool)):
        return None if value is None else str(value)
    raise CannotRun(f"{where}: expected a name of the task, or null, got {describe(value)}")


def match_labels(
    function: Labels | None,
    task: Sequence[TaskLabel],
    given: Given,
    *,
    allow_unmatched: bool,
    convert_masks: bool,
) -> LabelMapping:
    """Maps a function's labels to a task's; those that `given` does not name, to labels of the same name.

    Args:
        function: the function's labels; None when they are not known: then those of the task are taken for them.
        task: the task's labels.
        given: what the user says.
        allow_unmatched: leave out labels, attributes and joints that the task does not have; otherwise they are errors.
        convert_masks: masks are stored as polygons.

    Raises:
        CannotRun: lists everything that does not fit.
    """
    targets = {target.label.name: target for target in task}
    wishes = {name: wish if isinstance(wish, Mapping) else {"name": wish} for name, wish in given.items()}
    known = list(function.values()) if function is not None else _assumed(targets, wishes)
    problems = [
        f"the mapping names {name!r}, which the function does not have"
        for name in wishes.keys() - {label.name for label in known}
    ]
    matched: dict[str, Target | None] = {}
    for label in known:
        matched[label.name] = None
        details = wishes.get(label.name, {})
        wanted = details.get("name", label.name)
        if wanted is None:
            continue
        target = targets.get(wanted)
        problems += [
            f"the mapping names the {word} {name!r} of {label.name!r}, which the function does not have"
            for word, part, theirs in (
                ("attribute", "attributes", label.attributes),
                ("joint", "sublabels", label.sublabels),
            )
            for name in sorted(details.get(part, {}).keys() - {item.name for item in theirs})
        ]
        if target is None:
            problems.append(f"label {label.name!r}: the task has no label {wanted!r}")
        elif (kind := stored_type(label, convert_masks)) != "any" and target.label.type not in ("any", kind):
            hint = mask_hint(kind, target.label.type)
            problems.append(
                f"label {label.name!r}: the function returns {_a(kind)}, the task's label takes {_a(target.label.type)}{hint}"
            )
        else:
            matched[label.name], missing = _target(label, target, details, known_types=function is not None)
            problems.extend(missing)
    if problems and not (allow_unmatched and all(problem.startswith("label") for problem in problems)):
        remedy = "map them with --mapping or --map, or leave them out with --allow-unmatched"
        raise CannotRun("the function's labels don't fit the task:\n  " + "\n  ".join(problems) + f"\n{remedy}")
    if not any(matched.values()):
        have = ", ".join(map(repr, targets)) or "none"
        raise CannotRun(f"the task has none of the function's labels; its labels are: {have}")
    return LabelMapping(matched, leave_out_unknown=allow_unmatched)


def _assumed(targets: Mapping[str, TaskLabel], wishes: Mapping[str, Mapping[str, Any]]) -> list[Label]:
    """The labels assumed for a function that is not known: those of the task, and those that the mapping names."""
    labels = {name: target.label for name, target in targets.items()}
    for name, details in wishes.items():
        target = targets.get(details.get("name", name))
        labels[name] = _renamed(target.label if target else Label(name="", id=0), name, details)
    return list(labels.values())


def _renamed(label: Label, name: str, details: Mapping[str, Any]) -> Label:
    """A label of a task as the function's label that is mapped to it: of any type, with the function's names."""

    def named(items: tuple[Any, ...], pairs: Mapping[str, str | None], nothing: Any) -> tuple[Any, ...]:
        by_name = {item.name: item for item in items}
        # Names that the task does not have are reported with all other problems.
        wished = [replace(by_name.get(theirs or "", nothing), name=ours) for ours, theirs in pairs.items()]
        return (*wished, *(item for item in items if item.name not in pairs and item.name not in pairs.values()))

    return Label(
        name=name,
        id=label.id,
        attributes=named(label.attributes, details.get("attributes", {}), Attribute("", "text")),
        sublabels=named(label.sublabels, details.get("sublabels", {}), Label("", 0)),
    )


def _target(label: Label, target: TaskLabel, details: Mapping[str, Any], known_types: bool) -> tuple[Target, list[str]]:
    """Where a label goes, and a line for each of its attributes and joints that has no place there."""
    missing = []
    attribute_names, joint_names = details.get("attributes", {}), details.get("sublabels", {})
    attributes: dict[str, Attribute] = {}
    ids: dict[str, int] = {}
    for attribute in label.attributes:
        name = attribute_names.get(attribute.name, attribute.name)
        found = target.label.attribute(name) if name is not None else None
        where = f"label {label.name!r}, attribute {attribute.name!r}"
        if found is not None:
            attributes[attribute.name], ids[attribute.name] = found, target.attribute_ids[found.name]
            if known_types and found.input_type not in ("text", attribute.input_type):
                missing.append(f"{where}: is of type {attribute.input_type}, the task's of type {found.input_type}")
        elif name is not None:
            missing.append(f"{where}: the task's label has no such attribute")
    partners: dict[str, str] = {}
    for joint in label.sublabels:
        name = joint_names.get(joint.name, joint.name)
        if name is not None:
            if name not in (sublabel.name for sublabel in target.label.sublabels):
                missing.append(f"label {label.name!r}, joint {joint.name!r}: the task's skeleton has no such joint")
            partners[name] = joint.name
    joints = [(sublabel.id, partners.get(sublabel.name)) for sublabel in target.label.sublabels]
    return Target(target.label, LabelIds(target.label.id, ids, joints), attributes), missing


def mask_hint(given: str, wanted: str) -> str:
    """How a type that does not fit could be made to: the end of an error, or "".

    Args:
        given: the type of the function's shapes.
        wanted: the type of the task's label.
    """
    return "; --convert-masks stores masks as polygons" if (given, wanted) == ("mask", "polygon") else ""


def stored_type(label: Label, convert_masks: bool) -> str:
    """The type of a label's shapes as they are stored.

    Args:
        label: the function's.
        convert_masks: masks are stored as polygons.
    """
    return "polygon" if convert_masks and label.type == "mask" else label.type


def _label(raw: Mapping[str, Any]) -> Label:
    return Label(
        name=raw["name"],
        id=raw["id"],
        type=raw.get("type") or "any",
        attributes=tuple(
            Attribute(
                name=attribute["name"],
                input_type=attribute["input_type"],
                values=tuple(attribute["values"]),
                mutable=bool(attribute.get("mutable")),
                default_value=attribute.get("default_value") or "",
            )
            for attribute in raw.get("attributes") or ()
        ),
        sublabels=tuple(_label(sublabel) for sublabel in raw.get("sublabels") or ()),
        svg=raw.get("svg") or "",
        color=raw.get("color") or "",
    )


def _words(target: Target) -> str:
    words = f"{target.label.name} ({target.label.type})"
    if target.attributes:
        pairs = (name if name == a.name else f"{name} as {a.name}" for name, a in target.attributes.items())
        words += f", attributes {', '.join(pairs)}"
    return words


def _a(kind: str) -> str:
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"
