"""The reid function through its real main.py: shuffled boxes are found again, others are not."""

from __future__ import annotations

import base64
from typing import Any

import cv2
import numpy as np
import pytest

from tools.collection import COLLECTION
from tools.demo.scenes import PHOTOGRAPH
from tools.wrapper import LoadedFunction
from training.shapes.draw import draw_shapes

SIZE_HW = (480, 640)


@pytest.fixture(scope="module")
def reid() -> LoadedFunction:
    return LoadedFunction(COLLECTION / "opencv/appearance", unique=True)


def png(image: np.ndarray) -> str:
    return base64.b64encode(cv2.imencode(".png", image[:, :, ::-1])[1].tobytes()).decode()


def shape(box: Any, label_id: int = 1) -> dict[str, Any]:
    return {"type": "rectangle", "points": [float(v) for v in box], "label_id": label_id, "frame": 0, "attributes": []}


def two_frames(seed: int, count: int = 10) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A picture, the same after motion, a change of light and noise, and the boxes (N, 4) of objects in each."""
    rng = np.random.default_rng(seed)
    photograph = cv2.cvtColor(cv2.imread(str(PHOTOGRAPH)), cv2.COLOR_BGR2RGB)
    before = cv2.resize(photograph, SIZE_HW[::-1]) if seed % 2 else draw_shapes(seed, SIZE_HW).image
    columns, rows = 5, -(-count // 5)
    grid = [
        (60 + 130 * (i % columns), 70 + (SIZE_HW[0] - 140) / max(rows - 1, 1) * (i // columns)) for i in range(count)
    ]
    centers = np.array(grid) + rng.uniform(-15, 15, (count, 2))
    sides = rng.uniform(50, 100, (count, 2))
    matrix = cv2.getRotationMatrix2D((320, 240), rng.uniform(-5, 5), rng.uniform(0.92, 1.08))
    matrix[:, 2] += rng.uniform(-12, 12, 2)
    after = cv2.warpAffine(before, matrix, SIZE_HW[::-1], borderMode=cv2.BORDER_REFLECT).astype(np.float64)
    after = after * rng.uniform(0.75, 1.25) + rng.uniform(-15, 15) + rng.normal(0, 6, after.shape)
    moved = centers @ matrix[:, :2].T + matrix[:, 2] + rng.uniform(-0.05, 0.05, (count, 2)) * sides
    boxes0 = np.hstack([centers - sides / 2, centers + sides / 2])
    boxes1 = np.hstack([moved - sides / 2, moved + sides / 2])
    return before, np.clip(after, 0, 255).astype(np.uint8), boxes0, boxes1


def request(before: np.ndarray, after: np.ndarray, boxes0: Any, boxes1: Any, **more: Any) -> dict[str, Any]:
    return {
        "image0": png(before),
        "image1": png(after),
        "boxes0": [shape(box) for box in boxes0],
        "boxes1": [shape(box) for box in boxes1],
        **more,
    }


def test_finds_shuffled_boxes_again_by_appearance_alone(reid: LoadedFunction) -> None:
    right = total = 0
    for seed in range(12):
        before, after, boxes0, boxes1 = two_frames(seed)
        order = np.random.default_rng(seed + 100).permutation(len(boxes1))
        reply = reid(request(before, after, boxes0, boxes1[order], threshold=0.6))
        assert reply.status == 200, reply.body
        partners = np.array(reply.json())
        right += int((order[partners] == np.arange(len(boxes0)))[partners >= 0].sum())
        total += len(boxes0)
    assert right / total >= 0.95


def test_a_shuffle_really_changes_the_answer(reid: LoadedFunction) -> None:
    before, after, boxes0, boxes1 = two_frames(3)
    straight = reid(request(before, after, boxes0, boxes1)).json()
    turned = reid(request(before, after, boxes0, boxes1[::-1])).json()
    assert turned == [len(boxes1) - 1 - partner if partner >= 0 else -1 for partner in straight]


def test_max_distance_is_a_gate(reid: LoadedFunction) -> None:
    before, after, boxes0, boxes1 = two_frames(1, count=5)
    body = request(before, after, boxes0, boxes1 + 200)  # the boxes are 283 pixels away, the picture under them another
    assert reid({**body, "max_distance": 100, "threshold": 1}).json() == [-1] * 5
    assert reid({**body, "max_distance": 1000, "threshold": 1}).json() != [-1] * 5


def test_the_threshold_bounds_the_distance(reid: LoadedFunction) -> None:
    before, after, boxes0, boxes1 = two_frames(1, count=5)
    assert reid(request(before, before, boxes0, boxes0, threshold=0)).json() == [0, 1, 2, 3, 4]
    assert reid(request(before, after, boxes0, boxes1, threshold=0)).json() == [-1] * 5


def test_only_the_same_label_matches(reid: LoadedFunction) -> None:
    before, _, boxes0, _ = two_frames(1, count=3)
    body = request(before, before, boxes0, boxes0)
    body["boxes1"] = [shape(box, label_id=1 + i % 2) for i, box in enumerate(boxes0)]
    assert reid(body).json() == [0, -1, 2]


def test_an_object_that_left_has_no_partner(reid: LoadedFunction) -> None:
    before, after, boxes0, boxes1 = two_frames(5, count=6)
    partners = reid(request(before, after, boxes0, np.delete(boxes1, 2, axis=0), max_distance=60)).json()
    assert partners == [0, 1, -1, 2, 3, 4]


@pytest.mark.parametrize(
    "box", [[-50, -40, -10, -5], [700, 500, 800, 600], [10, 10, 10, 10], [5, 5, 5.4, 5.2], [-10, -10, 650, 490]]
)
def test_odd_boxes_are_no_fault(reid: LoadedFunction, box: list[float]) -> None:
    before, _, boxes0, _ = two_frames(1, count=3)
    reply = reid(request(before, before, [*boxes0, box], [*boxes0, box]))
    assert reply.status == 200
    assert reply.json()[:3] == [0, 1, 2]


def test_no_boxes(reid: LoadedFunction) -> None:
    before, _, boxes0, _ = two_frames(1, count=2)
    assert reid(request(before, before, [], boxes0)).json() == []
    assert reid(request(before, before, boxes0, [])).json() == [-1, -1]


def test_who_stayed_who_left_and_who_came(reid: LoadedFunction) -> None:
    """With the function's own threshold and shuffled boxes: half the objects stay, the others have no partner."""
    right = total = 0
    for seed in range(8):
        before, after, boxes0, boxes1 = two_frames(seed)
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(boxes0))
        left, came = set(order[:3].tolist()), set(order[3:6].tolist())
        first = [i for i in range(len(boxes0)) if i not in came]
        second = [i for i in rng.permutation(len(boxes1)).tolist() if i not in left]
        reply = reid(request(before, after, boxes0[first], boxes1[second], max_distance=50))
        expected = [second.index(i) if i in second else -1 for i in first]
        right += sum(ours == theirs for ours, theirs in zip(reply.json(), expected, strict=True))
        total += len(first)
    assert right / total >= 0.95


