"""The truth of drawn pictures, against the pictures themselves and against geometry; and the measuring."""

import ast
import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import yaml

from common.vision.mask import outline_to_mask
from training.shapes import draw, measure, train

SIZE_HW = (240, 320)
DRAWERS = [draw.draw_shapes, draw.draw_rectangles, draw.draw_figures, draw.draw_single]


def whole(thing: draw.Thing, size_hw: tuple[int, int] = SIZE_HW) -> np.ndarray:
    """The pixels whose centres are inside a thing's outline, covered or not."""
    if thing.label == "circle":  # the outline has only 90 corners
        y, x = np.mgrid[: size_hw[0], : size_hw[1]] + 0.5
        center = thing.outline_xy.mean(axis=0)
        return np.hypot(x - center[0], y - center[1]) < thing.size / 2
    mask = outline_to_mask(thing.outline_xy, size_hw)
    full = np.zeros(size_hw, bool)
    left, top, right, bottom = mask.box_xyxy
    full[top:bottom, left:right] = mask.bitmap
    return full


@pytest.mark.parametrize("drawer", DRAWERS)
def test_a_seed_always_gives_the_same_scene(drawer) -> None:
    first, second, other = drawer(3, SIZE_HW), drawer(3, SIZE_HW), drawer(4, SIZE_HW)
    np.testing.assert_array_equal(first.image, second.image)
    assert len(first.things) == len(second.things) >= 1
    for a, b in zip(first.things, second.things, strict=True):
        np.testing.assert_array_equal(a.mask, b.mask)
        np.testing.assert_array_equal(a.outline_xy, b.outline_xy)
        assert (a.label, a.class_id, a.box_xyxy, a.rotated, a.joints) == (
            b.label,
            b.class_id,
            b.box_xyxy,
            b.rotated,
            b.joints,
        )
    assert (first.image != other.image).any()


@pytest.mark.parametrize("drawer", DRAWERS)
@pytest.mark.parametrize("size_hw", [(64, 64), (180, 320), (333, 217)])
def test_any_size_can_be_drawn(drawer, size_hw: tuple[int, int]) -> None:
    scene = drawer(11, size_hw)
    assert scene.image.shape == (*size_hw, 3)
    assert scene.image.dtype == np.uint8
    assert scene.things
    assert all(thing.mask.shape == size_hw for thing in scene.things)


@pytest.mark.parametrize("drawer", DRAWERS)
def test_boxes_touch_the_outermost_pixels_of_the_masks(drawer) -> None:
    for seed in range(20):
        for thing in drawer(seed, SIZE_HW).things:
            x, y, w, h = cv2.boundingRect(thing.mask.astype(np.uint8))
            assert thing.box_xyxy == (x, y, x + w, y + h)


@pytest.mark.parametrize("drawer", DRAWERS)
def test_no_pixel_belongs_to_two_things(drawer) -> None:
    for seed in range(20):
        masks = [thing.mask for thing in drawer(seed, SIZE_HW).things]
        assert np.sum(masks, axis=0).max() == 1


@pytest.mark.parametrize("drawer", [draw.draw_shapes, draw.draw_rectangles, draw.draw_single])
def test_masks_are_the_outlines_less_what_lies_above(drawer) -> None:
    covered = 0
    for seed in range(30):
        things = drawer(seed, SIZE_HW).things
        above = np.zeros(SIZE_HW, bool)
        for thing in reversed(things):
            full = whole(thing)
            np.testing.assert_array_equal(thing.mask, full & ~above)
            covered += np.count_nonzero(full & above)
            above |= full
    if drawer is not draw.draw_single:
        assert covered > 0, "no thing covers another in any of the scenes"


def test_most_of_each_shape_is_seen() -> None:
    for seed in range(60):
        for thing in draw.draw_shapes(seed, SIZE_HW).things:
            assert np.count_nonzero(thing.mask) >= 0.5 * np.count_nonzero(whole(thing))
            parts, _ = cv2.connectedComponents(thing.mask.astype(np.uint8))
            assert parts == 2, "a thing in pieces"


def test_circles_are_round_and_squares_square() -> None:
    seen = set()
    for seed in range(60):
        for thing in draw.draw_shapes(seed, SIZE_HW).things:
            seen.add(thing.label)
            sides = np.linalg.norm(thing.outline_xy - np.roll(thing.outline_xy, 1, axis=0), axis=1)
            if thing.label == "circle":
                center = thing.outline_xy.mean(axis=0)
                np.testing.assert_allclose(np.hypot(*(thing.outline_xy - center).T), thing.size / 2)
                assert len(sides) == 90
            elif thing.label == "square":
                np.testing.assert_allclose(sides, thing.size)
                diagonals = thing.outline_xy[:2] - thing.outline_xy[2:]
                np.testing.assert_allclose(np.hypot(*diagonals.T), thing.size * math.sqrt(2))
            else:
                assert len(sides) == 3
                assert sides.max() == pytest.approx(thing.size)
            assert thing.label == draw.SHAPES[thing.class_id]
    assert seen == set(draw.SHAPES)


