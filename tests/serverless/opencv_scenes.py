"""Pictures for tests: textured surfaces, shapes with a known outline, and both as a request has them."""

from __future__ import annotations

import base64
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from common.vision.mask import outline_to_mask
from tools.wrapper import LoadedFunction

Image = NDArray[np.uint8]
Bitmap = NDArray[np.bool_]
SHAPES = ("ellipse", "star", "triangle", "blob")


def texture(rng: np.random.Generator, size_hw: tuple[int, int], base: tuple[float, ...], grain: float = 12) -> Image:
    """(H, W, 3): coloured noise around a colour, in ever finer grains from `grain` pixels on."""
    height, width = size_hw
    surface = np.full((height, width, 3), base, np.float32)
    contrast = 20.0
    while grain >= 1.5:
        cells = rng.normal(size=(int(height / grain) + 3, int(width / grain) + 3, 3)).astype(np.float32)
        cells = cells.mean(axis=2, keepdims=True) + 0.4 * cells
        surface += contrast * cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC)
        grain, contrast = grain / 2.5, contrast * 0.7
    return np.clip(surface, 0, 255).astype(np.uint8)


def two_colours(rng: np.random.Generator, apart: float = 80) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Two random RGB colours at least so far apart."""
    while True:
        one, other = rng.uniform(45, 210, (2, 3))
        if np.linalg.norm(one - other) >= apart:
            return tuple(one), tuple(other)


def outline(rng: np.random.Generator, kind: str, center_xy: tuple[float, float], radius: float) -> NDArray[np.float64]:
    """(N, 2) outline of a shape of SHAPES that fits into a circle, turned at random."""
    corners = {"ellipse": 60, "star": 10, "triangle": 3, "blob": 14}[kind]
    angles = np.arange(corners) * 2 * np.pi / corners
    radii = np.full(corners, float(radius))
    if kind == "star":
        radii[1::2] *= 0.5
    if kind == "blob":
        radii *= rng.uniform(0.65, 1, corners)
    points = np.stack([np.cos(angles), np.sin(angles) * (0.6 if kind == "ellipse" else 1)], axis=1) * radii[:, None]
    turn = rng.uniform(0, 2 * np.pi)
    return points @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) + center_xy


def inside(outline_xy: NDArray[np.float64], size_hw: tuple[int, int]) -> Bitmap:
    """(H, W) of the pixels whose centres lie in an outline."""
    bitmap = np.zeros(size_hw, np.bool_)
    mask = outline_to_mask(outline_xy, size_hw)
    left, top, right, bottom = mask.box_xyxy
    bitmap[top:bottom, left:right] = mask.bitmap
    return bitmap


def painted(background: Image, foreground: Image, bitmap: Bitmap) -> Image:
    """The background with the foreground in the pixels of a bitmap, blended over a pixel or so at its edge."""
    share = cv2.GaussianBlur(bitmap.astype(np.float32), (0, 0), 0.7)[..., None]
    return np.rint(background * (1 - share) + foreground * share).astype(np.uint8)


def box_around(bitmap: Bitmap) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of a bitmap's pixels, right and bottom exclusive."""
    columns, rows = np.flatnonzero(bitmap.any(axis=0)), np.flatnonzero(bitmap.any(axis=1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def overlap(one: Bitmap, other: Bitmap) -> float:
    """Intersection over union of two bitmaps."""
    return float(np.count_nonzero(one & other) / max(np.count_nonzero(one | other), 1))


def box_overlap(one: Any, other: Any) -> float:
    """Intersection over union of two boxes (left, top, right, bottom)."""
    a, b = np.asarray(one, np.float64), np.asarray(other, np.float64)
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    both = float(np.prod(np.maximum(sides, 0)))
    return both / float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - both)


def in_base64(image: Image, kind: str = "png") -> str:
    """An image (H, W, 3) as the base64 of a file: "png" without loss, or "jpg" of high quality."""
    options = [cv2.IMWRITE_PNG_COMPRESSION, 1] if kind == "png" else [cv2.IMWRITE_JPEG_QUALITY, 95]
    done, data = cv2.imencode(f".{kind}", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    assert done
    return base64.b64encode(data.tobytes()).decode()


def asked(function: LoadedFunction, body: dict[str, Any]) -> Any:
    """The JSON of a function's reply to a request that must succeed."""
    reply = function(body)
    assert reply.status == 200, reply.body[:500]
    return reply.json()