def stripes(degrees: float, seed: int) -> np.ndarray:
    """A grey patch of 60 x 60 pixels with stripes of random widths in one direction."""
    rows, columns = np.mgrid[:60, :60]
    across = columns * np.cos(np.radians(degrees)) + rows * np.sin(np.radians(degrees))
    levels = cv2.GaussianBlur(np.random.default_rng(seed).normal(size=(1, 200)), (0, 0), 2.5)[0]
    grey = 128 + 60 * np.interp(across + 60, np.arange(200), levels / levels.std())
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)


def side_by_side(patches: list[np.ndarray]) -> tuple[np.ndarray, list[list[int]]]:
    """A picture of patches, and the box of each."""
    return np.hstack(patches), [[60 * i, 0, 60 * i + 60, 60] for i in range(len(patches))]


def test_directions_tell_grey_things_apart(reid: LoadedFunction) -> None:
    """Stripes of the same direction but of other widths and places: no histogram of greys knows them again."""
    directions = [0, 36, 72, 108, 144]
    before, boxes = side_by_side([stripes(d, seed=i) for i, d in enumerate(directions)])
    after, _ = side_by_side([stripes(d, seed=10 + i) for i, d in enumerate(directions[::-1])])
    assert reid(request(before, after, boxes, boxes, threshold=1)).json() == [4, 3, 2, 1, 0]


def test_a_darker_picture_shows_the_same_grey_things(reid: LoadedFunction) -> None:
    """Discs and rings of the same edges, light on dark or dark on light: the light itself is all that differs."""
    rows, columns = np.mgrid[:60, :60]
    far = np.hypot(rows - 30, columns - 30)
    patches = [
        np.repeat(np.where(inner, *pair).astype(np.uint8)[:, :, None], 3, axis=2)
        for inner in (far < 15, (far > 9) & (far < 18))
        for pair in ((220, 90), (90, 220), (220, 160), (160, 220))
    ]
    before, boxes = side_by_side(patches)
    after = np.clip(before * 0.45 + 5, 0, 255).astype(np.uint8)
    reply = reid(request(before, after, boxes, boxes[::-1], threshold=0.5)).json()
    assert sum(partner == len(boxes) - 1 - i for i, partner in enumerate(reply)) >= 6


def test_only_what_is_inside_a_box_counts(reid: LoadedFunction) -> None:
    before, _, boxes0, _ = two_frames(3, count=4)
    after = before.copy()
    inside = np.zeros(SIZE_HW, bool)
    for left, top, right, bottom in boxes0:
        inside[int(top) : int(np.ceil(bottom)), int(left) : int(np.ceil(right))] = True
    after[~inside] = 255 - after[~inside]
    body = request(before, after, boxes0, boxes0[::-1], threshold=0)
    assert reid(body).json() == [3, 2, 1, 0]
