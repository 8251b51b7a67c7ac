"""From a map for each class to one mask for each class that is in the image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from common.networks.mask_logits import resized
from common.networks.results import Found
from common.shapes import Mask


def class_masks(
    maps: NDArray[np.float32], probabilities: NDArray[np.float32], image_hw: tuple[int, int], threshold: float
) -> Found:
    """One mask for each class: the pixels at which its map is the highest.

    Args:
        maps: (C, h, w) values to compare, of the whole image.
        probabilities: (C, h, w), 0 to 1: a mask's score is the mean of its class over its part of the map.
        image_hw: Height and width of the image in pixels.
        threshold: The lowest score.
    """
    small = maps.argmax(axis=0)
    classes = best_classes(maps, image_hw)
    found = []
    for index in np.unique(classes).tolist():
        inside = probabilities[index][small == index]
        score = float(np.clip(inside.mean() if inside.size else probabilities[index].max(), 0, 1))
        if score >= threshold:
            found.append((score, index, Mask.from_full(classes == index)))
    found.sort(key=lambda each: -each[0])
    return Found(
        np.array([score for score, _, _ in found], np.float32),
        np.array([index for _, index, _ in found], np.int64),
        np.array([mask.box_xyxy for _, _, mask in found], np.float64).reshape(-1, 4),
        masks=tuple(mask for _, _, mask in found),
    )


def best_classes(maps: NDArray[np.float32], image_hw: tuple[int, int]) -> NDArray[np.int16]:
    """The class of each pixel: that of the highest map, resized bilinearly.

    The maps are resized one after the other, so that two of the image's size are held at a time and not one for each class.

    Args:
        maps: (C, h, w) of the whole image.
        image_hw: Height and width of the image in pixels.

    Returns:
        (height, width) class indices.
    """
    classes = np.zeros(image_hw, np.int16)
    # A class that is nowhere above what the lowest pixel has anyway is nowhere the highest.
    lowest = maps.max(axis=0).min()
    candidates = [index for index in range(len(maps)) if maps[index].max() >= lowest]
    best = None
    for index in candidates:
        values = resized(maps[index], image_hw)
        if best is None:
            best, classes[:] = values, index
            continue
        higher = values > best
        classes[higher] = index
        np.maximum(best, values, out=best)
    return classes
