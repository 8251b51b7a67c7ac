"""A shape as the user drew it, and the same shape wherever its object is later."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from common.shapes import Mask, Points, Polygon, Rectangle, Shape
from common.vision.flow.pose import MARGIN, Complex, Grid, Pose, to_complex, to_xy
from common.vision.geometry import box_area, clip_box, ellipse_points, rotated_size_wh
from common.vision.mask import combined, cropped, outline_to_mask

_CONTOUR_POINTS = 300  # of a mask in the state
_POINT_RADIUS = 0.012  # of the image's longer side, and some pixels: what around points is followed with them
_VISIBLE = 0.25  # of the object's box that must be in the image
_SMALLEST = 3.0  # pixels of the image: an object that has shrunk below this can't be seen any more


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
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
    def of(cls, shape: Shape, size_hw: tuple[int, int]) -> Drawn:
        """A shape that the user has drawn.

        Args:
            shape: A rectangle, mask, polygon or points, in pixels of the image.
            size_hw: (height, width) of the image in pixels.
        """
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
            contours = [to_complex(shape.points_xy)]
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
    def grid(self) -> Grid:
        """The pixels of the object's patches."""
        return Grid.over(self.extent_wh)

    def area(self) -> NDArray[np.bool_]:
        """The pixels (h, w) of the patch that show the object, roughly: of a rectangle the ellipse in it."""
        grid = self.grid
        bitmap = np.zeros(grid.size_wh[::-1], np.uint8)
        middle = complex(*grid.size_wh) / 2

        def pixels(points: Complex) -> NDArray[np.int32]:
            fine = to_xy(middle + points * grid.scale - complex(0.5, 0.5))
            return np.rint(fine * 16).astype(np.int32)

        if self.kind == "rectangle":
            corner = self.contours[0][0]
            ellipse = ellipse_points((0, 0), (corner.real, corner.imag), self.rotation, count=40)
            cv2.fillPoly(bitmap, [pixels(to_complex(ellipse))], 1, shift=4)
        elif self.kind == "points":
            # What lies between points counts as a part of the object that they are on.
            hull = cv2.convexHull(pixels(self.contours[0]))
            around = self.extent_wh[0] / 2 - float(self.contours[0].real.max())
            cv2.fillPoly(bitmap, [hull], 1, shift=4)
            cv2.polylines(bitmap, [hull], True, 1, max(1, round(2 * around * grid.scale)), shift=4)
        else:
            cv2.fillPoly(bitmap, [pixels(c) for c in self.contours], 1, shift=4)
        return bitmap > 0

    def box_area(self) -> NDArray[np.bool_]:
        """The pixels (h, w) of the patch that lie in the upright box around the shape."""
        grid = self.grid
        bitmap = np.zeros(grid.size_wh[::-1], np.bool_)
        bitmap[MARGIN:-MARGIN, MARGIN:-MARGIN] = True
        return bitmap

    def is_visible(self, pose: Pose, size_hw: tuple[int, int]) -> bool:
        """Whether enough of the upright box around the object at a pose is in an image, and large enough.

        Args:
            pose: Where the object is.
            size_hw: (height, width) of the image in pixels.
        """
        size = abs(pose.size) * complex(*self.extent_wh)
        low, high = pose.center - size / 2, pose.center + size / 2
        inside = box_area(clip_box((low.real, low.imag, high.real, high.imag), size_hw))
        large_enough = max(size.real, size.imag) >= min(_SMALLEST, *self.extent_wh)
        return large_enough and inside >= _VISIBLE * size.real * size.imag

    def placed(self, pose: Pose, size_hw: tuple[int, int]) -> Shape:
        """The shape at a pose; a mask cut off at the image's edges.

        Args:
            pose: Where the object is.
            size_hw: (height, width) of the image in pixels.
        """
        if self.kind == "rectangle":
            corner = self.contours[0][0] * abs(pose.size)
            low, high = pose.center - corner, pose.center + corner
            # A box that was drawn upright stays so: the user means the box around the object.
            rotation = (self.rotation + math.degrees(np.angle(pose.size))) % 360 if self.rotation else 0.0
            box = float(low.real), float(low.imag), float(high.real), float(high.imag)
            return Rectangle(box_xyxy=box, rotation=float(rotation))
        contours = [to_xy(pose.center + pose.size * c) for c in self.contours]
        if self.kind == "mask":
            return _filled(contours, size_hw)
        return (Polygon if self.kind == "polygon" else Points)(points_xy=contours[0])


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
    return [to_complex(c + (mask.left, mask.top)) for c in simple]


def _filled(contours: list[NDArray[np.float64]], size_hw: tuple[int, int]) -> Mask:
    """The pixels of an image that are inside an odd number of contours."""
    return cropped(combined([outline_to_mask(contour, size_hw) for contour in contours], np.logical_xor))
