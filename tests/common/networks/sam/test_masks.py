"""From logits to pixels, against torch; islands and holes, against scipy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn.functional import interpolate

from common.errors import StartupError
from common.networks.mask_logits import bitmap_of_logits
from common.networks.sam.masks import (
    check_smallest,
    one_part,
    resized_without_padding,
    without_small_parts,
)
from common.shapes import Mask
from common.vision.geometry import box_iou
from common.vision.mask import mask_to_bitmap
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


PIECES = bitmap("""
    ##.......####
    ##...#...####
    ##..###..####
    .....#...####
    #...........#
    .#.........#.
""")


@pytest.mark.parametrize(
    ("near", "expected"),
    [
        (None, (9, 0, 13, 6)),  # the largest, its corner pieces included
        ((4, 1, 7, 4), (4, 1, 7, 4)),
        ((5, 1, 8, 4), (4, 1, 7, 4)),  # it has moved on by a pixel
        ((-1, -1, 2, 3), (0, 0, 2, 3)),
        ((0, 0, 13, 6), (9, 0, 13, 6)),  # of an object that was everywhere
        ((40, 40, 50, 50), (9, 0, 13, 6)),  # it was somewhere else: the largest
    ],
)
def test_the_part_that_continues_the_last_frame_s_object(near: tuple[float, ...] | None, expected: tuple) -> None:
    moved = Mask(bitmap=PIECES, left=100, top=200)
    offset = np.array([100, 200, 100, 200])
    found = one_part(moved, None if near is None else tuple((near + offset).tolist()))
    assert found.box_xyxy == tuple((expected + offset).tolist())
    full = mask_to_bitmap(replace(found, left=found.left - 100, top=found.top - 200), PIECES.shape)
    assert not (full & ~PIECES).any()
    assert ndimage.label(full, np.ones((3, 3)))[1] == 1


def test_a_second_blob_does_not_stretch_the_box() -> None:
    """As seen: an object of 40 x 40 pixels, and a blob at the other end of the picture."""
    full = np.zeros((480, 640), np.bool_)
    full[200:240, 100:140] = True
    full[440:470, 600:635] = True
    truth = (102.0, 201.0, 142.0, 241.0)
    near = (98.0, 199.0, 138.0, 239.0)
    assert box_iou(Mask.from_full(full).box_xyxy, truth) < 0.11
    assert box_iou(one_part(Mask.from_full(full), near).box_xyxy, truth) > 0.83


def test_a_mask_in_one_piece_is_left_as_it_is() -> None:
    ring = Mask(bitmap=bitmap("###\n#.#\n###"), left=4, top=5)
    assert one_part(ring, (0, 0, 1, 1)) is ring
