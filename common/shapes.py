"""Annotation shapes as plain frozen values.

Coordinates are floating-point pixels of the image in the orientation that CVAT shows: x to the right, y down,
(0, 0) the outer corner of the top left pixel, so the centre of that pixel is (0.5, 0.5). A bitmap's pixel
(row, column) covers the square from (column, row) to (column + 1, row + 1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

AttributeValue = str | bool | int | float

BoxXyxy = tuple[float, float, float, float]
"""(left, top, right, bottom)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shape:
    """What all annotations have in common."""

    type: ClassVar[str] = ""
    """CVAT's name of the type."""

    label: str = ""
    """A name of the function's labels; empty for interactors and trackers, whose caller knows it."""
    score: float | None = None
    """Confidence from 0 to 1, or None when the model gives none."""
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    """Name -> value; turned into the strings that CVAT wants when the reply is written."""
    group: int = 0
    """A positive number shared by shapes that belong together, 0 for none."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tag(Shape):
    """The whole image."""

    type: ClassVar[str] = "tag"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rectangle(Shape):
    """A box, rotated about its centre."""

    type: ClassVar[str] = "rectangle"

    box_xyxy: BoxXyxy
    """(left, top, right, bottom) in pixels of the image, before the rotation."""
    rotation: float = 0.0
    """Degrees, clockwise on the screen, 0 to 360."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ellipse(Shape):
    """An ellipse, rotated about its centre."""

    type: ClassVar[str] = "ellipse"

    center_xy: tuple[float, float]
    """The centre in pixels of the image."""
    radii_xy: tuple[float, float]
    """Half axes along x and y in pixels, before the rotation."""
    rotation: float = 0.0
    """Degrees, clockwise on the screen, 0 to 360."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PointShape(Shape):
    """What all shapes that are made of points have in common."""

    points_xy: NDArray[np.float64]
    """(N, 2) float64 pixels of the image, a read-only copy; anything that numpy makes such an array of is accepted."""

    def __post_init__(self) -> None:
        points = np.array(self.points_xy, np.float64).reshape(-1, 2)
        points.flags.writeable = False
        object.__setattr__(self, "points_xy", points)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Polygon(PointShape):
    """A closed outline of 3 points or more; the first is not repeated at the end."""

    type: ClassVar[str] = "polygon"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Polyline(PointShape):
    """An open line of 2 points or more."""

    type: ClassVar[str] = "polyline"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Points(PointShape):
    """A set of 1 point or more."""

    type: ClassVar[str] = "points"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cuboid(PointShape):
    """8 points in CVAT's order: front-left top and bottom, front-right, back-right, back-left, top and bottom each."""

    type: ClassVar[str] = "cuboid"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mask(Shape):
    """A set of pixels, held as the bitmap of a box around it."""

    type: ClassVar[str] = "mask"

    bitmap: NDArray[np.bool_]
    """(h, w) bool, a read-only view; of other types what is not zero counts."""
    left: int = 0
    """The image column of bitmap[0, 0]."""
    top: int = 0
    """The image row of bitmap[0, 0]."""
    outline_xy: NDArray[np.float64] | None = None
    """(N, 2) float64 polygon to go beside the mask, or None: then the reply computes one."""

    def __post_init__(self) -> None:
        bitmap = np.asarray(self.bitmap)
        if bitmap.ndim != 2:
            raise ValueError(f"the bitmap of a mask has 2 axes, got shape {bitmap.shape}")
        bitmap = bitmap.view() if bitmap.dtype == np.bool_ else bitmap != 0
        bitmap.flags.writeable = False
        object.__setattr__(self, "bitmap", bitmap)
        object.__setattr__(self, "left", int(self.left))
        object.__setattr__(self, "top", int(self.top))

    @classmethod
    def from_full(cls, bitmap: ArrayLike, **common: object) -> Mask:
        """The mask of an image-sized bitmap, cropped to its true pixels.

        Args:
            bitmap: (H, W) of any type; what is not zero counts.
            **common: The other fields of a shape, such as `label` and `score`.

        Returns:
            The mask; of 0 x 0 pixels when none is true.
        """
        full = np.asarray(bitmap)
        if full.dtype != np.bool_:
            full = full != 0
        rows = np.flatnonzero(full.any(axis=1))
        if not rows.size:
            return cls(bitmap=np.zeros((0, 0), np.bool_), **common)  # type: ignore[arg-type]
        top, bottom = int(rows[0]), int(rows[-1]) + 1
        columns = np.flatnonzero(full[top:bottom].any(axis=0))
        left, right = int(columns[0]), int(columns[-1]) + 1
        crop = np.ascontiguousarray(full[top:bottom, left:right])
        return cls(bitmap=crop, left=left, top=top, **common)  # type: ignore[arg-type]

    @property
    def box_xyxy(self) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) of the bitmap, right and bottom exclusive."""
        height, width = self.bitmap.shape
        return self.left, self.top, self.left + width, self.top + height


@dataclass(frozen=True, slots=True)
class Joint:
    """One point of a skeleton."""

    name: str
    """A name of the label's sublabels."""
    x: float
    """In pixels of the image, to the right."""
    y: float
    """In pixels of the image, down."""
    visible: bool = True
    """False when it is not in the image or was not found ("outside" in CVAT)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Skeleton(Shape):
    """Named points that belong together, such as the joints of a body."""

    type: ClassVar[str] = "skeleton"

    joints: tuple[Joint, ...]
    """Some or all of the label's sublabels, each at most once, in any order."""
