from typing import Any

import numpy as np
import pytest

from common.vision.lossless import compressed, restored


@pytest.mark.parametrize("size_wh", [(1, 1), (128, 128), (40, 7)])
def test_pictures_come_back_to_the_bit(size_wh: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (size_wh[1], size_wh[0], 3), np.uint8)
    np.testing.assert_array_equal(restored(compressed(picture), size_wh), picture)


@pytest.mark.parametrize("data", [None, "text", b"", b"no picture", 7, compressed(np.zeros((4, 5, 3), np.uint8))])
def test_anything_else_is_refused(data: Any) -> None:
    with pytest.raises(ValueError, match="expected"):
        restored(data, (4, 5))
