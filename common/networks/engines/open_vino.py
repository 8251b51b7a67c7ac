"""OpenVINO on a CPU."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from common.errors import StartupError
from common.networks.engines.interface import Array, Engine, Tensor, brief, installed, model_name


class OpenVinoEngine:
    """A model in OpenVINO on the CPU.

    Args:
        model: An ONNX file, its bytes, or an OpenVINO .xml.
        threads: How many it may use.
        precision: One of PRECISIONS, of its arithmetic.
        example: As for `open_engine`; fixes the free sizes of the inputs. None leaves them free.

    Raises:
        StartupError: The file is not a model, or the library is missing.
    """

    def __init__(
        self,
        model: str | Path | bytes,
        *,
        threads: int = 1,
        precision: str = "f32",
        example: Callable[[Engine], Sequence[Array]] | None = None,
    ):
        if not installed("openvino"):
            raise StartupError("OpenVINO is not installed: pip install openvino")
        import openvino

        core = openvino.Core()
        try:
            read = core.read_model(model if isinstance(model, bytes) else str(model))
            self.inputs = tuple(_openvino_tensor(port, f"input{i}") for i, port in enumerate(read.inputs))
            self.outputs = tuple(_openvino_tensor(port, f"output{i}") for i, port in enumerate(read.outputs))
            self.metadata: Mapping[str, str] = {**_openvino_metadata(read, model), **_last_operations(read)}
            if example is not None and any(None in port.shape for port in self.inputs):
                shapes = [array.shape for array in example(self)]
                read.reshape({port: list(shape) for port, shape in zip(read.inputs, shapes, strict=True)})
            compiled = core.compile_model(
                read,
                "CPU",
                {
                    "PERFORMANCE_HINT": "LATENCY",
                    "INFERENCE_NUM_THREADS": threads,
                    # Left to itself OpenVINO computes in bfloat16 where the CPU can: faster, but scores move by 0.01.
                    "INFERENCE_PRECISION_HINT": precision,
                },
            )
        except RuntimeError as error:
            raise StartupError(f"{model_name(model)}: OpenVINO can't load it: {brief(error)}") from error
        self._request = compiled.create_infer_request()
        self._lock = threading.Lock()  # one request is one set of buffers
        version = openvino.__version__.split("-")[0]
        self.description = f"OpenVINO {version} on CPU, {threads} threads, {precision}"

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """As `Engine.run`.

        Args:
            arrays: The inputs in the model's order.
        """
        inputs = [
            np.ascontiguousarray(array, dtype=port.dtype) for port, array in zip(self.inputs, arrays, strict=True)
        ]
        with self._lock:
            results = self._request.infer(inputs, share_inputs=True)
            return list(results.values())


def _openvino_tensor(port: Any, fallback: str) -> Tensor:
    name = _openvino_name(port) or fallback
    shape = tuple(None if size.is_dynamic else size.get_length() for size in port.get_partial_shape())
    return Tensor(name=name, shape=shape, dtype=np.dtype(port.get_element_type().to_dtype()))


def _openvino_name(port: Any) -> str:
    """The shortest of a port's names, since converters add longer ones; "" when it has none.

    Files of older converters name operations, not values: OpenVINO calls their outputs after the results behind them.
    """
    node, names = port.get_node(), port.get_names()
    if node.get_type_name() == "Result":
        names = names - {node.get_friendly_name()}
        source = node.input_value(0)
        if not names:
            index = f".{source.get_index()}" if len(source.get_node().outputs()) > 1 else ""
            return f"{source.get_node().get_friendly_name()}{index}"
    return str(min(names, key=lambda name: (len(name), name), default=""))


def _last_operations(read: Any) -> dict[str, str]:
    """The attributes of operations that say what the outputs mean, by the operation's type."""
    known = [operation for operation in read.get_ops() if operation.get_type_name() == "DetectionOutput"]
    return {operation.get_type_name(): repr(operation.get_attributes()) for operation in known}


def _openvino_metadata(read: Any, model: str | Path | bytes) -> dict[str, str]:
    if not isinstance(model, bytes) and Path(model).suffix == ".xml":
        # Exporters to OpenVINO write a metadata.yaml beside the model.
        beside = Path(model).with_name("metadata.yaml")
        if not beside.is_file():
            return {}
        try:
            content = yaml.safe_load(beside.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise StartupError(f"{beside}: not YAML: {brief(error)}") from error
        return {str(key): str(value) for key, value in content.items()} if isinstance(content, dict) else {}
    information = read.get_rt_info()
    if "framework" not in information:
        return {}
    return {str(key): value.astype(str) for key, value in information["framework"].items()}
