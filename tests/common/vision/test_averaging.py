import numpy as np
import pytest
from PIL import Image

from common.vision.averaging import resize


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("filter_name", ["BILINEAR", "BICUBIC", "NEAREST"])
@pytest.mark.parametrize("size_hw", [(640, 640), (333, 517), (1, 7), (2, 2)])
def test_bands_are_the_whole(size_hw: tuple[int, int], filter_name: str, threads: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (1080, 1920, 3), np.uint8)
    resampling = Image.Resampling[filter_name]
    expected = np.asarray(Image.fromarray(image).resize(size_hw[::-1], resampling))
    found = resize(image, size_hw, resampling, threads)
    difference = np.abs(found.astype(int) - expected)
    assert difference.max() <= (1 if threads > 1 else 0) and np.mean(difference > 0) < 1e-3


def test_a_small_image_needs_no_threads() -> None:
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    expected = np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(resize(image, (32, 32), Image.Resampling.BILINEAR, 4), expected)
