"""The drawings that clicks are learned on, and whether what is trained is what the functions then run."""

import numpy as np
import pytest

from common.config import FunctionConfig
from common.networks.loader import load_handler_class
from common.protocol import Prompt
from tools.collection import COLLECTION, ROOT
from training.clicks import drawings, train

NETWORK = ROOT / "tests/models/edgetam"
SIZE_HW = (120, 160)


def test_a_seed_always_gives_the_same_clip() -> None:
    first, second, other = (drawings.clip(seed, 5, SIZE_HW) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.images, second.images)
    np.testing.assert_array_equal(first.masks, second.masks)
    assert (first.images != other.images).any()


@pytest.mark.parametrize("seed", range(5))
def test_the_mask_of_a_clip_moves_with_its_shape(seed: int) -> None:
    clip = drawings.clip(seed, 8, SIZE_HW, occluded=False)
    assert clip.images.shape == (8, *SIZE_HW, 3) and clip.images.dtype == np.uint8
    colors = [
        np.median(image[mask], axis=0) for image, mask in zip(clip.images, clip.masks, strict=True) if mask.sum() > 60
    ]
    assert len(colors) > 3
    assert np.abs(np.array(colors) - colors[0]).max() < 60  # the same thing in each frame
    assert any((a != b).any() for a, b in zip(clip.masks, clip.masks[1:], strict=False))


@pytest.mark.parametrize("seed", range(20))
def test_prompts_are_on_the_shape(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = drawings.clip(seed, 1, SIZE_HW, occluded=False).masks[0]
    x, y = drawings.click_inside(mask, rng)
    assert mask[int(y), int(x)]
    left, top, right, bottom = drawings.box_around(mask, rng, slack=0)
    inside = np.zeros_like(mask)
    inside[round(top) : round(bottom), round(left) : round(right)] = True
    assert not (mask & ~inside).any()
    assert mask[round(top)].any() and mask[:, round(right) - 1].any()


def test_a_correcting_click_goes_where_most_is_wrong() -> None:
    truth, shown = np.zeros(SIZE_HW, bool), np.zeros(SIZE_HW, bool)
    truth[20:80, 20:80] = shown[20:80, 40:140] = True
    points, labels = [(50.0, 50.0)], [1]
    train.correct(points, labels, truth, shown, np.random.default_rng(0))
    assert labels == [1, 0]
    assert points[1][0] > 80
    train.correct(points, labels, truth, np.zeros_like(truth), np.random.default_rng(0))
    assert labels[2] == 1 and truth[int(points[2][1]), int(points[2][0])]


def test_what_is_trained_is_what_the_function_runs() -> None:
    """The same prompt on the same picture through the training's modules and through the function's handler."""
    torch = pytest.importorskip("torch")
    from training.clicks.network import load_network

    network = load_network(NETWORK).eval()
    config = FunctionConfig.load(COLLECTION / "pytorch/facebookresearch/edgetam")
    handler = load_handler_class(config.directory)(config, model_path=str(NETWORK))
    for seed in range(4):
        scene = drawings.still(drawings.TRIAL_SEEDS + seed, (train.SIDE, train.SIDE))
        x, y = drawings.click_inside(scene.things[0].mask, np.random.default_rng(seed))
        pixels = train.image_processor()(scene.image, return_tensors="np")["pixel_values"][0]
        with torch.inference_mode():
            maps = train.encode(network, [train.Sample(pixels, scene.things[0].mask)])
            maps[-1] = maps[-1] + network.no_memory_embedding.reshape(1, -1, 1, 1)
            shown = train.decode(network, maps, [[(x, y)]], [[1]], several=True).best_logits()
            expected = train.resized(shown)[0].numpy() > 0
        found = handler.segment(handler.embed(scene.image), Prompt(np.array([[x, y]]), np.zeros((0, 2))))
        assert np.count_nonzero(found != expected) <= 0.01 * max(np.count_nonzero(expected), 100)


def test_the_perceiver_takes_batches_as_it_takes_memories_alone() -> None:
    torch = pytest.importorskip("torch")
    from training.clicks.network import load_network

    perceiver = load_network(NETWORK).eval().spatial_perceiver
    features = torch.randn(3, 64, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = train.latents_of_windows(perceiver, features)
        for i in range(3):
            for ours, theirs in zip(found, perceiver._forward_2d(features[i : i + 1]), strict=True):
                torch.testing.assert_close(ours[i : i + 1], theirs, rtol=1e-5, atol=1e-5)


def test_a_training_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some seconds of it bring the loss down; the network it ends with is one that is ready to be used."""
    monkeypatch.setattr(train, "_SAY_EVERY", 5)
    said: list[str] = []
    network = train.train(40, seed=1, stills=40, clips=6, say=said.append)
    turn = next(i for i, line in enumerate(said) if line.startswith("following"))
    losses = [float(line.rpartition(" ")[2]) for line in said[1:turn]]
    assert losses[-1] < losses[0] - 0.5, said
    assert said[turn + 1 :], "no clip was looked at"
    assert not any(module.training for module in network.modules())
    assert "_forward_2d" not in vars(network.spatial_perceiver)
