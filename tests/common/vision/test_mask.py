import itertools
import json
import time
import tracemalloc

import cv2
import numpy as np
import pytest
from cvat_sdk.masks import decode_mask, encode_mask
from numpy.typing import NDArray

from common.shapes import Mask
from common.vision.mask import (
    bitmap_to_rle,
    clipped,
    combined,
    cropped,
    flat_to_mask,
    mask_to_bitmap,
    mask_to_json,
    mask_to_outline,
    mask_to_rle,
    outline_to_mask,
    rle_to_bitmap,
    rle_to_mask,
    rows_to_json,
)
from tests.ascii import bitmap, drawn

Bitmap = NDArray[np.bool_]

HOOK = bitmap(
    """
    .....
    .###.
    .#...
    .#.#.
    .....
    """
)


def blob(rng: np.random.Generator, size_hw: tuple[int, int]) -> Bitmap:
    """A random bitmap with parts of several pixels, holes, and thin bridges; never empty."""
    noise = cv2.GaussianBlur(rng.random(size_hw).astype(np.float32), (0, 0), rng.uniform(0.7, 3))
    return noise >= np.quantile(noise, rng.uniform(0.2, 0.9))


def filled_parts(pixels: Bitmap) -> list[Bitmap]:
    """The parts of a bitmap with their holes filled; pixels that touch at a corner belong together."""
    height, width = pixels.shape
    count, parts = cv2.connectedComponents(pixels.astype(np.uint8), connectivity=8)
    filled = []
    for part in range(1, count):
        outside = np.pad(parts != part, 1, constant_values=True).astype(np.uint8)
        cv2.floodFill(outside, None, (0, 0), 2)  # from edge to edge only: a hole behind a corner stays a hole
        filled.append((outside != 2)[1 : height + 1, 1 : width + 1])
    return filled


def assert_is_the_largest_part(covered: Bitmap, pixels: Bitmap) -> None:
    parts = filled_parts(pixels)
    assert covered.sum() == max(part.sum() for part in parts)
    assert drawn(covered) in [drawn(part) for part in parts]


def inside_by_hand(outline_xy: NDArray[np.float64], size_hw: tuple[int, int]) -> Bitmap:
    """Even-odd rule at each pixel centre, one edge after the other."""
    y, x = np.mgrid[: size_hw[0], : size_hw[1]] + 0.5
    inside = np.zeros(size_hw, bool)
    for (x0, y0), (x1, y1) in itertools.pairwise([*outline_xy, outline_xy[0]]):
        crosses = (y0 <= y) != (y1 <= y)
        with np.errstate(divide="ignore", invalid="ignore"):
            inside ^= crosses & (x0 + (y - y0) * (x1 - x0) / (y1 - y0) <= x)
    return inside


def covered_by(outline_xy: NDArray[np.float64], size_hw: tuple[int, int]) -> Bitmap:
    return mask_to_bitmap(outline_to_mask(outline_xy, size_hw), size_hw)


