"""A plain object: followed by its outline, as the place where the area of its colour has the shape that it had.

Optical flow needs marks on an object. One without marks still differs in colour from what is around it: a picture of the
likeness to its colour, 0 to 1 for each pixel, shows its outline and hardly depends on the background.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from common.vision.flow.drawn import Drawn
from common.vision.flow.frame import Bitmap, Frame, Region, Rgb
from common.vision.flow.jpeg import from_jpeg, to_jpeg
from common.vision.flow.places import best_offset
from common.vision.flow.points import Reference, has_marks
from common.vision.flow.pose import GROWTH, TURN, Grid, Pose

Likeness = NDArray[np.float32]
Color = tuple[float, float, float]

_LEAST_APART = 12.0  # levels of colour by which an object must differ from its surroundings
_DISTINCT = 4.0  # times as far from its surroundings as its pixels are from each other, at least
_PLAIN = 16.0  # the same of an object that is plain, whatever marks noise makes on it
_SHARE = 3.0  # times the width of its colour that an object differs from its surroundings, or more
_SPREAD = 2.0  # times as wide as its pixels are apart, at least
_NARROWEST, _WIDEST = 6.0, 40.0  # levels of colour
_FIXED = 1.5  # what an outline must have in each direction; an edge as long as a patch pixel has 0.28
_FINE_BLUR = 1.0  # patch pixels
_PASSES = ((3.0, 4), (_FINE_BLUR, 6))  # blurs and steps: the outline is found roughly, then precisely
_STILL = 0.02  # patch pixels: a step that ends the search
_STEADY = 1e-2  # of the evidence for a growth or a turn that speaks against it
_RENEWED = 0.2  # of the colour from one frame to the next: light changes


@dataclass(frozen=True, slots=True, eq=False)
class Silhouette:
    """The outline and the colour of a plain object."""

    color: Color
    """Its colour, RGB, 0 to 255, as it was last seen."""
    width: float
    """The difference from that colour, in levels, at which likeness is 0.6."""
    template: Likeness
    """(h, w) How much each pixel of the first patch was like its colour, 0 to 1."""

    @classmethod
    def of(cls, frame: Frame, drawn: Drawn) -> Silhouette | None:
        """The silhouette of an object.

        Args:
            frame: The first frame.
            drawn: The object's shape in it.

        Returns:
            None when the object has marks to follow, when it doesn't stand out by its colour, or when the part of its
            outline in the patch leaves open where it is.
        """
        grid, pose = drawn.grid, Pose(1 + 0j, drawn.center)
        region = _region(frame, grid, pose, 0)
        sample = region.sample(pose.center, 1 / grid.scale, grid.size_wh)
        area, shown = drawn.area(), frame.shows(grid, pose)
        inside = cv2.erode(area.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        inside = (inside if inside.any() else area) & shown
        around = ~drawn.box_area() & shown
        if not inside.any() or not around.any():
            return None
        made = cls(_median(sample[inside]), _WIDEST, np.zeros(area.shape, np.float32))
        apart = float(np.median(_distances(sample[around], made.color)))
        if apart < _LEAST_APART:
            return None
        made = replace(made, width=made._width(sample, inside, around))
        likeness = replace(region, picture=made.likeness(region.picture))
        made = replace(made, template=likeness.sample(pose.center, 1 / grid.scale, grid.size_wh))
        body = (made.template > 0.5) & area
        if body.sum() < 0.5 * area.sum() or not _is_fixed(made.template, shown):
            return None
        spread = float(np.median(_distances(sample[body], made.color)))
        marked = has_marks(Reference(frame.patch(grid, pose), body.astype(np.float32)))
        return made if apart >= (_PLAIN if marked else _DISTINCT) * spread else None

    def find(self, frame: Frame, drawn: Drawn, start: Pose, reach: float) -> tuple[Pose, float] | None:
        """Where in a frame the outline fits best.

        Args:
            frame: The frame.
            drawn: The object's shape in the first frame.
            start: Where it is expected.
            reach: How far from there it may be, in patch pixels.

        Returns:
            The pose, and how much of the silhouette the frame shows there, 1 for all of it, 0 or less for nothing; None
            when the outline is nowhere near.
        """
        region = _region(frame, drawn.grid, start, reach)
        scene = replace(region, picture=self.likeness(region.picture))
        weight = frame.shows(drawn.grid, Pose(1 + 0j, drawn.center)).astype(np.float32)
        best = None
        for place in self._places(scene, drawn.grid, start, reach):
            pose = self._aligned(scene, frame, drawn.grid, place, weight)
            if pose is None or not drawn.is_visible(pose, frame.size_hw):
                continue
            fit = self._fit(scene, frame, drawn.grid, pose, weight)
            if best is None or fit > best[1]:
                best = pose, fit
        return best

    def renewed(self, frame: Frame, drawn: Drawn, pose: Pose) -> Silhouette:
        """The silhouette in the colours of a frame in which the object was seen clearly.

        Args:
            frame: The frame.
            drawn: The object's shape in the first frame.
            pose: Where it is in this one.
        """
        shown = frame.shows(drawn.grid, pose)
        inside, around = (self.template > 0.5) & drawn.area() & shown, (self.template < 0.3) & shown
        if not inside.any() or not around.any():
            return self
        sample = _region(frame, drawn.grid, pose, 0).sample(
            pose.center, pose.size / drawn.grid.scale, drawn.grid.size_wh
        )
        old, new = np.array(self.color), np.array(_median(sample[inside]))
        color = _as_color((1 - _RENEWED) * old + _RENEWED * new)
        moved = replace(self, color=color)
        return replace(moved, width=moved._width(sample, inside, around))

    def likeness(self, picture: Rgb) -> Likeness:
        """How much the pixels of a picture have the object's colour.

        Args:
            picture: (h, w, 3) uint8 RGB.

        Returns:
            (h, w) 0 to 1.
        """
        away = picture.astype(np.float32) - np.array(self.color, np.float32)
        return np.exp(np.einsum("hwc,hwc->hw", away, away) * np.float32(-0.5 / self.width**2))

    def to_plain(self) -> list[Any]:
        """Plain values for a state."""
        return [*self.color, self.width, to_jpeg(np.rint(self.template * 255).astype(np.uint8))]

    @classmethod
    def from_plain(cls, values: Any, size_wh: tuple[int, int]) -> Silhouette:
        """The inverse of `to_plain`, but for the compression of the template.

        Args:
            values: What `to_plain` returned.
            size_wh: Width and height of the patch.

        Raises:
            ValueError: It is something else; or TypeError.
        """
        *numbers, template = values
        red, green, blue, width = (float(number) for number in numbers)
        if not all(0 <= level <= 255 for level in (red, green, blue)) or not _NARROWEST <= width <= _WIDEST:
            raise ValueError("colour out of range")
        return cls((red, green, blue), width, np.divide(from_jpeg(template, size_wh), 255, dtype=np.float32))

    def _width(self, sample: Rgb, inside: Bitmap, around: Bitmap) -> float:
        """The width of the colour that sets the object off from most of its surroundings, and is wider than its noise."""
        apart = float(np.percentile(_distances(sample[around], self.color), 30))
        spread = float(np.median(_distances(sample[inside], self.color)))
        return min(max(apart / _SHARE, _SPREAD * spread, _NARROWEST), _WIDEST)

    def _places(self, scene: Region, grid: Grid, start: Pose, reach: float) -> list[Pose]:
        """Poses from which to search: where a scene is most like the template, and where the object is expected."""
        coarse = 2 if min(grid.inner_wh) >= 24 else 1
        columns, rows = (side // coarse for side in grid.size_wh)
        border = math.ceil(reach / coarse)
        step = start.size * coarse / grid.scale
        around = scene.sample(start.center, step, (columns + 2 * border, rows + 2 * border))
        template = cv2.resize(self.template, (columns, rows), interpolation=cv2.INTER_AREA)
        offset = best_offset(around, template, border)
        return [start] if abs(offset) <= 1 else [Pose(start.size, start.center + step * offset), start]

    def _aligned(self, scene: Region, frame: Frame, grid: Grid, pose: Pose, weight: NDArray[np.float32]) -> Pose | None:
        """The pose near a first guess at which the outline fits; None when it does nowhere near."""
        begin = pose
        for blur, steps in _PASSES:
            template = cv2.GaussianBlur(self.template, (0, 0), blur)
            slopes = _slopes(template)
            for _ in range(steps):
                seen = cv2.GaussianBlur(scene.sample(pose.center, pose.size / grid.scale, grid.size_wh), (0, 0), blur)
                growth, shift = _step(seen - template, slopes, weight * frame.shows(grid, pose))
                pose = Pose(pose.size * growth, pose.center + pose.size / grid.scale * shift)
                change = pose.size / begin.size
                if not 1 / GROWTH <= abs(change) <= GROWTH or abs(np.angle(change)) > TURN:
                    return None
                if abs(shift) < _STILL:
                    break
        return pose

    def _fit(self, scene: Region, frame: Frame, grid: Grid, pose: Pose, weight: NDArray[np.float32]) -> float:
        """How much of the silhouette a scene shows at a pose: its share of the template's variance; at most 1."""
        visible = weight * frame.shows(grid, pose)
        template = cv2.GaussianBlur(self.template, (0, 0), _FINE_BLUR)
        if visible.sum() < 0.1 * weight.sum() or not _is_fixed(template, visible > 0):
            return 0.0
        seen = cv2.GaussianBlur(scene.sample(pose.center, pose.size / grid.scale, grid.size_wh), (0, 0), _FINE_BLUR)
        usual = np.average(template, weights=visible)
        variance = np.average((template - usual) ** 2, weights=visible)
        return float(1 - np.average((seen - template) ** 2, weights=visible) / variance)


