"""GrabCut (C. Rother, V. Kolmogorov, A. Blake, 2004) as OpenCV implements it, from a box and points in any combination.

The object is cut out of a small copy of its surroundings; then only its edge is refined, twice: by small cuts along it on a
larger copy, and pixel by pixel in the image itself. So the time hardly grows with the image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from common.config import FunctionConfig
from common.protocol import Image, Prompt
from common.serving.options import check_range
from common.vision.geometry import pixels_of_box

Bitmap = NDArray[np.bool_]

_MARGIN = 0.25  # of the object's box: how much of its surroundings is used to learn the background's colours
_SMALLEST_SIDE = 64  # a region smaller than this is enlarged, so that GrabCut has pixels to learn from
_DISC = 0.015  # radius of the disc that a point stands for, as a part of the longer side of the copy
_FEWEST_SAMPLES = 5  # pixels that GrabCut needs of object and of background: it models each by that many Gaussians
_SETTLED = 0.005  # of the pixels: GrabCut has converged when fewer change
_SMALLEST_PART = 0.1  # of the largest part: smaller ones are dropped where no point tells which are meant
_LARGEST_HOLE = 0.01  # of the object: smaller holes are filled

_MEANING_SIDE = 160  # pixels of the copy on which it is decided which region a point means
_MEANING_LEVELS = 32  # how many sizes of that region are compared
_COLOUR_SPREAD = 6.0  # in Lab: differences of colour below this say nothing
_LARGEST_MEANING = 0.9  # of the picture: a larger region is not an object

_EDGE_FACTOR = 4  # how much larger than the first copy the second is, on which the edge is cut again
_TILE, _TILE_MARGIN = 32, 6  # pixels of those cuts
_NEARBY = 15  # pixels of that copy over which the colours on both sides of the edge are averaged
_COLOUR_NOISE = 20.0  # a difference of colours of this size across the edge is worth as much as the earlier cut

_SQUARE = np.ones((3, 3), np.uint8)


class ModelHandler:
    """Cuts out the object of a box, of clicks, or of both.

    Args:
        config: The function's configuration.
        iterations: The largest number of iterations of GrabCut.
        max_side: The longer side, in pixels, of the copy of the image on which it runs.
    """

    def __init__(self, config: FunctionConfig, *, iterations: int = 5, max_side: int = 256):
        check_range("ITERATIONS", iterations, 1)
        check_range("MAX_SIDE", max_side, _SMALLEST_SIDE)
        self._iterations, self._max_side = iterations, max_side

    def embed(self, image: Image) -> Image:
        """The image itself: all that GrabCut learns about it depends on the prompt."""
        return image

    def segment(self, embedding: Image, prompt: Prompt) -> Bitmap:
        """The (H, W) bool bitmap of the object; it holds every positive point."""
        size_hw = embedding.shape[0], embedding.shape[1]
        if prompt.box_xyxy is None:
            window = _window_of_points(embedding, prompt)
        else:
            window = _widened(prompt.box_xyxy, prompt.pos_points_xy, size_hw)
        cut = _Cut(_View(embedding, window.grown(_MARGIN, size_hw), self._max_side), window, prompt)
        bitmap = np.zeros(size_hw, np.bool_)
        part = cut.view.region.of(bitmap)
        part[:] = _to_full(cut, cut.solve(self._iterations), embedding)
        # Whatever the colours say, the pixels that were clicked are as the user said.
        for points_xy, value in ((prompt.neg_points_xy, False), (prompt.pos_points_xy, True)):
            columns, rows = cut.view.source_points(points_xy).T
            part[rows, columns] = value
        return bitmap


@dataclass(frozen=True)
class _Region:
    """The pixels of an image from column `left` and row `top` up to, not including, `right` and `bottom`."""

    left: int
    top: int
    right: int
    bottom: int

    @classmethod
    def around(cls, box_xyxy: tuple[float, ...], size_hw: tuple[int, int]) -> _Region:
        """All pixels of an image that a box touches; at least one."""
        return cls(*pixels_of_box(box_xyxy, size_hw))

    @property
    def size_wh(self) -> tuple[int, int]:
        return self.right - self.left, self.bottom - self.top

    def grown(self, share: float, size_hw: tuple[int, int]) -> _Region:
        """This region and a margin of a share of its size, no less than some pixels, on each side."""
        x, y = (max(side * share, 8) for side in self.size_wh)
        return _Region.around((self.left - x, self.top - y, self.right + x, self.bottom + y), size_hw)

    def of(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """The part of an array (H, W, ...) that lies in this region; a view of it."""
        return pixels[self.top : self.bottom, self.left : self.right]


class _View:
    """A copy of a region of an image, its longer side at most `max_side` pixels.

    source: the region itself, (H, W, 3). pixels: the copy, (h, w, 3). scale: pixels of the copy for one of the image.
    """

    def __init__(self, image: Image, region: _Region, max_side: int):
        self.region, self.source = region, region.of(image)
        longest = max(region.size_wh)
        if longest > max_side:
            self.scale, interpolation = max_side / longest, cv2.INTER_AREA
        else:
            # Whole copies of each pixel, so that nothing is lost on the way back.
            self.scale, interpolation = float(max(1, -(-_SMALLEST_SIDE // longest))), cv2.INTER_NEAREST
        width, height = (max(1, round(side * self.scale)) for side in region.size_wh)
        self.size_wh, self.size_hw = (width, height), (height, width)
        if self.scale == 1:
            self.pixels = np.ascontiguousarray(self.source)
        else:
            self.pixels = cv2.resize(self.source, self.size_wh, interpolation=interpolation)

    def points(self, points_xy: NDArray[np.float64]) -> NDArray[np.int64]:
        """(N, 2) columns and rows of the copy's pixels that show points of the image; those it doesn't show left out."""
        centres = self.source_points(points_xy) + 0.5
        return np.minimum((centres * self.scale).astype(np.int64), np.array(self.size_wh) - 1)

    def source_points(self, points_xy: NDArray[np.float64]) -> NDArray[np.int64]:
        """(N, 2) columns and rows in `source` of the pixels in which points of the image lie, those outside left out."""
        moved = points_xy - (self.region.left, self.region.top)
        shown = moved[((moved >= 0) & (moved <= self.region.size_wh)).all(axis=1)]
        # A point on the right or lower border of the image belongs to the last pixel.
        return np.minimum(shown.astype(np.int64), np.array(self.region.size_wh) - 1)

    def shrunk(self, region: _Region) -> _Region:
        """A region of the image in pixels of the copy."""
        corners = np.array([[region.left, region.top], [region.right, region.bottom]])
        box = (corners - (self.region.left, self.region.top)) * self.scale
        # A hair over the edge of a pixel is the edge: products of floats are not exact.
        return _Region.around(tuple(np.round(box.ravel(), 6)), self.size_hw)

    def region_of(self, bitmap: Bitmap) -> _Region:
        """The region of the image around the true pixels of a bitmap of the copy."""
        columns, rows = np.flatnonzero(bitmap.any(axis=0)), np.flatnonzero(bitmap.any(axis=1))
        corners = np.array([[columns[0], rows[0]], [columns[-1] + 1, rows[-1] + 1]]) / self.scale
        box = corners + (self.region.left, self.region.top)
        return _Region.around(tuple(box.ravel()), (self.region.bottom, self.region.right))


def _widened(box_xyxy: tuple[float, ...], points_xy: NDArray[np.float64], size_hw: tuple[int, int]) -> _Region:
    """A box, widened by positive points outside it as if each lay in the middle of what the box has missed."""
    low, high = np.array(box_xyxy[:2]), np.array(box_xyxy[2:])
    if len(points_xy):
        low = low - 2 * np.maximum(low - points_xy.min(axis=0), 0)
        high = high + 2 * np.maximum(points_xy.max(axis=0) - high, 0)
    return _Region.around((*low, *high), size_hw)


def _window_of_points(image: Image, prompt: Prompt) -> _Region:
    """The part of the image in which the object of positive points without a box lies."""
    size_hw = image.shape[0], image.shape[1]
    view = _View(image, _Region(0, 0, size_hw[1], size_hw[0]), _MEANING_SIDE)
    meant = _meant_region(view.pixels, view.points(prompt.pos_points_xy), view.points(prompt.neg_points_xy))
    return view.region_of(meant).grown(_MARGIN, size_hw)


def _discs(size_hw: tuple[int, int], points: NDArray[np.int64], others: NDArray[np.int64]) -> Bitmap:
    """The pixels (h, w) that points stand for: discs, smaller where a point of the other sort is near."""
    bitmap = np.zeros(size_hw, np.uint8)
    for point in points:
        radius = max(_DISC * max(size_hw), 1.0)
        if len(others):
            radius = min(radius, 0.4 * float(np.hypot(*(others - point).T).min()))
        cv2.circle(bitmap, point.tolist(), int(radius), 1, -1)
    return bitmap > 0


def _meant_region(pixels: Image, points: NDArray[np.int64], others: NDArray[np.int64]) -> Bitmap:
    """The region (h, w) of a small picture (h, w, 3) that points mean by themselves, without any of the `others`.

    For each point: of the regions around it whose colour differs from the point's by no more than some amount, the one
    with the strongest edge for some amount; the whole picture when there is no edge in it.
    """
    lab = cv2.GaussianBlur(cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), (0, 0), 1.0)
    slopes = cv2.Sobel(lab, cv2.CV_32F, 1, 0) ** 2 + cv2.Sobel(lab, cv2.CV_32F, 0, 1) ** 2
    contrast = np.sqrt(slopes.sum(axis=2))
    size_hw = contrast.shape
    excluded = _discs(size_hw, others, points)
    meant = np.zeros(size_hw, np.bool_)
    for point in points:
        if not meant[point[1], point[0]]:
            seed = _discs(size_hw, point[None], others)
            meant |= _strongest_region(_colour_distance(lab, seed), contrast, seed, excluded)
    return meant


def _strongest_region(
    distance: NDArray[np.float32], contrast: NDArray[np.float32], seed: Bitmap, excluded: Bitmap
) -> Bitmap:
    best, best_strength = np.ones(seed.shape, np.bool_), 0.0
    roomy = 4 * np.count_nonzero(seed)  # pixels; the edge of a region not much larger than its seed means little
    for level in np.quantile(distance, np.linspace(0.005, 0.97, _MEANING_LEVELS)):
        region = _without_holes(_parts_with((distance <= level) | seed, seed))
        area = np.count_nonzero(region)
        if area > _LARGEST_MEANING * region.size or (region & excluded).any():
            break
        edge = cv2.morphologyEx(region.astype(np.uint8), cv2.MORPH_GRADIENT, _SQUARE) > 0
        strength = float(contrast[edge].mean()) * min(1.0, np.sqrt(area / roomy))
        if strength > best_strength:
            best, best_strength = region, strength
    return best & ~excluded


def _colour_distance(lab: NDArray[np.float32], seed: Bitmap) -> NDArray[np.float32]:
    """How many standard deviations (h, w) each pixel is from the colours in and around a seed."""
    colours = lab[cv2.dilate(seed.astype(np.uint8), _SQUARE) > 0].astype(np.float64)
    covariance = np.eye(3) * _COLOUR_SPREAD**2
    if len(colours) > 3:
        covariance += np.cov(colours.T)
    offset = lab - colours.mean(axis=0).astype(np.float32)
    return np.sqrt(((offset @ np.linalg.inv(covariance).astype(np.float32)) * offset).sum(axis=2))


def _parts_with(bitmap: Bitmap, marks: Bitmap) -> Bitmap:
    """The connected parts of a bitmap that hold a mark."""
    count, parts = cv2.connectedComponents(bitmap.astype(np.uint8), connectivity=4)
    marked = np.zeros(count, np.bool_)
    marked[parts[marks & bitmap]] = True
    return marked[parts]


def _without_holes(bitmap: Bitmap, smaller_than: float = np.inf, kept: Bitmap | None = None) -> Bitmap:
    """A bitmap with its holes of fewer than some pixels filled, but for those that hold a pixel to be `kept`."""
    outside = np.pad(~bitmap, 1, constant_values=True).astype(np.uint8)
    _, parts, stats, _ = cv2.connectedComponentsWithStats(outside, connectivity=4)
    parts = parts[1:-1, 1:-1]
    hole = stats[:, cv2.CC_STAT_AREA] < smaller_than
    hole[:2] = False  # 0 is the bitmap itself, 1 what is connected with the frame around it
    if kept is not None:
        hole[parts[kept]] = False
    return bitmap | hole[parts]


class _Cut:
    """GrabCut on a view, for an object inside `window`, a region of the image."""

    def __init__(self, view: _View, window: _Region, prompt: Prompt):
        self.view, self.prompt = view, prompt
        positive, negative = view.points(prompt.pos_points_xy), view.points(prompt.neg_points_xy)
        self._positive = _discs(view.size_hw, positive, negative)
        self._negative = _discs(view.size_hw, negative, positive) & ~self._positive
        self._inside = np.zeros(view.size_hw, np.bool_)
        view.shrunk(window).of(self._inside)[:] = True
        # What GrabCut starts from: all of a box, or what the points mean, without what negative points mean.
        self._probable = self._inside.copy()
        if prompt.box_xyxy is None:
            self._probable &= self._meant(positive, negative)
        probably_negative = negative[self._probable[negative[:, 1], negative[:, 0]]]
        if len(probably_negative):
            self._probable &= ~self._meant(probably_negative, positive)
        self._probable |= self._positive
        self.background_model, self.object_model = np.zeros((1, 65)), np.zeros((1, 65))

    def solve(self, iterations: int) -> Bitmap:
        """The object's pixels (h, w) of the view."""
        labels, drawn = self._first_labels(), self._probable & ~self._negative
        objects = np.count_nonzero(labels & 1)
        if min(objects, labels.size - objects) < _FEWEST_SAMPLES:
            return drawn
        self._iterate(labels, iterations)
        found = self._selected((labels & 1) > 0)
        if not (found & ~self._positive).any():
            # The same colours on both sides: what the user has drawn is a better answer than nothing.
            return self._selected(drawn)
        return _without_holes(found, _LARGEST_HOLE * np.count_nonzero(found), self._negative)

    def _first_labels(self) -> NDArray[np.uint8]:
        labels = np.where(self._inside, cv2.GC_PR_BGD, cv2.GC_BGD).astype(np.uint8)
        labels[self._probable] = cv2.GC_PR_FGD
        if labels.all() and not (labels == cv2.GC_PR_BGD).any():
            # Nothing but object: its outermost pixels are where the background is most likely to show.
            height, width = labels.shape
            y, x = height // 16, width // 16
            centre = labels[y : height - y, x : width - x].copy()
            labels[:] = cv2.GC_PR_BGD
            labels[y : height - y, x : width - x] = centre
        labels[self._negative] = cv2.GC_BGD
        labels[self._positive] = cv2.GC_FGD
        return labels

    def _iterate(self, labels: NDArray[np.uint8], iterations: int) -> None:
        """Changes the labels and learns the models of both colours."""
        cv2.setRNGSeed(0)  # the models start from a k-means clustering
        mode = cv2.GC_INIT_WITH_MASK
        for _ in range(iterations):
            before = labels.copy()
            cv2.grabCut(self.view.pixels, labels, None, self.background_model, self.object_model, 1, mode)
            if mode == cv2.GC_EVAL and np.count_nonzero(labels & 1) < np.count_nonzero(before & 1) / 2:
                labels[:] = before  # from here on the background would swallow the object
                return
            if np.count_nonzero((before ^ labels) & 1) <= _SETTLED * labels.size:
                return
            mode = cv2.GC_EVAL

    def _meant(self, points: NDArray[np.int64], others: NDArray[np.int64]) -> Bitmap:
        """`_meant_region` of points of the view, as a bitmap of the view."""
        scale = min(1.0, _MEANING_SIDE / max(self.view.size_wh))
        size_wh = [max(1, int(side * scale)) for side in self.view.size_wh]
        pixels = cv2.resize(self.view.pixels, size_wh, interpolation=cv2.INTER_AREA)
        factors = np.array(size_wh) / self.view.size_wh
        meant = _meant_region(pixels, (points * factors).astype(np.int64), (others * factors).astype(np.int64))
        return cv2.resize(meant.astype(np.float32), self.view.size_wh) >= 0.5

    def _selected(self, bitmap: Bitmap) -> Bitmap:
        """The parts that make up the object: those with positive points, or else the larger ones without negative."""
        if self._positive.any():
            return _parts_with(bitmap, self._positive)
        refused = _parts_with(bitmap | self._negative, self._negative)
        if (bitmap & ~refused).any():
            bitmap = bitmap & ~refused
        _, parts, stats, _ = cv2.connectedComponentsWithStats(bitmap.astype(np.uint8), connectivity=4)
        areas = stats[:, cv2.CC_STAT_AREA]
        areas[0] = 0
        return (areas >= max(_SMALLEST_PART * areas.max(), 1))[parts]


