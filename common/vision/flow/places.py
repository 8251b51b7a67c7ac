"""Where in a larger picture a smaller one is found."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

_NEARNESS = 0.2  # by how much likeness counts less at the end of what is searched


def best_offset(scene: NDArray[np.generic], template: NDArray[np.generic], border: int) -> complex:
    """How far from the middle of a picture a template is found.

    Args:
        scene: (h + 2 * border, w + 2 * border) uint8 or float32.
        template: (h, w) of the same type.
        border: Pixels by which the scene is larger on each side.

    Returns:
        The way from the scene's middle to the template's, in pixels of the scene.
    """
    scores = np.nan_to_num(cv2.matchTemplate(scene, template, cv2.TM_CCOEFF_NORMED), posinf=0, neginf=0)
    # Of places that look alike, one nearby is more likely.
    away = np.hypot(*np.mgrid[-border : border + 1, -border : border + 1]) / border
    row, column = np.unravel_index(int(np.argmax(scores - _NEARNESS * away**2)), scores.shape)
    return complex(column - border, row - border)
