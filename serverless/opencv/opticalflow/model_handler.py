"""Follows objects by optical flow: pyramidal Lucas-Kanade, forward and backward, and the motion that most points agree on.

All computation is done on the patch: a grey picture of the object in the pose that it had in the first frame, at a size that
hardly depends on its size in the image. The state holds two patches, of the first frame and of the last one in which the
object was seen clearly, the shape as it was drawn, and where it is now. Shapes are always made from the drawn one, never from
the previous one, and drift is corrected by the first patch.

A plain object has no points to follow, and looks the same wherever a patch of its colour is. It is followed by its outline
instead (`common.vision.flow.silhouette`), or is lost when that can't be seen.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import cv2

from common.config import FunctionConfig
from common.protocol import Image
from common.serving.options import check_range
from common.shapes import Shape
from common.vision.flow.frame import Frame
from common.vision.flow.places import best_offset
from common.vision.flow.points import Aligned, Reference, align, without_drift
from common.vision.flow.pose import LONGEST_SIDE, MARGIN, Pose
from common.vision.flow.silhouette import Silhouette
from common.vision.flow.track import Track
from common.vision.geometry import clip_point

_SUPPORT = 0.2  # of the points that must agree
_SEEN = 0.75  # likeness at which a patch is worth keeping
_FOUND_AGAIN = 0.65  # likeness at which a lost object counts as found
_UNSUPPORTED = 0.6  # likeness that is enough for an object whose points don't agree
_HALF_SEEN, _HALF_SUPPORT = 0.85, 0.3  # or that of its better half, and of its points, when the rest may be hidden
_COASTING = 10  # frames for which a lost object is expected to keep moving as it did


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

    def prepare(self, image: Image) -> Frame:
        """The frame in grey, in all sizes that its objects need."""
        return Frame(image)

    def start(self, frame: Frame, shape: Shape) -> dict[str, Any]:
        """The state of an object that is drawn on this frame."""
        return Track.begun(frame, shape).to_plain()

    def track(self, frame: Frame, state: Any) -> tuple[Shape | None, dict[str, Any]]:
        """The object's shape on the next frame, or None while it is lost, and its new state."""
        track = Track.from_plain(state)
        found = self._find(frame, track)
        if found is None:
            return None, replace(track, lost=track.lost + 1).to_plain()
        pose, likeness = found
        track = track.after(frame, pose, likeness >= _SEEN)
        return track.drawn.placed(pose, frame.size_hw), track.to_plain()

    def _find(self, frame: Frame, track: Track) -> tuple[Pose, float] | None:
        """Where the object is in a frame and how much it looks there as it did last; None when it can't be seen."""
        if track.silhouette is not None:
            return self._find_by_outline(frame, track, track.silhouette)
        return self._find_by_points(frame, track) if track.marked else None

    def _find_by_outline(self, frame: Frame, track: Track, silhouette: Silhouette) -> tuple[Pose, float] | None:
        """What `_find` returns, for a plain object."""
        found = silhouette.find(frame, track.drawn, *self._expected(frame, track))
        enough = _FOUND_AGAIN if track.lost else self._min_likeness
        return found if found is not None and found[1] >= enough else None

    def _find_by_points(self, frame: Frame, track: Track) -> tuple[Pose, float] | None:
        """What `_find` returns, for an object with marks."""
        drawn, grid = track.drawn, track.drawn.grid
        weight = track.weight()
        last = Reference(track.patch, weight * frame.shows(grid, track.patch_pose))
        first = Reference(track.first, weight * frame.shows(grid, Pose(1 + 0j, drawn.center)))
        found = None
        for reference in (last, first):
            for pose in self._places(frame, track, reference):
                aligned = align(frame, grid, reference, pose)
                if aligned is None or not drawn.is_visible(aligned.pose, frame.size_hw):
                    continue
                if self._is_it(aligned, bool(track.lost)) and (found is None or aligned.likeness > found.likeness):
                    found = aligned
                if found is not None and found.likeness >= _SEEN:
                    return without_drift(frame, grid, first, found).pose, found.likeness
        return None if found is None else (without_drift(frame, grid, first, found).pose, found.likeness)

    def _is_it(self, aligned: Aligned, lost: bool) -> bool:
        """Whether what was found is the object; the bar is higher for one that was lost, or that few points support."""
        if aligned.support < _SUPPORT:
            return aligned.likeness >= (_SEEN if lost else _UNSUPPORTED)
        if lost and not (aligned.best_half >= _HALF_SEEN and aligned.support >= _HALF_SUPPORT):
            return aligned.likeness >= _FOUND_AGAIN
        return aligned.best_half >= self._min_likeness

    def _expected(self, frame: Frame, track: Track) -> tuple[Pose, float]:
        """Where an object's motion leads, and how far from there to search, in patch pixels."""
        center = track.pose.center + track.motion * (1 + min(track.lost, _COASTING))
        if track.lost:  # an object that has left the image comes back at its edge
            center = complex(*clip_point((center.real, center.imag), frame.size_hw))
        size = max(track.drawn.grid.inner_wh)
        reach = min(max(self._search_range * size, 2 * MARGIN), LONGEST_SIDE) * min(1 + track.lost, 3)
        return Pose(track.pose.size, center), reach

    def _places(self, frame: Frame, track: Track, reference: Reference) -> list[Pose]:
        """Poses from which to search for an object: where the image is most like it, and where its motion leads."""
        grid, (start, reach) = track.drawn.grid, self._expected(frame, track)
        # At half the patch's resolution: four times as fast, and points are followed from there anyway.
        coarse = 2 if min(grid.inner_wh) >= 24 else 1
        columns, rows = (side // coarse for side in grid.inner_wh)
        border = math.ceil(reach / coarse)
        step = start.size * coarse / grid.scale
        scene = frame.sample(start.center, step, (columns + 2 * border, rows + 2 * border))
        x, y = (grid.size_wh[0] - columns * coarse) // 2, (grid.size_wh[1] - rows * coarse) // 2
        inner = reference.patch[y : y + rows * coarse, x : x + columns * coarse]
        template = cv2.resize(inner, (columns, rows), interpolation=cv2.INTER_AREA)
        offset = best_offset(scene, template, border)
        if abs(offset) <= 1:
            return [start]
        return [Pose(start.size, start.center + step * offset), start]