def _to_full(cut: _Cut, found: Bitmap, image: Image) -> Bitmap:
    """What was found in the view of a cut, in the resolution of the image: (H, W) of the view's region."""
    view = cut.view
    if view.scale >= 1:
        return cv2.resize(found.astype(np.uint8) * 255, view.region.size_wh, interpolation=cv2.INTER_AREA) >= 128
    larger = _View(image, view.region, _EDGE_FACTOR * max(view.size_wh))
    found = _cut_edge(cut, larger, found)
    return found if larger.scale >= 1 else _matte_edge(cut, larger, found)


class _Edge:
    """What was found, enlarged to a region of an image at a higher resolution, and how far it is settled there.

    soft: (h, w) uint8, 0 outside to 255 inside. sure: pixels of the object beyond doubt. band: pixels in doubt.
    """

    def __init__(
        self, found: Bitmap, size_wh: tuple[int, int], positive: NDArray[np.int64], negative: NDArray[np.int64]
    ):
        self.soft = cv2.resize(found.astype(np.uint8) * 255, size_wh, interpolation=cv2.INTER_LINEAR)
        hard = (self.soft >= 128).astype(np.uint8)
        radius = int(np.ceil(1.5 * size_wh[0] / found.shape[1])) + 1
        kernel = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
        self.sure = cv2.erode(hard, kernel) > 0
        self.band = cv2.dilate(hard, kernel) > 0
        self.band[negative[:, 1], negative[:, 0]] = False
        self.sure[negative[:, 1], negative[:, 0]] = False
        self.sure[positive[:, 1], positive[:, 0]] = True
        self.band &= ~self.sure

    def settled(self, bitmap: Bitmap) -> Bitmap:
        """A bitmap that agrees with this but for the band, without the specks that the band may have left over."""
        return _parts_with(bitmap, self.sure) if self.sure.any() else bitmap


