"""Pictures of drawn things whose exact place is known: for training, for tests and for the demo.

Everything is drawn from signed distances: a pixel belongs to a thing when its centre lies inside the thing's outline, and
takes the thing's colour as far as the outline covers it. So masks, boxes, outlines, angles and joints are exact, not
measured from the picture. Coordinates are pixels with (0, 0) the outer corner of the top left one, as in
`common.shapes`. The same seed and size give the same picture.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from common.shapes import Joint
from common.vision.geometry import points_bounds_xyxy, rotated_corners, rotated_size_wh

SHAPES = ("circle", "square", "triangle")
RECTANGLES = ("bar", "tile")
FIGURES = ("figure",)
JOINTS = ("head", "neck", "left_hand", "right_hand", "left_hip", "right_hip", "left_foot", "right_foot")
BONES = ((0, 1), (1, 2), (1, 3), (1, 4), (1, 5), (4, 5), (4, 6), (5, 7))  # pairs of indices into JOINTS

Size = tuple[int, int]
Floats = NDArray[np.float64]
_Distance = Callable[[Floats, Floats], Floats]

_ATTEMPTS = 40  # how often a place is looked for before a thing is left out
_CONTRAST = 110.0  # how far, at least, a thing's colour is from what is behind it (Euclidean, RGB 0 to 255)


@dataclass(frozen=True, slots=True, eq=False)
class Thing:
    """One drawn object.

    mask: (H, W) bool, the pixels of the picture where it is seen: covered parts are not in it.
    box_xyxy: (left, top, right, bottom) around the mask.
    outline_xy: (N, 2) corners of the whole thing, covered or not; a circle has 90; none (0, 2) for a figure.
    rotated: (cx, cy, w, h, degrees) of a square or rectangle, whole: w is the longer side, degrees are clockwise on the
        screen from the x axis to that side, 0 to 180; None for other things.
    joints: those of a figure, all of JOINTS in order; one that is covered or out of the picture is not visible, but its
        coordinates are right all the same.
    size: diameter, longest side, or a figure's height when it stands upright, in pixels.
    """

    label: str
    class_id: int
    mask: NDArray[np.bool_]
    box_xyxy: tuple[float, float, float, float]
    outline_xy: Floats
    size: float
    rotated: tuple[float, float, float, float, float] | None = None
    joints: tuple[Joint, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """image: (H, W, 3) uint8 RGB. things: what is in it, the lowest first."""

    image: NDArray[np.uint8]
    things: tuple[Thing, ...]


def draw_shapes(seed: int, size_hw: Size = (480, 640), count: int | None = None) -> Scene:
    """Circles, squares and triangles at any angle; each covers at most a quarter of the visible part of another.

    Args:
        seed: The same seed and size give the same scene.
        size_hw: (height, width) in pixels.
        count: How many to draw; None for 1 to 5. Fewer when there is no room.
    """
    rng = np.random.default_rng(seed)
    canvas = _Canvas(rng, size_hw)
    drafts: list[_Draft] = []
    for _ in range(count or int(rng.integers(1, 6))):
        draft = _place(canvas, drafts, lambda: _random_shape(rng, size_hw, (0.09, 0.23)), seen_part=0.75)
        if draft:
            drafts.append(draft)
    return canvas.scene(drafts)


def draw_single(seed: int, size_hw: Size = (480, 640)) -> Scene:
    """One circle, square or triangle, large and near the middle.

    Args:
        seed: The same seed and size give the same scene.
        size_hw: (height, width) in pixels.
    """
    rng = np.random.default_rng(seed)
    canvas = _Canvas(rng, size_hw)
    draft = _random_shape(rng, size_hw, (0.16, 0.36), middle=True)
    canvas.paint(canvas.footprint(draft), 0)
    return canvas.scene([draft])


def draw_rectangles(seed: int, size_hw: Size = (480, 640), count: int | None = None) -> Scene:
    """Bars (three to four times as long as wide) and tiles (one and a half to twice), at any angle, hardly covered.

    Args:
        seed: The same seed and size give the same scene.
        size_hw: (height, width) in pixels.
        count: How many to draw; None for 1 to 5. Fewer when there is no room.
    """
    rng = np.random.default_rng(seed)
    canvas = _Canvas(rng, size_hw)
    drafts: list[_Draft] = []
    for _ in range(count or int(rng.integers(1, 6))):
        draft = _place(canvas, drafts, lambda: _random_rectangle(rng, size_hw), seen_part=0.9)
        if draft:
            drafts.append(draft)
    return canvas.scene(drafts)


def draw_figures(seed: int, size_hw: Size = (480, 640), count: int | None = None) -> Scene:
    """Stick figures seen from the front: a figure's left hand is on the right of the picture.

    A block covers a hand or a foot of some; some stand partly outside the picture.

    Args:
        seed: The same seed and size give the same scene.
        size_hw: (height, width) in pixels.
        count: How many to draw; None for 1 to 3. Fewer when there is no room.
    """
    rng = np.random.default_rng(seed)
    canvas = _Canvas(rng, size_hw)
    drafts: list[_Draft] = []
    wanted = count or int(rng.integers(1, 4))
    for _ in range(wanted):
        draft = _place(canvas, drafts, lambda: _random_figure(rng, size_hw, alone=wanted == 1), seen_part=0.95)
        if draft is None:
            continue
        drafts.append(draft)
        if rng.random() < 0.5:
            limb = draft.joints_xy[int(rng.choice([2, 3, 6, 7]))]
            block = canvas.footprint(_random_block(rng, limb, draft.size))
            if canvas.seen_parts(block, len(drafts)).min() > 0.7:
                canvas.paint(block, _NOTHING)
    return canvas.scene(drafts)


_NOTHING = -1  # the owner of background and of what only covers
_NO_OUTLINE: Floats = np.zeros((0, 2))


@dataclass(frozen=True, slots=True, eq=False)
class _Draft:
    """A thing before it is known what of it will be seen. parts: distances, painted one after the other."""

    label: str
    class_id: int
    parts: tuple[_Distance, ...]
    reach_xyxy: tuple[float, float, float, float]  # a box that holds all of it
    area: float  # in pixels, as far as it is known without drawing; 0 when not
    outline_xy: Floats
    size: float
    rotated: tuple[float, float, float, float, float] | None = None
    joints_xy: Floats = field(default_factory=lambda: np.zeros((0, 2)))


@dataclass(frozen=True, slots=True, eq=False)
class _Footprint:
    """A draft in a picture's pixels.

    window: rows and columns of the picture around it. x: (1, w), y: (h, 1), the centres of the window's pixels.
    distances: (h, w) for each of the draft's parts. inside: (h, w), the pixels of any part.
    """

    draft: _Draft
    window: tuple[slice, slice]
    x: Floats
    y: Floats
    distances: tuple[Floats, ...]
    inside: NDArray[np.bool_]


class _Canvas:
    """The picture while it is made: `owner` says for each pixel which draft is seen there."""

    def __init__(self, rng: np.random.Generator, size_hw: Size):
        self._rng = rng
        self._size_hw = size_hw
        self._image = _background(rng, size_hw)
        self._owner = np.full(size_hw, _NOTHING, np.int16)

    def footprint(self, draft: _Draft) -> _Footprint:
        """Where a draft would lie in this picture."""
        height, width = self._size_hw
        left, top, right, bottom = draft.reach_xyxy
        x0, x1 = (int(np.clip(v, 0, width)) for v in (math.floor(left) - 1, math.ceil(right) + 1))
        y0, y1 = (int(np.clip(v, 0, height)) for v in (math.floor(top) - 1, math.ceil(bottom) + 1))
        x, y = np.arange(x0, x1, dtype=np.float64)[None] + 0.5, np.arange(y0, y1, dtype=np.float64)[:, None] + 0.5
        distances = tuple(part(x, y) for part in draft.parts)
        inside = np.logical_or.reduce([distance < 0 for distance in distances])
        return _Footprint(draft, (slice(y0, y1), slice(x0, x1)), x, y, distances, inside)

    def seen_parts(self, footprint: _Footprint, count: int) -> Floats:
        """How much of what is now seen of each of `count` drafts would be seen with one more on top: 0 to 1 each.

        0 also for one that would fall to pieces or get a hole.
        """
        left = np.ones(count)
        for i in np.unique(self._owner[footprint.window][footprint.inside]):
            if i == _NOTHING:
                continue
            whole = self._owner == i
            before, contours_before = np.count_nonzero(whole), _contours(whole)
            whole[footprint.window] &= ~footprint.inside
            left[i] = np.count_nonzero(whole) / before if _contours(whole) <= contours_before else 0.0
        return left

    def paint(self, footprint: _Footprint, owner: int) -> None:
        """Draws over what is there, in a colour that stands out from it."""
        behind = self._image[footprint.window]
        below = behind[footprint.inside].mean(axis=0) if footprint.inside.any() else np.full(3, 127.0)
        for distance in footprint.distances:
            cover = np.clip(0.5 - distance, 0, 1).astype(np.float32)[..., None]
            behind += cover * (self._filling(footprint, _far_colour(self._rng, below)) - behind)
        self._owner[footprint.window][footprint.inside] = owner

    def scene(self, drafts: list[_Draft]) -> Scene:
        """The finished picture; a draft of which nothing is seen is left out."""
        height, width = self._size_hw
        grain = self._rng.uniform(0, 10) * self._rng.standard_normal((128, 128, 3), np.float32)
        repeats = (-(-height // 128), -(-width // 128), 1)
        image = np.clip(self._image + np.tile(grain, repeats)[:height, :width] + 0.5, 0, 255).astype(np.uint8)
        things = []
        for i, draft in enumerate(drafts):
            mask = self._owner == i
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            if rows.size:
                box = (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
                joints = tuple(
                    Joint(name, float(x), float(y), self._owner_at(x, y) == i)
                    for name, (x, y) in zip(JOINTS, draft.joints_xy, strict=False)
                )
                things.append(
                    Thing(draft.label, draft.class_id, mask, box, draft.outline_xy, draft.size, draft.rotated, joints)
                )
        return Scene(image, tuple(things))

    def _owner_at(self, x: float, y: float) -> int:
        height, width = self._size_hw
        inside = 0 <= x < width and 0 <= y < height
        return int(self._owner[int(y), int(x)]) if inside else _NOTHING

    def _filling(self, footprint: _Footprint, colour: Floats) -> NDArray[np.float32]:
        """(h, w, 3): a colour that changes a little along a line, with faint stripes at times."""
        turn = self._rng.uniform(0, 2 * math.pi)
        along = (footprint.x * math.cos(turn) + footprint.y * math.sin(turn)) / footprint.draft.size
        shade = self._rng.uniform(-25, 25) * np.sin(along * 2 + self._rng.uniform(0, 6))
        if self._rng.random() < 0.3:
            shade = shade + 10 * np.sin(along * self._rng.uniform(15, 40))
        filling: NDArray[np.float32] = np.asarray(colour + shade[..., None], np.float32)
        return filling


def _contours(mask: NDArray[np.bool_]) -> int:
    """How many pieces and holes together a (H, W) bitmap has."""
    return len(cv2.findContours(mask.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)[0])


def _background(rng: np.random.Generator, size_hw: Size) -> NDArray[np.float32]:
    """(H, W, 3) float32: a gradient with blotches, and thin lines that belong to nothing."""
    height, width = size_hw
    base = rng.uniform(40, 215, 3)
    corners = (base + rng.uniform(-40, 40, (2, 2, 3))).astype(np.float32)
    image = cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR)
    cells = int(rng.integers(3, 24))
    blotches = (rng.uniform(0, 14) * rng.standard_normal((cells, cells, 3))).astype(np.float32)
    image += cv2.resize(blotches, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(int(rng.integers(0, 5))):
        start, end = (rng.uniform(0, 1, 2) * (width, height) for _ in range(2))
        colour = tuple(float(v) for v in base + rng.uniform(-60, 60, 3))
        thickness = max(1, round(min(size_hw) * rng.uniform(0.001, 0.005)))
        cv2.line(image, tuple(start.astype(int).tolist()), tuple(end.astype(int).tolist()), colour, thickness)
    picture: NDArray[np.float32] = np.clip(image, 0, 255)
    return picture


def _far_colour(rng: np.random.Generator, below: Floats) -> Floats:
    colour = rng.uniform(0, 255, 3)
    while np.linalg.norm(colour - below) < _CONTRAST:
        colour = rng.uniform(0, 255, 3)
    return colour


def _place(canvas: _Canvas, drafts: list[_Draft], propose: Callable[[], _Draft], seen_part: float) -> _Draft | None:
    """Paints the first proposal that leaves at least `seen_part` of every earlier draft; None when none does.

    The same part of the proposal itself has to lie in the picture, where its area is known.
    """
    for _ in range(_ATTEMPTS):
        draft = propose()
        footprint = canvas.footprint(draft)
        in_picture = np.count_nonzero(footprint.inside) / draft.area if draft.area else float(footprint.inside.any())
        if in_picture >= max(seen_part, 0.85) and (canvas.seen_parts(footprint, len(drafts)) >= seen_part).all():
            canvas.paint(footprint, len(drafts))
            return draft
    return None


def _random_shape(rng: np.random.Generator, size_hw: Size, radii: tuple[float, float], middle: bool = False) -> _Draft:
    """radii: least and greatest radius as parts of the picture's shorter side."""
    height, width = size_hw
    short = min(size_hw)
    radius = short * rng.uniform(*radii)
    if middle:
        center = np.array([width / 2, height / 2]) + rng.uniform(-1, 1, 2) * (0.5 * short - radius)
    else:
        center = rng.uniform(0.8 * radius, np.array([width, height]) - 0.8 * radius)
    class_id, turn = int(rng.integers(3)), rng.uniform(0, 2 * math.pi)
    reach = (*(center - radius), *(center + radius))
    if class_id == 0:
        angles = np.arange(90) * (2 * math.pi / 90)
        outline = center + radius * np.stack((np.cos(angles), np.sin(angles)), axis=1)
        return _Draft(SHAPES[0], 0, (_circle(center, radius),), reach, math.pi * radius**2, outline, 2 * radius)
    if class_id == 1:
        side = radius * math.sqrt(2)
        return _rectangle(SHAPES[1], 1, (center[0], center[1], side, side, math.degrees(turn) % 90))
    # Three corners on a circle, not quite evenly spread.
    angles = turn + np.array([0, 1, 2]) * (2 * math.pi / 3) + rng.uniform(-0.25, 0.25, 3)
    outline = center + radius * np.stack((np.cos(angles), np.sin(angles)), axis=1)
    sides = np.linalg.norm(outline - np.roll(outline, 1, axis=0), axis=1)
    return _Draft(SHAPES[2], 2, (_convex(outline),), reach, _area(outline), outline, float(sides.max()))


