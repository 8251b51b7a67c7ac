"""Where an object is, and the grid of pixels in which it is compared."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Complex = NDArray[np.complex128]

_PATCH_SIDE = 56  # patch pixels of a square object's side
LONGEST_SIDE = 96  # patch pixels of any side
_ENLARGED = 4.0  # at most so many patch pixels for one of the image
MARGIN = 8  # patch pixels around the object
GROWTH = 1.3  # of an object from one frame to the next, at most
TURN = math.radians(30)  # from one frame to the next, at most


def to_complex(points_xy: NDArray[np.floating | np.integer]) -> Complex:
    """Points as complex numbers.

    Args:
        points_xy: (N, 2).

    Returns:
        (N,) x + iy.
    """
    return np.asarray(points_xy @ np.array([1, 1j]), np.complex128)


def to_xy(points: Complex) -> NDArray[np.float64]:
    """The inverse of `to_complex`.

    Args:
        points: (N,) x + iy.

    Returns:
        (N, 2).
    """
    return np.stack([points.real, points.imag], axis=1)


@dataclass(frozen=True, slots=True)
class Pose:
    """Where an object is: what was at c + q when it was drawn, c the centre of its box, is at `center` + `size` * q."""

    size: complex
    """Its scale and rotation since the first frame."""
    center: complex
    """The centre of its box, in pixels of the image."""

    def moved(self, grid: Grid, growth: complex, shift: complex) -> Pose:
        """The pose after a motion seen in the patch, from patch point p to growth * p + shift.

        Args:
            grid: The pixels of the patch.
            growth: Scale and rotation.
            shift: Patch pixels.
        """
        middle = complex(*grid.size_wh) / 2
        return Pose(self.size * growth, self.center + self.size / grid.scale * ((growth - 1) * middle + shift))


@dataclass(frozen=True, slots=True)
class Grid:
    """The pixels of an object's patch."""

    scale: float
    """How many of them there are for one pixel of the first frame, along each side."""
    inner_wh: tuple[int, int]
    """Width and height of the object's box, in the middle of the patch."""

    @classmethod
    def over(cls, extent_wh: tuple[float, float]) -> Grid:
        """The pixels for an object of any size.

        Args:
            extent_wh: Width and height of the box around it, in pixels of the image.
        """
        width, height = extent_wh
        scale = min(_PATCH_SIDE / math.sqrt(width * height), LONGEST_SIDE / max(width, height), _ENLARGED)
        return cls(scale, (max(4, round(width * scale)), max(4, round(height * scale))))

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height of the patch, with the margin around the object."""
        return self.inner_wh[0] + 2 * MARGIN, self.inner_wh[1] + 2 * MARGIN
