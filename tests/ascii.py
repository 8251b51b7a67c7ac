"""Bitmaps as text: '#' is a pixel of the mask, '.' is background."""

import textwrap

import numpy as np
from numpy.typing import NDArray


def bitmap(text: str) -> NDArray[np.bool_]:
    """(h, w) bool from rows of '#' and '.'."""
    rows = textwrap.dedent(text).split()
    return np.array([[character == "#" for character in row] for row in rows])


def drawn(pixels: NDArray[np.bool_]) -> str:
    """The inverse of `bitmap`: what a failed test shows."""
    return "\n".join("".join("#" if pixel else "." for pixel in row) for row in pixels)