def _cut_edge(cut: _Cut, view: _View, found: Bitmap) -> Bitmap:
    """The object at the resolution of a larger view: GrabCut in small tiles along its edge, with the models of the cut."""
    width, height = view.size_wh
    edge = _Edge(found, view.size_wh, view.points(cut.prompt.pos_points_xy), view.points(cut.prompt.neg_points_xy))
    labels = np.where(edge.sure, cv2.GC_FGD, cv2.GC_BGD).astype(np.uint8)
    labels[edge.band] = np.where(edge.soft[edge.band] >= 128, cv2.GC_PR_FGD, cv2.GC_PR_BGD)
    result = edge.sure.copy()
    for top in range(0, height, _TILE):
        for left in range(0, width, _TILE):
            core = _Region(left, top, min(left + _TILE, width), min(top + _TILE, height))
            if not core.of(edge.band).any():
                continue
            y, x = max(top - _TILE_MARGIN, 0), max(left - _TILE_MARGIN, 0)
            tile = _Region(x, y, min(core.right + _TILE_MARGIN, width), min(core.bottom + _TILE_MARGIN, height))
            part = tile.of(labels).copy()
            models = cut.background_model.copy(), cut.object_model.copy()
            cv2.grabCut(np.ascontiguousarray(tile.of(view.pixels)), part, None, *models, 1, cv2.GC_EVAL_FREEZE_MODEL)
            core.of(result)[:] = (part[top - y : core.bottom - y, left - x : core.right - x] & 1) > 0
    return edge.settled(result)


