"""From an image to a network's input: where it lies, the order of its channels, the scale of its values."""

from __future__ import annotations

import numpy as np
import pytest

from common.errors import StartupError
from common.networks.formats.preparation import InputOptions, Placement, Preparation

RGB = (255, 128, 0)
MEAN, DEVIATION = (10.0, 20.0, 30.0), (2.0, 4.0, 5.0)


def picture(height: int, width: int) -> np.ndarray:
    image = np.zeros((height, width, 3), np.uint8)
    image[...] = RGB
    return image


def planes(preparation: Preparation, channels: int = 3, dtype: type = np.float32) -> np.ndarray:
    """A picture of 20 x 40 in an input of 32 x 32: letterboxed it fills 16 of the rows."""
    image = picture(20, 40)
    made = preparation.planes(image, preparation.fit(image.shape[:2], (32, 32)), channels, dtype)
    assert made.shape == (1, channels, 32, 32) and made.dtype == dtype
    return made[0]


@pytest.mark.parametrize(
    ("placement", "rows"),
    [
        (Placement.CENTERED, range(8, 24)),
        (Placement.CORNER, range(16)),
        (Placement.STRETCHED, range(32)),
        (Placement.CROPPED, range(32)),
    ],
)
def test_where_the_image_lies(placement: Placement, rows: range) -> None:
    made = planes(Preparation(placement=placement))
    inside = np.isin(np.arange(32), rows)
    np.testing.assert_allclose(made[:, inside], np.broadcast_to(np.array(RGB)[:, None, None] / 255, (3, len(rows), 32)))
    np.testing.assert_allclose(made[:, ~inside], 114 / 255)
    normalised = planes(Preparation(placement=placement, mean=MEAN, deviation=DEVIATION))
    expected = (np.array(RGB) - MEAN) / DEVIATION
    np.testing.assert_allclose(normalised[:, inside], np.broadcast_to(expected[:, None, None], (3, len(rows), 32)))
    assert (normalised[:, ~inside] == 0).all()


def test_channels() -> None:
    np.testing.assert_allclose(planes(Preparation(bgr=True))[:, 16, 16], np.array(RGB[::-1]) / 255)
    # The mean and the deviation are those of the input's order.
    swapped = planes(Preparation(bgr=True, mean=MEAN, deviation=DEVIATION))[:, 16, 16]
    np.testing.assert_allclose(swapped, (np.array(RGB[::-1]) - MEAN) / DEVIATION)
    grey = 0.299 * 255 + 0.587 * 128
    np.testing.assert_allclose(planes(Preparation(), channels=1)[:, 16, 16], [grey / 255], atol=0.5 / 255)
    assert planes(Preparation(), dtype=np.float16)[0, 16, 16] == 1


def test_the_padding_can_be_part_of_the_image() -> None:
    made = planes(Preparation(placement=Placement.CORNER, mean=MEAN, deviation=DEVIATION, padding=114))
    np.testing.assert_allclose(made[:, 31, 31], (114 - np.array(MEAN)) / DEVIATION)
    np.testing.assert_allclose(planes(Preparation(padding=7))[:, 0, 0], 7 / 255)


def test_values_of_0_to_255() -> None:
    raw = Preparation(mean=(0, 0, 0), deviation=(1, 1, 1))
    np.testing.assert_array_equal(planes(raw)[:, 16, 16], RGB)
    # Whole numbers can't be anything else.
    np.testing.assert_array_equal(planes(Preparation(), dtype=np.uint8)[:, 16, 16], RGB)
    assert planes(Preparation(mean=MEAN, deviation=DEVIATION), channels=1)[0, 16, 16] > 0


def test_what_is_set_by_hand() -> None:
    assert Preparation().with_options(InputOptions()) == Preparation()
    options = InputOptions(color="BGR", mean="[10, 20, 30]", std="2 4 5", resize="corner")
    expected = Preparation(Placement.CORNER, bgr=True, mean=MEAN, deviation=DEVIATION)
    assert Preparation().with_options(options) == expected
    # The layout's own numbers stay with their channels.
    assert expected.with_options(InputOptions(color="rgb", resize="stretch")) == Preparation(
        Placement.STRETCHED, mean=MEAN[::-1], deviation=DEVIATION[::-1]
    )
    assert expected.with_options(InputOptions(color="bgr")) == expected
    assert str(expected) == "BGR, mean 10, 20, 30, std 2, 4, 5, corner"
    assert str(Preparation()) == "RGB, mean 0, 0, 0, std 255, 255, 255, centered"
    assert Preparation().with_options(InputOptions(mean="0", std="1")).mean == (0, 0, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (InputOptions(color="grb"), "COLOR: expected rgb or bgr, got the text 'grb'"),
        (InputOptions(mean="1,2,3"), "MEAN and STD: set both or neither"),
        (InputOptions(mean="1,2", std="1,2,3"), "MEAN: expected one number or three"),
        (InputOptions(mean="a,b,c", std="1,2,3"), "MEAN: expected one number or three"),
        (InputOptions(mean="1,2,3", std="1,0,3"), "STD: expected numbers of 1 or more"),
        (InputOptions(resize="crop"), "RESIZE: expected one of center, corner, stretch"),
    ],
)
def test_wrong_options(options: InputOptions, message: str) -> None:
    with pytest.raises(StartupError, match=message):
        Preparation().with_options(options)
