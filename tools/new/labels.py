"""The labels of a function for a model: one for each class, of the type that the model's task gives."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from common.cvat.skeleton import COCO_EDGES, COCO_JOINTS, skeleton_svg
from common.errors import StartupError, describe
from common.networks.formats.metadata import class_names

LABEL_TYPES = {"detect": "rectangle", "segment": "mask", "pose": "skeleton", "obb": "rectangle", "classify": "tag"}


def make_labels(
    names: Sequence[str] | Mapping[int, str],
    task: str,
    joints: Sequence[str] = (),
    edges: Sequence[tuple[int, int]] = (),
) -> list[dict[str, Any]]:
    """The labels of a function for a model.

    Args:
        names: Names of the classes: in the model's order, or by class index where not all have one.
        task: The model's task: detect, segment, pose, obb or classify.
        joints: Names of a pose's joints.
        edges: Pairs of indices into joints that a line connects.

    Returns:
        Labels as JSON values for function.yaml, their ids the indices of the classes.
    """
    by_index = names if isinstance(names, Mapping) else dict(enumerate(names))
    labels: list[dict[str, Any]] = [
        {"id": i, "name": name, "type": LABEL_TYPES[task]}
        for i, name in zip(by_index, class_names(tuple(by_index.values())), strict=True)
    ]
    if task == "pose":
        parts = [{"id": i, "name": joint, "type": "points"} for i, joint in enumerate(joints)]
        svg = skeleton_svg(joints, edges)
        for label in labels:
            label |= {"sublabels": parts, "svg": svg}
    return labels


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
