"""Shapes drawn on an image, as CVAT would show them."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from common.cvat.labels import Label
from common.cvat.skeleton import skeleton_edges
from common.shapes import Cuboid, Mask, Points, Polyline, Shape, Skeleton, Tag
from common.vision.geometry import outline_xy

_FILL = 0.45  # how much of a mask's colour covers the image
Color = tuple[int, int, int]
Point = tuple[float, float]


def overlay(
    image: NDArray[np.uint8], shapes: Iterable[Shape | None], labels: Iterable[Label] = ()
) -> NDArray[np.uint8]:
    """An image with shapes on it, each with its label, attributes and score.

    Args:
        image: (H, W, 3) uint8 RGB.
        shapes: What to draw, in pixels of the image, each label in a colour of its own; shapes without a label are in the
            colour of their place in the list. None, as of a lost object, is left out.
        labels: The labels of skeletons, whose joints are joined as their `svg` says.

    Returns:
        A copy, (H, W, 3) uint8 RGB.
    """
    edges = {
        label.name: [
            (label.sublabels[a].name, label.sublabels[b].name)
            for a, b in skeleton_edges(label.svg)
            if max(a, b) < len(label.sublabels)
        ]
        for label in labels
    }
    canvas = _Canvas(image)
    for i, shape in enumerate(shapes):
        if shape is not None:
            canvas.draw(shape, color_of(shape.label or str(i)), edges.get(shape.label, ()))
    return canvas.pixels()


def color_of(name: str) -> Color:
    """A bright colour for a name, always the same one.

    Args:
        name: Any text.

    Returns:
        Red, green and blue from 0 to 255, one of them 255.
    """
    hue = sum((i + 7) * ord(c) for i, c in enumerate(name)) * 0.618033988749895 % 1.0
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.7, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)


class _Canvas:
    def __init__(self, image: NDArray[np.uint8]):
        self._image = Image.fromarray(image).convert("RGB")
        self._draw = ImageDraw.Draw(self._image)
        side = max(self._image.size)
        self._line = max(2, round(side / 250))
        self._font_size = max(12, round(side / 40))
        self._font = ImageFont.load_default(size=self._font_size)
        self._captions: list[tuple[float, float, str, Color]] = []

    def pixels(self) -> NDArray[np.uint8]:
        for x, y, text, color in self._captions:  # last, so that no shape covers them
            self._caption(x, y, text, color)
        return np.array(self._image)

    def draw(self, shape: Shape, color: Color, edges: Sequence[tuple[str, str]]) -> None:
        caption = _caption(shape)
        if isinstance(shape, Tag):
            self._captions.append((0, len(self._captions) * self._font_size * 1.5, caption, color))
            return
        points: list[Point] = []
        if isinstance(shape, Skeleton):
            points = self._skeleton(shape, edges, color)
        elif isinstance(shape, Polyline):
            points = _pairs(shape.points_xy)
            self._draw.line(points, color, self._line)
        elif isinstance(shape, (Points, Cuboid)):
            points = _pairs(shape.points_xy)
            self._dots(points, color)
        elif (outline := outline_xy(shape)) is not None:
            if isinstance(shape, Mask):
                self._fill(shape, color)
            points = _pairs(outline)
            if len(points) >= 2:
                self._draw.line([*points, points[0]], color, self._line, joint="curve")
        if caption and points:
            x, y = min(points, key=lambda point: (point[1], point[0]))
            self._captions.append((x, y - self._font_size * 1.4, caption, color))

    def _skeleton(self, shape: Skeleton, edges: Sequence[tuple[str, str]], color: Color) -> list[Point]:
        seen = {joint.name: (joint.x, joint.y) for joint in shape.joints if joint.visible}
        for a, b in edges:
            if a in seen and b in seen:
                self._draw.line([seen[a], seen[b]], color, self._line)
        self._dots(list(seen.values()), color)
        return list(seen.values())

    def _dots(self, pairs: Sequence[Point], color: Color) -> None:
        radius = 1.5 * self._line
        for x, y in pairs:
            self._draw.ellipse((x - radius, y - radius, x + radius, y + radius), color, "white")

    def _fill(self, mask: Mask, color: Color) -> None:
        if not mask.bitmap.size:
            return
        height, width = mask.bitmap.shape
        covering = Image.fromarray((mask.bitmap * np.uint8(255 * _FILL)).astype(np.uint8))
        self._image.paste(color, (mask.left, mask.top, mask.left + width, mask.top + height), covering)

    def _caption(self, x: float, y: float, text: str, color: Color) -> None:
        width, height = self._draw.textlength(text, self._font), self._font_size * 1.3
        x = min(max(x, 0), max(self._image.width - width - 6, 0))
        y = min(max(y, 0), self._image.height - height)
        self._draw.rectangle((x, y, x + width + 6, y + height), "black")
        self._draw.text((x + 3, y), text, color, self._font)


def _caption(shape: Shape) -> str:
    words = [shape.label, *map(str, shape.attributes.values())] + (
        [] if shape.score is None else [f"{shape.score:.2f}"]
    )
    return " ".join(filter(None, words))


def _pairs(points_xy: NDArray[np.float64]) -> list[Point]:
    return [(x, y) for x, y in points_xy.tolist()]
