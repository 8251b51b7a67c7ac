"""Small ONNX files for tests: their outputs are constants, whatever the image, in the layouts that real models have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper


def constant_model(
    path: Path,
    outputs: Mapping[str, NDArray[Any]],
    *,
    input_shape: Sequence[int | str] = (1, 3, 64, 64),
    input_type: int = TensorProto.FLOAT,
    metadata: Mapping[str, Any] | None = None,
    input_name: str = "images",
    brightness: bool = False,
) -> Path:
    """Writes a model whose outputs are the given arrays, plus 0 times the image's mean.

    brightness: add the image's mean itself to the outputs of floating-point type, so that they tell the input.
    """
    factor = numpy_helper.from_array(np.array(1.0 if brightness else 0.0, np.float32), "factor")
    nodes = [
        helper.make_node("Cast", [input_name], ["image"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["image"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "factor"], ["extra"]),
    ]
    constants, declared = [factor], []
    for name, array in outputs.items():
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        constants.append(numpy_helper.from_array(array, f"{name}_value"))
        nodes.append(helper.make_node("Cast", ["extra"], [f"{name}_extra"], to=kind))
        nodes.append(helper.make_node("Add", [f"{name}_value", f"{name}_extra"], [name]))
        declared.append(helper.make_tensor_value_info(name, kind, list(array.shape)))
    image = helper.make_tensor_value_info(input_name, input_type, list(input_shape))
    graph = helper.make_graph(nodes, "constant", [image], declared, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    for key, value in (metadata or {}).items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, str(value)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path
