"""The part of an image around a box, against mmpose's definition of it written out plainly."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from common.networks.top_down.crop import BoxCrop

IMAGE = cv2.resize(np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8), (400, 300))
INPUTS = [(256, 192), (256, 256), (96, 128)]
BOXES = {
    "inside": [120, 80, 200, 230],
    "wide": [20, 140, 380, 160],
    "over the corner": [-60, -50, 70, 90],
    "over the right edge": [350, 100, 480, 290],
    "larger than the image": [-300, -200, 900, 700],
    "tiny": [200.3, 100.2, 202.1, 103.9],
    "outside": [600, 500, 700, 640],
}


def reference_matrix(box: list[float], input_hw: tuple[int, int], unbiased: bool) -> np.ndarray:
    """mmpose: GetBBoxCenterScale(padding=1.25), then TopdownAffine's proportions and matrix, without a rotation."""
    center = np.array([box[0] + box[2], box[1] + box[3]]) / 2
    scale = np.array([box[2] - box[0], box[3] - box[1]]) * 1.25
    height, width = input_hw
    if scale[0] > scale[1] * width / height:
        scale = np.array([scale[0], scale[0] / (width / height)])
    else:
        scale = np.array([scale[1] * width / height, scale[1]])
    if unbiased:
        gain = np.array([width - 1, height - 1]) / scale
        return np.array(
            [[gain[0], 0, gain[0] * (scale[0] / 2 - center[0])], [0, gain[1], gain[1] * (scale[1] / 2 - center[1])]]
        )
    # Three points: the centre, the middle of the left side, and the point at a right angle to these.
    left = center + [-scale[0] / 2, 0]
    there, there_left = np.array([width, height]) / 2, np.array([0, height / 2])
    corner = left + [-(center - left)[1], (center - left)[0]]
    there_corner = there_left + [-(there - there_left)[1], (there - there_left)[0]]
    return cv2.getAffineTransform(np.float32([center, left, corner]), np.float32([there, there_left, there_corner]))


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("input_hw", INPUTS)
@pytest.mark.parametrize("box", BOXES.values(), ids=list(BOXES))
def test_the_network_sees_what_mmpose_shows_it(box: list[float], input_hw: tuple[int, int], unbiased: bool) -> None:
    crop = BoxCrop.around(np.array(box), input_hw, unbiased=unbiased)
    matrix = reference_matrix(box, input_hw, unbiased)
    expected = cv2.warpAffine(IMAGE, matrix, input_hw[::-1], flags=cv2.INTER_LINEAR)
    shown = crop.apply(IMAGE)
    assert shown.shape == expected.shape and shown.dtype == np.uint8
    assert np.abs(shown.astype(int) - expected).max() <= 2
    points = np.random.default_rng(1).uniform(-100, 500, (20, 2))
    sides = np.array(input_hw[::-1]) - (1 if unbiased else 0)
    there = cv2.transform(points[None], matrix)[0]
    np.testing.assert_allclose(crop.to_part(points) * sides, there, atol=0.02)
    np.testing.assert_allclose(crop.to_image(crop.to_part(points)), points, atol=1e-9)


@pytest.mark.parametrize("box", BOXES.values(), ids=list(BOXES))
def test_the_padding_is_an_option(box: list[float]) -> None:
    small, large = (BoxCrop.around(np.array(box), (256, 192), padding=padding) for padding in (1.0, 2.0))
    np.testing.assert_allclose(np.multiply(small.extent_wh, 2), large.extent_wh)
    assert small.center_xy == large.center_xy


def test_images_of_any_size() -> None:
    """OpenCV samples from no side of 32768 pixels or more."""
    image = np.zeros((40, 70000, 3), np.uint8)
    image[:, 35000:] = 200
    shown = BoxCrop.around(np.array([0, 0, 70000, 40]), (64, 64), padding=1.0).apply(image)
    middle = shown[32]
    assert shown.shape == (64, 64, 3) and set(np.unique(shown)) <= set(range(201))
    assert (middle[:30] == 0).all() and (middle[34:] > 0).all()
    near = BoxCrop.around(np.array([34990, 10, 35010, 30]), (64, 64)).apply(image)
    assert near[32, 10].max() == 0 and near[32, 50].min() == 200
