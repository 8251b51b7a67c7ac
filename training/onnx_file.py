"""Networks as ONNX files that take little space."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

_OPSET = 17  # the least that ONNX Runtime and OpenVINO of recent years share
_FEWEST_HALVED = 16  # values; smaller constants stay as they are


def write_onnx(network: Any, path: Path, inputs: Mapping[str, tuple[int, ...]], outputs: Sequence[str]) -> None:
    """Writes a network with its weights in half precision; it computes in single precision.

    Args:
        network: A torch module in inference mode that takes the inputs by position and returns the outputs in order.
        path: The file to write; its directory is made.
        inputs: The shape of each input by its name; all are float32.
        outputs: The outputs' names.
    """
    import onnx
    import onnxslim  # type: ignore[import-untyped]
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's, about sizes that are fixed here
        torch.onnx.export(
            network,
            tuple(torch.zeros(shape) for shape in inputs.values()),
            str(path),
            input_names=list(inputs),
            output_names=list(outputs),
            opset_version=_OPSET,
            dynamo=False,
        )
    onnx.save(compact(onnxslim.slim(onnx.load(path))), path)


def compact(model: Any) -> Any:
    """A model in as few bytes as can be had without other results than half precision brings.

    Args:
        model: An ONNX model; changed in place.
    """
    import onnx

    model = with_short_names(halved(without_copies(model)))
    onnx.checker.check_model(model)
    return model


def with_short_names(model: Any) -> Any:
    """A model in which only inputs and outputs keep their names: the others are as long as the weights of a small network.

    Args:
        model: An ONNX model without subgraphs; changed in place.
    """
    graph = model.graph
    short = {port.name: port.name for port in (*graph.input, *graph.output)} | {"": ""}
    for tensor in graph.initializer:
        tensor.name = short.setdefault(tensor.name, f"t{len(short)}")
    for node in graph.node:
        node.name = ""
        node.input[:] = [short.setdefault(name, f"t{len(short)}") for name in node.input]
        node.output[:] = [short.setdefault(name, f"t{len(short)}") for name in node.output]
    del graph.value_info[:]
    return model


def without_copies(model: Any) -> Any:
    """A model in which weights that several layers share are stored once.

    Args:
        model: An ONNX model; changed in place.
    """
    graph = model.graph
    first: dict[tuple[Any, ...], str] = {}
    same: dict[str, str] = {}
    for tensor in list(graph.initializer):
        known = first.setdefault((tensor.data_type, tuple(tensor.dims), tensor.raw_data), tensor.name)
        if known != tensor.name and tensor.raw_data:
            same[tensor.name] = known
            graph.initializer.remove(tensor)
    for node in graph.node:
        node.input[:] = [same.get(name, name) for name in node.input]
    return model


def halved(model: Any) -> Any:
    """A model whose weights are stored in half precision.

    Args:
        model: An ONNX model; changed in place.

    Returns:
        The model: each float32 weight is a float16 one with a Cast behind it, which engines do once at start.
    """
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < _FEWEST_HALVED:
            continue
        name = tensor.name
        values = numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(values, f"{name}_half"))
        casts.append(helper.make_node("Cast", [tensor.name], [name], to=TensorProto.FLOAT))
    for cast in reversed(casts):
        graph.node.insert(0, cast)
    return model
