"""The image input of a file: from what the file declares and its metadata alone."""

from __future__ import annotations

import numpy as np
import pytest

from common.errors import StartupError
from common.networks.engine import Tensor
from common.networks.formats.image_input import ImageInput, read_size
from common.networks.formats.metadata import Metadata


def port(*shape: int | None, name: str = "images", dtype: type = np.float32) -> Tensor:
    return Tensor(name, shape, np.dtype(dtype))


def test_what_the_file_fixes_stays() -> None:
    taken = ImageInput.of([port(2, 1, 96, 64, dtype=np.float16)], Metadata(size_hw=(640, 640), channels=3))
    assert taken == ImageInput(0, 2, 1, (96, 64), np.dtype(np.float16))


def test_free_sizes_are_set_by_hand_or_by_the_metadata() -> None:
    free = [port(None, None, None, None)]
    assert ImageInput.of(free, Metadata()).size_hw == (640, 640)
    assert ImageInput.of(free, Metadata(size_hw=(96, 64), channels=1)) == ImageInput(
        0, 1, 1, (96, 64), np.dtype(np.float32), free=True
    )
    assert not ImageInput.of(free, Metadata(), (32, 64)).free
    assert ImageInput.of(free, Metadata(size_hw=(96, 64)), (32, 128)).size_hw == (32, 128)
    assert ImageInput.of([port(1, 3, None, 64)], Metadata(size_hw=(96, 96))).size_hw == (96, 64)
    with pytest.raises(StartupError, match="IMAGE_SIZE is 32x32, but the file's input is fixed to 96x64"):
        ImageInput.of([port(1, 3, 96, 64)], Metadata(), (32, 32))


def test_the_image_is_the_input_of_four_dimensions() -> None:
    size = port(1, 2, name="orig_target_sizes", dtype=np.int64)
    assert ImageInput.of([size, port(1, 3, 64, 64)], Metadata()).index == 1
    for ports in ([size], [port(1, 3, 64, 64), port(1, 3, 128, 128)], []):
        with pytest.raises(StartupError, match="expected one input that is an image"):
            ImageInput.of(ports, Metadata())
    with pytest.raises(StartupError, match=r"3 channels \(colour\) or 1 \(grey\), first or last, got \(1, 4, 64, 64\)"):
        ImageInput.of([port(1, 4, 64, 64)], Metadata())


def test_the_order_of_the_axes() -> None:
    last = ImageInput.of([port(1, 800, 1365, 3, dtype=np.uint8), port(1, 3, name="image_info")], Metadata())
    assert (last.index, last.axes, last.channels, last.size_hw) == (0, "NHWC", 3, (800, 1365))
    planes = np.arange(3 * 800 * 1365, dtype=np.uint8).reshape(1, 3, 800, 1365)
    np.testing.assert_array_equal(last.filled(planes), planes.transpose(0, 2, 3, 1))
    assert last.example().shape == (1, 800, 1365, 3) and last.example().max() > 250
    single = ImageInput.of([port(3, None, None)], Metadata())
    assert (single.axes, single.batch, single.size_hw, single.free) == ("CHW", 1, (640, 640), True)
    assert single.filled(planes).shape == (3, 800, 1365)
    with pytest.raises(StartupError, match="expected one input that is an image"):
        ImageInput.of([port(1, 197, 768)], Metadata())  # tokens


def test_the_example_is_noise_and_the_same_each_time() -> None:
    taken = ImageInput.of([port(2, 3, 32, 64, dtype=np.float16)], Metadata())
    example = taken.example()
    assert example.shape == (2, 3, 32, 64) and example.dtype == np.float16
    assert 0 <= example.min() < 0.01 and 0.99 < example.max() <= 1
    np.testing.assert_array_equal(example, taken.example())


def test_one_image_in_a_batch() -> None:
    planes = np.ones((1, 3, 32, 32), np.float32)
    batch = ImageInput.of([port(2, 3, 32, 32)], Metadata()).filled(planes)
    assert batch.shape == (2, 3, 32, 32) and batch[0].all() and not batch[1].any()
    alone = ImageInput.of([port(1, 3, 32, 32)], Metadata()).filled(planes)
    assert alone is planes


@pytest.mark.parametrize(
    ("text", "size"),
    [("640", (640, 640)), ("384x640", (384, 640)), (" 64 , 32 ", (64, 32)), ("", None), (None, None)],
)
def test_sizes(text: str | None, size: tuple[int, int] | None) -> None:
    assert read_size(text) == size


@pytest.mark.parametrize("text", ["large", "65", "64x", "0", "64x64x64", "-64"])
def test_wrong_sizes(text: str) -> None:
    with pytest.raises(StartupError, match="IMAGE_SIZE: expected one side or height x width, multiples of 32"):
        read_size(text)
