"""The last layers of YOLOv5 and YOLOv7, decoded as their exporters do: boxes in pixels, scores from 0 to 1."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tools.checkpoints.graph import Graph, Value
from tools.checkpoints.layers import Convolution, linear
from tools.checkpoints.module import Module

Outputs = dict[str, Value]
"""The network's outputs by their names in the file."""


def detect(graph: Graph, module: Module, values: Sequence[Value], size_hw: tuple[int, int]) -> Outputs:
    """A row for each anchor: centre, size, objectness, a score for each class.

    Args:
        graph: To write to.
        module: A Detect, IDetect or IAuxDetect.
        values: Its inputs; the last half is ignored for IAuxDetect, which needs it for training alone.
        size_hw: Height and width of the network's input.
    """
    return {"output0": _rows(graph, module, values, size_hw, extra=0)}


def segment(graph: Graph, module: Module, values: Sequence[Value], size_hw: tuple[int, int]) -> Outputs:
    """Rows as of `detect`, each with the coefficients of its mask, and the prototypes of all masks.

    Args:
        graph: To write to.
        module: A Segment.
        values: Its inputs.
        size_hw: Height and width of the network's input.
    """
    proto, prototypes = module.child("proto"), values[0]
    for name in ("cv1", "upsample", "cv2", "cv3"):
        prototypes = graph.emit(proto.child(name), prototypes)
    extra = module.whole("nm")
    if prototypes.channels != extra:
        raise module.error(f"expected {extra} prototypes, got {prototypes.channels}")
    return {"output0": _rows(graph, module, values, size_hw, extra), "output1": prototypes}


def classify(graph: Graph, module: Module, values: Sequence[Value], size_hw: tuple[int, int]) -> Outputs:
    """A probability for each class.

    Args:
        graph: To write to.
        module: A Classify.
        values: Its inputs.
        size_hw: Height and width of the network's input.
    """
    found = graph.emit(module.child("conv"), graph.concat(values) if len(values) > 1 else values[0])
    pooled = graph.node("GlobalAveragePool", [found], (*found.shape[:2], 1, 1))
    flat = graph.reshape(pooled, found.shape[:2])
    return {"output0": graph.same("Softmax", linear(graph, module.child("linear"), flat), axis=-1)}


def _rows(graph: Graph, module: Module, values: Sequence[Value], size_hw: tuple[int, int], extra: int) -> Value:
    anchors, strides = _anchors(module)
    levels, each = anchors.shape[:2]
    columns = 5 + module.whole("nc") + extra
    if len(values) < levels or module.whole("no") != columns:
        raise module.error(f"expected {levels} inputs and {columns} values for each anchor")
    rows, grids, scales, sizes = [], [], [], []
    for level, value in enumerate(values[:levels]):
        height, width = value.size_hw
        if (height * strides[level], width * strides[level]) != size_hw:
            raise module.error(f"its stride is {strides[level]:g}, but its input has {height} x {width} cells")
        maps = _convolution(module, level).write(graph, value, module)
        if maps.channels != each * columns:
            raise module.error(f"expected {each * columns} channels, got {maps.channels}")
        by_anchor = graph.reshape(maps, (maps.shape[0], each, columns, height * width))
        rows.append(
            graph.reshape(graph.transpose(by_anchor, (0, 1, 3, 2)), (maps.shape[0], each * height * width, columns))
        )
        grids.append(np.tile(_grid(height, width) * strides[level], (each, 1)))
        scales.append(np.full((each * height * width, 1), strides[level]))
        sizes.append(np.repeat(anchors[level], height * width, axis=0))
    table = graph.concat(rows, axis=1)
    known = graph.same("Sigmoid", graph.part(table, 0, columns - extra, 2) if extra else table)
    doubled = graph.same("Mul", graph.part(known, 0, 4, 2), np.float32(2))
    centers = graph.same("Mul", graph.part(doubled, 0, 2, 2), np.concatenate(scales))
    squares = graph.part(doubled, 2, 4, 2)
    parts = [
        graph.same("Add", centers, np.concatenate(grids)),
        graph.same("Mul", graph.same("Mul", squares, squares), np.concatenate(sizes)),
        graph.part(known, 4, columns - extra, 2),
    ]
    return graph.concat(parts + ([graph.part(table, columns - extra, columns, 2)] if extra else []), axis=2)


def _anchors(module: Module) -> tuple[NDArray[np.float32], list[float]]:
    """Sizes of the anchors, (levels, anchors, 2: width, height) in pixels, and the stride of each level."""
    cells, strides = module.tensor("anchors"), module.tensor("stride").ravel()
    if cells.ndim != 3 or cells.shape[2] != 2 or len(strides) != len(cells) or not (strides >= 1).all():
        raise module.error("expected anchors (levels, anchors, 2) and a stride for each level")
    # YOLOv7 and YOLOv5 before 6.0 keep them in pixels as well, which 16 bits round less.
    if module.has("anchor_grid") and not isinstance(module.get("anchor_grid"), list):
        pixels = module.tensor("anchor_grid")
        if pixels.size == cells.size:
            return pixels.reshape(cells.shape), [float(stride) for stride in strides]
    return cells * strides[:, None, None], [float(stride) for stride in strides]


def _grid(height: int, width: int) -> NDArray[np.float64]:
    """(height * width, 2): x, y of each cell's corner, moved by half a cell to the left and up."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x.ravel(), y.ravel()], axis=1) - 0.5


def _convolution(module: Module, level: int) -> Convolution:
    found = Convolution.read(module.child("m").child(str(level)))
    if (
        not (module.has("ia") and module.has("im")) or module.get("forward") is not None
    ):  # with a forward: fused already
        return found
    added, factor = (
        module.child(name).child(str(level)).tensor("implicit").astype(np.float64).ravel() for name in ("ia", "im")
    )
    outputs, inputs, *kernel = found.weight.shape
    if kernel != [1, 1] or len(added) != inputs or len(factor) != outputs:
        raise module.error("its implicit values don't fit its convolutions")
    bias = (found.bias + found.weight[:, :, 0, 0] @ added) * factor
    return replace(found, weight=found.weight * factor[:, None, None, None], bias=bias)


HEADS: dict[str, tuple[str, Callable[[Graph, Module, Sequence[Value], tuple[int, int]], Outputs]]] = {
    **{f"models.yolo.{name}": ("detect", detect) for name in ("Detect", "IDetect", "IAuxDetect")},
    "models.yolo.Segment": ("segment", segment),
    "models.common.Classify": ("classify", classify),
}
"""The task of each head, and what writes it, by its class."""

KNOWN = frozenset(HEADS) | {"models.common.Proto"}
"""The classes of modules that only heads have."""