def _region(frame: Frame, grid: Grid, pose: Pose, reach: float) -> Region:
    """The part of a frame in which an object may be that is at most `reach` patch pixels away from a pose."""
    step = abs(pose.size) / grid.scale
    return frame.region(pose.center, step * (reach * math.sqrt(2) + math.hypot(*grid.size_wh)), step)


def _median(pixels: NDArray[np.uint8]) -> Color:
    return _as_color(np.median(pixels, axis=0))


def _as_color(values: NDArray[np.floating]) -> Color:
    return float(values[0]), float(values[1]), float(values[2])


def _distances(pixels: NDArray[np.uint8], color: Color) -> NDArray[np.float32]:
    """(N,) how far the colours of pixels (N, 3) are from a colour."""
    return np.asarray(np.linalg.norm(pixels - np.array(color, np.float32), axis=-1), np.float32)


def _slopes(template: Likeness) -> NDArray[np.float32]:
    """(4, h, w): how a template changes when it moves to the right, down, when it grows, and when it turns."""
    rows, columns = template.shape
    down, right = np.gradient(template)
    y, x = np.mgrid[:rows, :columns].astype(np.float32)
    x, y = x - (columns - 1) / 2, y - (rows - 1) / 2
    return np.stack([right, down, right * x + down * y, down * x - right * y])


def _step(error: Likeness, slopes: NDArray[np.float32], weight: NDArray[np.floating]) -> tuple[complex, complex]:
    """Growth and shift of what is seen against the template, by one step of Gauss and Newton."""
    weighted = slopes * weight
    matrix = np.einsum("ahw,bhw->ab", weighted, slopes).astype(np.float64)
    against = _STEADY * matrix[2, 2] + 1  # a disc's turn can't be seen
    matrix += np.diag([1e-3, 1e-3, against, against])
    right, down, growth, turn = -np.linalg.solve(matrix, np.einsum("ahw,hw->a", weighted, error))
    return complex(1 + growth, turn), complex(right, down)


def _is_fixed(template: Likeness, shown: Bitmap) -> bool:
    """Whether the edges that are in the image fix the place of an outline in both directions."""
    down, right = (slope[shown] for slope in np.gradient(cv2.GaussianBlur(template, (0, 0), _FINE_BLUR)))
    across = float((down * right).sum())
    matrix = np.array([[float((right**2).sum()), across], [across, float((down**2).sum())]])
    return float(np.linalg.eigvalsh(matrix)[0]) >= _FIXED
