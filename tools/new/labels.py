"""The labels of a function for a model: one for each class, of the type that the model's task gives."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from common.cvat.skeleton import COCO_EDGES, COCO_JOINTS, skeleton_svg
from common.errors import StartupError, describe
from common.networks.formats.metadata import class_names

LABEL_TYPES = {"detect": "rectangle", "segment": "mask", "pose": "skeleton", "obb": "rectangle", "classify": "tag"}


def make_labels(
    names: Sequence[str], task: str, joints: Sequence[str] = (), edges: Sequence[tuple[int, int]] = ()
) -> list[dict[str, Any]]:
    """The labels of a function for a model.

    Args:
        names: Names of the classes, in the model's order.
        task: The model's task: detect, segment, pose, obb or classify.
        joints: Names of a pose's joints.
        edges: Pairs of indices into joints that a line connects.

    Returns:
        Labels as JSON values for function.yaml, their ids in the order of the names.
    """
    labels: list[dict[str, Any]] = [
        {"id": i, "name": name, "type": LABEL_TYPES[task]} for i, name in enumerate(class_names(tuple(names)))
    ]
    if task == "pose":
        parts = [{"id": i, "name": joint, "type": "points"} for i, joint in enumerate(joints)]
        svg = skeleton_svg(joints, edges)
        for label in labels:
            label |= {"sublabels": parts, "svg": svg}
    return labels


def read_names(text: str) -> list[str]:
    """Reads class names from the command line.

    Args:
        text: Names separated by commas, or the path of a file: one name on each line, or a data set's YAML with `names`.

    Returns:
        The names.

    Raises:
        StartupError: There are no names, or a name is listed twice.
    """
    path = Path(text).expanduser()
    if path.suffix in (".txt", ".names", ".yaml", ".yml") and "," not in text:
        try:
            content = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not a text in UTF-8"
            raise StartupError(f"LABELS: {path}: {reason}") from error
        names = _from_yaml(path, content) if path.suffix in (".yaml", ".yml") else content.splitlines()
    else:
        names = text.split(",")
    cleaned = [name.strip() for name in names if name.strip()]
    if not cleaned:
        raise StartupError(
            f"LABELS: expected names with commas between them or a file with names, got {describe(text)}"
        )
    if repeated := sorted({name for name in cleaned if cleaned.count(name) > 1}):
        raise StartupError(f"LABELS: {', '.join(repeated)} is listed more than once")
    return cleaned


def read_joints(text: str, count: int | None, known: Sequence[str] | None) -> list[str]:
    """The names of a skeleton's joints.

    Args:
        text: Names separated by commas, a number of joints, or empty.
        count: How many joints the model finds; None if its file doesn't say.
        known: Names from the file, if it has any.

    Returns:
        The names: those given, the file's, COCO's for seventeen joints, or numbered ones.

    Raises:
        StartupError: The names don't fit the model, or the number of joints is unknown.
    """
    if text.isdecimal():
        if count not in (None, int(text)):
            raise StartupError(f"JOINTS: the model finds {count} joints, got {text}")
        count, text = int(text), ""
    if text:
        names = [name.strip() for name in text.split(",") if name.strip()]
        if count is not None and len(names) != count:
            raise StartupError(f"JOINTS: the model finds {count} joints, got {len(names)} names")
        return names
    if count is None:
        raise StartupError("JOINTS: the file doesn't say how many joints there are: give their names, or their number")
    if known is not None and len(known) == count and len(set(known)) == count:
        return list(known)
    return list(COCO_JOINTS) if count == len(COCO_JOINTS) else [f"joint {i}" for i in range(1, count + 1)]


def read_edges(text: str, joints: Sequence[str]) -> list[tuple[int, int]]:
    """The lines of a skeleton.

    Args:
        text: Pairs such as `1-2,2-3`, by number from 1, or `nose-left_eye`, by name; empty for COCO's lines between COCO's
            joints, and none between others.
        joints: The names of the joints.

    Returns:
        Pairs of indices into joints.

    Raises:
        StartupError: A pair is neither of both.
    """
    if not text.strip():
        return list(COCO_EDGES) if tuple(joints) == COCO_JOINTS else []
    edges = []
    for item in text.split(","):
        edge = _edge(item, joints)
        if edge is None or edge[0] == edge[1]:
            raise StartupError(
                f"EDGES: expected pairs of joints such as 1-2,2-3 (numbers from 1 to {len(joints)}) or names with a dash "
                f"between them, got {describe(item.strip())}"
            )
        edges.append(edge)
    return edges


def _edge(item: str, joints: Sequence[str]) -> tuple[int, int] | None:
    # A joint's name may hold dashes itself: take the split at which both ends are joints.
    parts = item.split("-")
    for i in range(1, len(parts)):
        first, second = (_joint_index("-".join(end).strip(), joints) for end in (parts[:i], parts[i:]))
        if first is not None and second is not None:
            return first, second
    return None


def _joint_index(text: str, joints: Sequence[str]) -> int | None:
    if text in joints:
        return list(joints).index(text)
    if re.fullmatch(r"\d+", text) and 1 <= int(text) <= len(joints):
        return int(text) - 1
    return None


def _from_yaml(path: Path, content: str) -> list[str]:
    try:
        parsed = yaml.safe_load(content)
    except yaml.YAMLError as error:
        raise StartupError(f"LABELS: {path}: not YAML: {' '.join(str(error).split())}") from error
    names = parsed.get("names") if isinstance(parsed, dict) else parsed
    if isinstance(names, dict):
        names = [names[key] for key in sorted(names)]
    if not isinstance(names, list):
        raise StartupError(f"LABELS: {path}: expected a list under names, got {describe(names)}")
    return [str(name) for name in names]
