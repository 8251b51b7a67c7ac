"""TransT once more, as plain as possible, to compare with: the network from its parameters' names, and the tracker's loop.

Also a small random checkpoint.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from common.networks.transt.network import Sizes, TransT

State = dict[str, torch.Tensor]
TINY = Sizes(stem=4, blocks=(2, 1, 2), hidden=32, feedforward=24, layers=2)
MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def tiny_state(seed: int = 0) -> State:
    """Random parameters of a network whose answers differ from place to place, as those of a trained one do."""
    torch.manual_seed(seed)
    network = TransT(TINY)
    noise = [torch.randn(4, 3, cells, cells) for cells in (16, 32)]
    templates, searches = (functional.interpolate(each, scale_factor=8, mode="bilinear") for each in noise)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0  # the statistics are those of the noise
                module.weight.uniform_(0.7, 1.3)
                module.bias.normal_(0, 0.2)
        network.train()
        centre(network.input_proj, network.embed(searches), dim=(0, 2, 3), spread=1.0)
        network.eval()

        def answers() -> tuple[torch.Tensor, torch.Tensor]:
            logits, boxes = network(network.embed(templates), network.embed(searches))
            return logits, boxes.logit()

        centre(network.class_embed.layers[2], answers()[0], dim=(0, 1), spread=1.0)
        centre(network.bbox_embed.layers[2], answers()[1], dim=(0, 1), spread=0.4)
        network.bbox_embed.layers[2].bias[2:] -= 1.1  # boxes of a quarter of the region, as the object's
    return {name: value.clone() for name, value in network.state_dict().items()}


def centre(layer: torch.nn.Module, outputs: torch.Tensor, dim: tuple[int, ...], spread: float) -> None:
    """Changes a layer so that its outputs are 0 in the mean and of some spread."""
    change = spread / outputs.std(dim=dim)
    layer.weight *= change.reshape(-1, *[1] * (layer.weight.ndim - 1))
    layer.bias.copy_((layer.bias - outputs.mean(dim=dim)) * change)


def save_tiny(path: Path, seed: int = 0) -> Path:
    torch.save(tiny_state(seed), path)
    return path


def backbone(state: State, x: torch.Tensor) -> torch.Tensor:
    def convolved(x: torch.Tensor, conv: str, norm: str, **settings: int) -> torch.Tensor:
        x = functional.conv2d(x, state[f"backbone.0.body.{conv}.weight"], **settings)
        mean, variance, weight, bias = (
            state[f"backbone.0.body.{norm}.{name}"][:, None, None]
            for name in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (variance + 1e-5).sqrt() * weight + bias

    x = functional.max_pool2d(convolved(x, "conv1", "bn1", stride=2, padding=3).relu(), 3, 2, 1)
    for stage, stride, dilation in (("layer1", 1, 1), ("layer2", 2, 1), ("layer3", 1, 2)):
        block = 0
        while f"backbone.0.body.{stage}.{block}.conv1.weight" in state:
            at, first = f"{stage}.{block}", block == 0
            # Only the first block of a stage changes the resolution, or looks farther.
            far = dilation if first else 1
            y = convolved(x, f"{at}.conv1", f"{at}.bn1").relu()
            y = convolved(
                y, f"{at}.conv2", f"{at}.bn2", stride=stride if first else 1, padding=far, dilation=far
            ).relu()
            y = convolved(y, f"{at}.conv3", f"{at}.bn3")
            x = convolved(x, f"{at}.downsample.0", f"{at}.downsample.1", stride=stride) if first else x
            x, block = (x + y).relu(), block + 1
    return functional.conv2d(x, state["input_proj.weight"], state["input_proj.bias"])


def attention(state: State, name: str, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """softmax(q k / sqrt(d)) v in each of 8 heads, of (n, C) and (m, C)."""
    projected = [
        each @ weight.T + bias
        for each, weight, bias in zip(
            (query, key, value),
            state[f"{name}.in_proj_weight"].chunk(3),
            state[f"{name}.in_proj_bias"].chunk(3),
            strict=True,
        )
    ]
    heads = []
    for q, k, v in zip(*(each.chunk(8, dim=1) for each in projected), strict=True):
        heads.append(torch.softmax(q @ k.T / math.sqrt(q.shape[1]), dim=1) @ v)
    return torch.cat(heads, dim=1) @ state[f"{name}.out_proj.weight"].T + state[f"{name}.out_proj.bias"]


def normed(state: State, name: str, x: torch.Tensor) -> torch.Tensor:
    x = (x - x.mean(dim=1, keepdim=True)) / (x.var(dim=1, keepdim=True, unbiased=False) + 1e-5).sqrt()
    return x * state[f"{name}.weight"] + state[f"{name}.bias"]


def linear(state: State, name: str, x: torch.Tensor) -> torch.Tensor:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def places(height: int, width: int, channels: int) -> torch.Tensor:
    """(H * W, C), one value after the other."""
    encoded = torch.zeros(height, width, channels, dtype=torch.float64)
    half = channels // 2
    for channel in range(channels):
        wave = 10000 ** (2 * (channel % half // 2) / half)
        turn = math.sin if channel % 2 == 0 else math.cos
        for index in range(height if channel < half else width):
            angle = 2 * math.pi * (index + 1) / (height if channel < half else width) / wave
            (encoded[index] if channel < half else encoded[:, index])[..., channel] = turn(angle)
    return encoded.reshape(height * width, channels).float()


def fused(state: State, template: torch.Tensor, search: torch.Tensor) -> torch.Tensor:
    """(n, C): what the heads see of pictures (1, 3, H, W)."""
    maps = [backbone(state, picture) for picture in (template, search)]
    positions = [places(each.shape[2], each.shape[3], each.shape[1]).to(each.dtype) for each in maps]
    sides = [each[0].flatten(1).T for each in maps]
    layer = 0
    while f"featurefusion_network.encoder.layers.{layer}.linear11.weight" in state:
        at = f"featurefusion_network.encoder.layers.{layer}"
        for i in (0, 1):
            keys = sides[i] + positions[i]
            seen = attention(state, f"{at}.self_attn{i + 1}", keys, keys, sides[i])
            sides[i] = normed(state, f"{at}.norm{i + 1}1", sides[i] + seen)
        before = list(sides)
        for i in (0, 1):
            own, other = before[i], before[1 - i]
            seen = attention(state, f"{at}.multihead_attn{i + 1}", own + positions[i], other + positions[1 - i], other)
            own = normed(state, f"{at}.norm{i + 1}2", own + seen)
            inner = linear(state, f"{at}.linear{i + 1}1", own).relu()
            sides[i] = normed(state, f"{at}.norm{i + 1}3", own + linear(state, f"{at}.linear{i + 1}2", inner))
        layer += 1
    at = "featurefusion_network.decoder.layers.0"
    seen = attention(state, f"{at}.multihead_attn", sides[1] + positions[1], sides[0] + positions[0], sides[0])
    vectors = normed(state, f"{at}.norm1", sides[1] + seen)
    inner = linear(state, f"{at}.linear1", vectors).relu()
    vectors = normed(state, f"{at}.norm2", vectors + linear(state, f"{at}.linear2", inner))
    return normed(state, "featurefusion_network.decoder.norm", vectors)


def perceptron(state: State, head: str, vectors: torch.Tensor) -> torch.Tensor:
    x = linear(state, f"{head}.layers.0", vectors).relu()
    return linear(state, f"{head}.layers.2", linear(state, f"{head}.layers.1", x).relu())


def answer(state: State, template: torch.Tensor, search: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(n, 2) logits and (n, 4) boxes for pictures (1, 3, H, W)."""
    vectors = fused(state, template, search)
    return perceptron(state, "class_embed", vectors), perceptron(state, "bbox_embed", vectors).sigmoid()


