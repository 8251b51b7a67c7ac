"""What the tracker learns from, and whether it learns."""

import numpy as np
import pytest

from training.tracker import train, trial
from training.tracker.network import SEARCH_SIDE, TEMPLATE_SIDE


@pytest.fixture(scope="module")
def films() -> list[train.Film]:
    return train.draw_films(6)


def test_boxes_of_pairs_are_around_the_object(films: list[train.Film]) -> None:
    """The colour in the middle of the template is found in the box, mirrored, turned and recoloured like it."""
    rng = np.random.default_rng(0)
    pairs = [train.make_pair(films, rng) for _ in range(80)]
    near = []
    for pair in pairs:
        assert pair.template.shape == (TEMPLATE_SIDE, TEMPLATE_SIDE, 3)
        assert pair.search.shape == (SEARCH_SIDE, SEARCH_SIDE, 3)
        if pair.box_cxcywh is not None:
            x, y = (int(v * SEARCH_SIDE) for v in pair.box_cxcywh[:2])
            middle = TEMPLATE_SIDE // 2
            colors = [
                np.median(part.reshape(-1, 3), axis=0)
                for part in (
                    pair.template[middle - 5 : middle + 5, middle - 5 : middle + 5],
                    pair.search[max(y - 5, 0) : y + 5, max(x - 5, 0) : x + 5],
                )
            ]
            near.append(np.abs(colors[0] - colors[1]).max() < 60)
    assert 40 < len(near) < 80  # some show another clip
    assert np.mean(near) > 0.9


def test_the_loss_of_the_truth_is_small(films: list[train.Film]) -> None:
    """Maps made by hand from the truth: right in the object's cell, and wrong when they say that there is nothing."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    made = [train.make_pair(films, rng) for _ in range(20)]
    # A centre on the line between two cells belongs to both.
    pairs = [pair for pair in made if pair.box_cxcywh and all(v * 16 % 1 for v in pair.box_cxcywh[:2])]

    def answering(certain: float):
        def network(template: object, search: object):
            score = torch.full((len(pairs), 1, 16, 16), 0.001)
            size, offset = torch.zeros(len(pairs), 2, 16, 16), torch.zeros(len(pairs), 2, 16, 16)
            cells = torch.arange(16)
            for i, pair in enumerate(pairs):
                x, y, width, height = pair.box_cxcywh
                score[i, 0, int(y * 16), int(x * 16)] = certain
                size[i] = torch.tensor([width, height])[:, None, None]
                offset[i, 0], offset[i, 1] = (x * 16 - cells)[None], (y * 16 - cells)[:, None]
            return score, size, offset

        return network

    right, wrong = (float(train.loss(answering(certain), pairs)) for certain in (0.99, 0.001))
    assert right < 0.01 and wrong > 5


def test_a_training_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.setattr(train, "BATCH", 8)
    monkeypatch.setattr("training.optimization._SAY_EVERY", 10)
    said: list[str] = []
    network = train.train(clips=4, steps=30, say=said.append)
    losses = [float(line.split("loss ")[1].split(",")[0]) for line in said[1:]]
    assert losses[-1] < 0.75 * losses[0], said
    assert not any(module.training for module in network.modules())


def test_the_stage_is_left_when_the_shape_has_gone() -> None:
    (clip,) = trial.unseen_clips(1, 12, gone=2)
    assert len(clip.images) == len(clip.boxes_xyxy) == 14 and clip.boxes_xyxy[-2:] == (None, None)
    left, top, right, bottom = (int(v) for v in clip.boxes_xyxy[0] or ())
    inner = np.s_[
        top + (bottom - top) // 3 : bottom - (bottom - top) // 3,
        left + (right - left) // 3 : right - (right - left) // 3,
    ]
    shown, gone = (np.median(clip.images[i][inner].reshape(-1, 3), axis=0) for i in (0, -1))
    assert np.abs(shown - gone).max() > 30
    # Far from the shape nothing changes but the noise.
    assert np.abs(clip.images[0].astype(int) - clip.images[-1])[:20, :20].mean() < 5