def distances_to_outline(points: NDArray[np.float64], outline: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far each point (N, 2) is from the nearest edge of a closed outline."""
    start, end = outline, np.roll(outline, -1, axis=0)
    way = end - start
    along = ((points[:, None] - start) * way).sum(-1) / (way**2).sum(-1)
    nearest = start + np.clip(along, 0, 1)[..., None] * way
    return np.hypot(*np.moveaxis(points[:, None] - nearest, -1, 0)).min(axis=1)


class TestCropped:
    def test_takes_the_smallest_box(self) -> None:
        mask = cropped(Mask(bitmap=HOOK, left=10, top=20, label="hook", score=0.5, group=3, attributes={"a": 1}))
        assert drawn(mask.bitmap) == "###\n#..\n#.#"
        assert mask.box_xyxy == (11, 21, 14, 24)
        assert (mask.label, mask.score, mask.group, mask.attributes) == ("hook", 0.5, 3, {"a": 1})

    def test_of_nothing_is_nothing(self) -> None:
        assert cropped(Mask(bitmap=np.zeros((4, 5), bool))).bitmap.shape == (0, 0)
        assert cropped(Mask(bitmap=np.zeros((0, 0), bool))).bitmap.shape == (0, 0)


class TestClipped:
    @pytest.mark.parametrize(
        ("left", "top", "expected", "corner"),
        [
            (0, 0, "###\n#..\n#.#", (1, 1)),
            (-2, 0, "##\n..\n.#", (0, 1)),
            (0, -2, "#..\n#.#", (1, 0)),
            (3, 0, "##\n#.\n#.", (4, 1)),
            (0, 4, "###", (1, 5)),
            (-3, -3, "#", (0, 0)),
        ],
    )
    def test_at_each_border_of_a_6_x_6_image(self, left: int, top: int, expected: str, corner: tuple[int, int]) -> None:
        mask = clipped(Mask(bitmap=HOOK, left=left, top=top), (6, 6))
        assert drawn(mask.bitmap) == expected
        assert (mask.left, mask.top) == corner

    @pytest.mark.parametrize(("left", "top"), [(-5, 0), (6, 0), (0, -5), (0, 6), (-(10**30), 0), (10**30, 10**30)])
    def test_outside_nothing_is_left(self, left: int, top: int) -> None:
        assert clipped(Mask(bitmap=HOOK, left=left, top=top), (6, 6)).bitmap.size == 0

    def test_a_cut_mask_loses_the_outline_of_the_whole(self) -> None:
        outline = np.array([[0.0, 0], [5, 0], [5, 5]])
        assert clipped(Mask(bitmap=HOOK, outline_xy=outline), (9, 9)).outline_xy is outline
        assert clipped(Mask(bitmap=HOOK, left=-2, outline_xy=outline), (9, 9)).outline_xy is None


class TestFullBitmap:
    def test_round_trip(self) -> None:
        rng = np.random.default_rng(1)
        for _ in range(30):
            full = blob(rng, (17, 23))
            assert drawn(mask_to_bitmap(Mask.from_full(full), full.shape)) == drawn(full)

    def test_what_is_outside_is_cut_off(self) -> None:
        assert drawn(mask_to_bitmap(Mask(bitmap=np.ones((3, 3), bool), left=-1, top=2), (4, 4))) == drawn(
            bitmap("....\n....\n##..\n##..")
        )


class TestCombined:
    def test_pixels_of_masks_in_their_places(self) -> None:
        first = Mask(bitmap=bitmap("##\n##"), left=1, top=0)
        second = Mask(bitmap=bitmap("###"), left=2, top=1)
        either = combined([first, second, Mask(bitmap=np.zeros((0, 0), bool), left=90)], np.logical_or)
        assert drawn(mask_to_bitmap(either, (3, 6))) == drawn(bitmap(".##...\n.####.\n......"))
        assert either.box_xyxy == (1, 0, 5, 2)
        odd = combined([first, second], np.logical_xor)
        assert drawn(mask_to_bitmap(odd, (3, 6))) == drawn(bitmap(".##...\n.#.##.\n......"))

    def test_of_nothing(self) -> None:
        assert combined([], np.logical_or).bitmap.size == 0


class TestFlat:
    def test_round_trip(self) -> None:
        mask = flat_to_mask(json.loads(mask_to_json(Mask(bitmap=HOOK, left=7, top=-2))))
        assert drawn(mask.bitmap) == drawn(HOOK)
        assert mask.box_xyxy == (7, -2, 12, 3)

    @pytest.mark.parametrize(
        ("flat", "message"),
        [
            ([1, 1, 1, 0, 0, 1, 1], "2 x 2 pixels needs 4 values, got 3"),
            ([0, 0, 1, 1], "got 4 numbers"),
            ([1, 2, 0, 1, 0], "is empty"),
            ([1, 0, 0, 0.5, 0], "whole numbers"),
            ([1, 0, 0, float("nan"), 0], "whole numbers"),
            ([1, 0, 0, float("inf"), 0], "whole numbers"),
        ],
    )
    def test_refuses_what_does_not_fit(self, flat: list[float], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            flat_to_mask(flat)


class TestJson:
    def test_the_box_is_inclusive(self) -> None:
        assert mask_to_json(Mask.from_full(HOOK)) == b"[1,1,1,1,0,0,1,0,1,1,1,3,3]"

    @pytest.mark.parametrize("size_hw", [(1, 1), (1, 7), (7, 1), (5, 6), (64, 33)])
    def test_says_what_the_plain_way_says(self, size_hw: tuple[int, int]) -> None:
        rng = np.random.default_rng(2)
        for _ in range(10):
            mask = Mask(bitmap=rng.random(size_hw) < 0.5, left=int(rng.integers(0, 9999)), top=int(rng.integers(0, 9)))
            height, width = size_hw
            box = [mask.left, mask.top, mask.left + width - 1, mask.top + height - 1]
            flat = [*mask.bitmap.astype(int).ravel().tolist(), *box]
            assert mask_to_json(mask).decode() == json.dumps(flat, separators=(",", ":"))
            rows = mask.bitmap.astype(int).tolist()
            assert rows_to_json(mask).decode() == json.dumps(rows, separators=(",", ":"))

    def test_of_a_bitmap_that_is_not_contiguous(self) -> None:
        full = np.random.default_rng(3).random((40, 40)) < 0.5
        for pixels in (full[::2, 1::3], full.T, full[5:9, 7:30]):
            mask = Mask(bitmap=pixels)
            assert json.loads(mask_to_json(mask))[:-4] == pixels.astype(int).ravel().tolist()
            assert json.loads(rows_to_json(mask)) == pixels.astype(int).tolist()

    def test_of_nothing(self) -> None:
        empty = Mask(bitmap=np.zeros((0, 0), bool))
        assert json.loads(mask_to_json(empty)) == [0, 0, -1, -1]
        assert json.loads(rows_to_json(empty)) == []

    def test_a_megapixel_in_under_a_tenth_of_the_time_of_the_plain_way(self) -> None:
        pixels = np.random.default_rng(4).random((1000, 1000)) < 0.5
        mask = Mask(bitmap=pixels)
        begin = time.process_time()
        plain = json.dumps([*pixels.astype(np.uint8).flat[:].tolist(), 0, 0, 999, 999], separators=(",", ":"))
        plain_seconds = time.process_time() - begin
        seconds = []
        for _ in range(3):
            begin = time.process_time()
            ours = mask_to_json(mask)
            seconds.append(time.process_time() - begin)
        assert ours.decode() == plain
        assert min(seconds) < plain_seconds / 10


class TestRunLengths:
    @pytest.mark.parametrize(
        ("pixels", "runs"),
        [
            ("...", [3]),
            ("###", [0, 3]),
            ("#.\n.#", [0, 1, 2, 1]),
            ("..#\n##.", [2, 3, 1]),
        ],
    )
    def test_start_with_background(self, pixels: str, runs: list[int]) -> None:
        assert bitmap_to_rle(bitmap(pixels)) == runs
        assert drawn(rle_to_bitmap(runs, bitmap(pixels).shape)) == pixels

    def test_of_no_pixels_are_none(self) -> None:
        assert bitmap_to_rle(np.zeros((0, 0), bool)) == []

    def test_are_those_of_the_cvat_sdk(self) -> None:
        rng = np.random.default_rng(5)
        for _ in range(50):
            full = blob(rng, (int(rng.integers(1, 40)), int(rng.integers(2, 40))))
            mask = Mask.from_full(full)
            assert mask_to_rle(mask) == encode_mask(full)
            height, width = full.shape
            decoded = decode_mask(mask_to_rle(mask), image_width=width, image_height=height)
            assert drawn(decoded) == drawn(full)

    def test_round_trip_at_a_place(self) -> None:
        mask = rle_to_mask(mask_to_rle(Mask(bitmap=HOOK, left=100, top=200)))
        assert drawn(mask.bitmap) == drawn(HOOK)
        assert mask.box_xyxy == (100, 200, 105, 205)

    def test_runs_of_no_length_are_legal(self) -> None:
        assert drawn(rle_to_bitmap([0, 0, 1, 2, 0, 0, 1], (2, 2))) == ".#\n#."

    @pytest.mark.parametrize(
        ("points", "message"),
        [
            ([1, 2, 0, 0, 1, 1], "add up to 3, the box has 4 pixels"),
            ([1, 4, 0, 0, 1, 1], "add up to 5, the box has 4 pixels"),
            ([-1, 5, 0, 0, 1, 1], "whole numbers, 0 or more"),
            ([1.5, 2.5, 0, 0, 1, 1], "whole numbers, 0 or more"),
            ([float("nan"), 4, 0, 0, 1, 1], "whole numbers, 0 or more"),
            ([4, 1, 0, 0, 1], "is empty"),
            ([0, 0, 1, 1], "got 4 numbers"),
            ([1e300, 0, 0, 1, 1], "add up to 1e\\+300"),
        ],
    )
    def test_refuse_what_does_not_fit(self, points: list[float], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            rle_to_mask(points)


class TestOutline:
    @pytest.mark.parametrize(
        ("pixels", "corners"),
        [
            ("#", {(0, 0), (1, 0), (1, 1), (0, 1)}),
            ("###", {(0, 0), (3, 0), (3, 1), (0, 1)}),
            ("#.\n##", {(0, 0), (1, 0), (1, 1), (2, 1), (2, 2), (0, 2)}),
        ],
    )
    def test_runs_along_the_edges_of_the_pixels(self, pixels: str, corners: set[tuple[int, int]]) -> None:
        outline = mask_to_outline(Mask(bitmap=bitmap(pixels), left=10, top=20), 0)
        assert {(x - 10, y - 20) for x, y in outline} == corners
        assert len(outline) == len(corners)

    def test_of_every_small_bitmap_covers_it_exactly(self) -> None:
        """All 4095 bitmaps of 3 x 4 pixels: lines one pixel wide, pixels that touch at a corner, several parts, holes."""
        for number in range(1, 2**12):
            full = np.array([number >> i & 1 for i in range(12)], bool).reshape(3, 4)
            assert_is_the_largest_part(covered_by(mask_to_outline(Mask.from_full(full), 0), full.shape), full)

    def test_of_random_blobs_covers_the_largest_part_exactly(self) -> None:
        rng = np.random.default_rng(6)
        for _ in range(150):
            full = blob(rng, (int(rng.integers(5, 50)), int(rng.integers(5, 50))))
            assert_is_the_largest_part(covered_by(mask_to_outline(Mask.from_full(full), 0), full.shape), full)

    def test_has_a_tolerance_of_one_pixel_unless_told_otherwise(self) -> None:
        mask = Mask.from_full(blob(np.random.default_rng(11), (60, 60)))
        np.testing.assert_array_equal(mask_to_outline(mask), mask_to_outline(mask, 1.0))
        assert len(mask_to_outline(mask)) > len(mask_to_outline(mask, 2.0))

    def test_turns_at_each_of_its_points(self) -> None:
        rng = np.random.default_rng(10)
        for _ in range(100):
            outline = mask_to_outline(Mask.from_full(blob(rng, (25, 25))), 0)
            before, after = outline - np.roll(outline, 1, axis=0), np.roll(outline, -1, axis=0) - outline
            assert (before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]).all()

    @pytest.mark.parametrize(
        "line",
        [
            "########",
            "#\n#\n#\n#",
            "#...\n.#..\n..#.\n...#",
            "##..\n.##.\n..##",
            "#.#.#\n#.#.#\n#####",
            "#####\n....#\n###.#\n#...#\n#####",
        ],
    )
    def test_of_lines_one_pixel_wide_covers_them_exactly(self, line: str) -> None:
        pixels = bitmap(line)
        assert drawn(covered_by(mask_to_outline(Mask(bitmap=pixels), 0), pixels.shape)) == line

    def test_takes_the_part_that_surrounds_most_and_ignores_holes(self) -> None:
        pixels = bitmap(
            """
            ##........
            ##.######.
            ##.#....#.
            ##.#.##.#.
            ##.#....#.
            ##.######.
            """
        )
        outline = mask_to_outline(Mask(bitmap=pixels), 0)
        assert sorted(map(tuple, outline.tolist())) == [(3, 1), (3, 6), (9, 1), (9, 6)]

    @pytest.mark.parametrize(("tolerance", "kept"), [(0.4, 1.0), (0.75, 0.7), (1.0, 0.5), (2.0, 0.35), (5.0, 0.2)])
    def test_stays_within_its_tolerance_with_few_points(self, tolerance: float, kept: float) -> None:
        rng = np.random.default_rng(7)
        exact_points = simple_points = 0
        for _ in range(60):
            mask = Mask.from_full(blob(rng, (60, 60)))
            exact, simple = mask_to_outline(mask, 0), mask_to_outline(mask, tolerance)
            assert distances_to_outline(exact, simple).max() <= tolerance + 1e-9
            assert {tuple(point) for point in simple} <= {tuple(point) for point in exact}
            assert len(simple) >= 3
            exact_points, simple_points = exact_points + len(exact), simple_points + len(simple)
        assert simple_points <= kept * exact_points

    def test_of_a_disc_is_a_polygon_of_few_points_and_of_its_area(self) -> None:
        y, x = np.mgrid[:200, :200]
        disc = (x - 99.5) ** 2 + (y - 99.5) ** 2 <= 90**2
        outline = mask_to_outline(Mask(bitmap=disc), 1.0)
        assert len(outline) < 60
        covered = covered_by(outline, disc.shape)
        assert (covered & disc).sum() / (covered | disc).sum() > 0.98

    @pytest.mark.parametrize("tolerance", [1.0, 30.0, 1e300, np.inf])
    def test_of_a_thin_line_keeps_three_points_at_any_tolerance(self, tolerance: float) -> None:
        outline = mask_to_outline(Mask(bitmap=np.ones((1, 50), bool)), tolerance)
        assert len(outline) >= 3
        np.testing.assert_array_equal(outline.max(axis=0) - outline.min(axis=0), [50, 1])

    def test_of_nothing_is_empty(self) -> None:
        assert mask_to_outline(Mask(bitmap=np.zeros((3, 3), bool))).shape == (0, 2)
        assert mask_to_outline(Mask(bitmap=np.zeros((0, 0), bool))).shape == (0, 2)

    def test_of_a_noisy_picture_of_20_megapixels_is_a_matter_of_seconds(self) -> None:
        rng = np.random.default_rng(8)
        y, x = np.mgrid[:4000, :5000].astype(np.float32)
        full = (((y - 2000) / 1900) ** 2 + ((x - 2500) / 2400) ** 2 < 1) ^ (rng.random((4000, 5000)) < 0.01)
        begin = time.process_time()
        outline = mask_to_outline(Mask(bitmap=full))
        assert time.process_time() - begin < 10
        np.testing.assert_allclose(outline.min(axis=0), [100, 100], atol=4)
        np.testing.assert_allclose(outline.max(axis=0), [4900, 3900], atol=4)


class TestOutlineToMask:
    def test_takes_the_pixels_whose_centres_are_inside(self) -> None:
        mask = outline_to_mask(np.array([[1.5, 0.5], [4.4, 0.5], [4.4, 2.6], [1.5, 2.6]]), (5, 6))
        assert drawn(mask.bitmap) == "###\n###\n###"
        assert mask.box_xyxy == (1, 0, 4, 3)

    def test_is_what_each_pixel_centre_says(self) -> None:
        rng = np.random.default_rng(9)
        for _ in range(200):
            outline = rng.uniform(-10, 40, (int(rng.integers(3, 12)), 2))
            if rng.random() < 0.3:
                outline = np.round(outline)
            elif rng.random() < 0.3:
                outline = np.round(outline) + 0.5
            size_hw = (int(rng.integers(1, 35)), int(rng.integers(1, 35)))
            ours = mask_to_bitmap(outline_to_mask(outline, size_hw), size_hw)
            assert drawn(ours) == drawn(inside_by_hand(outline, size_hw))

    def test_lies_where_the_outline_is(self) -> None:
        mask = outline_to_mask(np.array([[1000.0, 900], [1010, 900], [1010, 905], [1000, 905]]), (2000, 2000))
        assert mask.box_xyxy == (1000, 900, 1010, 905)
        assert mask.bitmap.all()

    @pytest.mark.parametrize(
        "outline",
        [
            np.zeros((0, 2)),
            [[1, 1], [5, 5]],
            [[1, 1], [5, 5], [1, 1]],
            [[-9, -9], [-2, -9], [-2, -2]],
            [[20, 20], [30, 20], [30, 30]],
            [[1.6, 1.6], [2.4, 1.6], [2.4, 2.4]],
        ],
    )
    def test_of_an_outline_around_no_pixel_is_empty(self, outline: list[list[float]]) -> None:
        assert not outline_to_mask(np.asarray(outline, np.float64), (10, 10)).bitmap.size

    def test_of_100_000_points_takes_seconds_and_little_memory(self) -> None:
        angle = np.linspace(0, 2 * np.pi, 100_000, endpoint=False)
        radius = 1500 + 400 * np.sin(angle * 5000)
        outline = np.stack([2500 + radius * np.cos(angle), 2000 + radius * np.sin(angle)], 1)
        tracemalloc.start()
        begin = time.process_time()
        mask = outline_to_mask(outline, (4000, 5000))
        seconds = time.process_time() - begin
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert seconds < 10
        assert peak < 600e6
        assert mask.bitmap[mask.bitmap.shape[0] // 2, mask.bitmap.shape[1] // 2]
        assert 0.8 < mask.bitmap.sum() / (np.pi * (1500**2 + 400**2 / 2)) < 1.2