def crop(frame: NDArray[np.uint8], center_xy: tuple[float, float], side: int, size: int, color: Any) -> torch.Tensor:
    """The square around a point as the network's input (1, 3, size, size), pixel by pixel."""
    left, top = (math.floor(value - side / 2) for value in center_xy)
    square = np.empty((side, side, 3), np.uint8)
    square[:] = np.asarray(color).astype(np.uint8)
    for row in range(side):
        for column in range(side):
            if 0 <= top + row < frame.shape[0] and 0 <= left + column < frame.shape[1]:
                square[row, column] = frame[top + row, left + column]
    picture = cv2.resize(square, (size, size)) / 255
    return torch.from_numpy(((picture - MEAN) / DEVIATION).transpose(2, 0, 1)[None]).float()


def track(
    state: State, frames: list[NDArray[np.uint8]], box_xyxy: tuple[float, ...], window: float = 0.49
) -> list[Any]:
    """The box on each frame after the first, without a threshold."""
    left, top, right, bottom = box_xyxy
    x, y, w, h = (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
    color = frames[0].reshape(-1, 3).mean(axis=0)

    def side(context: float) -> int:
        more = context * (w + h) / 2
        return math.ceil(math.sqrt((w + more) * (h + more)))

    template = crop(frames[0], (x, y), side(1), 128, color)
    hann = [0.5 - 0.5 * math.cos(2 * math.pi * i / 31) for i in range(32)]
    boxes = []
    for frame in frames[1:]:
        s = side(3)
        logits, found = answer(state, template, crop(frame, (x, y), s, 256, color))
        scores = torch.softmax(logits.double(), dim=1)[:, 0]
        weighted = [
            (1 - window) * float(score) + window * hann[i // 32] * hann[i % 32] for i, score in enumerate(scores)
        ]
        cx, cy, bw, bh = found[int(np.argmax(weighted))].double().tolist()
        height, width = frame.shape[:2]
        x, y = min(max(x - s / 2 + cx * s, 0), width), min(max(y - s / 2 + cy * s, 0), height)
        w, h = max(min(bw * s, width), 10), max(min(bh * s, height), 10)
        boxes.append((x - w / 2, y - h / 2, x + w / 2, y + h / 2))
    return boxes
