"""The network: a ResNet-50 without its last stage, attention within and between two pictures, and two heads.

Sizes are taken from the parameters of a checkpoint, so that a smaller network of the same form works too.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.resnet import Bottleneck

STRIDE = 8  # pixels of a picture for each vector of its feature map
_HEADS = 8  # of each attention; no parameter's shape tells
_HEAD_LAYERS = 3  # of the perceptrons that classify and locate
_STAGES = ("layer1", "layer2", "layer3")
_BODY = "backbone.0.body"
_FUSION = "featurefusion_network"


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of a network; by default those of the published one."""

    stem: int = 64
    """Channels of the first convolution."""
    blocks: tuple[int, int, int] = (3, 4, 6)
    """Bottlenecks in each stage of the backbone."""
    hidden: int = 256
    """Channels of the feature maps that attention compares; a multiple of 8, the number of its heads."""
    feedforward: int = 2048
    """Channels between the two layers of a feed-forward block."""
    layers: int = 4
    """Fusion layers."""

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Sizes:
        """The sizes of the network that has some parameters.

        Args:
            state: Tensors by name.

        Raises:
            KeyError: A parameter from which a size is taken is missing.
        """
        hidden = int(state["input_proj.weight"].shape[0])
        first, second, third = (_count(state, f"{_BODY}.{stage}.") for stage in _STAGES)
        return cls(
            stem=int(state[f"{_BODY}.conv1.weight"].shape[0]),
            blocks=(first, second, third),
            hidden=hidden,
            feedforward=int(state[f"{_FUSION}.decoder.layers.0.linear1.weight"].shape[0]),
            layers=_count(state, f"{_FUSION}.encoder.layers."),
        )


def _count(state: Mapping[str, Any], prefix: str) -> int:
    """How many modules there are in a list with that prefix."""
    numbers = {name[len(prefix) :].split(".")[0] for name in state if name.startswith(prefix)}
    return len(numbers)


class TransT(nn.Module):  # type: ignore[misc]
    """Compares pictures of an object with parts of frames.

    Args:
        sizes: Of its layers.
    """

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.backbone = nn.ModuleList([_Backbone(sizes)])
        self.input_proj = nn.Conv2d(_outputs(sizes.stem, 2), sizes.hidden, 1)
        self.featurefusion_network = _Fusion(sizes)
        self.class_embed = _Perceptron(sizes.hidden, 2)
        self.bbox_embed = _Perceptron(sizes.hidden, 4)

    def embed(self, pictures: Tensor) -> Tensor:
        """The feature maps of pictures, of objects or of parts of frames.

        Args:
            pictures: (N, 3, H, W) float, normalised as for ImageNet.

        Returns:
            (N, C, H / 8, W / 8).
        """
        return self.input_proj(self.backbone[0](pictures))

    def forward(self, templates: Tensor, searches: Tensor) -> tuple[Tensor, Tensor]:
        """Compares feature maps.

        Args:
            templates: (N, C, h, w), of objects.
            searches: (N, C, H, W), of the parts of frames in which they are searched.

        Returns:
            For each of the H * W places of a search map, row by row: (N, H * W, 2) logits of "the object is here" and of the
            opposite; and (N, H * W, 4) the object's centre x and y, its width and height, in parts of the picture.
        """
        fused = self.featurefusion_network(templates, searches)
        return self.class_embed(fused), self.bbox_embed(fused).sigmoid()


def _outputs(stem: int, stage: int) -> int:
    """Channels that a stage of the backbone gives."""
    return stem * 2**stage * int(Bottleneck.expansion)


class _Backbone(nn.Module):  # type: ignore[misc]
    """The part of the network with the names of `body`."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.body = _Body(sizes)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.body(pictures)


class _Body(nn.Module):  # type: ignore[misc]
    """ResNet-50 up to its third stage, which keeps the resolution; its first block looks twice as far instead."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.conv1 = nn.Conv2d(3, sizes.stem, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(sizes.stem)
        inputs = sizes.stem
        for index, (stage, stride, dilation) in enumerate(zip(_STAGES, (1, 2, 1), (1, 1, 2), strict=True)):
            planes = sizes.stem * 2**index
            setattr(self, stage, _stage(inputs, planes, sizes.blocks[index], stride, dilation))
            inputs = _outputs(sizes.stem, index)

    def forward(self, pictures: Tensor) -> Tensor:
        features = functional.relu(self.bn1(self.conv1(pictures)))
        features = functional.max_pool2d(features, 3, stride=2, padding=1)
        return self.layer3(self.layer2(self.layer1(features)))


def _stage(inputs: int, planes: int, blocks: int, stride: int, dilation: int) -> nn.Sequential:
    """Bottlenecks, of which the first changes the resolution, or looks farther by a dilation."""
    outputs = planes * Bottleneck.expansion
    shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs))
    first = Bottleneck(inputs, planes, stride=stride, downsample=shortcut, dilation=dilation)
    return nn.Sequential(first, *(Bottleneck(outputs, planes) for _ in range(blocks - 1)))


