"""The blocks of YOLOv5 and YOLOv7: what each computes from its modules, as the papers and configurations describe it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tools.checkpoints.graph import Graph, Part, Value
from tools.checkpoints.layers import (
    CONTAINERS,
    CONV_TRANSPOSE,
    LAYERS,
    Convolution,
    attention,
    deconvolve,
    max_pool,
    scale_and_shift,
)
from tools.checkpoints.module import Module

_COMMON, _EXPERIMENTAL = "models.common", "models.experimental"


def conv(graph: Graph, module: Module, value: Value) -> Value:
    """A convolution with normalisation and activation.

    Args:
        graph: To write to.
        module: A Conv.
        value: Its input.
    """
    norm = module.child("bn") if module.has("bn") else None
    found = Convolution.read(module.child("conv"), norm).write(graph, value, module)
    return graph.emit(module.child("act"), found) if module.has("act") else found


def _apply(graph: Graph, module: Module, names: str, value: Value) -> Value:
    for name in names.split():
        value = graph.emit(module.child(name), value)
    return value


def _bottleneck(graph: Graph, module: Module, value: Value) -> Value:
    found = _apply(graph, module, "cv1 cv2", value)
    return graph.same("Add", found, value) if module.get("add") else found


def _residual(graph: Graph, module: Module, value: Value) -> Value:
    found = _apply(graph, module, "cv1 cv2 cv3", value)
    return graph.same("Add", found, value) if module.get("add") else found


def _csp_v5(graph: Graph, module: Module, value: Value) -> Value:
    ways = graph.concat([_apply(graph, module, "cv1 m cv3", value), _apply(graph, module, "cv2", value)])
    return _apply(graph, module, "bn act cv4", ways)


def _c3(graph: Graph, module: Module, value: Value) -> Value:
    ways = graph.concat([_apply(graph, module, "cv1 m", value), _apply(graph, module, "cv2", value)])
    return _apply(graph, module, "cv3", ways)


def _csp_b(graph: Graph, module: Module, value: Value) -> Value:
    stem = _apply(graph, module, "cv1", value)
    ways = graph.concat([_apply(graph, module, "m", stem), _apply(graph, module, "cv2", stem)])
    return _apply(graph, module, "cv3", ways)


def _csp_c(graph: Graph, module: Module, value: Value) -> Value:
    ways = graph.concat([_apply(graph, module, "cv1 m cv3", value), _apply(graph, module, "cv2", value)])
    return _apply(graph, module, "cv4", ways)


def _pools(graph: Graph, module: Module, value: Value) -> Value:
    return graph.concat([value, *(graph.emit(pool, value) for pool in module.child("m").children())])


def _spp(graph: Graph, module: Module, value: Value) -> Value:
    return _apply(graph, module, "cv2", _pools(graph, module, _apply(graph, module, "cv1", value)))


def _sppf(graph: Graph, module: Module, value: Value) -> Value:
    found = [_apply(graph, module, "cv1", value)]
    for _ in range(3):
        found.append(max_pool(graph, module.child("m"), found[-1]))
    return _apply(graph, module, "cv2", graph.concat(found))


def _sppcspc(graph: Graph, module: Module, value: Value) -> Value:
    pooled = _pools(graph, module, _apply(graph, module, "cv1 cv3 cv4", value))
    ways = graph.concat([_apply(graph, module, "cv5 cv6", pooled), _apply(graph, module, "cv2", value)])
    return _apply(graph, module, "cv7", ways)


def _quarters(graph: Graph, module: Module, value: Value) -> Value:
    height, width = value.size_hw
    if height % 2 or width % 2:
        raise module.error("its input has an odd size")
    found = []
    for left in (0, 1):
        columns = graph.part(value, left, width, 3, 2)
        found += [graph.part(columns, top, height, 2, 2) for top in (0, 1)]
    return graph.concat(found)


def _focus(graph: Graph, module: Module, value: Value) -> Value:
    return _apply(graph, module, "conv", _quarters(graph, module, value))


def _ghost_conv(graph: Graph, module: Module, value: Value) -> Value:
    first = _apply(graph, module, "cv1", value)
    return graph.concat([first, _apply(graph, module, "cv2", first)])


def _ghost_bottleneck(graph: Graph, module: Module, value: Value) -> Value:
    return graph.same("Add", _apply(graph, module, "conv", value), _apply(graph, module, "shortcut", value))


def _mixed_conv(graph: Graph, module: Module, value: Value) -> Value:
    found = graph.concat([graph.emit(conv, value) for conv in module.child("m").children()])
    return _apply(graph, module, "bn act", found)


def _contract(graph: Graph, module: Module, value: Value) -> Value:
    gain, (batch, channels, height, width) = module.whole("gain"), value.shape
    if not gain or height % gain or width % gain:
        raise module.error("its input can't be divided by its gain")
    parts = graph.reshape(value, (batch, channels, height // gain, gain, width // gain, gain))
    ordered = graph.transpose(parts, (0, 3, 5, 1, 2, 4))
    return graph.reshape(ordered, (batch, channels * gain**2, height // gain, width // gain))


def _expand(graph: Graph, module: Module, value: Value) -> Value:
    gain, (batch, channels, height, width) = module.whole("gain"), value.shape
    if not gain or channels % gain**2:
        raise module.error("its channels can't be divided by its gain")
    parts = graph.reshape(value, (batch, gain, gain, channels // gain**2, height, width))
    ordered = graph.transpose(parts, (0, 3, 4, 1, 5, 2))
    return graph.reshape(ordered, (batch, channels // gain**2, height * gain, width * gain))


def _transformer_block(graph: Graph, module: Module, value: Value) -> Value:
    if module.has("conv"):
        value = _apply(graph, module, "conv", value)
    batch, channels, height, width = value.shape
    tokens = graph.transpose(graph.reshape(value, (batch, channels, height * width)), (0, 2, 1))
    tokens = graph.same("Add", tokens, _apply(graph, module, "linear", tokens))
    tokens = _apply(graph, module, "tr", tokens)
    return graph.reshape(graph.transpose(tokens, (0, 2, 1)), (batch, channels, height, width))


def _transformer_layer(graph: Graph, module: Module, value: Value) -> Value:
    inputs = [_apply(graph, module, name, value) for name in ("q", "k", "v")]
    value = graph.same("Add", attention(graph, module.child("ma"), *inputs), value)
    return graph.same("Add", _apply(graph, module, "fc1 fc2", value), value)


def _rep_conv(graph: Graph, module: Module, value: Value) -> Value:
    """Its branches, a 3 x 3 and a 1 x 1 convolution and a normalisation, are one 3 x 3 convolution."""
    if module.has("rbr_reparam"):
        found = Convolution.read(module.child("rbr_reparam"))
    else:
        dense, single = (_normalised(module.child(name)) for name in ("rbr_dense", "rbr_1x1"))
        if dense.weight.shape[2:] != (3, 3) or single.weight.shape != (*dense.weight.shape[:2], 1, 1):
            raise module.error("expected convolutions of 3 x 3 and 1 x 1")
        weight, bias = dense.weight.copy(), dense.bias + single.bias
        weight[:, :, 1:2, 1:2] += single.weight
        if module.has("rbr_identity"):
            kernel, shift = _identity(module.child("rbr_identity"), weight.shape)
            weight, bias = weight + kernel, bias + shift
        found = Convolution(weight, bias, dense.stride_hw, dense.padding_hw, dense.dilation_hw, dense.groups)
    return graph.emit(module.child("act"), found.write(graph, value, module))


def _normalised(pair: Module) -> Convolution:
    parts = pair.children()
    if len(parts) != 2:
        raise pair.error("expected a convolution and its normalisation")
    return Convolution.read(*parts)


def _identity(norm: Module, shape: tuple[int, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    scale, shift = scale_and_shift(norm, shape[0])
    kernel = np.zeros(shape)
    outputs = np.arange(shape[0])
    kernel[outputs, outputs % shape[1], 1, 1] = scale
    return kernel, shift


def _pool_only(graph: Graph, module: Module, value: Value) -> Value:
    return _apply(graph, module, "m", value)


def _down(graph: Graph, module: Module, value: Value) -> Value:
    return graph.concat([_apply(graph, module, "cv1 cv2", value), _apply(graph, module, "mp cv3", value)])


def _stem(graph: Graph, module: Module, value: Value) -> Value:
    first = _apply(graph, module, "cv1", value)
    ways = graph.concat([_apply(graph, module, "cv2 cv3", first), _apply(graph, module, "pool", first)])
    return _apply(graph, module, "cv4", ways)


def _fold(graph: Graph, module: Module, value: Value) -> Value:
    return graph.same("Add", *_halves(graph, module, value))


def _halves(graph: Graph, module: Module, value: Value) -> tuple[Value, Value]:
    if value.channels % 2:
        raise module.error("its input has an odd number of channels")
    half = value.channels // 2
    return graph.part(value, 0, half, 1), graph.part(value, half, 2 * half, 1)


def join(graph: Graph, module: Module, values: Sequence[Value]) -> Value:
    """A layer of several inputs.

    Args:
        graph: To write to.
        module: A Concat, Chuncat or Shortcut.
        values: Its inputs.

    Raises:
        StartupError: It is something else, or joins another dimension than the channels.
    """
    if module.kind == f"{_COMMON}.Shortcut" and len(values) == 2 and values[0].shape == values[1].shape:
        return graph.same("Add", *values)
    if module.kind not in JOINTS or module.get("d") != 1:
        raise module.error(
            f"can't take {len(values)} inputs; export the model to ONNX with the package that trained it"
        )
    if module.kind == f"{_COMMON}.Chuncat":
        halves = [_halves(graph, module, value) for value in values]
        values = [first for first, _ in halves] + [second for _, second in halves]
    return graph.concat(values)


JOINTS = frozenset(f"{_COMMON}.{name}" for name in ("Concat", "Chuncat", "Shortcut"))
"""Layers of several inputs."""

_CSP_V7 = ("Bottleneck", "RepBottleneck", "Res", "RepRes", "ResX", "RepResX", "Ghost")
_BLOCKS: dict[str, Part] = {
    **dict.fromkeys(("Conv", "DWConv"), conv),
    **dict.fromkeys(("Bottleneck", "RepBottleneck", "CrossConv"), _bottleneck),
    **dict.fromkeys(("Res", "ResX", "RepRes", "RepResX"), _residual),
    **dict.fromkeys(("C3", "C3x", "C3TR", "C3SPP", "C3Ghost"), _c3),
    **{f"{name}CSPA": _c3 for name in _CSP_V7},
    **{f"{name}CSPB": _csp_b for name in _CSP_V7},
    **{f"{name}CSPC": _csp_c for name in _CSP_V7},
    **dict.fromkeys(("SPPCSPC", "GhostSPPCSPC"), _sppcspc),
    **dict.fromkeys(("GhostBottleneck", "Ghost"), _ghost_bottleneck),
    **dict.fromkeys(("Stem", "GhostStem"), _stem),
    **dict.fromkeys(("MP", "SP"), _pool_only),
    "BottleneckCSP": _csp_v5,
    "SPP": _spp,
    "SPPF": _sppf,
    "Focus": _focus,
    "GhostConv": _ghost_conv,
    "MixConv2d": _mixed_conv,
    "Contract": _contract,
    "Expand": _expand,
    "TransformerBlock": _transformer_block,
    "TransformerLayer": _transformer_layer,
    "DWConvTranspose2d": deconvolve,
    "RepConv": _rep_conv,
    "ReOrg": _quarters,
    "DownC": _down,
    "Foldcut": _fold,
}
_MOVED = ("CrossConv", "C3", "GhostConv", "GhostBottleneck", "MixConv2d")  # in other modules of earlier versions

PARTS: dict[str, Part] = {
    **LAYERS,
    **{f"{_COMMON}.{name}": part for name, part in _BLOCKS.items()},
    **{f"{_EXPERIMENTAL}.{name}": _BLOCKS[name] for name in _MOVED},
}
"""What writes each module, by its class."""

IMPLICIT = frozenset(f"{_COMMON}.{name}" for name in ("ImplicitA", "ImplicitM"))
"""Modules of YOLOv7's heads, which write them."""

KNOWN = frozenset(PARTS) | JOINTS | IMPLICIT | CONTAINERS | {CONV_TRANSPOSE}
"""The classes of modules that a network may have, without heads."""
