"""Small ONNX files for tests whose outputs are computed from the picture, so that the right answer is known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

Size = int | str


def save(
    path: Path,
    nodes: Sequence[NodeProto],
    constants: dict[str, NDArray[np.generic]],
    inputs: dict[str, Sequence[Size]],
    outputs: dict[str, Sequence[Size]],
    input_type: int = TensorProto.FLOAT,
) -> Path:
    """Writes a graph; sizes of axes are numbers, or names for free ones."""
    graph = helper.make_graph(
        list(nodes),
        "computed",
        [helper.make_tensor_value_info(name, input_type, list(shape)) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)) for name, shape in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def mean_colours(
    path: Path,
    size_hw: tuple[Size, Size] = (64, 32),
    *,
    batch: Size = "N",
    cells: tuple[int, int] = (4, 2),
    softmax: bool = False,
    input_type: int = TensorProto.FLOAT,
) -> Path:
    """An embedding network: the mean colours of a grid of cells, (batch, 3 x rows x columns); needs whole cells."""
    height, width = (side if isinstance(side, int) else 64 for side in size_hw)
    kernel = [height // cells[0], width // cells[1]]
    nodes = [
        helper.make_node("Cast", ["images"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("AveragePool", ["values"], ["cells"], kernel_shape=kernel, strides=kernel),
        helper.make_node("Flatten", ["cells"], ["flat"]),
        helper.make_node("Softmax" if softmax else "Identity", ["flat"], ["descriptors"]),
    ]
    shape = (batch, 3 * cells[0] * cells[1] if isinstance(size_hw[0], int) else "D")
    return save(path, nodes, {}, {"images": (batch, 3, *size_hw)}, {"descriptors": shape}, input_type)
