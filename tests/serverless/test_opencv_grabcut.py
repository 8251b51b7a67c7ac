"""GrabCut through its real main.py: objects drawn on textured backgrounds are cut out as they were drawn."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from common.cvat.reply import read_interactor_reply
from common.errors import StartupError
from common.vision.mask import mask_to_bitmap
from tests.serverless.opencv_scenes import (
    SHAPES,
    Bitmap,
    Image,
    asked,
    box_around,
    in_base64,
    inside,
    outline,
    overlap,
    painted,
    texture,
    two_colours,
)
from tools.collection import COLLECTION
from tools.wrapper import LoadedFunction

DIRECTORY = COLLECTION / "opencv/grabcut"
SIZE_HW = (240, 320)


@pytest.fixture(scope="module")
def grabcut() -> LoadedFunction:
    return LoadedFunction(DIRECTORY, unique=True)


def scene(seed: int, kind: str, size_hw: tuple[int, int] = SIZE_HW) -> tuple[Image, Bitmap]:
    """A picture with one object, and the object's pixels."""
    rng = np.random.default_rng(seed)
    ground, colour = two_colours(rng)
    height, width = size_hw
    radius = rng.uniform(0.15, 0.4) * height
    center = (rng.uniform(radius + 4, width - radius - 4), rng.uniform(radius + 4, height - radius - 4))
    bitmap = inside(outline(rng, kind, center, radius), size_hw)
    grains = rng.uniform(0.02, 0.05, 2) * height
    return painted(texture(rng, size_hw, ground, grains[0]), texture(rng, size_hw, colour, grains[1]), bitmap), bitmap


