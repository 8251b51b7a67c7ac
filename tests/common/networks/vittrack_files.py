"""ONNX files with the inputs and outputs of VitTrack, or nearly so, for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

INPUTS: dict[str, list[int | str]] = {"template": [1, 3, 128, 128], "search": [1, 3, 256, 256]}
OUTPUTS = {"output1": [1, 1, 16, 16], "output2": [1, 2, 16, 16], "output3": [1, 2, 16, 16]}


def constant_tracker(
    path: Path,
    inputs: Mapping[str, Sequence[int | str]] = INPUTS,
    outputs: Mapping[str, Sequence[int]] = OUTPUTS,
    value: float = 0.5,
) -> Path:
    """Writes a model whose outputs have one value everywhere, plus 0 times its inputs' means."""
    constants = [numpy_helper.from_array(np.array(0, np.float32), "zero")]
    nodes = []
    for name in inputs:
        nodes.append(helper.make_node("ReduceMean", [name], [f"{name}_mean"], keepdims=0))
        nodes.append(helper.make_node("Mul", [f"{name}_mean", "zero"], [f"{name}_nothing"]))
    nodes.append(helper.make_node("Sum", [f"{name}_nothing" for name in inputs], ["nothing"]))
    for name, shape in outputs.items():
        constants.append(numpy_helper.from_array(np.full(shape, value, np.float32), f"{name}_value"))
        nodes.append(helper.make_node("Add", [f"{name}_value", "nothing"], [name]))
    graph = helper.make_graph(
        nodes,
        "constant",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)) for name, shape in outputs.items()],
        constants,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path
