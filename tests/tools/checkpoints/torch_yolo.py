"""Blocks of YOLOv5 and YOLOv7 in torch, written for the tests: the reference for what is converted without torch.

`registered` makes them known as models.common and models.yolo while checkpoints are saved, the names under which the
upstream packages pickle theirs.
"""

from __future__ import annotations

import copy
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

CELL = 8  # stride of the networks here


class Conv(nn.Module):
    def __init__(self, inputs: int, outputs: int, size: int = 1, stride: int = 1, groups: int = 1, act: Any = None):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)
        self.act = nn.SiLU() if act is None else act

    def forward(self, x: Any) -> Any:
        return self.act(self.bn(self.conv(x)))


class DWConv(Conv):
    def __init__(self, channels: int, stride: int = 1):
        super().__init__(channels, channels, 3, stride, groups=channels)


class Bottleneck(nn.Module):
    def __init__(self, channels: int, add: bool = True):
        super().__init__()
        self.cv1, self.cv2, self.add = Conv(channels, channels), Conv(channels, channels, 3), add

    def forward(self, x: Any) -> Any:
        y = self.cv2(self.cv1(x))
        return y + x if self.add else y


class CrossConv(Bottleneck):
    def __init__(self, channels: int):
        super().__init__(channels)
        for name, size in (("cv1", (1, 3)), ("cv2", (3, 1))):
            part = Conv(channels, channels)
            part.conv = nn.Conv2d(channels, channels, size, 1, (size[0] // 2, size[1] // 2), bias=False)
            setattr(self, name, part)


class Res(Bottleneck):
    def __init__(self, channels: int):
        super().__init__(channels)
        self.cv3 = Conv(channels, channels)

    def forward(self, x: Any) -> Any:
        return x + self.cv3(self.cv2(self.cv1(x)))


class C3(nn.Module):
    def __init__(self, channels: int, inner: nn.Module | None = None):
        super().__init__()
        half = channels // 2
        self.cv1, self.cv2, self.cv3 = Conv(channels, half), Conv(channels, half), Conv(channels, channels)
        self.m = inner or nn.Sequential(Bottleneck(half), Bottleneck(half, add=False))

    def forward(self, x: Any) -> Any:
        return self.cv3(torch.cat((self.m(self.cv1(x)), self.cv2(x)), 1))


class C3x(C3):
    def __init__(self, channels: int):
        super().__init__(channels, nn.Sequential(CrossConv(channels // 2)))


class C3TR(C3):
    def __init__(self, channels: int):
        super().__init__(channels, TransformerBlock(channels // 2))


class C3SPP(C3):
    def __init__(self, channels: int):
        super().__init__(channels, SPP(channels // 2))


class C3Ghost(C3):
    def __init__(self, channels: int):
        super().__init__(channels, nn.Sequential(GhostBottleneck(channels // 2)))


class BottleneckCSPA(C3):
    pass


class BottleneckCSPB(C3):
    def __init__(self, channels: int):
        super().__init__(channels)
        self.cv2 = Conv(channels // 2, channels // 2)

    def forward(self, x: Any) -> Any:
        stem = self.cv1(x)
        return self.cv3(torch.cat((self.m(stem), self.cv2(stem)), 1))


class ResCSPC(C3):
    def __init__(self, channels: int):
        super().__init__(channels, nn.Sequential(Res(channels // 2)))
        self.cv3, self.cv4 = Conv(channels // 2, channels // 2), Conv(channels, channels)

    def forward(self, x: Any) -> Any:
        return self.cv4(torch.cat((self.cv3(self.m(self.cv1(x))), self.cv2(x)), 1))


class BottleneckCSP(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        half = channels // 2
        self.cv1, self.cv4 = Conv(channels, half), Conv(channels, channels)
        self.cv2, self.cv3 = nn.Conv2d(channels, half, 1, bias=False), nn.Conv2d(half, half, 1, bias=False)
        self.bn, self.act = nn.BatchNorm2d(channels, eps=1e-3), nn.LeakyReLU(0.1)
        self.m = nn.Sequential(Bottleneck(half))

    def forward(self, x: Any) -> Any:
        ways = torch.cat((self.cv3(self.m(self.cv1(x))), self.cv2(x)), 1)
        return self.cv4(self.act(self.bn(ways)))


class SPP(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        half = channels // 2
        self.cv1, self.cv2 = Conv(channels, half), Conv(half * 4, channels)
        self.m = nn.ModuleList(nn.MaxPool2d(size, 1, size // 2) for size in (5, 9, 13))

    def forward(self, x: Any) -> Any:
        x = self.cv1(x)
        return self.cv2(torch.cat([x, *(pool(x) for pool in self.m)], 1))


class SPPF(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        half = channels // 2
        self.cv1, self.cv2, self.m = Conv(channels, half), Conv(half * 4, channels), nn.MaxPool2d(5, 1, 2)

    def forward(self, x: Any) -> Any:
        found = [self.cv1(x)]
        for _ in range(3):
            found.append(self.m(found[-1]))
        return self.cv2(torch.cat(found, 1))


class SPPCSPC(SPP):
    def __init__(self, channels: int):
        super().__init__(channels)
        half = channels // 2
        self.cv2, self.cv3, self.cv4 = Conv(channels, half), Conv(half, half, 3), Conv(half, half)
        self.cv5, self.cv6, self.cv7 = Conv(half * 4, half), Conv(half, half, 3), Conv(channels, channels)

    def forward(self, x: Any) -> Any:
        stem = self.cv4(self.cv3(self.cv1(x)))
        pooled = self.cv6(self.cv5(torch.cat([stem, *(pool(stem) for pool in self.m)], 1)))
        return self.cv7(torch.cat((pooled, self.cv2(x)), 1))


def quarters(x: Any) -> Any:
    return torch.cat([x[..., top::2, left::2] for left in (0, 1) for top in (0, 1)], 1)


class Focus(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv = Conv(channels * 4, channels, 3)

    def forward(self, x: Any) -> Any:
        return self.conv(quarters(x))


class ReOrg(nn.Module):
    def forward(self, x: Any) -> Any:
        return quarters(x)


class GhostConv(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        half = channels // 2
        self.cv1, self.cv2 = Conv(channels, half), Conv(half, half, 5, groups=half)

    def forward(self, x: Any) -> Any:
        first = self.cv1(x)
        return torch.cat((first, self.cv2(first)), 1)


class GhostBottleneck(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Sequential(GhostConv(channels), nn.Identity(), GhostConv(channels))
        self.shortcut = nn.Identity()

    def forward(self, x: Any) -> Any:
        return self.conv(x) + self.shortcut(x)


class TransformerLayer(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        for name in ("q", "k", "v", "fc1", "fc2"):
            setattr(self, name, nn.Linear(channels, channels, bias=False))
        self.ma = nn.MultiheadAttention(channels, 4)

    def forward(self, x: Any) -> Any:
        x = self.ma(self.q(x), self.k(x), self.v(x))[0] + x
        return self.fc2(self.fc1(x)) + x


class TransformerBlock(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv = None
        self.linear, self.tr = nn.Linear(channels, channels), nn.Sequential(TransformerLayer(channels))

    def forward(self, x: Any) -> Any:
        tokens = x.flatten(2).permute(2, 0, 1)
        tokens = self.tr(tokens + self.linear(tokens))
        return tokens.permute(1, 2, 0).reshape(x.shape)


class RepConv(nn.Module):
    def __init__(self, channels: int, groups: int = 1):
        super().__init__()
        self.rbr_identity = nn.BatchNorm2d(channels)
        self.rbr_dense, self.rbr_1x1 = (
            nn.Sequential(
                nn.Conv2d(channels, channels, size, 1, size // 2, groups=groups, bias=False), nn.BatchNorm2d(channels)
            )
            for size in (3, 1)
        )
        self.act = nn.SiLU()

    def forward(self, x: Any) -> Any:
        return self.act(self.rbr_dense(x) + self.rbr_1x1(x) + self.rbr_identity(x))


class MP(nn.Module):
    def __init__(self, _: int = 0):
        super().__init__()
        self.m = nn.MaxPool2d(2, 2)

    def forward(self, x: Any) -> Any:
        return self.m(x)


class SP(MP):
    def __init__(self, _: int = 0):
        super().__init__()
        self.m = nn.MaxPool2d(5, 1, 2)


class DownC(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        half = channels // 2
        self.cv1, self.cv2, self.cv3 = Conv(channels, channels), Conv(channels, half, 3, 2), Conv(channels, half)
        self.mp = nn.MaxPool2d(2, 2)

    def forward(self, x: Any) -> Any:
        return torch.cat((self.cv2(self.cv1(x)), self.cv3(self.mp(x))), 1)


class Foldcut(nn.Module):
    def forward(self, x: Any) -> Any:
        first, second = x.chunk(2, 1)
        return first + second


class Contract(nn.Module):
    def __init__(self, _: int = 0):
        super().__init__()
        self.gain = 2

    def forward(self, x: Any) -> Any:
        b, c, h, w = x.shape
        return x.view(b, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 1, 2, 4).reshape(b, 4 * c, h // 2, w // 2)


class Expand(Contract):
    def forward(self, x: Any) -> Any:
        b, c, h, w = x.shape
        return x.view(b, 2, 2, c // 4, h, w).permute(0, 3, 4, 1, 5, 2).reshape(b, c // 4, 2 * h, 2 * w)


class Concat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.d = 1

    def forward(self, x: Any) -> Any:
        return torch.cat(x, self.d)


class Chuncat(Concat):
    def forward(self, x: Any) -> Any:
        halves = [value.chunk(2, 1) for value in x]
        return torch.cat([first for first, _ in halves] + [second for _, second in halves], 1)


class Shortcut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.d = 0

    def forward(self, x: Any) -> Any:
        return x[0] + x[1]


class ImplicitA(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.implicit = nn.Parameter(torch.randn(1, channels, 1, 1) * 0.3)

    def forward(self, x: Any) -> Any:
        return self.implicit + x


class ImplicitM(ImplicitA):
    def forward(self, x: Any) -> Any:
        return (1 + self.implicit) * x if self.training else self.implicit * x


class Proto(nn.Module):
    def __init__(self, channels: int, count: int):
        super().__init__()
        self.cv1, self.cv2, self.cv3 = Conv(channels, 12, 3), Conv(12, 12, 3), Conv(12, count)
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")

    def forward(self, x: Any) -> Any:
        return self.cv3(self.cv2(self.upsample(self.cv1(x))))


class Detect(nn.Module):
    def __init__(self, classes: int, channels: list[int], strides: list[int], extra: int = 0):
        super().__init__()
        self.nc, self.no, self.nl, self.na = classes, 5 + classes + extra, len(channels), 3
        anchors = torch.tensor([[[10, 13], [16, 30], [33, 23]]]).float().repeat(self.nl, 1, 1)
        self.stride = torch.tensor(strides).float()
        self.register_buffer("anchors", anchors / self.stride[:, None, None])
        self.m = nn.ModuleList(nn.Conv2d(count, self.no * 3, 1) for count in channels)
        self.extra = extra

    def maps(self, x: list[Any]) -> list[Any]:
        return [conv(value) for conv, value in zip(self.m, x, strict=False)]

    def forward(self, x: list[Any]) -> Any:
        rows = []
        for level, value in enumerate(self.maps(x)):
            batch, _, height, width = value.shape
            value = value.view(batch, 3, self.no, height, width).permute(0, 1, 3, 4, 2)
            y, x_ = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
            cell, pixel = torch.stack((x_, y), -1), float(self.stride[level])
            centers = (value[..., :2].sigmoid() * 2 - 0.5 + cell) * pixel
            sizes = (value[..., 2:4].sigmoid() * 2) ** 2 * (self.anchors[level] * pixel).view(1, 3, 1, 1, 2)
            end = self.no - self.extra
            parts = (centers, sizes, value[..., 4:end].sigmoid(), value[..., end:])
            rows.append(torch.cat(parts, -1).reshape(batch, -1, self.no))
        return torch.cat(rows, 1)


class Segment(Detect):
    def __init__(self, classes: int, channels: list[int], strides: list[int]):
        super().__init__(classes, channels, strides, extra=4)
        self.nm, self.proto = 4, Proto(channels[0], 4)
        self.detect = Detect.forward  # upstream's as well: saved as getattr(Detect, "forward")

    def forward(self, x: list[Any]) -> Any:
        prototypes = self.proto(x[0])
        return self.detect(self, x), prototypes


class IDetect(Detect):
    def __init__(self, classes: int, channels: list[int], strides: list[int]):
        super().__init__(classes, channels, strides)
        self.register_buffer("anchor_grid", (self.anchors * self.stride[:, None, None]).view(self.nl, 1, 3, 1, 1, 2))
        self.ia = nn.ModuleList(ImplicitA(count) for count in channels)
        self.im = nn.ModuleList(ImplicitM(self.no * 3) for _ in channels)

    def maps(self, x: list[Any]) -> list[Any]:
        return [im(conv(ia(value))) for im, conv, ia, value in zip(self.im, self.m, self.ia, x, strict=False)]


class IAuxDetect(IDetect):
    def __init__(self, classes: int, channels: list[int], strides: list[int]):
        super().__init__(classes, channels[: len(strides)], strides)
        self.m2 = nn.ModuleList(nn.Conv2d(count, self.no * 3, 1) for count in channels[len(strides) :])


class Classify(nn.Module):
    def __init__(self, classes: int, channels: int):
        super().__init__()
        self.conv, self.pool, self.drop = Conv(channels, 20), nn.AdaptiveAvgPool2d(1), nn.Dropout(0.2)
        self.linear = nn.Linear(20, classes)

    def forward(self, x: Any) -> Any:
        x = torch.cat(x, 1) if isinstance(x, list) else x
        return self.linear(self.drop(self.pool(self.conv(x)).flatten(1)))


class Model(nn.Module):
    def __init__(self, layers: list[tuple[Any, nn.Module]], names: Any):
        super().__init__()
        for index, (source, layer) in enumerate(layers):
            layer.f, layer.i, layer.type = source, index, type(layer).__name__
        self.model = nn.Sequential(*(layer for _, layer in layers))
        self.names, self.save, self.yaml = names, [], {"nc": len(names)}

    def forward(self, x: Any) -> Any:
        found: list[Any] = []
        for layer in self.model:
            if layer.f != -1:
                x = found[layer.f] if isinstance(layer.f, int) else [x if j == -1 else found[j] for j in layer.f]
            x = layer(x)
            found.append(x)
        return x


class DetectionModel(Model):
    pass


class SegmentationModel(Model):
    pass


class ClassificationModel(Model):
    pass


_HEADS = (Detect, Segment, IDetect, IAuxDetect, Model, DetectionModel, SegmentationModel, ClassificationModel)


@contextmanager
def registered(**renamed: str) -> Iterator[None]:
    """Makes the classes known under the names of the upstream packages; renamed: other modules for some of them."""
    classes = [value for value in globals().values() if isinstance(value, type) and value.__module__ == __name__]
    before, modules = {}, {}
    for cls in classes:
        place = renamed.get(cls.__name__, "models.yolo" if cls in _HEADS else "models.common")
        modules.setdefault(place, types.ModuleType(place)).__dict__[cls.__name__] = cls
        cls.__module__ = place
    for name in [part for place in modules for part in ("models", place)]:
        before[name] = sys.modules.get(name)
        sys.modules[name] = modules.get(name) or types.ModuleType(name)
    try:
        yield
    finally:
        for cls in classes:
            cls.__module__ = __name__
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def spread(model: nn.Module, seed: int = 0) -> nn.Module:
    """Random weights whose outputs are spread out, rounded to 16 bits as trainers save them."""
    torch.manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.3, 0.3)
            nn.init.uniform_(module.running_var, 0.3, 1.5)
            nn.init.uniform_(module.weight, 0.7, 1.5)
            nn.init.uniform_(module.bias, -0.4, 0.4)
        elif isinstance(module, Detect):
            for conv in module.m:
                nn.init.normal_(conv.weight, 0, 0.6)
                nn.init.normal_(conv.bias, 0, 1)
        elif isinstance(module, ImplicitM):
            nn.init.uniform_(module.implicit, 0.7, 1.3)
        elif isinstance(module, Classify):
            nn.init.normal_(module.linear.weight, 0, 2)
    return model.half().float().eval()


def save(model: nn.Module, path: Path, legacy: bool = False, **more: Any) -> Path:
    """Saves a checkpoint as the trainers do: the network twice, with its class, in half precision."""
    half = copy.deepcopy(model).half()
    checkpoint = {
        "epoch": 3,
        "best_fitness": np.array([0.3]),
        "model": half,
        "ema": copy.deepcopy(half),
        "updates": 9,
        "optimizer": None,
        "opt": {"imgsz": 64, "save_dir": Path("runs/train")},
        "git": {"remote": None},
        "date": "2026-01-01T00:00:00",
    }
    with registered():
        torch.save(checkpoint | more, path, _use_new_zipfile_serialization=not legacy)
    return path


def answer(model: nn.Module, image: Any) -> list[Any]:
    """The outputs of the network as loaded again, as numpy arrays."""
    with torch.inference_mode():
        found = model(torch.from_numpy(image))
    return [value.numpy() for value in (found if isinstance(found, tuple) else (found,))]
