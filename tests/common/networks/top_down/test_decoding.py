"""Heat maps and rows of scores become joints as mmpose's codecs define them, written out plainly; and round trips."""

from __future__ import annotations

from functools import partial

import cv2
import numpy as np
import pytest

from common.networks.top_down.crop import BoxCrop
from common.networks.top_down.decoding import (
    decode_dark,
    decode_quarter,
    decode_simcc,
    decode_udp,
    smooth_as_mmpose,
    usual_kernel,
)

INPUT_HW, MAP_HW = (256, 192), (64, 48)
SMOOTH = partial(smooth_as_mmpose, kernel=11)
BOXES = {
    "inside": [120, 80, 200, 330],
    "wide": [20, 140, 380, 160],
    "portrait": [200, 20, 230, 380],
    "over the border": [-60, -50, 70, 90],
    "tiny": [200.3, 100.2, 206.1, 109.9],
    "huge": [-300, -200, 1900, 1700],
}


def random_maps(seed: int, count: int = 3, joints: int = 5) -> np.ndarray:
    """Smooth random maps, some of whose peaks are at the edge."""
    rng = np.random.default_rng(seed)
    maps = np.stack(
        [[cv2.GaussianBlur(rng.normal(size=MAP_HW), (0, 0), 2.0) for _ in range(joints)] for _ in range(count)]
    )
    maps /= maps.max(axis=(2, 3), keepdims=True) * rng.uniform(1, 3, (count, joints, 1, 1))
    maps[0, 0, 0, 7] = maps[0, 1, -1, -1] = maps[1, 0, 30, 0] = maps[1, 1, 1, 1] = maps[2, 2, 62, 46] = 1.0
    return maps.astype(np.float32)


def peak(heatmap: np.ndarray) -> tuple[int, int]:
    y, x = np.unravel_index(heatmap.argmax(), heatmap.shape)
    return int(x), int(y)


def quarter_reference(heatmap: np.ndarray) -> np.ndarray:
    """MSRAHeatmap: refine_keypoints."""
    (x, y), (height, width) = peak(heatmap), heatmap.shape
    found = np.array([x, y], np.float64)
    if 1 < x < width - 1 and 0 < y < height:
        found[0] += 0.25 * np.sign(heatmap[y, x + 1] - heatmap[y, x - 1])
    if 1 < y < height - 1 and 0 < x < width:
        found[1] += 0.25 * np.sign(heatmap[y + 1, x] - heatmap[y - 1, x])
    return found / (width, height)


def blurred(heatmap: np.ndarray, kernel: int) -> np.ndarray:
    border = kernel // 2
    large = np.zeros((heatmap.shape[0] + 2 * border, heatmap.shape[1] + 2 * border), np.float32)
    large[border:-border, border:-border] = heatmap
    result = cv2.GaussianBlur(large, (kernel, kernel), 0)[border:-border, border:-border]
    return result * heatmap.max() / result.max()


def dark_reference(heatmap: np.ndarray, kernel: int = 11) -> np.ndarray:
    """MSRAHeatmap(unbiased=True): refine_keypoints_dark."""
    (x, y), (height, width) = peak(heatmap), heatmap.shape
    logs = np.log(np.maximum(blurred(heatmap, kernel), 1e-10)).astype(np.float64)
    found = np.array([x, y], np.float64)
    if 1 < x < width - 2 and 1 < y < height - 2:
        slope = 0.5 * np.array([logs[y, x + 1] - logs[y, x - 1], logs[y + 1, x] - logs[y - 1, x]])
        xx = 0.25 * (logs[y, x + 2] - 2 * logs[y, x] + logs[y, x - 2])
        yy = 0.25 * (logs[y + 2, x] - 2 * logs[y, x] + logs[y - 2, x])
        xy = 0.25 * (logs[y + 1, x + 1] - logs[y - 1, x + 1] - logs[y + 1, x - 1] + logs[y - 1, x - 1])
        if xx * yy - xy**2 != 0:
            found -= np.linalg.inv(np.array([[xx, xy], [xy, yy]])) @ slope
    return found / (width, height)


def udp_reference(heatmap: np.ndarray, kernel: int = 11) -> np.ndarray:
    """UDPHeatmap: refine_keypoints_dark_udp."""
    (x, y), (height, width) = peak(heatmap), heatmap.shape
    logs = np.pad(np.log(np.clip(blurred(heatmap, kernel), 1e-3, 50)), 1, mode="edge").astype(np.float64)
    at = lambda dx, dy: logs[y + 1 + dy, x + 1 + dx]  # noqa: E731
    slope = 0.5 * np.array([at(1, 0) - at(-1, 0), at(0, 1) - at(0, -1)])
    xx, yy = at(1, 0) - 2 * at(0, 0) + at(-1, 0), at(0, 1) - 2 * at(0, 0) + at(0, -1)
    xy = 0.5 * (at(1, 1) - at(1, 0) - at(0, 1) + 2 * at(0, 0) - at(-1, 0) - at(0, -1) + at(-1, -1))
    curve = np.array([[xx, xy], [xy, yy]]) + np.finfo(np.float32).eps * np.eye(2)
    return (np.array([x, y]) - np.linalg.inv(curve) @ slope) / (width - 1, height - 1)