def middle(bitmap: Bitmap) -> list[float]:
    """The point of a bitmap that is farthest from its edge."""
    depth = cv2.distanceTransform(np.pad(bitmap, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    row, column = np.unravel_index(depth.argmax(), depth.shape)
    return [float(column) + 0.5, float(row) + 0.5]


def corners(box: Any) -> list[list[float]]:
    return [[float(box[0]), float(box[1])], [float(box[2]), float(box[3])]]


def cut_out(function: LoadedFunction, image: Image, *, kind: str = "png", **prompt: Any) -> Bitmap:
    """The (H, W) bitmap of a reply."""
    reply = asked(function, {"image": in_base64(image, kind), "pos_points": [], "neg_points": [], **prompt})
    return mask_to_bitmap(read_interactor_reply(reply), image.shape[:2])


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("seed", range(3))
def test_a_box_and_one_click_cut_the_object_out(grabcut: LoadedFunction, kind: str, seed: int) -> None:
    image, truth = scene(seed, kind)
    rng = np.random.default_rng(seed)
    left, top, right, bottom = box_around(truth)
    # As a hand draws it: some pixels off on each side.
    off = rng.uniform(0, 0.08, 4) * (right - left)
    box = np.clip([left - off[0], top - off[1], right + off[2], bottom + off[3]], 0, [320, 240, 320, 240])
    found = cut_out(grabcut, image, pos_points=[middle(truth)], obj_bbox=corners(box))
    assert overlap(found, truth) >= 0.97


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("seed", range(10, 13))
def test_one_click_alone_cuts_the_object_out(grabcut: LoadedFunction, kind: str, seed: int) -> None:
    image, truth = scene(seed, kind)
    assert overlap(cut_out(grabcut, image, pos_points=[middle(truth)]), truth) >= 0.95


def test_a_box_alone_cuts_the_object_out_and_a_wrong_one_does_not(grabcut: LoadedFunction) -> None:
    image, truth = scene(1, "star")
    box = box_around(truth)
    assert overlap(cut_out(grabcut, image, obj_bbox=corners(box)), truth) >= 0.97
    elsewhere = [box[0] - 40, box[1] - 40, (box[0] + box[2]) / 2, (box[1] + box[3]) / 2]
    wrong = corners(np.clip(elsewhere, 0, [320, 240, 320, 240]))
    assert overlap(cut_out(grabcut, image, obj_bbox=wrong), truth) < 0.6


@pytest.mark.parametrize("seed", range(3))
def test_a_negative_click_removes_what_touches_the_object(grabcut: LoadedFunction, seed: int) -> None:
    rng = np.random.default_rng(seed)
    ground, colour, third = (60.0, 90.0, 60.0), (190.0, 80.0, 70.0), (70.0, 90.0, 200.0)
    thing = inside(outline(rng, "ellipse", (140, 120), 70), SIZE_HW)
    other = inside(outline(rng, "blob", (215, 120), 40), SIZE_HW) & ~thing
    image = painted(texture(rng, SIZE_HW, ground), texture(rng, SIZE_HW, colour), thing)
    image = painted(image, texture(rng, SIZE_HW, third), other)
    box = corners(box_around(thing | other))
    both = cut_out(grabcut, image, pos_points=[middle(thing)], obj_bbox=box)
    assert overlap(both, thing | other) >= 0.95
    one = cut_out(grabcut, image, pos_points=[middle(thing)], neg_points=[middle(other)], obj_bbox=box)
    assert overlap(one, thing) >= 0.95


def test_clicks_choose_between_parts_of_the_same_colour(grabcut: LoadedFunction) -> None:
    rng = np.random.default_rng(3)
    ground, colour = two_colours(rng)
    left = inside(outline(rng, "ellipse", (100, 120), 45), SIZE_HW)
    right = inside(outline(rng, "blob", (220, 120), 45), SIZE_HW)
    image = painted(texture(rng, SIZE_HW, ground), texture(rng, SIZE_HW, colour), left | right)
    box = corners(box_around(left | right))
    assert overlap(cut_out(grabcut, image, obj_bbox=box), left | right) >= 0.95
    assert overlap(cut_out(grabcut, image, obj_bbox=box, pos_points=[middle(left)]), left) >= 0.95
    assert overlap(cut_out(grabcut, image, obj_bbox=box, neg_points=[middle(left)]), right) >= 0.95
    assert overlap(cut_out(grabcut, image, pos_points=[middle(left), middle(right)]), left | right) >= 0.95


@pytest.mark.parametrize("side", ["left", "top", "right", "bottom"])
def test_a_positive_point_outside_the_box_widens_it(grabcut: LoadedFunction, side: str) -> None:
    image, truth = scene(1, "ellipse")
    left, top, right, bottom = box_around(truth)
    x, y = (left + right) // 2, (top + bottom) // 2
    half = {
        "left": [x, top, right, bottom],
        "top": [left, y, right, bottom],
        "right": [left, top, x, bottom],
        "bottom": [left, top, right, y],
    }[side]
    outside = np.ones(SIZE_HW, np.bool_)
    outside[half[1] : half[3], half[0] : half[2]] = False
    assert not (cut_out(grabcut, image, obj_bbox=corners(half)) & outside).any()
    missed = middle(truth & outside)
    assert overlap(cut_out(grabcut, image, pos_points=[missed], obj_bbox=corners(half)), truth) >= 0.95


def test_points_on_the_outer_border_of_the_image(grabcut: LoadedFunction) -> None:
    rng = np.random.default_rng(8)
    ground, colour = two_colours(rng)
    truth = inside(outline(rng, "ellipse", (320, 240), 90), SIZE_HW)
    image = painted(texture(rng, SIZE_HW, ground), texture(rng, SIZE_HW, colour), truth)
    for x, y in ((320, 240), (319, 239), (319.5, 239.5), (320, 200)):
        assert overlap(cut_out(grabcut, image, pos_points=[[x, y]]), truth) >= 0.95
    found = cut_out(grabcut, image, pos_points=[[320, 240]], neg_points=[[0, 0]], obj_bbox=[[200, 120], [320, 240]])
    assert overlap(found, truth) >= 0.97
    assert grabcut({"image": in_base64(image), "pos_points": [[320.5, 240]]}).status == 400


@pytest.mark.parametrize("kind", ["png", "jpg"])
@pytest.mark.parametrize("max_side", ["256", "64"])
def test_the_edge_is_true_to_the_pixel_in_a_large_image(
    monkeypatch: pytest.MonkeyPatch, kind: str, max_side: str
) -> None:
    """The region is shrunk 4 or 14 times for the cut itself, and then cut again at its edge at 1 or 1/4 of its size."""
    monkeypatch.setenv("MAX_SIDE", max_side)
    function = LoadedFunction(DIRECTORY, unique=True)
    image, truth = scene(21, "blob", (1000, 1400))
    found = cut_out(function, image, kind=kind, pos_points=[middle(truth)], obj_bbox=corners(box_around(truth)))
    wrong = found ^ truth
    edge = cv2.morphologyEx(truth.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    assert np.count_nonzero(wrong) <= 0.5 * np.count_nonzero(edge)  # less than a pixel on each side
    assert overlap(found, truth) >= 0.995


def test_the_clicked_pixels_are_as_the_user_said(grabcut: LoadedFunction) -> None:
    image, truth = scene(2, "blob")
    x, y = middle(truth)
    found = cut_out(grabcut, image, pos_points=[[x, y], [4, 4]], neg_points=[[x + 12, y], [316, 4]])
    assert found[int(y), int(x)] and found[4, 4]
    assert not found[int(y), int(x) + 12] and not found[4, 316]
    for size_hw in ((24, 49), (240, 320), (700, 900)):  # enlarged, as it is, shrunk: clicks on pixels side by side
        noise = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), np.uint8)
        column, row = size_hw[1] // 2, size_hw[0] // 2
        inside, outside = [[column, row]], [[column + 1, row], [column - 1, row], [column, row + 1], [column, row - 1]]
        found = cut_out(grabcut, noise, pos_points=inside, neg_points=outside)
        assert found[row, column], size_hw
        assert not any(found[y, x] for x, y in outside), size_hw


def test_the_same_request_has_the_same_answer(grabcut: LoadedFunction) -> None:
    noise = np.random.default_rng(4).integers(0, 256, (120, 160, 3), np.uint8)  # anything might be cut out of it
    body = {"image": in_base64(noise), "pos_points": [], "neg_points": [], "obj_bbox": [[30, 20], [130, 100]]}
    first = grabcut(body).body
    for seed in range(3):
        cv2.setRNGSeed(1000 + seed)
        cut_out(grabcut, scene(seed, "blob")[0], pos_points=[[100, 100]])
        assert grabcut(body).body == first
    assert LoadedFunction(DIRECTORY, unique=True)(body).body == first


def test_the_outline_goes_around_the_mask(grabcut: LoadedFunction) -> None:
    image, truth = scene(6, "triangle")
    reply = asked(grabcut, {"image": in_base64(image), "pos_points": [middle(truth)], "neg_points": []})
    assert overlap(inside(np.array(reply["points"]), SIZE_HW), truth) >= 0.95


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 2), (2, 1), (3, 5), (1, 300), (300, 1), (20, 20)])
@pytest.mark.parametrize("noisy", [False, True])
def test_tiny_and_plain_images_have_an_answer(grabcut: LoadedFunction, size_hw: tuple[int, int], noisy: bool) -> None:
    height, width = size_hw
    image = np.full((height, width, 3), 90, np.uint8)
    if noisy:
        image = np.random.default_rng(0).integers(0, 256, image.shape, np.uint8)
    whole = [[0, 0], [width, height]]
    for prompt in (
        {"obj_bbox": whole},
        {"obj_bbox": whole, "pos_points": [[width / 2, height / 2]]},
        {"pos_points": [[width, height]]},
        {"pos_points": [[0, 0]], "neg_points": [[width, height]]},
        {"obj_bbox": [[width / 2, 0], [width / 2 + 0.4, height]]},
    ):
        assert cut_out(grabcut, image, **prompt).any(), prompt


