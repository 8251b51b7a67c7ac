"""Our suppressions against those of torchvision, Ultralytics and OpenCV."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision
from ultralytics.utils.metrics import batch_probiou
from ultralytics.utils.nms import TorchNMS

from common.networks.formats.nms import MOST_CANDIDATES, gaussian_iou, nms, rotated_nms, rotated_nms_exact


def crowd(count: int, seed: int, ties: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    corners = random.uniform(0, 300, (count, 2))
    boxes = np.concatenate([corners, corners + random.uniform(5, 120, (count, 2))], axis=1).astype(np.float32)
    scores = random.uniform(0, 1, count).astype(np.float32)
    return boxes, np.round(scores, 1) if ties else scores, random.integers(0, 4, count)


@pytest.mark.parametrize("iou", [0.0, 0.3, 0.45, 0.7, 1.0])
@pytest.mark.parametrize("count", [0, 1, 2, 50, 1500])
def test_as_torchvision(count: int, iou: float) -> None:
    boxes, scores, classes = crowd(count, count)
    ours = nms(boxes, scores, None, iou, count)
    theirs = torchvision.ops.nms(torch.from_numpy(boxes), torch.from_numpy(scores), iou).numpy()
    np.testing.assert_array_equal(ours, theirs)
    by_class = nms(boxes, scores, classes, iou, count)
    theirs = torchvision.ops.batched_nms(*map(torch.from_numpy, (boxes, scores, classes)), iou).numpy()
    np.testing.assert_array_equal(by_class, theirs)


def test_equal_scores_keep_their_order() -> None:
    boxes, scores, _ = crowd(400, 1, ties=True)
    theirs = torchvision.ops.nms(torch.from_numpy(boxes), torch.from_numpy(scores), 0.4).numpy()
    np.testing.assert_array_equal(nms(boxes, scores, None, 0.4, 400), theirs)


def test_limits() -> None:
    boxes, scores, classes = crowd(200, 2)
    everything = nms(boxes, scores, classes, 0.5, 200)
    np.testing.assert_array_equal(nms(boxes, scores, classes, 0.5, 7), everything[:7])
    many = np.tile(np.array([[0, 0, 1, 1]], np.float32), (MOST_CANDIDATES + 5, 1))
    assert nms(many, np.ones(len(many), np.float32), None, 0.5, 10).tolist() == [0]


def turned(count: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    parts = (
        random.uniform(20, 280, (count, 2)),
        random.uniform(5, 90, (count, 2)),
        random.uniform(-0.8, 2.3, (count, 1)),
    )
    return np.concatenate(parts, axis=1).astype(np.float32)


def test_gaussian_overlap_as_ultralytics() -> None:
    first, second = turned(60, 3), turned(40, 4)
    theirs = batch_probiou(torch.from_numpy(first), torch.from_numpy(second)).numpy()
    np.testing.assert_allclose(gaussian_iou(first, second), theirs, atol=2e-5)


@pytest.mark.parametrize("count", [0, 1, 80, 2500])
def test_rotated_as_ultralytics(count: int) -> None:
    boxes = turned(count, 5)
    random = np.random.default_rng(6)
    scores, classes = random.uniform(0, 1, count).astype(np.float32), random.integers(0, 3, count)
    apart = boxes.copy()
    apart[:, :2] += classes[:, None] * 7680
    theirs = TorchNMS.fast_nms(torch.from_numpy(apart), torch.from_numpy(scores), 0.45, iou_func=batch_probiou).numpy()
    ours = rotated_nms(boxes, scores, classes, 0.45, count)
    np.testing.assert_array_equal(ours, theirs)
    everyone = TorchNMS.fast_nms(
        torch.from_numpy(boxes), torch.from_numpy(scores), 0.45, iou_func=batch_probiou
    ).numpy()
    np.testing.assert_array_equal(rotated_nms(boxes, scores, None, 0.45, count), everyone)


def test_exact_rotated_by_known_areas() -> None:
    # A square and the same one turned by 45 degrees: an octagon of 2 (sqrt(2) - 1) = 0.83 of it is shared, IoU 0.707.
    boxes = np.array([[50, 50, 20, 20, 0], [50, 50, 20, 20, np.pi / 4], [90, 50, 20, 20, 0]], np.float32)
    scores, same = np.array([0.5, 0.9, 0.7], np.float32), np.zeros(3, np.int64)
    assert rotated_nms_exact(boxes, scores, same, 0.6, 9).tolist() == [1, 2]
    assert rotated_nms_exact(boxes, scores, same, 0.75, 9).tolist() == [1, 2, 0]
    assert rotated_nms_exact(boxes, scores, np.array([0, 1, 0]), 0.6, 9).tolist() == [1, 2, 0]
    assert rotated_nms_exact(boxes, scores, same, 0.75, 2).tolist() == [1, 2]
    assert rotated_nms_exact(boxes[:0], scores[:0], same[:0], 0.6, 9).tolist() == []