@pytest.mark.parametrize(
    ("decode", "reference"),
    [
        (decode_quarter, quarter_reference),
        (partial(decode_dark, smooth=SMOOTH), dark_reference),
        (partial(decode_udp, smooth=SMOOTH), udp_reference),
    ],
    ids=["quarter", "dark", "udp"],
)
@pytest.mark.parametrize("seed", range(4))
def test_decoders_are_those_of_mmpose(decode, reference, seed: int) -> None:
    maps = random_maps(seed)
    found = decode(maps)
    assert found.shape == (3, 5, 3)
    expected = np.array([[reference(heatmap) for heatmap in image] for image in maps])
    np.testing.assert_allclose(found[..., 2], maps.max(axis=(2, 3)), atol=1e-6)
    np.testing.assert_allclose(found[..., :2] * (48, 64), expected * (48, 64), rtol=1e-3, atol=1e-3)  # cells


def test_simcc_takes_the_lower_of_both_scores() -> None:
    x, y = np.full((1, 2, 384), -1, np.float32), np.full((1, 2, 512), -1, np.float32)
    x[0, 0, 100], y[0, 0, 400] = 0.9, 0.6
    x[0, 1, 7], y[0, 1, 5] = 1.3, 1.2
    found = decode_simcc(x, y)
    np.testing.assert_allclose(found[0], [[100 / 384, 400 / 512, 0.6], [7 / 384, 5 / 512, 1.0]], atol=1e-6)


@pytest.mark.parametrize(
    "decode", [decode_quarter, partial(decode_dark, smooth=SMOOTH), partial(decode_udp, smooth=SMOOTH)]
)
@pytest.mark.parametrize("value", [0.0, -0.5])
def test_maps_without_a_peak_have_no_joint(decode, value: float) -> None:
    found = decode(np.full((1, 2, *MAP_HW), value, np.float32))
    assert np.isfinite(found).all() and (found[..., 2] == 0).all()


def test_the_filter_by_the_size_of_the_maps() -> None:
    assert [usual_kernel(size) for size in ((64, 48), (64, 64), (96, 72))] == [11, 11, 17]


def bump(place_xy: np.ndarray, map_hw: tuple[int, int], unbiased: bool, sigma: float = 2.0) -> np.ndarray:
    """The heat map that a network is trained for: a normal distribution about a joint, given as a share of the sides."""
    sides = np.array(map_hw[::-1]) - (1 if unbiased else 0)
    x, y = place_xy * sides
    rows, columns = np.mgrid[: map_hw[0], : map_hw[1]]
    return np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2)).astype(np.float32)


@pytest.mark.parametrize("name", BOXES)
@pytest.mark.parametrize("codec", ["quarter", "dark", "udp", "simcc"])
def test_joints_come_back(name: str, codec: str) -> None:
    """From the image to the network's maps and back: exact to the codec's own steps, and to 0.5 px where it has none."""
    unbiased = codec == "udp"
    crop = BoxCrop.around(np.array(BOXES[name]), INPUT_HW, unbiased=unbiased)
    shares = np.random.default_rng(3).uniform(0.12, 0.88, (9, 2))
    joints = crop.to_image(shares)
    step = crop.extent_wh[0] / MAP_HW[1]  # pixels of the image for a cell
    if codec == "simcc":
        rows = [np.zeros((1, 9, 2 * side), np.float32) for side in INPUT_HW[::-1]]
        for i, share in enumerate(crop.to_part(joints)):
            for axis in (0, 1):
                rows[axis][0, i, round(share[axis] * rows[axis].shape[2])] = 1
        places, exactness = decode_simcc(*rows), step / 16 + 1e-6  # half of a step of 1/8 of a cell
    else:
        maps = np.stack([bump(share, MAP_HW, unbiased) for share in crop.to_part(joints)])[None]
        decode = {"quarter": decode_quarter, "dark": partial(decode_dark, smooth=SMOOTH)}.get(
            codec, partial(decode_udp, smooth=SMOOTH)
        )
        places, exactness = decode(maps), step * (0.25 if codec == "quarter" else 0.01)
    found = crop.to_image(places[0, :, :2])
    assert np.abs(found - joints).max() <= exactness
    if codec in ("dark", "udp"):
        assert np.abs(found - joints).max() < 0.5
    assert (places[0, :, 2] > 0.9).all()
