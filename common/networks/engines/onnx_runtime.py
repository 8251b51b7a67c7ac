"""ONNX Runtime: on a CPU, with CUDA, or with TensorRT."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import StartupError
from common.networks.engines.interface import Array, Tensor, brief, installed, model_name

_ONNX_DTYPES = {"float": "float32", "double": "float64"}  # the rest are numpy's names


class OnnxRuntimeEngine:
    """A model in ONNX Runtime.

    Args:
        model: An ONNX file or its bytes.
        threads: How many it may use on a CPU.
        cuda: The number of a CUDA device, None for the CPU.
        tensorrt: Whether TensorRT runs it on that device.

    Raises:
        StartupError: The file is not a model, or the library or device is missing.
    """

    def __init__(self, model: str | Path | bytes, *, threads: int = 1, cuda: int | None = None, tensorrt: bool = False):
        if not installed("onnxruntime"):
            raise StartupError("ONNX Runtime is not installed: pip install onnxruntime (onnxruntime-gpu for CUDA)")
        import onnxruntime as ort

        providers: list[tuple[str, dict[str, int]]] = [("CPUExecutionProvider", {})]
        if cuda is not None:
            providers = [("CUDAExecutionProvider", {"device_id": cuda}), *providers]
            if tensorrt:
                providers = [("TensorrtExecutionProvider", {"device_id": cuda}), *providers]
            _check_gpu_build(ort, providers[0][0])
        settings = ort.SessionOptions()
        settings.intra_op_num_threads = threads
        settings.log_severity_level = 3  # errors; warnings are about graph details that nobody can act on
        try:
            self._session = ort.InferenceSession(
                model if isinstance(model, bytes) else str(model), settings, providers=providers
            )
        except Exception as error:  # ONNX Runtime's errors have no common class
            raise StartupError(f"{model_name(model)}: ONNX Runtime can't load it: {brief(error)}") from error
        first = providers[0][0]
        if self._session.get_providers()[0] != first:
            raise StartupError(
                f"{first} of ONNX Runtime could not start on this machine: is there an NVIDIA GPU with a driver for "
                "CUDA 12 or later, and does the container see it (nvidia-smi; resources.limits of the function.yaml)? "
                "Or set DEVICE=cpu"
            )
        where = f"CPU, {threads} threads" if cuda is None else f"{'TensorRT' if tensorrt else 'CUDA'} device {cuda}"
        self.description = f"ONNX Runtime {ort.__version__} on {where}"
        ports = [*self._session.get_inputs(), *self._session.get_outputs()]
        if odd := [port for port in ports if not port.type.startswith("tensor(")]:
            raise StartupError(
                f"{model_name(model)}: expected inputs and outputs that are tensors, got {odd[0].name}: {odd[0].type}"
            )
        self.inputs = tuple(_onnx_tensor(port) for port in self._session.get_inputs())
        self.outputs = tuple(_onnx_tensor(port) for port in self._session.get_outputs())
        self.metadata: Mapping[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """As `Engine.run`.

        Args:
            arrays: The inputs in the model's order.
        """
        feed = {
            port.name: array.astype(port.dtype, copy=False) for port, array in zip(self.inputs, arrays, strict=True)
        }
        results: list[Array] = self._session.run(None, feed)
        return results


def _check_gpu_build(ort: Any, provider: str) -> None:
    available = ort.get_available_providers()
    if provider not in available:
        raise StartupError(
            f"this installation of ONNX Runtime has no {provider} (it has {', '.join(available)}): deploy the GPU image "
            "(deploy_gpu.sh), or pip install onnxruntime-gpu[cuda,cudnn] instead of onnxruntime; or set DEVICE=cpu"
        )
    if hasattr(ort, "preload_dlls"):
        ort.preload_dlls()  # CUDA and cuDNN from the wheels that were installed beside it


def _onnx_tensor(port: Any) -> Tensor:
    kind = re.fullmatch(r"tensor\((\w+)\)", port.type)
    name = _ONNX_DTYPES.get(kind[1], kind[1]) if kind else "object"
    try:
        dtype = np.dtype(name)
    except TypeError:
        dtype = np.dtype(object)
    shape = tuple(size if isinstance(size, int) and size > 0 else None for size in port.shape)
    return Tensor(name=port.name, shape=shape, dtype=dtype)
