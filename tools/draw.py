"""Annotations drawn on a picture, from the JSON that a function replied, so that one sees what CVAT would show."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from common.shapes import Mask
from common.vision.geometry import box_corners, ellipse_points
from common.vision.mask import flat_to_mask, rle_to_mask

_FILL = 0.45  # how much of a mask's colour covers the picture
Color = tuple[int, int, int]


def overlay(
    image: NDArray[np.uint8], reply: Any, edges: Mapping[str, Sequence[tuple[str, str]]] | None = None
) -> NDArray[np.uint8]:
    """A copy of an (H, W, 3) uint8 RGB image with the annotations of a reply on it.

    reply: parsed JSON of a detector (list of annotations), an interactor ({"mask", "bounds", "points"}) or a tracker
    ({"shapes", "states"}).
    edges: for labels that are skeletons, the pairs of joint names to join by lines.
    """
    canvas = _Canvas(image)
    if isinstance(reply, Mapping) and "mask" in reply:
        canvas.interactor(reply)
    elif isinstance(reply, Mapping):
        for i, shape in enumerate(reply.get("shapes") or []):
            if shape is not None:
                canvas.annotation(_typed(shape), color_of(str(i)), "")
    else:
        for annotation in reply:
            label = str(annotation.get("label", ""))
            canvas.annotation(annotation, color_of(label), _caption(annotation), (edges or {}).get(label, ()))
    return canvas.pixels()


def color_of(name: str) -> Color:
    """A bright colour for a name, always the same one."""
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

    def interactor(self, reply: Mapping[str, Any]) -> None:
        color = color_of("object")
        rows = np.array(reply["mask"]) != 0
        left, top = (reply.get("bounds") or [0, 0])[:2]
        self._fill(Mask(bitmap=rows, left=int(left), top=int(top)), color)
        self._polygon([tuple(point) for point in reply.get("points") or []], color)

    def annotation(
        self, annotation: Mapping[str, Any], color: Color, caption: str, edges: Sequence[tuple[str, str]] = ()
    ) -> None:
        kind = annotation.get("type")
        points = annotation.get("points") or []
        pairs = list(zip(points[0::2], points[1::2], strict=False))
        if kind == "tag":
            self._captions.append((0, len(self._captions) * self._font_size * 1.5, caption, color))
            return
        if kind == "rectangle":
            pairs = _pairs(box_corners(tuple(points), annotation.get("rotation", 0)))
            self._polygon(pairs, color)
        elif kind == "ellipse":
            cx, cy, right, top = points
            pairs = _pairs(ellipse_points((cx, cy), (right - cx, cy - top), annotation.get("rotation", 0)))
            self._polygon(pairs, color)
        elif kind == "polygon":
            self._polygon(pairs, color)
        elif kind == "polyline":
            self._draw.line(pairs, color, self._line)
        elif kind == "mask":
            mask = annotation["mask"] if isinstance(annotation["mask"], Mask) else flat_to_mask(annotation["mask"])
            self._fill(mask, color)
            self._polygon(pairs, color)
            pairs = pairs or [(mask.left, mask.top)]
        elif kind == "skeleton":
            pairs = self._skeleton(annotation["elements"], edges, color)
        else:
            self._dots(pairs, color)
        if caption and pairs:
            x, y = min(pairs, key=lambda point: (point[1], point[0]))
            self._captions.append((x, y - self._font_size * 1.4, caption, color))

    def _skeleton(
        self, elements: Sequence[Mapping[str, Any]], edges: Sequence[tuple[str, str]], color: Color
    ) -> list[tuple[float, float]]:
        seen = {e["label"]: (e["points"][0], e["points"][1]) for e in elements if not e.get("outside")}
        for a, b in edges:
            if a in seen and b in seen:
                self._draw.line([seen[a], seen[b]], color, self._line)
        self._dots(list(seen.values()), color)
        return list(seen.values())

    def _polygon(self, pairs: Sequence[tuple[float, ...]], color: Color) -> None:
        if len(pairs) >= 2:
            self._draw.line([*pairs, pairs[0]], color, self._line, joint="curve")

    def _dots(self, pairs: Sequence[tuple[float, float]], color: Color) -> None:
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


def _caption(annotation: Mapping[str, Any]) -> str:
    words = [str(annotation.get("label", ""))]
    words += [f"{a['value']}" for a in annotation.get("attributes") or []]
    if annotation.get("confidence") is not None:
        words.append(f"{float(annotation['confidence']):.2f}")
    return " ".join(words)


def _typed(shape: Any) -> Mapping[str, Any]:
    """A tracker's shape as an annotation; its masks are run lengths."""
    if not isinstance(shape, Mapping):
        return {"type": "rectangle", "points": shape}
    if shape["type"] == "mask":
        return {"type": "mask", "mask": rle_to_mask(shape["points"])}
    return shape


def _pairs(points_xy: NDArray[np.float64]) -> list[tuple[float, float]]:
    return [(x, y) for x, y in points_xy.tolist()]
