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
    """What all annotations have in common.

    label: a name of the function's labels; empty for interactors and trackers, whose caller knows it.
    score: confidence from 0 to 1, or None when the model gives none.
    attributes: name -> value; turned into the strings that CVAT wants when the reply is made.
    group: a positive number shared by shapes that belong together, 0 for none.
    """

    type: ClassVar[str] = ""

    label: str = ""
    score: float | None = None
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    group: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tag(Shape):
    """The whole image."""

    type: ClassVar[str] = "tag"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rectangle(Shape):
    """A box, turned about its centre.

    box_xyxy: (left, top, right, bottom) before the rotation.
    rotation: degrees, clockwise on the screen, 0 to 360.
    """

    type: ClassVar[str] = "rectangle"

    box_xyxy: tuple[float, float, float, float]
    rotation: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ellipse(Shape):
    """center_xy, radii_xy (half axes along x and y before the rotation), rotation in degrees, clockwise."""

    type: ClassVar[str] = "ellipse"

    center_xy: tuple[float, float]
    radii_xy: tuple[float, float]
    rotation: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _PointShape(Shape):
    """points_xy: (N, 2) float64, a copy that can't be written to; anything that makes one is accepted."""

    points_xy: NDArray[np.float64]

    def __post_init__(self) -> None:
        points = np.array(self.points_xy, np.float64).reshape(-1, 2)
        points.flags.writeable = False
        object.__setattr__(self, "points_xy", points)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Polygon(_PointShape):
    """A closed outline of 3 points or more; the first is not repeated at the end."""

    type: ClassVar[str] = "polygon"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Polyline(_PointShape):
    """An open line of 2 points or more."""

    type: ClassVar[str] = "polyline"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Points(_PointShape):
    """A set of 1 point or more."""

    type: ClassVar[str] = "points"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cuboid(_PointShape):
    """8 points in CVAT's order: front-left top and bottom, front-right, back-right, back-left, top and bottom each."""

    type: ClassVar[str] = "cuboid"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mask(Shape):
    """A set of pixels, held as the bitmap of a box around it.

    bitmap: (h, w) bool, a view that can't be written to; of other types what is not zero counts.
    left, top: the image column and row of bitmap[0, 0].
    outline_xy: (N, 2) float64 polygon to go beside the mask, or None: then the reply computes one.
    """

    type: ClassVar[str] = "mask"

    bitmap: NDArray[np.bool_]
    left: int = 0
    top: int = 0
    outline_xy: NDArray[np.float64] | None = None

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
        """The mask of an image-sized (H, W) bitmap, cropped to its true pixels (an empty one stays 0 x 0)."""
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
    """One point of a skeleton. `visible` false: not in the picture or not found ("outside" in CVAT)."""

    name: str
    x: float
    y: float
    visible: bool = True


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Skeleton(Shape):
    """joints: some or all of the label's sublabels, each at most once, in any order."""

    type: ClassVar[str] = "skeleton"

    joints: tuple[Joint, ...]