class _Fusion(nn.Module):  # type: ignore[misc]
    """Layers that exchange features between the two pictures, and one that gathers all into the search map."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.encoder = nn.ModuleDict({"layers": nn.ModuleList(_FusionLayer(sizes) for _ in range(sizes.layers))})
        norm = nn.LayerNorm(sizes.hidden)
        self.decoder = nn.ModuleDict({"layers": nn.ModuleList([_GatheringLayer(sizes)]), "norm": norm})

    def forward(self, templates: Tensor, searches: Tensor) -> Tensor:
        template_places, search_places = (_places(each) for each in (templates, searches))
        template, search = (each.flatten(2).transpose(1, 2) for each in (templates, searches))
        for layer in self.encoder["layers"]:
            template, search = layer(template, template_places, search, search_places)
        search = self.decoder["layers"][0](search, search_places, template, template_places)
        return self.decoder["norm"](search)


class _FusionLayer(nn.Module):  # type: ignore[misc]
    """Each picture attends to itself (ego-context augment), then to the other one (cross-feature augment).

    What ends in 1 is for the template, what ends in 2 for the search region, in the first digit of two.
    """

    def __init__(self, sizes: Sizes):
        super().__init__()
        for side in "12":
            setattr(self, f"self_attn{side}", _attention(sizes))
            setattr(self, f"multihead_attn{side}", _attention(sizes))
            setattr(self, f"linear{side}1", nn.Linear(sizes.hidden, sizes.feedforward))
            setattr(self, f"linear{side}2", nn.Linear(sizes.feedforward, sizes.hidden))
            for step in "123":
                setattr(self, f"norm{side}{step}", nn.LayerNorm(sizes.hidden))

    def forward(
        self, template: Tensor, template_places: Tensor, search: Tensor, search_places: Tensor
    ) -> tuple[Tensor, Tensor]:
        template = self._ego_context("1", template, template_places)
        search = self._ego_context("2", search, search_places)
        return (
            self._cross_features("1", template, template_places, search, search_places),
            self._cross_features("2", search, search_places, template, template_places),
        )

    def _ego_context(self, side: str, own: Tensor, places: Tensor) -> Tensor:
        attention, norm = getattr(self, f"self_attn{side}"), getattr(self, f"norm{side}1")
        return norm(own + _attend(attention, own, places, own, places))

    def _cross_features(self, side: str, own: Tensor, places: Tensor, other: Tensor, other_places: Tensor) -> Tensor:
        attention, expand, reduce, norm, last_norm = (
            getattr(self, name)
            for name in (f"multihead_attn{side}", f"linear{side}1", f"linear{side}2", f"norm{side}2", f"norm{side}3")
        )
        own = norm(own + _attend(attention, own, places, other, other_places))
        return last_norm(own + reduce(functional.relu(expand(own))))


class _GatheringLayer(nn.Module):  # type: ignore[misc]
    """A cross-feature augment alone: the search map attends to the template."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.multihead_attn = _attention(sizes)
        self.linear1 = nn.Linear(sizes.hidden, sizes.feedforward)
        self.linear2 = nn.Linear(sizes.feedforward, sizes.hidden)
        self.norm1 = nn.LayerNorm(sizes.hidden)
        self.norm2 = nn.LayerNorm(sizes.hidden)

    def forward(self, search: Tensor, search_places: Tensor, template: Tensor, template_places: Tensor) -> Tensor:
        search = self.norm1(search + _attend(self.multihead_attn, search, search_places, template, template_places))
        return self.norm2(search + self.linear2(functional.relu(self.linear1(search))))


class _Perceptron(nn.Module):  # type: ignore[misc]
    """Fully connected layers on each vector."""

    def __init__(self, hidden: int, outputs: int):
        super().__init__()
        sizes = [hidden] * _HEAD_LAYERS + [outputs]
        self.layers = nn.ModuleList(nn.Linear(one, other) for one, other in itertools.pairwise(sizes))

    def forward(self, vectors: Tensor) -> Tensor:
        *inner, last = self.layers
        for layer in inner:
            vectors = functional.relu(layer(vectors))
        return last(vectors)


def _attention(sizes: Sizes) -> nn.MultiheadAttention:
    return nn.MultiheadAttention(sizes.hidden, _HEADS, batch_first=True)


def _attend(
    attention: nn.MultiheadAttention, own: Tensor, places: Tensor, other: Tensor, other_places: Tensor
) -> Tensor:
    """What each vector of (N, n, C) gathers from others (N, m, C); places are part of the comparison, not of the result."""
    return attention(own + places, other + other_places, other, need_weights=False)[0]


def _places(features: Tensor) -> Tensor:
    """(1, H * W, C): the position encoding of feature maps (N, C, H, W)."""
    _, channels, height, width = features.shape
    return _encoded_places(height, width, channels).to(features.device, features.dtype)


@functools.lru_cache(maxsize=8)
def _encoded_places(height: int, width: int, channels: int) -> Tensor:
    """(1, H * W, C): sines and cosines of the row in the first half of the channels, of the column in the second."""
    half = channels // 2
    waves = 10000 ** (-2 * torch.div(torch.arange(half), 2, rounding_mode="floor") / half)

    def encoded(count: int) -> Tensor:
        angles = (torch.arange(1, count + 1) * (2 * math.pi / count))[:, None] * waves
        return torch.stack([angles[:, 0::2].sin(), angles[:, 1::2].cos()], dim=2).flatten(1)

    rows = encoded(height)[:, None].expand(height, width, half)
    columns = encoded(width)[None].expand(height, width, half)
    return torch.cat([rows, columns], dim=2).flatten(0, 1)[None]
