"""Matching of boxes: the best of all assignments, within the gates of appearance, distance and label."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from common.vision.matching import ReidBox, cosine_distances, match


def boxes(count: int, *, step: float = 0.0, labels: list[int | None] | None = None) -> list[ReidBox]:
    """Boxes of 10 x 10 pixels whose centres are `step` apart."""
    return [
        ReidBox(box_xyxy=(i * step, 0, i * step + 10, 10), label_id=labels[i] if labels else 1) for i in range(count)
    ]


def best_by_trying_all(distances: NDArray[np.float64], allowed: NDArray[np.bool_], threshold: float) -> float:
    """The smallest sum of any assignment, a row without a partner costing the threshold."""
    rows, columns = distances.shape
    best = math.inf
    for choice in itertools.permutations([*range(columns), *[-1] * rows], rows):
        if all(column < 0 or allowed[row, column] for row, column in enumerate(choice)):
            best = min(best, sum(threshold if c < 0 else distances[r, c] for r, c in enumerate(choice)))
    return best


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (4, 2), (2, 4), (4, 4)])
@pytest.mark.parametrize("seed", range(6))
def test_no_other_assignment_is_better(shape: tuple[int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    distances = rng.random(shape)
    labels0, labels1 = (rng.integers(0, 2, n).tolist() for n in shape)
    boxes0, boxes1 = (boxes(n, step=30, labels=ls) for n, ls in zip(shape, (labels0, labels1), strict=True))
    partners = match(distances, boxes0, boxes1, threshold=0.7, max_distance=70)
    apart = 30 * abs(np.arange(shape[0])[:, None] - np.arange(shape[1])[None])
    same = np.array(labels0)[:, None] == np.array(labels1)[None]
    allowed = same & (apart <= 70) & (distances <= 0.7)
    matched = [p for p in partners if p >= 0]
    assert len(matched) == len(set(matched))
    assert all(allowed[row, column] for row, column in enumerate(partners) if column >= 0)
    ours = sum(0.7 if c < 0 else distances[r, c] for r, c in enumerate(partners))
    assert ours == pytest.approx(best_by_trying_all(distances, allowed, 0.7), abs=1e-4)


def test_the_nearest_one_by_one_would_be_worse() -> None:
    distances = np.array([[0.1, 0.2], [0.15, 0.9]])
    assert match(distances, boxes(2), boxes(2), threshold=1, max_distance=math.inf) == [1, 0]


def test_a_sure_pair_is_not_given_up_for_two_doubtful_ones() -> None:
    """The first object stayed, the second left, and a third came: they look somewhat alike."""
    distances = np.array([[0.02, 0.4], [0.4, 0.9]])
    assert match(distances, boxes(2), boxes(2), threshold=0.5, max_distance=math.inf) == [0, -1]


def test_threshold_and_max_distance_are_included() -> None:
    distances = np.array([[0.5]])
    one, other = boxes(1), [ReidBox(box_xyxy=(30, 40, 40, 50), label_id=1)]  # 50 pixels apart
    assert match(distances, one, other, threshold=0.5, max_distance=50) == [0]
    assert match(distances, one, other, threshold=0.49, max_distance=50) == [-1]
    assert match(distances, one, other, threshold=0.5, max_distance=49.9) == [-1]
    assert match(np.zeros((1, 1)), one, one, threshold=0, max_distance=0) == [0]


def test_labels_separate_and_no_label_is_a_label_of_its_own() -> None:
    same = np.zeros((3, 3))
    boxes0, boxes1 = boxes(3, labels=[1, 2, None]), boxes(3, labels=[None, 1, 2])
    assert match(same, boxes0, boxes1, threshold=1, max_distance=math.inf) == [1, 2, 0]
    assert match(same, boxes0, boxes(3, labels=[7, 8, 9]), threshold=1, max_distance=math.inf) == [-1, -1, -1]


def test_among_equals_the_nearest_centres_win() -> None:
    boxes0, boxes1 = boxes(4, step=40), boxes(4, step=40)[::-1]
    assert match(np.full((4, 4), 0.3), boxes0, boxes1, threshold=0.5, max_distance=math.inf) == [3, 2, 1, 0]
    # but a little more alike counts for more than nearness
    distances = np.full((2, 2), 0.3)
    distances[0, 1] = 0.299
    assert match(distances, boxes(2, step=40), boxes(2, step=40), threshold=0.5, max_distance=math.inf)[0] == 1


def test_more_boxes_on_either_side() -> None:
    distances = np.array([[0.3, 0.1, 0.2]])
    assert match(distances, boxes(1), boxes(3), threshold=0.5, max_distance=math.inf) == [1]
    assert match(distances.T, boxes(3), boxes(1), threshold=0.5, max_distance=math.inf) == [-1, 0, -1]


def test_no_boxes() -> None:
    assert match(np.zeros((0, 3)), [], boxes(3), threshold=1, max_distance=9) == []
    assert match(np.zeros((2, 0)), boxes(2), [], threshold=1, max_distance=9) == [-1, -1]


def test_distances_on_another_scale_and_impossible_ones() -> None:
    distances = np.array([[120.0, math.nan], [math.inf, 80.0]])
    assert match(distances, boxes(2), boxes(2), threshold=100, max_distance=math.inf) == [-1, 1]


def test_cosine_distances() -> None:
    rows0 = np.array([[1, 0], [0, 3], [0, 0]], np.float32)
    rows1 = np.array([[2, 0], [-1, 0], [1, 1]], np.float32)
    expected = [[0, 1, 1 - math.sqrt(0.5)], [1, 1, 1 - math.sqrt(0.5)], [1, 1, 1]]
    np.testing.assert_allclose(cosine_distances(rows0, rows1), expected, atol=1e-7)


def test_a_thousand_boxes_are_no_matter() -> None:
    rng = np.random.default_rng(0)
    order = rng.permutation(1000)
    distances = rng.uniform(0.2, 1, (1000, 1000))
    distances[np.arange(1000), order] = 0.1
    assert match(distances, boxes(1000), boxes(1000), threshold=0.5, max_distance=math.inf) == order.tolist()
