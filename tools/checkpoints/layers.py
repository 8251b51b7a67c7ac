"""The layers of torch.nn as ONNX operations."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tools.checkpoints.graph import Graph, Part, Value
from tools.checkpoints.module import Module

CONV = "torch.nn.modules.conv.Conv2d"
CONV_TRANSPOSE = "torch.nn.modules.conv.ConvTranspose2d"
_WIDEST_PADDING = 64
_NORMS = ("torch.nn.modules.batchnorm.BatchNorm2d", "torch.nn.modules.batchnorm.SyncBatchNorm")


@dataclass(frozen=True, slots=True)
class Convolution:
    """A convolution, its normalisation folded in."""

    weight: NDArray[np.float64]
    """(outputs, inputs / groups, height, width)."""
    bias: NDArray[np.float64]
    stride_hw: tuple[int, int]
    padding_hw: tuple[int, int]
    dilation_hw: tuple[int, int] = (1, 1)
    groups: int = 1

    @classmethod
    def read(cls, conv: Module, norm: Module | None = None) -> Convolution:
        """A Conv2d with the BatchNorm2d behind it.

        Args:
            conv: The Conv2d.
            norm: The BatchNorm2d, None for none.

        Raises:
            StartupError: They are something else, or don't fit each other.
        """
        if conv.kind != CONV:
            raise conv.error("expected a Conv2d")
        if conv.get("padding_mode", "zeros") != "zeros":
            raise conv.error(f"padding_mode: expected zeros, got {str(conv.get('padding_mode'))[:20]}")
        weight = conv.tensor("weight").astype(np.float64)
        if weight.ndim != 4:
            raise conv.error(f"weight: expected four dimensions, got {weight.ndim}")
        bias = conv.tensor("bias").astype(np.float64) if conv.has("bias") else np.zeros(len(weight))
        if norm is not None:
            scale, shift = scale_and_shift(norm, len(weight))
            weight, bias = weight * scale[:, None, None, None], bias * scale + shift
        if bias.shape != (len(weight),):
            raise conv.error("bias: expected a value for each output")
        groups = conv.whole("groups", 1)
        return cls(weight, bias, conv.pair("stride"), conv.pair("padding"), conv.pair("dilation"), groups)

    def write(self, graph: Graph, value: Value, module: Module) -> Value:
        """Adds the convolution to a graph.

        Args:
            graph: The graph.
            value: The input.
            module: For messages.

        Raises:
            StartupError: The input has other channels, or is too small.
        """
        outputs, inputs, *kernel = self.weight.shape
        if 0 in self.stride_hw or 0 in self.dilation_hw:
            raise module.error("expected strides of 1 or more")
        if value.channels != inputs * self.groups or not self.groups or outputs % self.groups:
            raise module.error(f"expected {inputs * self.groups} channels, got {value.channels}: the file is damaged")
        height, width = (
            (side + 2 * padding - dilation * (size - 1) - 1) // stride + 1
            for side, padding, dilation, size, stride in zip(
                value.size_hw, self.padding_hw, self.dilation_hw, kernel, self.stride_hw, strict=True
            )
        )
        if height < 1 or width < 1:
            raise module.error(
                f"its input of {value.size_hw[0]} x {value.size_hw[1]} is too small: use a larger IMAGE_SIZE"
            )
        return graph.node(
            "Conv",
            [value, self.weight, self.bias],
            (value.shape[0], outputs, height, width),
            kernel_shape=kernel,
            strides=self.stride_hw,
            pads=self.padding_hw * 2,
            dilations=self.dilation_hw,
            group=self.groups,
        )


def scale_and_shift(norm: Module, channels: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A BatchNorm2d as a factor and a summand for each channel.

    Args:
        norm: The BatchNorm2d.
        channels: How many are expected.

    Raises:
        StartupError: It is something else, or has another number of channels.
    """
    if norm.kind not in _NORMS:
        raise norm.error("expected a BatchNorm2d")
    mean, variance = (norm.tensor(name).astype(np.float64) for name in ("running_mean", "running_var"))
    weight = norm.tensor("weight").astype(np.float64) if norm.has("weight") else np.ones(channels)
    bias = norm.tensor("bias").astype(np.float64) if norm.has("bias") else np.zeros(channels)
    epsilon = norm.get("eps")
    if not isinstance(epsilon, float) or epsilon <= 0 or (variance < 0).any():
        raise norm.error("expected a positive eps and variances of 0 or more")
    if any(values.shape != (channels,) for values in (mean, variance, weight, bias)):
        raise norm.error(f"expected values for {channels} channels")
    scale = weight / np.sqrt(variance + epsilon)
    return scale, bias - mean * scale


