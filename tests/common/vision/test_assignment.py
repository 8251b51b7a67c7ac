"""The best assignment, against scipy's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from common.vision.assignment import best_assignment


@pytest.mark.parametrize("kind", ["any", "mostly nothing", "many equal", "large and small"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (5, 5), (12, 30), (30, 12), (40, 40)])
def test_no_assignment_gains_more(shape: tuple[int, int], kind: str) -> None:
    rng = np.random.default_rng(shape[0] * 100 + shape[1])
    for _ in range(20):
        gains = rng.normal(size=shape)
        if kind == "mostly nothing":
            gains = np.where(rng.random(shape) < 0.8, 0.0, abs(gains))
        elif kind == "many equal":
            gains = rng.integers(0, 3, shape).astype(float)
        elif kind == "large and small":
            gains *= 10.0 ** rng.integers(-6, 6, shape)
        partners = best_assignment(gains)
        rows = np.flatnonzero(partners >= 0)
        assert partners.shape == (shape[0],) and partners.min() >= -1 and partners.max() < shape[1]
        assert len(rows) == len(set(partners[rows].tolist())) == min(shape)
        best = gains[linear_sum_assignment(gains, maximize=True)].sum()
        assert gains[rows, partners[rows]].sum() == pytest.approx(best, rel=1e-9, abs=1e-9)


def test_rows_that_are_left_over_have_no_column() -> None:
    assert best_assignment(np.array([[1.0], [3.0], [2.0]])).tolist() == [-1, 0, -1]


def test_nothing_to_assign() -> None:
    assert best_assignment(np.zeros((0, 3))).tolist() == []
    assert best_assignment(np.zeros((2, 0))).tolist() == [-1, -1]
