"""Masks from prototypes, against the whole image interpolated at once as Ultralytics does it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ultralytics.utils.ops import process_mask_native

from common.networks.formats.masks import masks_in_boxes
from common.vision.letterbox import Letterbox
from common.vision.mask import mask_to_bitmap


def smooth(channels: int, size: int, seed: int) -> np.ndarray:
    import cv2

    coarse = np.random.default_rng(seed).normal(0, 1, (channels, 6, 6)).astype(np.float32)
    return np.stack([cv2.resize(plane, (size, size), interpolation=cv2.INTER_CUBIC) for plane in coarse])


@pytest.mark.parametrize("image_hw", [(1080, 1920), (375, 500), (500, 333), (90, 2000), (640, 640), (31, 17)])
def test_as_ultralytics(image_hw: tuple[int, int]) -> None:
    prototypes = smooth(8, 80, 1)
    random = np.random.default_rng(2)
    coefficients = random.normal(0, 1, (12, 8)).astype(np.float32)
    height, width = image_hw
    corners = random.uniform(0, 1, (12, 2, 2)) * (width, height)
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    boxes[0], boxes[1] = (0, 0, width, height), (0.4, 0.4, 0.6, 0.6)
    letterbox = Letterbox.fit(image_hw, (320, 320))
    ours = masks_in_boxes(prototypes[None], coefficients, boxes, letterbox)
    theirs = process_mask_native(
        torch.from_numpy(prototypes), torch.from_numpy(coefficients), torch.from_numpy(boxes), image_hw
    ).numpy()
    compared = 0
    for mask, reference in zip(ours, theirs > 0, strict=True):
        bitmap = mask_to_bitmap(mask, image_hw)
        shared, either = (bitmap & reference).sum(), (bitmap | reference).sum()
        # Exact but for pixels on the very edge, where the last bit of a sum decides.
        assert either - shared <= max(1, 0.0005 * either)
        compared += int(either)
    assert compared > 0


def test_an_empty_mask_and_an_empty_box() -> None:
    letterbox = Letterbox.fit((64, 64), (64, 64))
    prototypes = np.full((1, 16, 16), -1, np.float32)
    boxes = np.array([[5, 5, 20, 20], [5.2, 5.2, 5.8, 5.8], [0, 0, 64, 64]])
    masks = masks_in_boxes(prototypes[None], np.array([[1], [-1], [-1]], np.float32), boxes, letterbox)
    assert [mask.bitmap.shape for mask in masks] == [(0, 0), (0, 0), (64, 64)]
    assert masks_in_boxes(prototypes[None], np.zeros((0, 1), np.float32), np.zeros((0, 4)), letterbox) == []