def _random_rectangle(rng: np.random.Generator, size_hw: Size) -> _Draft:
    height, width = size_hw
    class_id = int(rng.integers(2))
    if class_id == 0:
        long, ratio = min(size_hw) * rng.uniform(0.3, 0.55), rng.uniform(3, 4)
    else:
        long, ratio = min(size_hw) * rng.uniform(0.18, 0.36), rng.uniform(1.5, 2)
    degrees = rng.uniform(0, 180)
    short = long / ratio
    half = np.array(rotated_size_wh((long, short), degrees)) / 2
    center = rng.uniform(half, np.array([width, height]) - half)
    return _rectangle(RECTANGLES[class_id], class_id, (center[0], center[1], long, short, degrees))


def _random_figure(rng: np.random.Generator, size_hw: Size, alone: bool) -> _Draft:
    height, width = size_hw
    size = min(size_hw) * (rng.uniform(0.5, 0.85) if alone else rng.uniform(0.4, 0.6))
    # In units of the figure's height, the neck at (0, 0); s = 1 is the figure's left, the picture's right.
    joints = [(0.0, -0.13), (0.0, 0.0)]
    joints += [
        (s * 0.36 * math.sin(a), 0.36 * math.cos(a)) for s, a in zip((1, -1), rng.uniform(0.4, 2.6, 2), strict=True)
    ]
    joints += [(0.09, 0.33), (-0.09, 0.33)]
    joints += [
        (s * (0.09 + 0.42 * math.sin(a)), 0.33 + 0.42 * math.cos(a))
        for s, a in zip((1, -1), rng.uniform(-0.05, 0.6, 2), strict=True)
    ]
    tilt = rng.uniform(-0.3, 0.3)
    turn = np.array([[math.cos(tilt), math.sin(tilt)], [-math.sin(tilt), math.cos(tilt)]])
    xy = np.array(joints) @ turn * size
    head, bone = 0.085 * size, 0.035 * size
    reach = np.concatenate((xy.min(axis=0) - head, xy.max(axis=0) + head))
    # Up to an eighth of its height may be out of the picture on any side.
    low = -reach[:2] - size / 8
    high = np.array([width, height]) - reach[2:] + size / 8
    neck = rng.uniform(np.minimum(low, high), np.maximum(low, high))
    xy, reach = xy + neck, reach + np.tile(neck, 2)
    body = _sticks(xy[np.array(BONES)], bone)
    return _Draft(FIGURES[0], 0, (body, _circle(xy[0], head)), tuple(reach), 0.0, _NO_OUTLINE, size, joints_xy=xy)


