"""Trains a tiny RT-DETR on drawn pictures.

The network and its loss are those of transformers (RTDetrForObjectDetection: Hungarian matching, varifocal loss, L1 and
generalised IoU, in each decoder layer and for denoising queries); its size, the pictures and the loop are our own. Nothing
comes from published weights.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from training.optimization import fit
from training.shapes import draw

SIDE = 192  # of the square input in pixels; pictures are stretched to it, as RT-DETR's image processor does
BATCH = 16
PICTURES = 3000
# (side, steps): smaller pictures first, since they are quicker.
STAGES = ((128, 2800), (SIDE, 2000))
RATE = 1e-3
# Pictures for training have this seed and the following ones, so that all below are new to the network.
FIRST_SEED = 20_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """A picture and what is drawn on it."""

    image: NDArray[np.uint8]
    """(SIDE, SIDE, 3) RGB."""
    classes: NDArray[np.int64]
    """(N,) indices into `draw.SHAPES`."""
    boxes_cxcywh: NDArray[np.float32]
    """(N, 4) centre and size, in parts of the picture."""


def make_network(seed: int = 0) -> Any:
    """An RT-DETR of half a million random weights: feature maps of two sizes, two decoder layers, thirty queries.

    Args:
        seed: Of the weights.

    Returns:
        An RTDetrForObjectDetection in training mode.
    """
    import torch
    from transformers import RTDetrConfig, RTDetrForObjectDetection, RTDetrResNetConfig

    torch.manual_seed(seed)
    width = 56
    backbone = RTDetrResNetConfig(
        embedding_size=24, hidden_sizes=[24, 48, 64], depths=[1, 1, 1], layer_type="basic", out_indices=[2, 3]
    )
    config = RTDetrConfig(
        backbone_config=backbone,
        freeze_backbone_batch_norms=False,
        encoder_in_channels=[48, 64],
        feat_strides=[8, 16],
        num_feature_levels=2,
        decoder_in_channels=[width, width],
        encode_proj_layers=[1],
        encoder_hidden_dim=width,
        encoder_ffn_dim=2 * width,
        encoder_attention_heads=4,
        hidden_expansion=0.5,
        d_model=width,
        decoder_ffn_dim=2 * width,
        decoder_attention_heads=4,
        decoder_layers=2,
        num_queries=30,
        num_denoising=20,
        id2label=dict(enumerate(draw.SHAPES)),
        label2id={name: i for i, name in enumerate(draw.SHAPES)},
    )
    return RTDetrForObjectDetection(config).train()


def train(
    seed: int = 0,
    *,
    pictures: int = PICTURES,
    stages: tuple[tuple[int, int], ...] = STAGES,
    threads: int = 1,
    say: Callable[[str], None] = print,
) -> Any:
    """Trains the network.

    Args:
        seed: Of the weights and of the order of the pictures.
        pictures: How many are drawn; they are mirrored, turned and recoloured at each use.
        stages: (side in pixels, steps) of each stage.
        threads: CPU threads to use.
        say: Called with each line of progress.

    Returns:
        The trained RTDetrForObjectDetection in inference mode.
    """
    import torch

    torch.set_num_threads(threads)
    samples = draw_samples(pictures, threads)
    say(f"{len(samples)} pictures drawn")
    network = make_network(seed)
    batches = _batches(samples, stages, np.random.default_rng(seed))

    def loss_of_step(_: int) -> Any:
        pixels, labels = next(batches)
        return network(pixel_values=pixels, labels=labels).loss

    return fit(network, sum(steps for _, steps in stages), RATE, loss_of_step, say)


def draw_samples(count: int, processes: int = 1) -> list[Sample]:
    """Draws the pictures for a training.

    Args:
        count: How many.
        processes: In how many processes.
    """
    if processes == 1:
        return [sample(i) for i in range(count)]
    # Not forked: a fork of a process in which a library has threads may hang.
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(sample, range(count), chunksize=32))


def sample(number: int) -> Sample:
    """A picture for the training.

    Args:
        number: Which one; 0, 1, ...
    """
    seed = FIRST_SEED + number
    rng = np.random.default_rng(seed)
    long, ratio = rng.uniform(0.8, 2.4) * SIDE, rng.uniform(0.5, 1)
    size_hw = (round(long), round(long * ratio))
    scene = draw.draw_shapes(seed, size_hw if rng.random() < 0.3 else size_hw[::-1])
    # Some programs average when they scale a picture down, others don't.
    way = cv2.INTER_AREA if rng.random() < 0.5 else cv2.INTER_LINEAR
    height, width = scene.image.shape[:2]
    corners = np.array([thing.box_xyxy for thing in scene.things]).reshape(-1, 2, 2) / (width, height)
    return Sample(
        image=np.asarray(cv2.resize(scene.image, (SIDE, SIDE), interpolation=way), np.uint8),
        classes=np.array([thing.class_id for thing in scene.things], np.int64),
        boxes_cxcywh=np.concatenate((corners.mean(axis=1), corners[:, 1] - corners[:, 0]), axis=1).astype(np.float32),
    )


def varied(sample: Sample, rng: np.random.Generator) -> Sample:
    """The same picture mirrored, turned by a quarter and with its colour channels exchanged, by chance.

    Args:
        sample: A picture.
        rng: The source of chance.
    """
    image, boxes = sample.image, sample.boxes_cxcywh.copy()
    if rng.random() < 0.5:
        image = image[:, ::-1]
        boxes[:, 0] = 1 - boxes[:, 0]
    if rng.random() < 0.5:
        image = image[::-1]
        boxes[:, 1] = 1 - boxes[:, 1]
    if rng.random() < 0.5:
        image = image.transpose(1, 0, 2)
        boxes = boxes[:, [1, 0, 3, 2]]
    return Sample(np.ascontiguousarray(image[..., rng.permutation(3)]), sample.classes, boxes)


def _batches(
    samples: list[Sample], stages: tuple[tuple[int, int], ...], rng: np.random.Generator
) -> Iterator[tuple[Any, list[dict[str, Any]]]]:
    """Pixels and labels as the network takes them: all pictures in a new order, again and again."""
    import torch
    from torch.nn import functional

    order = np.zeros(0, np.int64)
    for side, steps in stages:
        for _ in range(steps):
            if len(order) < BATCH:
                order = rng.permutation(len(samples)) if len(samples) >= BATCH else np.arange(BATCH) % len(samples)
            chosen, order = [varied(samples[i], rng) for i in order[:BATCH]], order[BATCH:]
            pixels = torch.from_numpy(np.stack([each.image for each in chosen])).permute(0, 3, 1, 2).float() / 255
            if side != SIDE:
                pixels = functional.interpolate(pixels, (side, side), mode="bilinear", antialias=True)
            labels = [
                {"class_labels": torch.from_numpy(each.classes), "boxes": torch.from_numpy(each.boxes_cxcywh)}
                for each in chosen
            ]
            yield pixels, labels