def test_a_plain_picture_gives_what_was_drawn(grabcut: LoadedFunction) -> None:
    image = np.full((120, 160, 3), 128, np.uint8)
    found = cut_out(grabcut, image, obj_bbox=[[40, 30], [100, 90]])
    assert overlap(found, inside(np.array([[40, 30], [100, 30], [100, 90], [40, 90]]), (120, 160))) >= 0.9
    assert cut_out(grabcut, image, pos_points=[[80, 60]]).mean() > 0.8


def test_a_box_one_pixel_wide(grabcut: LoadedFunction) -> None:
    image, _ = scene(7, "ellipse")
    found = cut_out(grabcut, image, obj_bbox=[[150, 50], [151, 200]])
    assert found.any() and not found[:, :150].any() and not found[:, 151:].any()


@pytest.mark.parametrize(("variable", "value"), [("MAX_SIDE", "10"), ("ITERATIONS", "0"), ("MAX_SIDE", "big")])
def test_options_are_checked_at_the_start(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(StartupError, match=variable):
        LoadedFunction(DIRECTORY, unique=True)


def test_a_smaller_copy_is_coarser_but_not_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_SIDE", "64")
    image, truth = scene(0, "blob", (480, 640))
    small = LoadedFunction(DIRECTORY, unique=True)
    assert overlap(cut_out(small, image, obj_bbox=corners(box_around(truth))), truth) >= 0.95
