"""TransT's network against one written as plainly as possible, on the same random parameters; sizes and names of the published one."""

from __future__ import annotations

import hashlib
import math

import pytest
import torch
from torch.nn import functional

from common.networks.transt.network import Sizes, TransT
from tests.common.networks.transt.plain_transt import TINY, answer, tiny_state

# Of "name shape" for each of the 430 values of the published network, sorted.
PUBLISHED = "2bf4243cf290395f2c3a985888b8cd5aa58a30e2e0fffe3853481c54a21f9cfc"


def test_the_default_sizes_are_those_of_the_published_network() -> None:
    with torch.device("meta"):
        state = TransT(Sizes()).state_dict()
    lines = sorted(f"{name} {tuple(value.shape)}" for name, value in state.items())
    assert len(lines) == 430
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == PUBLISHED
    learnt = sum(math.prod(value.shape) for name, value in state.items() if "running" not in name)
    assert round(learnt / 1e6, 1) == 23.0  # as the paper says
    assert Sizes.of(state) == Sizes()


def pictures(generator: torch.Generator, cells: int, count: int = 1) -> torch.Tensor:
    """(count, 3, 8 * cells, 8 * cells) smooth noise."""
    noise = torch.randn(count, 3, cells, cells, generator=generator).double()
    return functional.interpolate(noise, scale_factor=8, mode="bilinear")


@pytest.mark.parametrize("seed", range(3))
def test_it_answers_as_the_plain_one(seed: int) -> None:
    # In 64 bits, so that rounding in heads with large weights decides nothing.
    state = {name: value.double() for name, value in tiny_state(seed).items()}
    network = TransT(Sizes.of(state)).eval().double()
    network.load_state_dict(state)
    generator = torch.Generator().manual_seed(seed)
    template, search = pictures(generator, 16), pictures(generator, 32)
    with torch.inference_mode():
        logits, boxes = network(network.embed(template), network.embed(search))
        expected_logits, expected_boxes = answer(state, template, search)
    assert logits.shape == (1, 1024, 2) and boxes.shape == (1, 1024, 4)
    torch.testing.assert_close(logits[0], expected_logits, atol=1e-4, rtol=0)
    torch.testing.assert_close(boxes[0], expected_boxes, atol=1e-4, rtol=0)
    assert expected_boxes.std(dim=0).min() > 0.03  # the answer differs from place to place


def test_several_pairs_are_answered_as_each_alone() -> None:
    network = TransT(TINY).eval().double()
    network.load_state_dict(tiny_state())
    generator = torch.Generator().manual_seed(0)
    templates, searches = pictures(generator, 16, 3), pictures(generator, 32, 3)
    with torch.inference_mode():
        together = network(network.embed(templates), network.embed(searches))
        for i in range(3):
            alone = network(network.embed(templates[i : i + 1]), network.embed(searches[i : i + 1]))
            for one, other in zip(together, alone, strict=True):
                torch.testing.assert_close(one[i], other[0], atol=1e-4, rtol=0)
