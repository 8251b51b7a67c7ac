"""An ONNX graph under construction, with the shapes of its values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from common.errors import StartupError
from tools.checkpoints.module import Module

_OPSET = 17
_IR_VERSION = 8
_DEEPEST = 24  # modules inside of modules
_MOST_NODES = 20_000
_LARGEST = 1 << 28  # values of one tensor


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor of the graph."""

    name: str
    shape: tuple[int, ...]

    @property
    def channels(self) -> int:
        """Size of the second dimension."""
        return self.shape[1]

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of (batch, channels, height, width)."""
        return self.shape[2], self.shape[3]


Part = Callable[["Graph", Module, Value], Value]
"""Writes what a module computes: (graph, module, input) -> output."""


class Graph:
    """A graph of one input, the image.

    Args:
        parts: What writes a module's computation, by its class.
    """

    def __init__(self, parts: Mapping[str, Part]):
        self._parts = parts
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._depth = 0

    def emit(self, module: Module, value: Value) -> Value:
        """Writes what a module computes.

        Args:
            module: The module.
            value: Its input.

        Raises:
            StartupError: The module is not known.
        """
        part = self._parts.get(module.kind)
        if part is None:
            raise module.error(
                "this module is not known here; export the model to ONNX with the package that trained it"
            )
        if self._depth >= _DEEPEST:
            raise module.error("modules are nested too deeply")
        self._depth += 1
        try:
            return part(self, module, value)
        finally:
            self._depth -= 1

    def node(
        self, operation: str, inputs: Sequence[Value | ArrayLike], shape: Sequence[int], **attributes: Any
    ) -> Value:
        """Adds an operation.

        Args:
            operation: Of ONNX.
            inputs: Values, or constants: float32 unless they are arrays of another type.
            shape: Of its output.
            attributes: Of the operation.

        Raises:
            StartupError: The graph or one of its tensors is larger than that of any detector.
        """
        from onnx import helper

        if len(self._nodes) >= _MOST_NODES or np.prod([float(size) for size in shape]) > _LARGEST:
            raise StartupError("the network is larger than any that is known: the file is damaged")
        names = [item.name if isinstance(item, Value) else self._constant(item) for item in inputs]
        output = Value(f"v{len(self._nodes)}", tuple(int(size) for size in shape))
        self._nodes.append(helper.make_node(operation, names, [output.name], **attributes))
        return output

    def same(self, operation: str, *inputs: Value | ArrayLike, **attributes: Any) -> Value:
        """Adds an operation whose output has the shape of its first input.

        Args:
            operation: Of ONNX.
            inputs: As of `node`; the first is a Value.
            attributes: Of the operation.
        """
        first = inputs[0]
        assert isinstance(first, Value)
        return self.node(operation, inputs, first.shape, **attributes)

    def concat(self, values: Sequence[Value], axis: int = 1) -> Value:
        """Joins values.

        Args:
            values: Of the same shape but for the axis.
            axis: Along which.

        Raises:
            StartupError: Their shapes differ.
        """
        shapes = [list(value.shape) for value in values]
        total = sum(shape[axis] for shape in shapes) if all(axis < len(shape) for shape in shapes) else 0
        rest = [shape[:axis] + shape[axis + 1 :] for shape in shapes]
        if not shapes or any(other != rest[0] for other in rest):
            raise StartupError(f"layers of the sizes {shapes[:4]} can't be joined: the file is damaged")
        return self.node("Concat", values, [*shapes[0][:axis], total, *shapes[0][axis + 1 :]], axis=axis)

    def reshape(self, value: Value, shape: Sequence[int]) -> Value:
        """Gives a value another shape of as many values.

        Args:
            value: The value.
            shape: The new shape.
        """
        return self.node("Reshape", [value, np.array(shape, np.int64)], shape)

    def transpose(self, value: Value, order: Sequence[int]) -> Value:
        """Reorders the dimensions.

        Args:
            value: The value.
            order: The old dimensions in their new order.
        """
        return self.node("Transpose", [value], [value.shape[axis] for axis in order], perm=list(order))

    def part(self, value: Value, begin: int, end: int, axis: int, step: int = 1) -> Value:
        """Some of a value.

        Args:
            value: The value.
            begin: First index.
            end: Behind the last.
            axis: Along which.
            step: Between indices.
        """
        shape = list(value.shape)
        end = min(end, shape[axis])
        shape[axis] = len(range(begin, end, step))
        bounds = [np.array([number], np.int64) for number in (begin, end, axis, step)]
        return self.node("Slice", [value, *bounds], shape)

    def save(
        self, path: Path, image: Value, outputs: Mapping[str, Value], metadata: Mapping[str, str], producer: str
    ) -> None:
        """Checks the graph and writes it.

        Args:
            path: Of the file.
            image: The input, which is called images.
            outputs: By the names that they get.
            metadata: Texts for the file.
            producer: What made the file.
        """
        import onnx
        from onnx import TensorProto, helper

        renamed = [helper.make_node("Identity", [value.name], [name]) for name, value in outputs.items()]
        ports = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape)
            for name, value in [(image.name, image), *outputs.items()]
        ]
        graph = helper.make_graph([*self._nodes, *renamed], "network", ports[:1], ports[1:], self._constants)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION, producer_name=producer
        )
        helper.set_model_props(model, dict(metadata))
        onnx.checker.check_model(model)
        onnx.save(model, str(path))

    def _constant(self, values: ArrayLike) -> str:
        from onnx import numpy_helper

        array: NDArray[Any] = np.asarray(values)
        if array.dtype != np.int64 or not isinstance(values, np.ndarray):
            array = array.astype(np.float32)
        name = f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name
