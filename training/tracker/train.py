"""Trains the network on pairs of pictures: an object as it was drawn, and the region around its place in a later frame.

A pair is cut out of two frames of a clip as a tracker cuts them, with the region off the object's place and size by chance. In
some pairs the region shows another clip: there the network learns to say that the object is gone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.vision.search_region import SearchRegion
from training.clicks.drawings import TRIAL_SEEDS, clip, large_enough
from training.optimization import fit
from training.tracker.network import CELLS, MEAN, SEARCH_SIDE, STD, TEMPLATE_SIDE, make_network

BATCH = 32
CLIPS, CLIP_LENGTH = 1000, 5
STEPS = 3200
RATE = 1.5e-3
_SIZES = ((240, 320), (320, 240), (300, 400))  # height and width of the frames
_SEEDS = TRIAL_SEEDS // 2  # the first clip's; those for trials begin at TRIAL_SEEDS
_TEMPLATE_FACTOR, _SEARCH_FACTOR = 2, 4  # sides of the squares, in parts of the object's size
_GONE = 0.2  # of the pairs
_HIDDEN = 0.5  # a frame in which less of the object is seen than this part of the most is left out
_FARTHEST = 1.3  # how far the region's centre may be from the object's, in parts of the object's size
_SCALE = 0.22  # standard deviation of the logarithm of the region's size

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Film:
    """A clip and where its object is."""

    images: NDArray[np.uint8]
    """(T, H, W, 3) RGB."""
    boxes_xyxy: tuple[Box | None, ...]
    """Of the object in each frame, in pixels; None where little of it is seen."""


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """What the network sees, and what it should say."""

    template: NDArray[np.uint8]
    """(128, 128, 3) RGB."""
    search: NDArray[np.uint8]
    """(256, 256, 3) RGB."""
    box_cxcywh: tuple[float, float, float, float] | None
    """The object's centre and size in parts of the search region; None where it is gone."""


def train(
    seed: int = 0,
    *,
    clips: int = CLIPS,
    steps: int = STEPS,
    threads: int = 1,
    say: Callable[[str], None] = print,
) -> Any:
    """Trains the network.

    Args:
        seed: Of the weights and of the pairs.
        clips: How many are drawn.
        steps: Batches to learn from.
        threads: CPU threads to use.
        say: Called with each line of progress.

    Returns:
        The trained network in inference mode.
    """
    import torch

    torch.set_num_threads(threads)
    films = draw_films(clips)
    say(f"{len(films)} clips drawn")
    network = make_network(seed)
    rng = np.random.default_rng(seed)

    def loss_of_step(_: int) -> Any:
        return loss(network, [make_pair(films, rng) for _ in range(BATCH)])

    return fit(network, steps, RATE, loss_of_step, say, longest_gradient=5.0)


def draw_films(count: int) -> list[Film]:
    """Draws clips for a training; the same ones each time.

    Args:
        count: How many.
    """
    films: list[Film] = []
    seed = _SEEDS
    while len(films) < count:
        moving = clip(seed, CLIP_LENGTH, _SIZES[seed % len(_SIZES)])
        seed += 1
        most = max(int(np.count_nonzero(mask)) for mask in moving.masks)
        boxes = tuple(
            visible_box(mask) if large_enough(mask) and np.count_nonzero(mask) > _HIDDEN * most else None
            for mask in moving.masks
        )
        if sum(box is not None for box in boxes) >= 2:
            films.append(Film(moving.images, boxes))
    return films