def test_angles_are_those_that_opencv_measures_in_the_picture() -> None:
    measured = 0
    for seed in range(40):
        for thing in draw.draw_rectangles(seed, (480, 640)).things:
            cx, cy, w, h, degrees = thing.rotated
            assert w > h
            assert 0 <= degrees < 180
            assert (w / h >= 3) == (thing.label == "bar")
            if np.count_nonzero(thing.mask) < 0.999 * np.count_nonzero(whole(thing, (480, 640))):
                continue  # partly covered: the picture doesn't show all of it
            measured += 1
            points = np.argwhere(thing.mask)[:, ::-1].astype(np.float32) + 0.5
            (mx, my), (mw, mh), angle = cv2.minAreaRect(points)
            if mw < mh:
                mw, mh, angle = mh, mw, angle + 90
            assert math.hypot(mx - cx, my - cy) < 1
            # Pixel centres stand up to half a pixel inside the edges.
            assert abs(mw - w) < 1.6
            assert abs(mh - h) < 1.6
            assert abs((angle - degrees + 90) % 180 - 90) < 1.5
    assert measured > 40


def test_visible_joints_lie_on_their_figure_and_hidden_ones_do_not() -> None:
    hidden_inside = hidden_outside = 0
    for seed in range(60):
        for figure in draw.draw_figures(seed, SIZE_HW).things:
            assert [joint.name for joint in figure.joints] == list(draw.JOINTS)
            for joint in figure.joints:
                inside = 0 <= joint.x < SIZE_HW[1] and 0 <= joint.y < SIZE_HW[0]
                assert joint.visible == (inside and bool(figure.mask[int(joint.y), int(joint.x)]))
                hidden_inside += inside and not joint.visible
                hidden_outside += not inside
    assert hidden_inside > 5, "nothing covers a joint in any of the scenes"
    assert hidden_outside > 5, "no joint is outside in any of the scenes"


def test_a_figure_keeps_its_proportions() -> None:
    for seed in range(20):
        for figure in draw.draw_figures(seed, SIZE_HW).things:
            places = {joint.name: np.array([joint.x, joint.y]) for joint in figure.joints}
            for a, b, length in [
                ("head", "neck", 0.13), ("neck", "left_hand", 0.36), ("neck", "right_hand", 0.36),
                ("left_hip", "right_hip", 0.18), ("left_hip", "left_foot", 0.42), ("right_hip", "right_foot", 0.42),
            ]:  # fmt: skip
                assert np.hypot(*(places[a] - places[b])) == pytest.approx(length * figure.size)
            assert places["left_hip"][0] > places["right_hip"][0], "its left is on the picture's right"


@pytest.mark.parametrize("drawer", DRAWERS)
def test_things_stand_out_from_what_is_behind_them(drawer) -> None:
    for seed in range(10):
        scene = drawer(seed, SIZE_HW)
        for thing in scene.things:
            near = cv2.dilate(thing.mask.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool)
            others = np.any([other.mask for other in scene.things], axis=0)
            around = near & ~others
            if np.count_nonzero(around) > 50:
                difference = scene.image[thing.mask].mean(axis=0) - scene.image[around].mean(axis=0)
                assert np.linalg.norm(difference) > 50


def test_training_and_measuring_never_see_the_same_picture() -> None:
    assert measure.SIZES_HW[0] not in [(task.side, task.side) for task in train.TASKS.values()]
    assert train.FIRST_SEED > 1_000_000


def test_a_training_sample_has_the_truth_in_parts_of_the_input() -> None:
    for name, task in train.TASKS.items():
        sample = train.sample(task, 5)
        assert sample["image"].shape == (task.side, task.side, 3)
        if name != "classify":
            assert (sample["boxes"][:, :2] > 0).all()
            assert (sample["boxes"][:, :2] < 1).all()
        if name == "segment":
            for number, (cx, cy, w, h) in enumerate(sample["boxes"], 1):
                x, y, mask_w, mask_h = cv2.boundingRect((sample["masks"] == number).astype(np.uint8))
                seen = np.array([x + mask_w / 2, y + mask_h / 2, mask_w, mask_h]) * 4 / task.side
                np.testing.assert_allclose(seen, [cx, cy, w, h], atol=6 / task.side)  # a cell and a half
        if name == "pose":
            assert sample["joints"].shape[1:] == (len(draw.JOINTS), 3)
            assert (sample["joints"][sample["joints"][..., 2] == 0] == 0).all()


def test_ious() -> None:
    assert measure.box_iou(np.array([0, 0, 10, 10.0]), np.array([5, 0, 15, 10.0])) == pytest.approx(1 / 3)
    assert measure.box_iou(np.array([0, 0, 10, 10.0]), np.array([20, 0, 30, 10.0])) == 0
    a, b = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    a[:2], b[1:3] = True, True
    assert measure.mask_iou(a, b) == pytest.approx(1 / 3)
    assert measure.rotated_iou(np.array([50, 50, 40, 20, 0.0]), np.array([50, 50, 20, 40, 90.0])) == pytest.approx(1)
    assert measure.rotated_iou(np.array([50, 50, 20, 20, 0.0]), np.array([50, 50, 20, 20, 45.0])) == pytest.approx(
        (8 * (math.sqrt(2) - 1)) * 100 / (800 - (8 * (math.sqrt(2) - 1)) * 100), rel=1e-4
    )


