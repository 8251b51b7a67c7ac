import numpy as np
import pytest
from ultralytics.data.augment import LetterBox
from ultralytics.utils.ops import scale_boxes

from common.vision.letterbox import Letterbox, to_planes

SIZES = [(1080, 1920), (3000, 4000), (90, 2000), (2000, 90), (333, 217), (640, 640), (1, 3000), (33, 47), (480, 640)]
INPUTS = [(640, 640), (320, 320), (384, 640), (160, 224)]


def picture(size_hw: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (*size_hw, 3), np.uint8)


@pytest.mark.parametrize("size_hw", INPUTS)
@pytest.mark.parametrize("image_hw", SIZES)
def test_pixels_are_those_of_ultralytics(image_hw: tuple[int, int], size_hw: tuple[int, int]) -> None:
    image = picture(image_hw)
    ours = Letterbox.fit(image_hw, size_hw).apply(image)
    np.testing.assert_array_equal(ours, LetterBox(size_hw, auto=False)(image=image))
    assert ours.shape == (*size_hw, 3)


@pytest.mark.parametrize("image_hw", SIZES)
def test_boxes_come_back_as_those_of_ultralytics(image_hw: tuple[int, int]) -> None:
    boxes = np.random.default_rng(3).uniform(-20, 660, (50, 4))
    ours = Letterbox.fit(image_hw, (640, 640)).boxes_to_image(boxes)
    np.testing.assert_allclose(ours, scale_boxes((640, 640), boxes.copy(), image_hw), atol=1e-6)


@pytest.mark.parametrize("image_hw", SIZES)
@pytest.mark.parametrize("kind", ["centered", "corner", "stretch"])
def test_round_trip(image_hw: tuple[int, int], kind: str) -> None:
    size_hw = (384, 640)
    if kind == "stretch":
        box = Letterbox.stretch(image_hw, size_hw)
    else:
        box = Letterbox.fit(image_hw, size_hw, centered=kind == "centered")
    corners = np.array([[0, 0], image_hw[::-1], [image_hw[1] / 3, image_hw[0] / 7]], float)
    inside = box.to_input(corners)
    np.testing.assert_allclose(box.to_image(inside), corners, atol=1e-6)
    np.testing.assert_allclose(inside[0], (box.left, box.top), atol=1e-9)
    np.testing.assert_allclose(inside[1], (box.left + box.inner_hw[1], box.top + box.inner_hw[0]), atol=1e-6)
    assert (inside >= 0).all() and (inside <= size_hw[::-1]).all()


def test_a_corner_letterbox_pads_right_and_below() -> None:
    image = np.full((50, 100, 3), 200, np.uint8)
    canvas = Letterbox.fit((50, 100), (200, 200), centered=False).apply(image, padding=0)
    assert (canvas[:100] == 200).all() and (canvas[100:] == 0).all()


def test_stretch_fills_the_input() -> None:
    canvas = Letterbox.stretch((50, 100), (64, 64)).apply(np.full((50, 100, 3), 9, np.uint8))
    assert canvas.shape == (64, 64, 3) and (canvas == 9).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_planes(dtype: type) -> None:
    image = picture((5, 7))
    planes = to_planes(image, dtype)
    assert planes.shape == (1, 3, 5, 7) and planes.dtype == dtype
    expected = (image.transpose(2, 0, 1)[None].astype(np.float32) / 255).astype(dtype)
    np.testing.assert_array_equal(planes, expected)
    grey = to_planes(image[:, :, :1])
    assert grey.shape == (1, 1, 5, 7)
    np.testing.assert_array_equal(
        grey[0, 0], expected[0, 0] if dtype == np.float32 else image[..., 0] / np.float32(255)
    )