def visible_box(mask: NDArray[np.bool_]) -> Box:
    """The box around what is seen of an object.

    Args:
        mask: (H, W) bool with at least one pixel.

    Returns:
        (left, top, right, bottom) in pixels.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def make_pair(films: list[Film], rng: np.random.Generator) -> Pair:
    """A template and a search region of a clip taken by chance, mirrored, turned and recoloured by chance.

    Args:
        films: The clips.
        rng: The source of chance.
    """
    film = films[int(rng.integers(len(films)))]
    seen = [i for i, box in enumerate(film.boxes_xyxy) if box is not None]
    first, later = rng.choice(seen, 2, replace=False)
    template_box, box = film.boxes_xyxy[first], film.boxes_xyxy[later]
    assert template_box is not None and box is not None
    template = _region(template_box, _TEMPLATE_FACTOR).crop(film.images[first], TEMPLATE_SIDE)
    image = film.images[later]
    gone = rng.random() < _GONE
    if gone:
        image = films[int(rng.integers(len(films)))].images[0]
    region = _region(_moved(box, rng), _SEARCH_FACTOR)
    search = region.crop(image, SEARCH_SIDE)
    corners = region.to_crop(np.reshape(box, (2, 2)), SEARCH_SIDE) / SEARCH_SIDE
    return _varied(template, search, None if gone else corners, rng)


def _region(box_xyxy: Box, factor: float) -> SearchRegion:
    left, top, right, bottom = box_xyxy
    side = math.ceil(factor * math.sqrt((right - left) * (bottom - top)))
    return SearchRegion.around(((left + right) / 2, (top + bottom) / 2), side)


def _moved(box_xyxy: Box, rng: np.random.Generator) -> Box:
    """Where a tracker may still believe the object to be."""
    left, top, right, bottom = box_xyxy
    size = math.sqrt((right - left) * (bottom - top))
    far = min(abs(rng.normal(0, 0.5)), _FARTHEST) * size
    angle = rng.uniform(0, 2 * math.pi)
    x, y = (left + right) / 2 + far * math.cos(angle), (top + bottom) / 2 + far * math.sin(angle)
    width, height = ((right - left) * math.exp(rng.normal(0, _SCALE)), (bottom - top) * math.exp(rng.normal(0, _SCALE)))
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _varied(
    template: NDArray[np.uint8],
    search: NDArray[np.uint8],
    corners: NDArray[np.float64] | None,
    rng: np.random.Generator,
) -> Pair:
    """The pair mirrored, turned and with its channels exchanged; corners (2, 2) are in parts of the search region."""
    for axis in (1, 0):
        if rng.random() < 0.5:
            template, search = np.flip(template, axis), np.flip(search, axis)
            if corners is not None:
                column = 1 - axis
                corners = corners.copy()
                corners[:, column] = 1 - corners[::-1, column]
    if rng.random() < 0.5:
        template, search = template.transpose(1, 0, 2), search.transpose(1, 0, 2)
        corners = None if corners is None else corners[:, ::-1]
    order = rng.permutation(3)
    box = None
    if corners is not None:
        (x, y), (width, height) = corners.mean(axis=0).tolist(), (corners[1] - corners[0]).tolist()
        box = (x, y, width, height) if 0 <= x < 1 and 0 <= y < 1 else None
    return Pair(template[..., order], search[..., order], box)


def loss(network: Any, pairs: list[Pair]) -> Any:
    """How far the network is from right on some pairs.

    Args:
        network: The network.
        pairs: One or more.

    Returns:
        A tensor of one number: the focal loss of the scores, and for cells at objects' centres the IoU's and L1 loss.
    """
    import torch

    template, search = (to_pixels(np.stack([getattr(pair, name) for pair in pairs])) for name in ("template", "search"))
    score, size, offset = network(template, search)
    shown = [i for i, pair in enumerate(pairs) if pair.box_cxcywh is not None]
    truth = torch.tensor([pairs[i].box_cxcywh for i in shown], dtype=torch.float32).reshape(-1, 4)
    cells = torch.arange(CELLS) + 0.5
    wanted = torch.zeros(len(pairs), CELLS, CELLS)
    near = (cells[None, :] - truth[:, :1] * CELLS)[:, None, :], (cells[None, :] - truth[:, 1:2] * CELLS)[:, :, None]
    spread = (truth[:, 2:].prod(dim=1).sqrt() * CELLS / 6).clamp(min=0.6)[:, None, None]
    heat = torch.exp(-(near[0] ** 2 + near[1] ** 2) / (2 * spread**2))
    centers = (near[0].abs() <= 0.5) & (near[1].abs() <= 0.5)
    wanted[shown] = torch.where(centers, torch.ones(()), heat)
    total = _focal(score[:, 0], wanted) / max(len(shown), 1)
    if not shown:
        return total
    which, row, column = torch.nonzero((near[0].abs() <= 1.2) & (near[1].abs() <= 1.2), as_tuple=True)
    size, offset = size[shown][which, :, row, column], offset[shown][which, :, row, column]
    middle = (torch.stack((column, row), dim=1) + offset) / CELLS
    return total + _box_loss(torch.cat((middle, size), dim=1), truth[which])


def to_pixels(images: NDArray[np.uint8]) -> Any:
    """Pictures as the network takes them.

    Args:
        images: (B, H, W, 3) uint8.

    Returns:
        (B, 3, H, W) float32, normalised.
    """
    import torch

    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float().div(255)
    return (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def _focal(score: Any, wanted: Any) -> Any:
    """CornerNet's loss of a map of centres: cells near a centre count little as wrong."""
    import torch

    score = score.clamp(1e-4, 1 - 1e-4)
    at = wanted == 1
    right = torch.log(score) * (1 - score) ** 2
    wrong = torch.log(1 - score) * score**2 * (1 - wanted) ** 4
    return -torch.where(at, right, wrong).sum()


def _box_loss(boxes: Any, truth: Any) -> Any:
    """One minus the generalised IoU, and the error of the corners in parts of the object's size; (N, 4) cx, cy, w, h."""
    import torch

    corners, true_corners = (
        torch.cat((b[:, :2] - b[:, 2:] / 2, b[:, :2] + b[:, 2:] / 2), dim=1) for b in (boxes, truth)
    )
    shared = (
        (torch.minimum(corners[:, 2:], true_corners[:, 2:]) - torch.maximum(corners[:, :2], true_corners[:, :2]))
        .clamp(min=0)
        .prod(dim=1)
    )
    union = boxes[:, 2:].prod(dim=1) + truth[:, 2:].prod(dim=1) - shared
    around = (
        torch.maximum(corners[:, 2:], true_corners[:, 2:]) - torch.minimum(corners[:, :2], true_corners[:, :2])
    ).prod(dim=1)
    overlap = shared / union - (around - union) / around
    scale = truth[:, 2:].repeat(1, 2)
    return 2 * (1 - overlap).mean() + 2 * ((corners - true_corners).abs() / scale).mean()
