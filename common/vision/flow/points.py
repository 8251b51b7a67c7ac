"""How an object moved from one picture to another: points followed by pyramidal Lucas-Kanade, forward and backward."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from common.vision.flow.frame import Bitmap, Frame, Grey
from common.vision.flow.pose import GROWTH, TURN, Complex, Grid, Pose, to_complex, to_xy

_CORNERS = 90  # points that are followed, at most
_CORNER_BLOCK = 5  # pixels on each side of a corner's surroundings
_MARK, _FEWEST_MARKS = 6e-5, 4  # strength of corners above that of noise; fewer of them can't be followed
_WINDOW = (9, 9)
_BACK_AND_FORTH = 1.0  # patch pixels by which a point may miss itself on the way back
_AGREEMENT = 1.2  # patch pixels by which a point may be off the common motion
_FEWEST_FOR_SCALE, _FEWEST_FOR_TURN = 5, 8  # points that must agree for a change of size, and for a turn
_STEADY = 0.05  # change of size from one frame to the next that is usual: more takes more points to be believed
_NOISE = 5.0  # grey levels: contrast below this counts for nothing
_FOUND_AGAIN = 0.65  # likeness at which a lost object counts as found
_DRIFT = 3.0  # patch pixels by which the first patch may correct a position
_TRUSTED = 0.4  # of a cell, 0 to 1, from which on its points are followed


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """A patch to search for."""

    patch: Grey
    """The picture (h, w)."""
    weight: NDArray[np.float32]
    """How sure it is that each of its pixels (h, w) shows the object, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Aligned:
    """A pose at which a reference fits the image."""

    pose: Pose
    """The pose."""
    likeness: float
    """How much the object there looks as in the reference, -1 to 1."""
    best_half: float
    """The same of its better half, for an object that may be half hidden."""
    support: float
    """The share of the points that agree on the motion, 0 to 1."""


def align(frame: Frame, grid: Grid, reference: Reference, pose: Pose) -> Aligned | None:
    """Finds the pose near a first guess at which an object fits a reference.

    Args:
        frame: The frame to search.
        grid: The pixels of the object's patches.
        reference: What the object looks like.
        pose: The first guess.

    Returns:
        None when the object fits nowhere near.
    """
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
    if not 1 / GROWTH <= abs(change) <= GROWTH or abs(np.angle(change)) > TURN:
        return None
    sample = _as_bright(frame.patch(grid, pose), reference)
    values = local_likeness(reference.patch, sample)
    weight = reference.weight * frame.shows(grid, pose)
    if weight.sum() < 0.1 * reference.weight.sum() or not weight.any():
        return None
    order = np.argsort(values, axis=None)
    values_in_order, weights_in_order = values.ravel()[order], weight.ravel()[order]
    upper = np.cumsum(weights_in_order) >= weights_in_order.sum() / 2
    return Aligned(
        pose,
        float(np.average(values, weights=weight)),
        float(np.average(values_in_order[upper], weights=weights_in_order[upper])),
        support,
    )


def without_drift(frame: Frame, grid: Grid, first: Reference, found: Aligned) -> Aligned:
    """Corrects a pose by the first patch, if the object still looks as it did there.

    Args:
        frame: The frame in which the object was found.
        grid: The pixels of its patches.
        first: What it looked like in the first frame.
        found: Where it was found.
    """
    aligned = align(frame, grid, first, found.pose)
    if aligned is None or aligned.likeness < _FOUND_AGAIN or aligned.support < 0.4:
        return found
    drift = abs(aligned.pose.center - found.pose.center) * grid.scale / abs(found.pose.size)
    spread = abs(aligned.pose.size / found.pose.size - 1) * max(grid.inner_wh) / 2
    return aligned if max(drift, spread) <= _DRIFT else found


def has_marks(reference: Reference) -> bool:
    """Whether an object has enough points that can be followed, stronger than those that noise makes.

    Args:
        reference: What the object looks like.
    """
    inside = reference.weight >= _TRUSTED
    if not _core(inside).any():  # too thin for points, but perhaps not for a comparison
        return bool(inside.any()) and float(reference.patch[inside].std()) >= _NOISE
    strength = cv2.cornerMinEigenVal(reference.patch, _CORNER_BLOCK)
    corners = _corners(reference).astype(np.int32)
    return int((strength[corners[:, 1], corners[:, 0]] >= _MARK).sum()) >= _FEWEST_MARKS


def _core(inside: Bitmap) -> NDArray[np.uint8]:
    """(h, w) 1 where a pixel and its surroundings are inside."""
    return cv2.erode(inside.astype(np.uint8), np.ones((_CORNER_BLOCK, _CORNER_BLOCK), np.uint8))


def _corners(reference: Reference) -> NDArray[np.float32]:
    """(N, 2) pixels of a reference that are easy to follow and well inside the object; N is 0 for a plain object."""
    inside = _core(reference.weight >= _TRUSTED)
    found = cv2.goodFeaturesToTrack(reference.patch, _CORNERS, 0.01, 3, mask=inside, blockSize=_CORNER_BLOCK)
    return np.zeros((0, 2), np.float32) if found is None else found.reshape(-1, 2)


def _as_bright(sample: Grey, reference: Reference) -> Grey:
    """A sample made lighter or darker by as much as most of the object differs from a reference."""
    area = reference.weight > 0
    if not area.any():
        return sample
    offset = float(np.median(reference.patch[area].astype(np.int16) - sample[area]))
    return cv2.add(sample, offset) if offset > 0 else cv2.subtract(sample, -offset)


def local_likeness(reference: Grey, sample: Grey) -> NDArray[np.floating]:
    """How much the surroundings of each pixel look alike in two patches.

    Args:
        reference: (h, w) uint8.
        sample: (h, w) uint8.

    Returns:
        (h, w) -1 to 1; 1 where both are plain.
    """

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
    return to_complex(points[good].astype(np.float64) + 0.5), to_complex(there[good].astype(np.float64) + 0.5)


def _motion(before: Complex, after: Complex, scale: float) -> tuple[complex, complex, Bitmap]:
    """The motion p -> growth * p + shift on which most points agree, and which points do."""
    moves = after - before
    usual = complex(np.median(moves.real), np.median(moves.imag))
    agree = abs(moves - usual) <= _AGREEMENT
    if len(before) > 2:
        matrix, inliers = cv2.estimateAffinePartial2D(
            to_xy(before), to_xy(after), method=cv2.RANSAC, ransacReprojThreshold=_AGREEMENT
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
