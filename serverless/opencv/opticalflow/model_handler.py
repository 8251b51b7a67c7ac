"""Follows objects by optical flow: pyramidal Lucas-Kanade, forward and backward, and the motion that most points agree on.

All computation is done on the patch: a grey picture of the object in the pose that it had in the first frame, at a size that
hardly depends on its size in the image. The state holds two patches, of the first frame and of the last one in which the
object was seen clearly, the shape as it was drawn, and where it is now. Shapes are always made from the drawn one, never from
the previous one, and drift is corrected by the first patch.

Points of the plane are complex numbers here, x + iy: multiplication by a number of length s and angle a scales by s and
rotates by a.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from common.config import FunctionConfig
from common.errors import BadState
from common.protocol import Image
from common.serving.options import check_range
from common.shapes import Mask, Points, Polygon, Rectangle, Shape
from common.vision.geometry import box_area, clip_box, clip_point, ellipse_points, rotated_size_wh
from common.vision.mask import combined, cropped, outline_to_mask

Grey = NDArray[np.uint8]
Bitmap = NDArray[np.bool_]
Complex = NDArray[np.complex128]

_PATCH_SIDE = 56  # patch pixels of a square object's side
_LONGEST_SIDE = 96  # patch pixels of any side
_ENLARGED = 4.0  # at most so many patch pixels for one of the image
_BLUR = 0.4  # pixels of the image, of a patch that is enlarged
_MARGIN = 8  # patch pixels around the object
_PATCH_BYTES = 1800  # of a patch in the state
_CONTOUR_POINTS = 300  # of a mask in the state
_STEPS_PER_PIXEL = 64  # resolution of the drawn points in the state
_POINT_RADIUS = 0.012  # of the image's longer side, and some pixels: what around points is followed with them

_CORNERS = 90  # points that are followed, at most
_WINDOW = (9, 9)
_BACK_AND_FORTH = 1.0  # patch pixels by which a point may miss itself on the way back
_AGREEMENT = 1.2  # patch pixels by which a point may be off the common motion
_SUPPORT = 0.2  # of the points that must agree
_GROWTH = 1.3  # of an object from one frame to the next, at most
_TURN = math.radians(30)
_FEWEST_FOR_SCALE, _FEWEST_FOR_TURN = 5, 8  # points that must agree for a change of size, and for a turn
_STEADY = 0.05  # change of size from one frame to the next that is usual: more takes more points to be believed
_NOISE = 5.0  # grey levels: contrast below this counts for nothing
_SEEN = 0.75  # likeness at which a patch is worth keeping
_FOUND_AGAIN = 0.65  # likeness at which a lost object counts as found
_UNSUPPORTED = 0.6  # likeness that is enough for an object whose points don't agree
_HALF_SEEN, _HALF_SUPPORT = 0.85, 0.3  # or that of its better half, and of its points, when the rest may be hidden
_COASTING = 10  # frames for which a lost object is expected to keep moving as it did
_DRIFT = 3.0  # patch pixels by which the first patch may correct a position
_CELLS = 8  # on each side of the patch: a grid in which it is learnt what belongs to the object
_LEARNING = 0.15
_TRUSTED = 0.4  # of a cell, 0 to 1, from which on its points are followed
_VISIBLE = 0.25  # of the object's box that must be in the image
_SMALLEST = 3.0  # pixels of the image: an object that has shrunk below this can't be seen any more


class ModelHandler:
    """Follows rectangles, polygons, masks and points.

    Args:
        config: The function's configuration.
        min_likeness: How much the object must look as it did, 0 to 1; below that it is lost.
        search_range: How far an object may jump between frames beyond its last motion, as a part of its size, 0 to 4.
    """

    def __init__(self, config: FunctionConfig, *, min_likeness: float = 0.5, search_range: float = 0.75):
        check_range("MIN_LIKENESS", min_likeness, 0, 1)
        check_range("SEARCH_RANGE", search_range, 0, 4)
        self._min_likeness, self._search_range = min_likeness, search_range

    def prepare(self, image: Image) -> _Frame:
        """The frame in grey, in all sizes that its objects need."""
        return _Frame(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))

    def start(self, frame: _Frame, shape: Shape) -> dict[str, Any]:
        """The state of an object that is drawn on this frame."""
        drawn = _Drawn.of(shape, frame.size_hw)
        pose = _Pose(1 + 0j, drawn.center)
        patch = frame.patch(drawn.grid, pose)
        return _Track(drawn, pose, 0j, 0, patch, pose, patch, np.ones((_CELLS, _CELLS), np.float32)).to_plain()

    def track(self, frame: _Frame, state: Any) -> tuple[Shape | None, dict[str, Any]]:
        """The object's shape on the next frame, or None while it is lost, and its new state."""
        track = _Track.from_plain(state)
        found = self._find(frame, track)
        if found is None:
            return None, replace(track, lost=track.lost + 1).to_plain()
        pose, likeness = found
        motion = (pose.center - track.pose.center) / (1 + track.lost)
        track = replace(track, pose=pose, motion=motion, lost=0)
        track = track.after(frame.patch(track.drawn.grid, pose), likeness >= _SEEN)
        return track.drawn.placed(pose, frame.size_hw), track.to_plain()

    def _find(self, frame: _Frame, track: _Track) -> tuple[_Pose, float] | None:
        """Where the object is in a frame and how much it looks there as it did last; None when it can't be seen."""
        drawn, grid = track.drawn, track.drawn.grid
        weight = track.weight()
        last = _Reference(track.patch, weight * frame.shows(grid, track.patch_pose))
        first = _Reference(track.first, weight * frame.shows(grid, _Pose(1 + 0j, drawn.center)))
        found = None
        for reference in (last, first):
            for pose in self._places(frame, track, reference):
                aligned = _aligned(frame, grid, reference, pose)
                if aligned is None or not aligned.pose.can_be_seen(drawn, frame.size_hw):
                    continue
                if self._is_it(aligned, bool(track.lost)) and (found is None or aligned.likeness > found.likeness):
                    found = aligned
                if found is not None and found.likeness >= _SEEN:
                    return _without_drift(frame, grid, first, found).pose, found.likeness
        return None if found is None else (_without_drift(frame, grid, first, found).pose, found.likeness)

    def _is_it(self, aligned: _Aligned, lost: bool) -> bool:
        """Whether what was found is the object; the bar is higher for one that was lost, or that few points support."""
        if aligned.support < _SUPPORT:
            return aligned.likeness >= (_SEEN if lost else _UNSUPPORTED)
        if lost and not (aligned.best_half >= _HALF_SEEN and aligned.support >= _HALF_SUPPORT):
            return aligned.likeness >= _FOUND_AGAIN
        return aligned.best_half >= self._min_likeness

    def _places(self, frame: _Frame, track: _Track, reference: _Reference) -> list[_Pose]:
        """Poses from which to search for an object: where the image is most like it, and where its motion leads."""
        grid, size = track.drawn.grid, track.pose.size
        center = track.pose.center + track.motion * (1 + min(track.lost, _COASTING))
        if track.lost:  # an object that has left the image comes back at its edge
            center = complex(*clip_point((center.real, center.imag), frame.size_hw))
        start = _Pose(size, center)
        reach = min(max(self._search_range * max(grid.inner_wh), 2 * _MARGIN), _LONGEST_SIDE) * min(1 + track.lost, 3)
        # At half the patch's resolution: four times as fast, and points are followed from there anyway.
        coarse = 2 if min(grid.inner_wh) >= 24 else 1
        columns, rows = (side // coarse for side in grid.inner_wh)
        border = math.ceil(reach / coarse)
        step = size * coarse / grid.scale
        scene = frame.sample(start.center, step, (columns + 2 * border, rows + 2 * border))
        x, y = (grid.size_wh[0] - columns * coarse) // 2, (grid.size_wh[1] - rows * coarse) // 2
        inner = reference.patch[y : y + rows * coarse, x : x + columns * coarse]
        template = cv2.resize(inner, (columns, rows), interpolation=cv2.INTER_AREA)
        scores = np.nan_to_num(cv2.matchTemplate(scene, template, cv2.TM_CCOEFF_NORMED), posinf=0, neginf=0)
        # Of places that look alike, one nearby is more likely.
        away = np.hypot(*np.mgrid[-border : border + 1, -border : border + 1]) / border
        row, column = np.unravel_index(int(np.argmax(scores - 0.2 * away**2)), scores.shape)
        offset = complex(column - border, row - border)
        if abs(offset) <= 1:
            return [start]
        return [_Pose(size, start.center + step * offset), start]


class _Frame:
    """A grey image (H, W), and copies of half, a quarter, ... of its size, made when they are needed."""

    def __init__(self, grey: Grey):
        self.size_hw = grey.shape[0], grey.shape[1]
        self._levels = [grey]

    def patch(self, grid: _Grid, pose: _Pose) -> Grey:
        """The object's picture (h, w) at a pose."""
        step = pose.size / grid.scale
        patch = self.sample(pose.center, step, grid.size_wh)
        # Enlarged noise has the size of an object's marks, and would be followed.
        return patch if abs(step) >= 1 else cv2.GaussianBlur(patch, (0, 0), _BLUR / abs(step))

    def sample(self, center: complex, step: complex, size_wh: tuple[int, int]) -> Grey:
        """The picture (h, w) around a point; `step` is the way in the image from one of its pixels to the next on the right."""
        level = max(round(math.log2(max(abs(step), 1e-6))), 0)
        while len(self._levels) <= level:
            height, width = (side // 2 for side in self._levels[-1].shape)
            if not height or not width:
                break
            even = self._levels[-1][: 2 * height, : 2 * width]
            self._levels.append(cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA))
        level = min(level, len(self._levels) - 1)
        center, step = center / 2**level, step / 2**level
        corner = center - step * complex(size_wh[0] - 1, size_wh[1] - 1) / 2 - complex(0.5, 0.5)
        matrix = np.array([[step.real, -step.imag, corner.real], [step.imag, step.real, corner.imag]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(self._levels[level], matrix, size_wh, flags=flags, borderMode=cv2.BORDER_REPLICATE)

    def shows(self, grid: _Grid, pose: _Pose) -> Bitmap:
        """Which pixels (h, w) of a patch at a pose lie in the image."""
        width, height = grid.size_wh
        x, y = np.arange(width) + 0.5 - width / 2, np.arange(height) + 0.5 - height / 2
        places = pose.center + pose.size / grid.scale * (x[None] + 1j * y[:, None])
        return (
            (places.real >= 0) & (places.imag >= 0)
            & (places.real <= self.size_hw[1]) & (places.imag <= self.size_hw[0])
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Pose:
    """Where an object is: what was at c + q when it was drawn, c the centre of its box, is at `center` + `size` * q."""

    size: complex
    """Its scale and rotation since the first frame."""
    center: complex
    """The centre of its box, in pixels of the image."""

    def moved(self, grid: _Grid, growth: complex, shift: complex) -> _Pose:
        """The pose after a motion seen in the patch, from patch point p to growth * p + shift."""
        middle = complex(*grid.size_wh) / 2
        return _Pose(self.size * growth, self.center + self.size / grid.scale * ((growth - 1) * middle + shift))

    def can_be_seen(self, drawn: _Drawn, size_hw: tuple[int, int]) -> bool:
        """Whether enough of the upright box around the object is in an image of (height, width), and large enough."""
        size = abs(self.size) * complex(*drawn.extent_wh)
        low, high = self.center - size / 2, self.center + size / 2
        inside = box_area(clip_box((low.real, low.imag, high.real, high.imag), size_hw))
        large_enough = max(size.real, size.imag) >= min(_SMALLEST, *drawn.extent_wh)
        return large_enough and inside >= _VISIBLE * size.real * size.imag


@dataclass(frozen=True, slots=True)
class _Grid:
    """The pixels of an object's patch."""

    scale: float
    """How many of them there are for one pixel of the first frame, along each side."""
    inner_wh: tuple[int, int]
    """Width and height of the object's box, in the middle of the patch."""

    @classmethod
    def over(cls, extent_wh: tuple[float, float]) -> _Grid:
        width, height = extent_wh
        scale = min(_PATCH_SIDE / math.sqrt(width * height), _LONGEST_SIDE / max(width, height), _ENLARGED)
        return cls(scale, (max(4, round(width * scale)), max(4, round(height * scale))))

    @property
    def size_wh(self) -> tuple[int, int]:
        return self.inner_wh[0] + 2 * _MARGIN, self.inner_wh[1] + 2 * _MARGIN


@dataclass(frozen=True, slots=True, eq=False)
class _Drawn:
    """A shape as it was drawn in the first frame."""

    kind: str
    """The shape's type."""
    center: complex
    """The centre of the upright box around it."""
    extent_wh: tuple[float, float]
    """Width and height of that box."""
    rotation: float
    """Of a rectangle, in degrees."""
    contours: tuple[Complex, ...]
    """Points relative to the centre: the outlines of a mask's parts and holes; the bottom right corner of a rectangle
    before its rotation; all points of other shapes."""

    @classmethod
    def of(cls, shape: Shape, size_hw: tuple[int, int]) -> _Drawn:
        if isinstance(shape, Rectangle):
            left, top, right, bottom = shape.box_xyxy
            size_wh = right - left, bottom - top
            width, height = rotated_size_wh(size_wh, shape.rotation)
            center, corner = complex(left + right, top + bottom) / 2, complex(*size_wh) / 2
            extent_wh = max(width, 1.0), max(height, 1.0)
            return cls(shape.type, center, extent_wh, shape.rotation, (np.array([corner]),))
        if isinstance(shape, Mask):
            contours = _contours(shape)
        elif isinstance(shape, (Polygon, Points)):
            contours = [_to_complex(shape.points_xy)]
        else:
            raise ValueError(f"can't follow a {shape.type}")
        every = np.concatenate(contours)
        # The surroundings of points belong to the object: a point alone has nothing to follow.
        around = max(_POINT_RADIUS * max(size_hw), 8) * complex(1, 1) if isinstance(shape, Points) else 0j
        low = complex(every.real.min(), every.imag.min()) - around
        high = complex(every.real.max(), every.imag.max()) + around
        center = (low + high) / 2
        extent_wh = max((high - low).real, 1.0), max((high - low).imag, 1.0)
        return cls(shape.type, center, extent_wh, 0.0, tuple(c - center for c in contours))

    @property
    def grid(self) -> _Grid:
        return _Grid.over(self.extent_wh)

    def area(self) -> Bitmap:
        """The pixels (h, w) of the patch that show the object, roughly: of a rectangle the ellipse in it."""
        grid = self.grid
        bitmap = np.zeros(grid.size_wh[::-1], np.uint8)
        middle = complex(*grid.size_wh) / 2

        def pixels(points: Complex) -> NDArray[np.int32]:
            fine = _to_xy(middle + points * grid.scale - complex(0.5, 0.5))
            return np.rint(fine * 16).astype(np.int32)

        if self.kind == "rectangle":
            corner = self.contours[0][0]
            ellipse = ellipse_points((0, 0), (corner.real, corner.imag), self.rotation, count=40)
            cv2.fillPoly(bitmap, [pixels(_to_complex(ellipse))], 1, shift=4)
        elif self.kind == "points":
            # What lies between points counts as a part of the object that they are on.
            hull = cv2.convexHull(pixels(self.contours[0]))
            around = self.extent_wh[0] / 2 - float(self.contours[0].real.max())
            cv2.fillPoly(bitmap, [hull], 1, shift=4)
            cv2.polylines(bitmap, [hull], True, 1, max(1, round(2 * around * grid.scale)), shift=4)
        else:
            cv2.fillPoly(bitmap, [pixels(c) for c in self.contours], 1, shift=4)
        return bitmap > 0

    def placed(self, pose: _Pose, size_hw: tuple[int, int]) -> Shape:
        """The shape at a pose; a mask cut off at the image's edges."""
        if self.kind == "rectangle":
            corner = self.contours[0][0] * abs(pose.size)
            low, high = pose.center - corner, pose.center + corner
            # A box that was drawn upright stays so: the user means the box around the object.
            rotation = (self.rotation + math.degrees(np.angle(pose.size))) % 360 if self.rotation else 0.0
            box = float(low.real), float(low.imag), float(high.real), float(high.imag)
            return Rectangle(box_xyxy=box, rotation=float(rotation))
        contours = [_to_xy(pose.center + pose.size * c) for c in self.contours]
        if self.kind == "mask":
            return _filled(contours, size_hw)
        return (Polygon if self.kind == "polygon" else Points)(points_xy=contours[0])


def _to_complex(points_xy: NDArray[np.floating | np.integer]) -> Complex:
    """Points (N, 2) as complex numbers x + iy (N,)."""
    return np.asarray(points_xy @ np.array([1, 1j]), np.complex128)


def _to_xy(points: Complex) -> NDArray[np.float64]:
    """The inverse of `_to_complex`."""
    return np.stack([points.real, points.imag], axis=1)


def _contours(mask: Mask) -> list[Complex]:
    """The outlines of a mask's parts and holes along the pixels' edges; simplified, the smallest left out, if too many."""
    # On a grid twice as fine, the centre of a boundary pixel in column f belongs to the edge at (f + 1) // 2.
    fine = mask.bitmap.astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    found, _ = cv2.findContours(fine, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    contours = sorted(((np.asarray(c) + 1) // 2 for c in found), key=cv2.contourArea, reverse=True)
    contours, tolerance = contours[: _CONTOUR_POINTS // 4], 0.4
    while True:
        simple = [cv2.approxPolyDP(c, tolerance, True).reshape(-1, 2) for c in contours]
        if sum(len(c) for c in simple) <= _CONTOUR_POINTS:
            break
        tolerance *= 1.4
    # What is thinner than the tolerance becomes a line; if nothing else is left, the mask's box is used.
    simple = [c for c in simple if len(c) >= 3] or [
        np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * mask.bitmap.shape[::-1]
    ]
    return [_to_complex(c + (mask.left, mask.top)) for c in simple]


def _filled(contours: list[NDArray[np.float64]], size_hw: tuple[int, int]) -> Mask:
    """The pixels of an image that are inside an odd number of contours."""
    return cropped(combined([outline_to_mask(contour, size_hw) for contour in contours], np.logical_xor))


@dataclass(frozen=True, slots=True, eq=False)
class _Reference:
    """A patch to search for."""

    patch: Grey
    """The picture (h, w)."""
    weight: NDArray[np.float32]
    """How sure it is that each of its pixels (h, w) shows the object, 0 to 1."""


@dataclass(frozen=True, slots=True)
class _Aligned:
    """A pose at which a reference fits the image."""

    pose: _Pose
    """The pose."""
    likeness: float
    """How much the object there looks as in the reference, -1 to 1."""
    best_half: float
    """The same of its better half, for an object that may be half hidden."""
    support: float
    """The share of the points that agree on the motion, 0 to 1."""


def _aligned(frame: _Frame, grid: _Grid, reference: _Reference, pose: _Pose) -> _Aligned | None:
    """The pose near a first guess at which the object fits a reference; None when it fits nowhere near."""
    points = _corners(reference)
    begin, support = pose, 0.0
    for levels in (1, 0):  # coarse, then fine, where what hides a part of the object disturbs fewer points
        sample = _as_bright(frame.patch(grid, pose), reference)
        before, after = _flow(reference.patch, sample, points, levels)
        if len(before) < 2:
            continue
        growth, shift, agree = _motion(before, after, grid.scale)
        support = float(agree.sum()) / len(points)
        if 2 * agree.sum() >= len(before):
            pose = pose.moved(grid, growth, shift)
    change = pose.size / begin.size
    if not 1 / _GROWTH <= abs(change) <= _GROWTH or abs(np.angle(change)) > _TURN:
        return None
    sample = _as_bright(frame.patch(grid, pose), reference)
    values = _local_likeness(reference.patch, sample)
    weight = reference.weight * frame.shows(grid, pose)
    if weight.sum() < 0.1 * reference.weight.sum() or not weight.any():
        return None
    order = np.argsort(values, axis=None)
    values_in_order, weights_in_order = values.ravel()[order], weight.ravel()[order]
    upper = np.cumsum(weights_in_order) >= weights_in_order.sum() / 2
    return _Aligned(
        pose,
        float(np.average(values, weights=weight)),
        float(np.average(values_in_order[upper], weights=weights_in_order[upper])),
        support,
    )


def _without_drift(frame: _Frame, grid: _Grid, first: _Reference, found: _Aligned) -> _Aligned:
    """A pose corrected by the first patch, if the object still looks as it did there."""
    aligned = _aligned(frame, grid, first, found.pose)
    if aligned is None or aligned.likeness < _FOUND_AGAIN or aligned.support < 0.4:
        return found
    drift = abs(aligned.pose.center - found.pose.center) * grid.scale / abs(found.pose.size)
    spread = abs(aligned.pose.size / found.pose.size - 1) * max(grid.inner_wh) / 2
    return aligned if max(drift, spread) <= _DRIFT else found


def _corners(reference: _Reference) -> NDArray[np.float32]:
    """(N, 2) pixels of a reference that are easy to follow and well inside the object; N is 0 for a plain object."""
    inside = cv2.erode((reference.weight >= _TRUSTED).astype(np.uint8), np.ones((5, 5), np.uint8))
    found = cv2.goodFeaturesToTrack(reference.patch, _CORNERS, 0.01, 3, mask=inside, blockSize=5)
    return np.zeros((0, 2), np.float32) if found is None else found.reshape(-1, 2)


def _as_bright(sample: Grey, reference: _Reference) -> Grey:
    """A sample made lighter or darker by as much as most of the object differs from a reference."""
    area = reference.weight > 0
    if not area.any():
        return sample
    offset = float(np.median(reference.patch[area].astype(np.int16) - sample[area]))
    return cv2.add(sample, offset) if offset > 0 else cv2.subtract(sample, -offset)


def _local_likeness(reference: Grey, sample: Grey) -> NDArray[np.floating]:
    """How much the surroundings of each pixel (h, w) look alike, -1 to 1; where both are plain, 1."""

    def mean(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return cv2.boxFilter(values, -1, (9, 9))

    one, other = reference.astype(np.float32), sample.astype(np.float32)
    mean_one, mean_other = mean(one), mean(other)
    common = mean(one * other) - mean_one * mean_other
    spread = (mean(one * one) - mean_one**2 + mean(other * other) - mean_other**2) / 2
    return (common + _NOISE**2) / (spread + _NOISE**2)


def _flow(before: Grey, after: Grey, points: NDArray[np.float32], levels: int) -> tuple[Complex, Complex]:
    """Where points of one picture are in another, those that find their way back; in pixels from the outer corner."""
    if not len(points):
        return np.zeros(0, np.complex128), np.zeros(0, np.complex128)
    there, status, _ = cv2.calcOpticalFlowPyrLK(before, after, points, None, winSize=_WINDOW, maxLevel=levels)
    back, status_back, _ = cv2.calcOpticalFlowPyrLK(after, before, there, None, winSize=_WINDOW, maxLevel=levels)
    missed = np.hypot(*(back - points).T)
    good = (status.ravel() == 1) & (status_back.ravel() == 1) & (missed <= _BACK_AND_FORTH)
    return _to_complex(points[good].astype(np.float64) + 0.5), _to_complex(there[good].astype(np.float64) + 0.5)


def _motion(before: Complex, after: Complex, scale: float) -> tuple[complex, complex, Bitmap]:
    """The motion p -> growth * p + shift on which most points agree, and which points do."""
    moves = after - before
    usual = complex(np.median(moves.real), np.median(moves.imag))
    agree = abs(moves - usual) <= _AGREEMENT
    if len(before) > 2:
        matrix, inliers = cv2.estimateAffinePartial2D(
            _to_xy(before), _to_xy(after), method=cv2.RANSAC, ransacReprojThreshold=_AGREEMENT
        )
        if matrix is not None and inliers.sum() >= max(_FEWEST_FOR_SCALE, agree.sum()):
            agree = inliers.ravel() == 1
    growth = 1 + 0j
    if agree.sum() >= _FEWEST_FOR_SCALE:
        p, q = before[agree] - before[agree].mean(), after[agree] - after[agree].mean()
        # As if one more point said that nothing has grown; it has more weight if the patch is an enlarged picture.
        steady = (0.5 * max(scale, 1.0) / _STEADY) ** 2
        growth = complex(1 + (p.conj() * (q - p)).sum() / ((abs(p) ** 2).sum() + steady))
        if agree.sum() < _FEWEST_FOR_TURN:
            growth = complex(growth.real)
    rest = after[agree] - growth * before[agree]
    shift = complex(np.median(rest.real), np.median(rest.imag)) if agree.any() else usual
    return growth, shift, agree


@dataclass(frozen=True, slots=True, eq=False)
class _Track:
    """All that is known of an object after a frame: what its state holds."""

    drawn: _Drawn
    """The shape that the user drew."""
    pose: _Pose
    """Where the object was seen last."""
    motion: complex
    """Of its centre since the previous frame."""
    lost: int
    """For how many frames it has been lost."""
    patch: Grey
    """Its picture when it was last seen clearly."""
    patch_pose: _Pose
    """Where that was."""
    first: Grey
    """Its picture in the first frame."""
    trust: NDArray[np.floating]
    """(n, n) cells of the patch, 0 to 1: how much each has moved with the object. What is behind or in front of it has not."""

    def weight(self) -> NDArray[np.floating]:
        """How sure it is that each pixel (h, w) of the patch shows the object, 0 to 1; 0 outside the shape."""
        return cv2.resize(self.trust, self.drawn.grid.size_wh) * self.drawn.area()

    def after(self, sample: Grey, seen: bool) -> _Track:
        """The track after the object was found at `pose`, where it looks like `sample`, and was `seen` clearly or not."""
        alike = cv2.resize(_local_likeness(self.patch, sample), (_CELLS, _CELLS), interpolation=cv2.INTER_AREA)
        trust = self.trust + _LEARNING * (np.clip(alike, 0, 1) - self.trust)
        if not seen:
            return replace(self, trust=trust)
        return replace(self, trust=trust, patch=sample, patch_pose=self.pose)

    def to_plain(self) -> dict[str, Any]:
        drawn = self.drawn
        points = np.concatenate(drawn.contours)
        numbers = _to_xy(points)
        step = max(1 / _STEPS_PER_PIXEL, float(np.abs(numbers).max()) / 32767)
        steps = np.rint(numbers / step)
        if drawn.kind == "rectangle":  # a long, thin one must keep an area
            steps = np.maximum(steps, 1)
        return {
            "kind": drawn.kind,
            "center": _pair(drawn.center),
            "extent": list(drawn.extent_wh),
            "rotation": drawn.rotation,
            "step": step,
            "counts": [len(c) for c in drawn.contours],
            "points": steps.astype("<i2").tobytes(),
            "pose": _pair(self.pose.size) + _pair(self.pose.center),
            "motion": _pair(self.motion),
            "lost": self.lost,
            "patch": _to_jpeg(self.patch),
            "patch_pose": _pair(self.patch_pose.size) + _pair(self.patch_pose.center),
            "first": _to_jpeg(self.first),
            "trust": np.rint(self.trust * 255).astype(np.uint8).tobytes(),
        }

    @classmethod
    def from_plain(cls, state: Any) -> _Track:
        """The inverse of `to_plain`, but for the compression of the pictures. Raises BadState for anything else."""
        try:
            extent = _numbers(state["extent"], 2, 1e-3)
            counts = state["counts"]
            numbers = np.frombuffer(state["points"], "<i2").reshape(-1, 2) * _numbers([state["step"]], 1, 1e-6)[0]
            if state["kind"] not in ("rectangle", "polygon", "points", "mask") or not counts or min(counts) < 1:
                raise ValueError("unknown kind or no points")
            if sum(counts) != len(numbers):
                raise ValueError("wrong number of points")
            contours = np.split(_to_complex(numbers), np.cumsum(counts[:-1]))
            drawn = _Drawn(
                state["kind"],
                complex(*_numbers(state["center"], 2)),
                (extent[0], extent[1]),
                _numbers([state["rotation"]], 1)[0],
                tuple(contours),
            )
            return cls(
                drawn,
                _to_pose(state["pose"]),
                complex(*_numbers(state["motion"], 2)),
                int(_numbers([state["lost"]], 1, 0)[0]),
                _from_jpeg(state["patch"], drawn.grid.size_wh),
                _to_pose(state["patch_pose"]),
                _from_jpeg(state["first"], drawn.grid.size_wh),
                np.frombuffer(state["trust"], np.uint8).reshape(_CELLS, _CELLS).astype(np.float32) / 255,
            )
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
            raise BadState("expected a state that this tracker made") from error


def _pair(value: complex) -> list[float]:
    return [value.real, value.imag]


def _numbers(values: Any, count: int, smallest: float = -1e6) -> list[float]:
    """`count` numbers from `smallest` to a million. Raises ValueError for anything else."""
    numbers = [float(v) for v in values]
    if len(numbers) != count or not all(smallest <= v <= 1e6 for v in numbers):
        raise ValueError("numbers out of range")
    return numbers


def _to_pose(values: Any) -> _Pose:
    real, imaginary, x, y = _numbers(values, 4)
    if not 1e-5 <= abs(complex(real, imaginary)) <= 1e5:
        raise ValueError("size out of range")
    return _Pose(complex(real, imaginary), complex(x, y))


def _to_jpeg(patch: Grey) -> bytes:
    """A patch as a JPEG file of at most _PATCH_BYTES, unless even the lowest quality takes more."""
    for quality in (90, 80, 65, 50, 35, 20):
        data = simplejpeg.encode_jpeg(patch[:, :, None], quality, "GRAY", "Gray")
        if len(data) <= _PATCH_BYTES:
            break
    return data


def _from_jpeg(data: bytes, size_wh: tuple[int, int]) -> Grey:
    """The inverse of `_to_jpeg`. Raises ValueError when it is not a picture of that size."""
    height, width, *_ = simplejpeg.decode_jpeg_header(data)
    if (width, height) != size_wh:
        raise ValueError(f"a patch of {width} x {height} pixels, not {size_wh}")
    return simplejpeg.decode_jpeg(data, "GRAY")[:, :, 0]
