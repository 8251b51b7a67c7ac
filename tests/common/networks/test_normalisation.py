"""Pixels become the values that a network takes, as torchvision and mmpose define them."""

from __future__ import annotations

import numpy as np
import pytest

from common.errors import StartupError
from common.networks.normalisation import IMAGENET_DEVIATION, IMAGENET_MEAN, Normalisation

PICTURES = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 3), np.uint8)


def test_the_default_is_that_of_torchvision() -> None:
    from torchvision.transforms import functional

    for picture, planes in zip(PICTURES, Normalisation.read().planes(PICTURES), strict=True):
        expected = functional.normalize(functional.to_tensor(picture), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
        np.testing.assert_allclose(planes, expected.numpy(), atol=1e-5)


def test_bgr_turns_the_default_round_too() -> None:
    rgb, bgr = Normalisation.read(), Normalisation.read("BGR")
    assert (bgr.mean, bgr.deviation) == (IMAGENET_MEAN[::-1], IMAGENET_DEVIATION[::-1])
    np.testing.assert_array_equal(bgr.planes(PICTURES), rgb.planes(PICTURES)[:, ::-1])


def test_own_numbers_are_in_the_order_of_the_input() -> None:
    planes = Normalisation.read("bgr", "1,2,3", "10").planes(PICTURES, np.float16)
    assert planes.dtype == np.float16 and planes.shape == (2, 3, 5, 4)
    expected = (PICTURES[..., ::-1].astype(np.float32) - (1, 2, 3)) / 10
    np.testing.assert_allclose(planes, expected.transpose(0, 3, 1, 2), atol=0.02)
    raw = Normalisation.read("bgr", "0", "1").planes(PICTURES)
    np.testing.assert_array_equal(raw, PICTURES[..., ::-1].transpose(0, 3, 1, 2))


def test_an_input_of_whole_numbers_takes_the_pixels() -> None:
    planes = Normalisation.read().planes(PICTURES, np.uint8)
    np.testing.assert_array_equal(planes, PICTURES.transpose(0, 3, 1, 2))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("grey", None, None), "COLOR: expected rgb or bgr, got the text 'grey'"),
        (("rgb", "1,2", "1"), "MEAN: expected one number or three with commas"),
        (("rgb", "0", None), "MEAN and STD: set both or neither"),
        (("rgb", None, "255"), "MEAN and STD: set both or neither"),
        (("rgb", "a", None), "MEAN: expected one number or three"),
        (("rgb", "0", "nan"), "STD: expected one number or three"),
        (("rgb", "0.485,0.456,0.406", "0.229,0.224,0.225"), "from 0 to 1 have to be multiplied by 255"),
        (("rgb", "0", "0"), "STD: expected numbers of 1 or more"),
        (("rgb", "0", "-255"), "STD: expected numbers of 1 or more"),
    ],
)
def test_wrong_texts(given: tuple[str, str | None, str | None], message: str) -> None:
    with pytest.raises(StartupError, match=message):
        Normalisation.read(*given)
