"""What is known of an object from one frame to the next, as the state of a tracker holds it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from common.errors import BadState
from common.shapes import Shape
from common.vision.flow.drawn import Drawn
from common.vision.flow.frame import Frame, Grey
from common.vision.flow.jpeg import from_jpeg, to_jpeg
from common.vision.flow.points import Reference, has_marks, local_likeness
from common.vision.flow.pose import Pose, to_complex, to_xy
from common.vision.flow.silhouette import Silhouette

_STEPS_PER_PIXEL = 64  # resolution of the drawn points in the state
_CELLS = 8  # on each side of the patch: a grid in which it is learnt what belongs to the object
_LEARNING = 0.15


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """All that is known of an object after a frame: what its state holds."""

    drawn: Drawn
    """The shape that the user drew."""
    pose: Pose
    """Where the object was seen last."""
    motion: complex
    """Of its centre since the previous frame."""
    lost: int
    """For how many frames it has been lost."""
    patch: Grey
    """Its picture when it was last seen clearly."""
    patch_pose: Pose
    """Where that was."""
    first: Grey
    """Its picture in the first frame."""
    trust: NDArray[np.floating]
    """(n, n) cells of the patch, 0 to 1: how much each has moved with the object. What is behind or in front of it has not."""
    silhouette: Silhouette | None = None
    """Of an object that is followed by its outline; None for others."""
    marked: bool = True
    """Whether others have marks to follow; without any, there is nothing by which to find an object again."""

    @classmethod
    def begun(cls, frame: Frame, shape: Shape) -> Track:
        """What is known of an object in the frame in which it is drawn.

        Args:
            frame: The frame.
            shape: The object's shape in it.
        """
        drawn = Drawn.of(shape, frame.size_hw)
        pose = Pose(1 + 0j, drawn.center)
        patch = frame.patch(drawn.grid, pose)
        silhouette = Silhouette.of(frame, drawn)
        marked = silhouette is not None or has_marks(Reference(patch, drawn.area().astype(np.float32)))
        return cls(drawn, pose, 0j, 0, patch, pose, patch, np.ones((_CELLS, _CELLS), np.float32), silhouette, marked)

    def weight(self) -> NDArray[np.floating]:
        """How sure it is that each pixel (h, w) of the patch shows the object, 0 to 1; 0 outside the shape."""
        return cv2.resize(self.trust, self.drawn.grid.size_wh) * self.drawn.area()

    def after(self, frame: Frame, pose: Pose, seen: bool) -> Track:
        """What is known of the object after a frame in which it was found.

        Args:
            frame: The frame.
            pose: Where the object is in it.
            seen: Whether it was seen clearly.
        """
        motion = (pose.center - self.pose.center) / (1 + self.lost)
        moved = replace(self, pose=pose, motion=motion, lost=0)
        if self.silhouette is not None:
            return replace(moved, silhouette=self.silhouette.renewed(frame, self.drawn, pose)) if seen else moved
        sample = frame.patch(self.drawn.grid, pose)
        alike = cv2.resize(local_likeness(self.patch, sample), (_CELLS, _CELLS), interpolation=cv2.INTER_AREA)
        trust = self.trust + _LEARNING * (np.clip(alike, 0, 1) - self.trust)
        if not seen:
            return replace(moved, trust=trust)
        return replace(moved, trust=trust, patch=sample, patch_pose=pose)

    def to_plain(self) -> dict[str, Any]:
        """Plain values for a state."""
        drawn = self.drawn
        points = np.concatenate(drawn.contours)
        numbers = to_xy(points)
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
            "patch": to_jpeg(self.patch),
            "patch_pose": _pair(self.patch_pose.size) + _pair(self.patch_pose.center),
            "first": to_jpeg(self.first),
            "trust": np.rint(self.trust * 255).astype(np.uint8).tobytes(),
            "marked": self.marked,
            "silhouette": None if self.silhouette is None else self.silhouette.to_plain(),
        }

    @classmethod
    def from_plain(cls, state: Any) -> Track:
        """The inverse of `to_plain`, but for the compression of the pictures.

        Args:
            state: What `to_plain` returned.

        Raises:
            BadState: It is anything else.
        """
        try:
            extent = _numbers(state["extent"], 2, 1e-3)
            counts, silhouette = state["counts"], state.get("silhouette")
            numbers = np.frombuffer(state["points"], "<i2").reshape(-1, 2) * _numbers([state["step"]], 1, 1e-6)[0]
            if state["kind"] not in ("rectangle", "polygon", "points", "mask") or not counts or min(counts) < 1:
                raise ValueError("unknown kind or no points")
            if sum(counts) != len(numbers):
                raise ValueError("wrong number of points")
            contours = np.split(to_complex(numbers), np.cumsum(counts[:-1]))
            drawn = Drawn(
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
                from_jpeg(state["patch"], drawn.grid.size_wh),
                _to_pose(state["patch_pose"]),
                from_jpeg(state["first"], drawn.grid.size_wh),
                np.frombuffer(state["trust"], np.uint8).reshape(_CELLS, _CELLS).astype(np.float32) / 255,
                None if silhouette is None else Silhouette.from_plain(silhouette, drawn.grid.size_wh),
                bool(state.get("marked", True)),
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


def _to_pose(values: Any) -> Pose:
    real, imaginary, x, y = _numbers(values, 4)
    if not 1e-5 <= abs(complex(real, imaginary)) <= 1e5:
        raise ValueError("size out of range")
    return Pose(complex(real, imaginary), complex(x, y))