def _random_block(rng: np.random.Generator, near_xy: Floats, size: float) -> _Draft:
    w, h = size * rng.uniform(0.12, 0.24, 2)
    x, y = near_xy + rng.uniform(-0.04, 0.04, 2) * size
    return _rectangle("", _NOTHING, (x, y, w, h, 0.0))


def _rectangle(label: str, class_id: int, rotated: tuple[float, float, float, float, float]) -> _Draft:
    cx, cy, w, h, degrees = (float(v) for v in rotated)
    outline = rotated_corners((cx, cy), (w, h), degrees)
    reach = points_bounds_xyxy(outline)
    return _Draft(label, class_id, (_convex(outline),), reach, w * h, outline, max(w, h), (cx, cy, w, h, degrees))


# Signed distances in pixels, negative inside. x is (1, w), y is (h, 1), the result (h, w).


def _circle(center: Floats, radius: float) -> _Distance:
    return lambda x, y: np.hypot(x - center[0], y - center[1]) - radius


def _convex(corners: Floats) -> _Distance:
    """Inside of a convex outline whose corners go clockwise on the screen: the greatest distance from its sides."""

    def distance(x: Floats, y: Floats) -> Floats:
        farthest = np.full((y.shape[0], x.shape[1]), -np.inf)
        for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            length = math.hypot(x1 - x0, y1 - y0)
            np.maximum(farthest, ((x - x0) * (y1 - y0) - (y - y0) * (x1 - x0)) / length, out=farthest)
        return farthest

    return distance


def _sticks(ends_xy: Floats, radius: float) -> _Distance:
    """Everything nearer than `radius` to one of some stretches of line, (N, 2, 2): start and end of each."""

    def distance(x: Floats, y: Floats) -> Floats:
        nearest = np.full((y.shape[0], x.shape[1]), np.inf)
        for (x0, y0), (x1, y1) in ends_xy:
            dx, dy = x1 - x0, y1 - y0
            along = np.clip(((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy), 0, 1)
            np.minimum(nearest, (x - x0 - along * dx) ** 2 + (y - y0 - along * dy) ** 2, out=nearest)
        return np.sqrt(nearest) - radius

    return distance


def _area(corners: Floats) -> float:
    x, y = corners.T
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2
