"""The trained tiny EdgeTAM on drawings that it has never seen, through the functions' main.py and the JSON of their replies."""

from __future__ import annotations

import pytest

from tools.collection import ROOT
from training.clicks.trial import click_ious

NETWORK = ROOT / "tests/models/edgetam"


@pytest.mark.parametrize("prompt", ["click", "box"])
def test_a_prompt_selects_the_shape_that_it_means(prompt: str) -> None:
    ious = click_ious(NETWORK, 100, prompt=prompt)
    assert ious.mean() > 0.8, ious
