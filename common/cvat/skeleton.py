"""The SVG template of a skeleton label, by which CVAT draws and edits its joints and edges."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from common.errors import StartupError

_FORBIDDEN = set("\"<>&'")
_MARGIN = 5.0  # percent of the template's side left free around the joints

COCO_JOINTS = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip
COCO_EDGES = (
    (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9), (8, 10),
    (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
)  # fmt: skip
# A standing person seen from the front, so that the person's left is on the right of the picture.
_COCO_LAYOUT = (
    (50, 10), (54, 7), (46, 7), (59, 9), (41, 9), (65, 24), (35, 24), (72, 40), (28, 40), (75, 55), (25, 55), (59, 53),
    (41, 53), (61, 74), (39, 74), (62, 95), (38, 95),
)  # fmt: skip


def default_layout(joints: Sequence[str]) -> list[tuple[float, float]]:
    """Default places of joints: COCO's seventeen as a person, others on a circle in order.

    Args:
        joints: Their names.

    Returns:
        (x, y) of each in percent of the template.
    """
    if tuple(joints) == COCO_JOINTS:
        return [(float(x), float(y)) for x, y in _COCO_LAYOUT]
    if len(joints) == 1:
        return [(50.0, 50.0)]
    turn = 2 * math.pi / len(joints)
    radius = 50 - _MARGIN
    return [(50 + radius * math.sin(turn * i), 50 - radius * math.cos(turn * i)) for i in range(len(joints))]


def skeleton_svg(
    joints: Sequence[str],
    edges: Sequence[tuple[int, int]] = (),
    layout: Sequence[tuple[float, float]] | Mapping[str, tuple[float, float]] | None = None,
) -> str:
    """The `svg` of a skeleton label.

    Args:
        joints: Names, unique, in the order of the sublabels.
        edges: Pairs of indices into `joints`.
        layout: A place for each joint in percent of the template, (0, 0) top left to (100, 100); None for
            `default_layout`.

    Raises:
        StartupError: Names, edges and places don't fit together.
    """
    if not joints:
        raise StartupError("skeleton: expected at least one joint")
    if len(set(joints)) != len(joints):
        raise StartupError("skeleton: joint names must be unique")
    for name in joints:
        # CVAT looks for data-label-name="<name>" as plain text, so an escaped name would never be found.
        if not name or _FORBIDDEN & set(name):
            raise StartupError(f"skeleton: the joint name {name!r} is empty or has one of \" ' < > &")
    if layout is None:
        places = default_layout(joints)
    elif isinstance(layout, Mapping):
        if missing := [name for name in joints if name not in layout]:
            raise StartupError(f"skeleton: the layout has no place for {', '.join(missing)}")
        places = [layout[name] for name in joints]
    else:
        places = list(layout)
    if len(places) != len(joints):
        raise StartupError(f"skeleton: {len(joints)} joints but {len(places)} places")
    for name, (x, y) in zip(joints, places, strict=True):
        if not (0 <= x <= 100 and 0 <= y <= 100):
            raise StartupError(f"skeleton: the place ({x}, {y}) of {name} is not in 0 to 100 percent")
    lines = []
    seen = set()
    for a, b in edges:
        if not (0 <= a < len(joints) and 0 <= b < len(joints)) or a == b:
            raise StartupError(f"skeleton: the edge ({a}, {b}) does not join two of {len(joints)} joints")
        if (min(a, b), max(a, b)) in seen:
            continue
        seen.add((min(a, b), max(a, b)))
        (x1, y1), (x2, y2) = places[a], places[b]
        lines.append(
            f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="black" data-type="edge" '
            f'data-node-from="{a + 1}" stroke-width="0.5" data-node-to="{b + 1}"></line>'
        )
    circles = [
        f'<circle r="1.5" stroke="black" fill="#b3b3b3" cx="{x:g}" cy="{y:g}" stroke-width="0.1" '
        f'data-type="element node" data-element-id="{i}" data-node-id="{i}" data-label-name="{name}"></circle>'
        for i, (name, (x, y)) in enumerate(zip(joints, places, strict=True), 1)
    ]
    return "".join(lines + circles)


def skeleton_edges(svg: str) -> list[tuple[int, int]]:
    """The pairs of joints, counted from 0, that the template of a skeleton label joins.

    Args:
        svg: The template; a text without any `<line>` has no pairs.
    """
    edges = []
    for line in re.findall(r"<line\b[^>]*>", svg):
        ends = [re.search(rf'data-node-{end}="(\d+)"', line) for end in ("from", "to")]
        if ends[0] and ends[1]:
            edges.append((int(ends[0][1]) - 1, int(ends[1][1]) - 1))
    return edges
