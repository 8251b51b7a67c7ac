"""Masks pasted into their boxes, against torchvision, mmdetection's sampling and the rule of OpenVINO's accuracy checker."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torchvision.models.detection.roi_heads import paste_masks_in_image

from common.networks.formats.box_masks import paste
from common.vision.mask import mask_to_bitmap
from tests.ascii import bitmap

HEIGHT, WIDTH = 120, 200
BOXES = [
    (20.0, 30.0, 90.0, 80.0),
    (20.7, 30.2, 90.3, 80.9),
    (-30.5, -10.25, 60.0, 50.5),  # partly outside
    (150.0, 90.0, 260.0, 170.0),
    (-50.0, -50.0, 300.0, 300.0),  # larger than the image
    (10.2, 10.2, 13.9, 12.1),  # a few pixels
    (40.4, 40.4, 40.6, 40.6),  # within one
    (-40.0, 10.0, -20.0, 30.0),  # all of it outside
]


def maps(places: int) -> NDArray[np.float32]:
    """(len(BOXES), places, places) smooth scores from 0 to 1."""
    random = np.random.default_rng(places)
    coarse = random.random((len(BOXES), 6, 6)).astype(np.float32)
    return np.stack(
        [np.clip(cv2.resize(plane, (places, places), interpolation=cv2.INTER_CUBIC), 0, 1) for plane in coarse]
    )


def differing(ours: NDArray[np.bool_], theirs: NDArray[np.bool_], values: NDArray[np.floating]) -> int:
    """How many pixels differ whose value is not so close to 0.5 that the last bits of a sum decide."""
    return int(((ours != theirs) & (np.abs(values - 0.5) > 1e-4)).sum())


@pytest.mark.parametrize("places", [14, 28, 33])
def test_rounded_as_torchvision(places: int) -> None:
    scores, boxes = maps(places)[:-1], BOXES[:-1]  # its boxes are never wholly outside
    values = paste_masks_in_image(torch.from_numpy(scores)[:, None], torch.tensor(boxes), (HEIGHT, WIDTH))[:, 0].numpy()
    pasted = 0
    for plane, box, theirs in zip(scores, boxes, values, strict=True):
        ours = mask_to_bitmap(paste(plane, box, (HEIGHT, WIDTH), rounded=True), (HEIGHT, WIDTH))
        assert differing(ours, theirs > 0.5, theirs) == 0
        pasted += int(ours.sum())
    assert pasted > 5000


def accuracy_checker(scores: NDArray[np.float32], box: tuple[float, ...]) -> NDArray[np.float32]:
    """The rule in words: a border of 0; the box enlarged by it and cut to whole pixels; resized to both edges' pixels."""
    places = len(scores)
    bordered = np.zeros((places + 2, places + 2), np.float32)
    bordered[1:-1, 1:-1] = scores
    corners = np.array(box, np.float64).reshape(2, 2)
    center, half = corners.mean(axis=0), (corners[1] - corners[0]) / 2 * (places + 2) / places
    first, last = (center - half).astype(int), (center + half).astype(int)
    width, height = (last - first + 1).tolist()
    canvas = np.zeros((HEIGHT + 1000, WIDTH + 1000), np.float32)
    left, top = (first + 500).tolist()
    canvas[top : top + height, left : left + width] = cv2.resize(bordered, (width, height))
    return canvas[500:-500, 500:-500]


def test_rounded_as_the_accuracy_checker() -> None:
    for plane, box in zip(maps(33), BOXES, strict=True):
        values = accuracy_checker(plane, box)
        ours = mask_to_bitmap(paste(plane, box, (HEIGHT, WIDTH), rounded=True), (HEIGHT, WIDTH))
        assert differing(ours, values > 0.5, values) == 0


def test_exact_as_mmdetection_samples_it() -> None:
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    for plane, box in zip(maps(28), BOXES, strict=True):
        left, top, right, bottom = box
        grid = np.stack([(x - left) / (right - left), (y - top) / (bottom - top)], axis=-1) * 2 - 1
        values = torch.nn.functional.grid_sample(
            torch.from_numpy(plane)[None, None], torch.from_numpy(grid[None].astype(np.float32)), align_corners=False
        )[0, 0].numpy()
        ours = mask_to_bitmap(paste(plane, box, (HEIGHT, WIDTH)), (HEIGHT, WIDTH))
        assert differing(ours, values > 0.5, values) == 0


def test_a_map_as_it_is() -> None:
    """One place for each pixel: the mask is the map."""
    drawn = bitmap("""
        ..##
        .##.
        ##..
    """)
    mask = paste(drawn.astype(np.float32), (5, 7, 9, 10), (20, 30))
    assert (mask.left, mask.top) == (5, 7)
    np.testing.assert_array_equal(mask.bitmap, drawn)


@pytest.mark.parametrize("box", [(5, 5, 5, 9), (5, 5, 3, 9), (40, 0, 50, 10)])
def test_nothing_to_paste(box: tuple[float, float, float, float]) -> None:
    assert paste(np.ones((28, 28), np.float32), box, (20, 30)).bitmap.size == 0
