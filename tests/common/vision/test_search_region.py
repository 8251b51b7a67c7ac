import math

import cv2
import numpy as np
import pytest

from common.vision.search_region import SearchRegion

PADDING = (10.0, 120.9, 230.0)
REGIONS = [
    pytest.param(SearchRegion(20, 10, 40), id="inside"),
    pytest.param(SearchRegion(0, 0, 90), id="along an edge"),
    pytest.param(SearchRegion(-7, -30, 60), id="top left"),
    pytest.param(SearchRegion(100, 70, 51), id="bottom right"),
    pytest.param(SearchRegion(-50, -60, 301), id="around the frame"),
    pytest.param(SearchRegion(-40, 20, 40), id="outside, touching"),
    pytest.param(SearchRegion(500, 20, 33), id="far outside"),
    pytest.param(SearchRegion(119, 89, 1), id="one pixel"),
]


def picture(size_hw: tuple[int, int] = (90, 120)) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (*size_hw, 3), np.uint8)


def padded_crop(frame: np.ndarray, region: SearchRegion, size: int) -> np.ndarray:
    """The same in the plain way: a border around the whole frame, then slicing."""
    margin = 1000
    color = np.array(PADDING).astype(np.uint8)
    wide = np.full((frame.shape[0] + 2 * margin, frame.shape[1] + 2 * margin, 3), color, np.uint8)
    wide[margin : margin + frame.shape[0], margin : margin + frame.shape[1]] = frame
    top, left = region.top + margin, region.left + margin
    return cv2.resize(wide[top : top + region.side, left : left + region.side], (size, size))


@pytest.mark.parametrize("size", [32, 40, 128])
@pytest.mark.parametrize("region", REGIONS)
def test_a_crop_is_the_padded_frame_resized(region: SearchRegion, size: int) -> None:
    found = region.crop(picture(), size, PADDING)
    assert found.shape == (size, size, 3) and found.dtype == np.uint8
    np.testing.assert_array_equal(found, padded_crop(picture(), region, size))


def test_padding_is_black_by_default() -> None:
    found = SearchRegion(-10, 0, 20).crop(np.full((50, 50, 3), 200, np.uint8), 20)
    assert (found[:, :10] == 0).all() and (found[:, 10:] == 200).all()


@pytest.mark.parametrize("corner_xy", [(-2000, -2500), (-5000, 100), (0, 0), (9000, 9000)])
def test_a_huge_region_is_the_same_to_a_grey_level(corner_xy: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is sampled without a copy, so that an object that fills a 4K frame doesn't take 400 MB."""
    frame = picture((300, 400))
    frame = cv2.resize(frame, (3840, 2160))
    region = SearchRegion(*corner_xy, 8191)
    found = region.crop(frame, 128, PADDING)
    monkeypatch.setattr("common.vision.search_region._LARGEST_COPY", 10_000)
    expected = region.crop(frame, 128, PADDING)
    assert np.abs(found.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("size", [64, 255])
@pytest.mark.parametrize("region", REGIONS)
def test_points_come_back(region: SearchRegion, size: int) -> None:
    points = np.random.default_rng(1).uniform(-50, 300, (20, 2))
    np.testing.assert_allclose(region.to_frame(region.to_crop(points, size), size), points, atol=1e-9)
    np.testing.assert_allclose(
        region.to_frame(np.array([[0, 0], [size, size]]), size),
        [[region.left, region.top], [region.left + region.side, region.top + region.side]],
    )


def test_a_mark_is_found_where_it_was_drawn() -> None:
    frame = np.zeros((200, 300, 3), np.uint8)
    frame[120:128, 40:48] = 255
    region = SearchRegion.around((30.0, 130.0), 100)
    crop = region.crop(frame, 200)
    rows, columns = np.nonzero(crop[..., 0] > 127)
    corners = np.array([[columns.min(), rows.min()], [columns.max() + 1, rows.max() + 1]])
    np.testing.assert_allclose(region.to_frame(corners, 200), [[40, 120], [48, 128]])


@pytest.mark.parametrize("x", [10.0, 10.25, 10.5, 10.75, -3.5])
@pytest.mark.parametrize("side", [20, 21])
def test_the_corner_is_made_whole_as_the_trackers_do(x: float, side: int) -> None:
    # PySOT and TransT: floor(x - (side + 1) / 2 + 0.5) is the first pixel.
    assert SearchRegion.around((x, 0.0), side).left == math.floor(x - (side + 1) / 2 + 0.5)
    # OpenCV's TrackerVit: boxes of whole pixels, x + (width - side) / 2 with an integer division that cuts decimals off.
    width = 7
    corner = round(x)
    expected = corner + int((width - side) / 2)
    assert SearchRegion.around((corner + width / 2, 0.0), side, rounding=math.ceil).left == expected