def _matte_edge(cut: _Cut, view: _View, found: Bitmap) -> Bitmap:
    """The object at the image's resolution: a pixel near the edge goes to the side whose colours nearby it is closer to."""
    positive, negative = (view.source_points(p) for p in (cut.prompt.pos_points_xy, cut.prompt.neg_points_xy))
    edge = _Edge(found, view.region.size_wh, positive, negative)
    rows, columns = np.nonzero(edge.band)
    y = np.minimum((rows * view.scale).astype(np.int64), view.size_hw[0] - 1)
    x = np.minimum((columns * view.scale).astype(np.int64), view.size_hw[1] - 1)
    inner, inner_known = _colours_nearby(view.pixels, found)
    outer, outer_known = _colours_nearby(view.pixels, ~found)
    axis = inner[y, x] - outer[y, x]
    length = (axis**2).sum(axis=1)
    share = ((view.source[rows, columns] - outer[y, x]) * axis).sum(axis=1) / np.maximum(length, 1)
    trust = np.where((inner_known & outer_known)[y, x], length / (length + _COLOUR_NOISE**2), 0)
    matte = np.where(edge.sure, np.uint8(255), np.uint8(0))
    matte[edge.band] = trust * np.clip(share, 0, 1) * 255 + (1 - trust) * edge.soft[edge.band]
    result = cv2.GaussianBlur(matte, (3, 3), 0) >= 128
    return edge.settled(result)


def _colours_nearby(pixels: Image, bitmap: Bitmap) -> tuple[NDArray[np.float32], Bitmap]:
    """(h, w, 3) mean colour around each pixel of the bitmap's pixels, but for its outermost; and where there are any."""
    inner = cv2.erode(bitmap.astype(np.uint8), _SQUARE).astype(np.float32)
    weight = cv2.boxFilter(inner, -1, (_NEARBY, _NEARBY))
    total = cv2.boxFilter(pixels * inner[..., None], -1, (_NEARBY, _NEARBY))
    return total / np.maximum(weight, 1e-6)[..., None], weight > 0.5 / _NEARBY**2