def convolve(graph: Graph, module: Module, value: Value) -> Value:
    """A Conv2d without a normalisation.

    Args:
        graph: To write to.
        module: The Conv2d.
        value: Its input.
    """
    return Convolution.read(module).write(graph, value, module)


def normalise(graph: Graph, module: Module, value: Value) -> Value:
    """A BatchNorm2d that doesn't follow a convolution.

    Args:
        graph: To write to.
        module: The BatchNorm2d.
        value: Its input.
    """
    scale, shift = scale_and_shift(module, value.channels)
    scaled = graph.same("Mul", value, scale[:, None, None])
    return graph.same("Add", scaled, shift[:, None, None])


def linear(graph: Graph, module: Module, value: Value) -> Value:
    """A Linear layer, on the last dimension.

    Args:
        graph: To write to.
        module: The layer.
        value: Its input.

    Raises:
        StartupError: The input has another size.
    """
    weight = module.tensor("weight")
    if weight.ndim != 2 or weight.shape[1] != value.shape[-1]:
        raise module.error(f"expected an input of {weight.shape[-1]} values, got {value.shape[-1]}")
    product = graph.node("MatMul", [value, weight.T], (*value.shape[:-1], len(weight)))
    return graph.same("Add", product, module.tensor("bias")) if module.has("bias") else product