def test_average_precision() -> None:
    assert measure.average_precision([(0.9, True), (0.8, True)], 2) == pytest.approx(1)
    assert measure.average_precision([(0.9, True)], 2) == pytest.approx(0.5)
    # Right, wrong, right: precision 1 up to a recall of 1/2, then 2/3.
    assert measure.average_precision([(0.9, True), (0.8, False), (0.7, True)], 2) == pytest.approx(0.5 + 1 / 3)
    assert measure.average_precision([], 3) == 0


def test_a_tally_counts_what_is_right_missing_and_extra() -> None:
    scene = draw.draw_shapes(1, SIZE_HW, count=4)
    things = scene.things[:2]
    right = measure.Found(things[0].class_id, 0.9, np.array(things[0].box_xyxy), mask=things[0].mask)
    again = measure.Found(things[0].class_id, 0.8, np.array(things[0].box_xyxy), mask=things[0].mask)
    unsure = measure.Found(things[1].class_id, 0.1, np.array(things[1].box_xyxy))
    tally = measure.Tally()
    tally.add(things, [unsure, again, right])
    assert (tally.things, len(tally.box_ious), tally.extra) == (2, 1, 1)
    assert tally.box_ious == tally.mask_ious == [1.0]


MODELS = Path(__file__).parents[1] / "models"
SHAPES_MODEL = Path(__file__).parents[2] / "serverless/onnx/yolo/shapes/shapes.onnx"
RAW = [MODELS / f"{task}.onnx" for task in ("detect", "pose", "obb", "classify")] + [SHAPES_MODEL]
END_TO_END = [MODELS / f"{task}_e2e.onnx" for task in ("detect", "segment", "pose", "obb")]


@pytest.mark.parametrize("path", RAW + END_TO_END, ids=lambda path: path.name)
def test_a_model_file_says_what_it_is(path: Path) -> None:
    task = "segment" if path == SHAPES_MODEL else path.stem.removesuffix("_e2e")
    metadata = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert metadata["task"] == task
    assert ast.literal_eval(metadata["names"]) == dict(enumerate(train.TASKS[task].names))
    assert ast.literal_eval(metadata["imgsz"]) == [train.TASKS[task].side] * 2
    assert metadata["end2end"] == str(path in END_TO_END)
    assert "AGPL-3.0" in metadata["license"]
    if task == "pose":
        assert ast.literal_eval(metadata["kpt_shape"]) == [len(draw.JOINTS), 3]


def test_model_files_stay_small() -> None:
    sizes = [path.stat().st_size for path in [*MODELS.iterdir(), SHAPES_MODEL]]
    assert max(sizes) < 4e6
    assert sum(sizes) < 12e6


@pytest.mark.parametrize("path", RAW + END_TO_END, ids=lambda path: path.name)
def test_the_networks_find_what_is_drawn(path: Path) -> None:
    task, tally = measure.tally(path, 16)
    if task == "classify":
        assert all(tally.right_tags)
        return
    ious = tally.rotated_ious if task == "obb" else tally.box_ious
    assert len(ious) >= 0.9 * tally.things
    assert np.mean(ious) > 0.86
    if task == "segment":
        assert np.mean(tally.mask_ious) > 0.88
    if task == "pose":
        assert np.mean(tally.joint_errors) < 0.04


@pytest.mark.filterwarnings("ignore:You are using the legacy", "ignore:The feature will be removed")
@pytest.mark.filterwarnings("ignore:Converting a tensor to a Python boolean")
def test_training_makes_files_that_run(tmp_path: Path) -> None:
    task = replace(train.TASKS["detect"], pictures=16, steps=((64, 2),), last_steps=((64, 2),))
    lines: list[str] = []
    checkpoint = train.train(task, tmp_path, threads=1, log=lines.append)
    assert "16 pictures" in lines[0]
    files = train.export(checkpoint, tmp_path)
    assert [file.name for file in files] == ["detect.onnx", "detect_e2e.onnx"]
    picture = np.zeros((1, 3, 320, 320), np.float32)
    outputs = [onnxruntime.InferenceSession(file).run(None, {"images": picture})[0] for file in files]
    assert [output.shape for output in outputs] == [(1, 7, 2100), (1, 300, 6)]
    converted = train.convert(files[0])
    other = openvino.Core().compile_model(converted, "CPU")(picture)[0]
    np.testing.assert_allclose(other[:, :4], outputs[0][:, :4], atol=2)  # half precision weights
    assert yaml.safe_load((tmp_path / "metadata.yaml").read_text())["names"] == {
        0: "circle",
        1: "square",
        2: "triangle",
    }


def test_a_network_that_begins_with_another_needs_it(tmp_path: Path) -> None:
    task = replace(train.TASKS["classify"], pictures=8, steps=((64, 1),))
    with pytest.raises(FileNotFoundError, match="train it first"):
        train.train(task, tmp_path, threads=1, log=lambda line: None)
