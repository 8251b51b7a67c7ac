"""From logits to pixels, against torch; islands and holes, against scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn.functional import interpolate

from common.errors import StartupError
from common.networks.sam.masks import bitmap_of_logits, check_smallest, resized_without_padding, without_small_parts
from tests.ascii import bitmap

SIZES = [(2160, 3840), (500, 333), (64, 200), (3000, 4097), (256, 256), (1, 7)]


def reference(logits: NDArray[np.float32], size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    resized = interpolate(torch.from_numpy(logits)[None, None], size_hw, mode="bilinear", align_corners=False)
    return (resized[0, 0] > 0).numpy()


@pytest.mark.parametrize("size_hw", SIZES)
def test_the_part_around_an_object_is_what_torch_makes_of_the_whole(size_hw: tuple[int, int]) -> None:
    rng = np.random.default_rng(sum(size_hw))
    for _ in range(12):
        logits = np.full((256, 256), -3, np.float32)
        top, left = rng.integers(0, 250, 2)
        height, width = rng.integers(1, 120, 2)
        part = logits[top : top + height, left : left + width]
        part[:] = rng.standard_normal(part.shape)
        np.testing.assert_array_equal(bitmap_of_logits(logits, size_hw), reference(logits, size_hw))


@pytest.mark.parametrize(("row", "column"), [(0, 0), (0, 255), (255, 0), (255, 255), (128, 77)])
def test_single_values_at_the_border(row: int, column: int) -> None:
    logits = np.full((256, 256), -1, np.float32)
    logits[row, column] = 5
    for size_hw in SIZES:
        np.testing.assert_array_equal(bitmap_of_logits(logits, size_hw), reference(logits, size_hw))


def test_an_object_that_fills_the_image() -> None:
    logits = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32) + 1
    np.testing.assert_array_equal(bitmap_of_logits(logits, (700, 900)), reference(logits, (700, 900)))


def test_nothing_is_nothing() -> None:
    found = bitmap_of_logits(np.zeros((8, 8), np.float32), (30, 40))
    assert found.shape == (30, 40)
    assert not found.any()


def test_padding_is_cut_off() -> None:
    logits = np.arange(16, dtype=np.float32).reshape(4, 4)
    assert resized_without_padding(logits, (8, 8), (8, 5)).shape == (8, 5)
    np.testing.assert_array_equal(resized_without_padding(logits, (4, 4), (3, 4)), logits[:3])


ISLANDS = """
............
.#####..#...
.#...#......
.#.#.#.###..
.#...#.#.#..
.#####.###..
............
"""


def test_islands_and_holes_below_the_limit_go() -> None:
    expected = """
............
.#####......
.#...#......
.#...#.###..
.#...#.###..
.#####.###..
............
"""
    np.testing.assert_array_equal(without_small_parts(bitmap(ISLANDS), 4), bitmap(expected))
    np.testing.assert_array_equal(without_small_parts(bitmap(ISLANDS), 0), bitmap(ISLANDS))
    np.testing.assert_array_equal(without_small_parts(bitmap(ISLANDS), 1), bitmap(ISLANDS))


def test_the_largest_part_stays_whatever_the_limit() -> None:
    expected = """
............
.#####......
.#####......
.#####......
.#####......
.#####......
............
"""
    np.testing.assert_array_equal(without_small_parts(bitmap(ISLANDS), 1000), bitmap(expected))
    line = np.eye(5, dtype=bool)
    np.testing.assert_array_equal(without_small_parts(line, 1000), line)


def slow(given: NDArray[np.bool_], smallest: int) -> NDArray[np.bool_]:
    """The same by labelling every part: islands with what they enclose first, then holes."""
    labels, count = ndimage.label(given, np.ones((3, 3)))
    filled = [ndimage.binary_fill_holes(labels == i) for i in range(1, count + 1)]
    largest = int(np.argmax([each.sum() for each in filled]))
    found = given.copy()
    kept = [i for i in range(count) if filled[i].sum() >= smallest or i == largest]
    for i in set(range(count)) - set(kept):
        found &= ~filled[i]
    for i in kept:
        holes, number = ndimage.label(filled[i] & (labels != i + 1))
        for hole in range(1, number + 1):
            if (holes == hole).sum() < smallest:
                found |= holes == hole
    return found


def test_random_masks_against_labelling_every_part() -> None:
    rng = np.random.default_rng(5)
    for _ in range(60):
        given = rng.random((40, 50)) < rng.uniform(0.2, 0.9)
        smallest = int(rng.integers(2, 12))
        np.testing.assert_array_equal(without_small_parts(given, smallest), slow(given, smallest))


def test_a_negative_size_is_refused() -> None:
    assert check_smallest(0) == 0
    with pytest.raises(StartupError, match="SMALLEST_PART: expected a number of pixels, 0 or more, got -1"):
        check_smallest(-1)