def max_pool(graph: Graph, module: Module, value: Value) -> Value:
    """A MaxPool2d.

    Args:
        graph: To write to.
        module: The layer.
        value: Its input.

    Raises:
        StartupError: It has options that no known network uses.
    """
    kernel, stride, padding = (module.pair(name) for name in ("kernel_size", "stride", "padding"))
    plain = (
        module.get("dilation", 1) in (1, (1, 1)) and not module.get("ceil_mode") and not module.get("return_indices")
    )
    if not plain or 0 in stride or 0 in kernel or any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
        raise module.error("expected a pooling without dilation, ceil_mode and return_indices")
    size = [(side + 2 * p - k) // s + 1 for side, p, k, s in zip(value.size_hw, padding, kernel, stride, strict=True)]
    if min(size) < 1:
        raise module.error("its input is too small: use a larger IMAGE_SIZE")
    shape = (*value.shape[:2], *size)
    return graph.node("MaxPool", [value], shape, kernel_shape=kernel, strides=stride, pads=padding * 2)


def upsample(graph: Graph, module: Module, value: Value) -> Value:
    """An Upsample layer that repeats pixels.

    Args:
        graph: To write to.
        module: The layer.
        value: Its input.

    Raises:
        StartupError: It interpolates, or its factor is not a small whole number.
    """
    factor, mode = module.get("scale_factor"), module.get("mode")
    if isinstance(factor, (tuple, list)) and len(set(factor)) == 1:
        factor = factor[0]
    if mode != "nearest" or module.get("size") is not None or factor not in (1, 2, 3, 4, 8):
        raise module.error(
            f"expected mode=nearest and a scale_factor of 2 to 8, got {str(mode)[:20]}, {str(factor)[:20]}"
        )
    height, width = value.size_hw
    return graph.node(
        "Resize",
        [value, np.zeros(0), np.array([1, 1, factor, factor], np.float32)],
        (*value.shape[:2], int(height * factor), int(width * factor)),
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )


def zero_pad(graph: Graph, module: Module, value: Value) -> Value:
    """A ZeroPad2d.

    Args:
        graph: To write to.
        module: The layer.
        value: Its input.

    Raises:
        StartupError: Its padding is not four small whole numbers.
    """
    padding = module.get("padding")
    fits = isinstance(padding, (tuple, list)) and len(padding) == 4
    if not fits or not all(type(side) is int and 0 <= side <= _WIDEST_PADDING for side in padding):
        raise module.error(f"padding: expected four numbers up to {_WIDEST_PADDING}")
    left, right, top, bottom = padding
    # Joined with zeros: ONNX Runtime folds a Pad into the MaxPool behind it, which then ignores the border instead.
    for axis, before, after in ((2, top, bottom), (3, left, right)):
        shape = list(value.shape)
        zeros = [np.zeros([*shape[:axis], size, *shape[axis + 1 :]]) for size in (before, after)]
        shape[axis] += before + after
        value = graph.node("Concat", [zeros[0], value, zeros[1]], shape, axis=axis)
    return value


def deconvolve(graph: Graph, module: Module, value: Value) -> Value:
    """A ConvTranspose2d.

    Args:
        graph: To write to.
        module: The layer.
        value: Its input.

    Raises:
        StartupError: The input has other channels.
    """
    weight, groups = module.tensor("weight"), module.whole("groups", 1)
    if weight.ndim != 4 or weight.shape[0] != value.channels or not groups:
        raise module.error(f"expected {weight.shape[0]} channels, got {value.channels}")
    bias = module.tensor("bias") if module.has("bias") else np.zeros(weight.shape[1] * groups)
    names = ("stride", "padding", "dilation", "output_padding")
    strides, paddings, dilations, extras = (module.pair(name) for name in names)
    size = [
        (side - 1) * stride - 2 * padding + dilation * (kernel - 1) + extra + 1
        for side, stride, padding, dilation, extra, kernel in zip(
            value.size_hw, strides, paddings, dilations, extras, weight.shape[2:], strict=True
        )
    ]
    return graph.node(
        "ConvTranspose",
        [value, weight, bias],
        (value.shape[0], weight.shape[1] * groups, *size),
        kernel_shape=weight.shape[2:],
        strides=strides,
        pads=paddings * 2,
        dilations=dilations,
        output_padding=extras,
        group=groups,
    )


def attention(graph: Graph, module: Module, queries: Value, keys: Value, values: Value) -> Value:
    """A MultiheadAttention, on (batch, tokens, size).

    Args:
        graph: To write to.
        module: The layer.
        queries: Before its projection, like the others.
        keys: As many as values.
        values: Of the same size.

    Raises:
        StartupError: Its sizes don't fit, or it has options that no known network uses.
    """
    batch, tokens, size = queries.shape
    heads = module.whole("num_heads")
    if (
        not module.has("in_proj_weight")
        or not heads
        or size % heads
        or module.tensor("in_proj_weight").shape != (3 * size, size)
    ):
        raise module.error("expected an attention with one projection for queries, keys and values")
    if module.has("bias_k") or module.get("add_zero_attn"):
        raise module.error("expected an attention without bias_k and add_zero_attn")
    weights = np.split(module.tensor("in_proj_weight"), 3)
    biases = np.split(module.tensor("in_proj_bias") if module.has("in_proj_bias") else np.zeros(3 * size), 3)

    def project(value: Value, index: int, order: tuple[int, ...]) -> Value:
        product = graph.node("MatMul", [value, weights[index].T], (batch, tokens, size))
        summed = graph.same("Add", product, biases[index])
        return graph.transpose(graph.reshape(summed, (batch, tokens, heads, size // heads)), order)

    query = graph.same("Mul", project(queries, 0, (0, 2, 1, 3)), np.float32(1 / math.sqrt(size // heads)))
    key, value = project(keys, 1, (0, 2, 3, 1)), project(values, 2, (0, 2, 1, 3))
    scores = graph.node("MatMul", [query, key], (batch, heads, tokens, tokens))
    mixed = graph.node("MatMul", [graph.same("Softmax", scores, axis=-1), value], query.shape)
    joined = graph.reshape(graph.transpose(mixed, (0, 2, 1, 3)), (batch, tokens, size))
    return linear(graph, module.child("out_proj"), joined)


def sequence(graph: Graph, module: Module, value: Value) -> Value:
    """Modules one after another; a BatchNorm2d right behind a Conv2d is folded into it.

    Args:
        graph: To write to.
        module: The Sequential.
        value: Its input.
    """
    steps = module.children()
    while steps:
        step = steps.pop(0)
        if step.kind == CONV and steps and steps[0].kind in _NORMS:
            value = Convolution.read(step, steps.pop(0)).write(graph, value, step)
        else:
            value = graph.emit(step, value)
    return value


def _unchanged(graph: Graph, module: Module, value: Value) -> Value:
    return value


def _silu(graph: Graph, module: Module, value: Value) -> Value:
    return graph.same("Mul", value, graph.same("Sigmoid", value))


def _hard_swish(graph: Graph, module: Module, value: Value) -> Value:
    return graph.same("HardSwish", value)


def _mish(graph: Graph, module: Module, value: Value) -> Value:
    return graph.same("Mul", value, graph.same("Tanh", graph.same("Softplus", value)))


def _leaky(graph: Graph, module: Module, value: Value) -> Value:
    slope = module.get("negative_slope")
    if not isinstance(slope, float):
        raise module.error("negative_slope: expected a number")
    return graph.same("LeakyRelu", value, alpha=slope)


def _relu(graph: Graph, module: Module, value: Value) -> Value:
    return graph.same("Relu", value)


def _relu6(graph: Graph, module: Module, value: Value) -> Value:
    return graph.same("Clip", value, np.float32(0), np.float32(6))


def _sigmoid(graph: Graph, module: Module, value: Value) -> Value:
    return graph.same("Sigmoid", value)


LAYERS: dict[str, Part] = {
    CONV: convolve,
    CONV_TRANSPOSE: deconvolve,
    **dict.fromkeys(_NORMS, normalise),
    "torch.nn.modules.linear.Linear": linear,
    "torch.nn.modules.linear.NonDynamicallyQuantizableLinear": linear,
    "torch.nn.modules.linear._LinearWithBias": linear,
    "torch.nn.modules.linear.Identity": _unchanged,
    "torch.nn.modules.dropout.Dropout": _unchanged,
    "torch.nn.modules.pooling.MaxPool2d": max_pool,
    "torch.nn.modules.upsampling.Upsample": upsample,
    "torch.nn.modules.padding.ZeroPad2d": zero_pad,
    "torch.nn.modules.container.Sequential": sequence,
    "torch.nn.modules.activation.SiLU": _silu,
    "torch.nn.modules.activation.Hardswish": _hard_swish,
    "torch.nn.modules.activation.Mish": _mish,
    "torch.nn.modules.activation.LeakyReLU": _leaky,
    "torch.nn.modules.activation.ReLU": _relu,
    "torch.nn.modules.activation.ReLU6": _relu6,
    "torch.nn.modules.activation.Sigmoid": _sigmoid,
    "utils.activations.SiLU": _silu,
    "utils.activations.Swish": _silu,
    "utils.activations.MemoryEfficientSwish": _silu,
    "utils.activations.Hardswish": _hard_swish,
    "utils.activations.Mish": _mish,
    "utils.activations.MemoryEfficientMish": _mish,
}
"""What writes each layer, by its class."""

CONTAINERS = frozenset(
    {
        "torch.nn.modules.container.ModuleList",
        "torch.nn.modules.activation.MultiheadAttention",
        "torch.nn.modules.pooling.AdaptiveAvgPool2d",
    }
)
"""Classes of torch.nn that the modules around them write."""
