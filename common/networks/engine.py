"""Model files on a device: ONNX Runtime (CPU, CUDA, TensorRT) and OpenVINO (CPU) behind one small interface.

A device that was asked for but is missing is an error that says what to do, never a silent fallback to a slower device.
On a CPU with both libraries installed, `auto` runs the model on each and takes the faster one; the log says what was
measured.
"""

from __future__ import annotations

import contextlib
import contextvars
import importlib.util
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import yaml
from numpy.typing import NDArray

from common.errors import StartupError, describe
from common.networks.fingerprint import content_key
from common.networks.shared_choice import shared_choice

ENGINES = ("auto", "onnxruntime", "openvino", "tensorrt")
PRECISIONS = ("f32", "bf16", "f16")
_MEASURE_SECONDS = 0.8  # for all engines together; each runs the model at least twice
_MOST_RUNS = 10  # of each engine: enough for a small model, which would be run a hundred times
_CHOICES: contextvars.ContextVar[list[str] | None] = contextvars.ContextVar("choices", default=None)
_LOG = logging.getLogger(__name__)
_ONNX_DTYPES = {"float": "float32", "double": "float64"}  # the rest are numpy's names

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output of a model."""

    name: str
    """As in the file."""
    shape: tuple[int | None, ...]
    """Sizes of its axes, None where the size is free."""
    dtype: np.dtype[Any]
    """Type of its values."""


class Engine(Protocol):
    """A loaded model."""

    description: str
    """Which engine on which device."""
    inputs: tuple[Tensor, ...]
    """What the model takes, in its order."""
    outputs: tuple[Tensor, ...]
    """What the model gives, in its order."""
    metadata: Mapping[str, str]
    """The texts stored in the file."""

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """Runs the model once.

        Args:
            arrays: The inputs in the model's order; they are cast to its types.

        Returns:
            The outputs in the model's order.
        """
        ...


def open_engine(
    model: str | Path | bytes,
    *,
    device: str = "cpu",
    engine: str = "auto",
    threads: int = 1,
    precision: str = "f32",
    example: Callable[[Engine], Sequence[Array]] | None = None,
    fixed: bool = False,
) -> Engine:
    """Loads a model file.

    Args:
        model: An ONNX file, its bytes, or an OpenVINO .xml.
        device: "cpu", "cuda" or "cuda:1".
        engine: One of ENGINES.
        threads: How many a CPU engine may use.
        precision: One of PRECISIONS, of OpenVINO's arithmetic; less than f32 is faster on CPUs that support it, and less
            exact.
        example: Makes inputs like those to come, for measuring; None: zeros, for a model whose sizes are all fixed.
        fixed: Whether all inputs will have the shapes of the example, which lets OpenVINO plan for them.

    Raises:
        StartupError: The file is not a model, or a device or library that was asked for is missing.
    """
    index = cuda_index(device)
    StartupError.check(engine in ENGINES, "ENGINE", f"one of {', '.join(ENGINES)}", engine)
    StartupError.check(precision in PRECISIONS, "PRECISION", f"one of {', '.join(PRECISIONS)}", precision)
    is_openvino_file = not isinstance(model, bytes) and Path(model).suffix == ".xml"
    if index is not None:
        if engine == "openvino" or is_openvino_file:
            raise StartupError(f"DEVICE={device} needs ONNX Runtime and an .onnx file; OpenVINO runs with DEVICE=cpu")
        return OnnxRuntimeEngine(model, threads=threads, cuda=index, tensorrt=engine == "tensorrt")
    if engine == "tensorrt":
        raise StartupError("ENGINE=tensorrt needs DEVICE=cuda")
    if engine == "onnxruntime" and is_openvino_file:
        raise StartupError("ENGINE=onnxruntime needs an .onnx file, got an OpenVINO .xml")
    planned = example if fixed else None
    makers: dict[str, Callable[[], Engine]] = {
        "onnxruntime": partial(OnnxRuntimeEngine, model, threads=threads),
        "openvino": partial(OpenVinoEngine, model, threads=threads, precision=precision, example=planned),
    }
    if is_openvino_file or engine != "auto":
        return makers["openvino" if is_openvino_file else engine]()
    file = content_key(model) if isinstance(model, bytes) else str(model)
    question = f"engine for {file}, {threads} threads, {precision}{', fixed sizes' if fixed else ''}"
    with shared_choice(question, tuple(makers)) as choice:
        if choice.made is None:
            chosen = _fastest({name: make for name, make in makers.items() if _installed(name)}, example)
            choice.make(_library(chosen))
    if choice.made is not None:
        chosen = makers[choice.made]()
        _LOG.info("Using %s, found to be the faster engine before", chosen.description)
    note_choice(_library(chosen))
    return chosen


def _library(engine: Engine) -> str:
    return "openvino" if isinstance(engine, OpenVinoEngine) else "onnxruntime"


def note_choice(library: str) -> None:
    """Reports to `choices` that a library was chosen by measuring.

    Args:
        library: "onnxruntime" or "openvino".
    """
    if (taken := _CHOICES.get()) is not None:
        taken.append(library)


@contextlib.contextmanager
def choices() -> Iterator[list[str]]:
    """Collects what `auto` chooses while this is open, in order; for processes that have to agree."""
    taken: list[str] = []
    token = _CHOICES.set(taken)
    try:
        yield taken
    finally:
        _CHOICES.reset(token)


def cuda_index(device: str) -> int | None:
    """The number of a CUDA device.

    Args:
        device: The option DEVICE: "cpu", "cuda" or "cuda:<number>".

    Returns:
        The number, None for the CPU.

    Raises:
        StartupError: The name is not one of these.
    """
    match = re.fullmatch(r"(cpu)|cuda(?::(\d+))?", device.strip().lower())
    if match is None:
        raise StartupError(f"DEVICE: expected cpu, cuda or cuda:<number>, got {describe(device)}")
    return None if match[1] else int(match[2] or 0)


def torch_device(name: str) -> Any:
    """A device of torch.

    Args:
        name: The option DEVICE: "cpu", "cuda" or "cuda:<number>".

    Raises:
        StartupError: The machine has no such device; with what to do about it.
    """
    import torch

    index = cuda_index(name)
    if index is None:
        return torch.device("cpu")
    if not torch.cuda.is_available() or index >= torch.cuda.device_count():
        raise StartupError(
            f"DEVICE={name}: torch sees {torch.cuda.device_count()} GPUs: deploy the GPU image (deploy_gpu.sh) on a "
            "machine with an NVIDIA driver, let the container see the GPU (resources.limits), or set DEVICE=cpu"
        )
    return torch.device("cuda", index)


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
        if not _installed("onnxruntime"):
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
            raise StartupError(f"{_name(model)}: ONNX Runtime can't load it: {_brief(error)}") from error
        first = providers[0][0]
        if self._session.get_providers()[0] != first:
            raise StartupError(
                f"{first} of ONNX Runtime could not start on this machine: is there an NVIDIA GPU with a driver for "
                "CUDA 12 or later, and does the container see it (nvidia-smi; resources.limits of the function.yaml)? "
                "Or set DEVICE=cpu"
            )
        where = f"CPU, {threads} threads" if cuda is None else f"{'TensorRT' if tensorrt else 'CUDA'} device {cuda}"
        self.description = f"ONNX Runtime {ort.__version__} on {where}"
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
        if not _installed("openvino"):
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
            raise StartupError(f"{_name(model)}: OpenVINO can't load it: {_brief(error)}") from error
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


def _fastest(makers: Mapping[str, Callable[[], Engine]], example: Callable[[Engine], Sequence[Array]] | None) -> Engine:
    if not makers:
        raise StartupError("neither ONNX Runtime nor OpenVINO is installed: pip install onnxruntime openvino")
    engines: list[Engine] = []
    problems: list[StartupError] = []
    for make in makers.values():
        try:
            engines.append(make())
        except StartupError as error:
            problems.append(error)
    if not engines:
        raise problems[0]
    for problem in problems:
        _LOG.warning("Left out: %s", problem)
    if len(engines) == 1:
        _LOG.info("%s, the only engine here for this model", engines[0].description)
        return engines[0]
    inputs = _example_inputs(engines[0], example)
    if inputs is None:
        _LOG.info("%s: not measured, the model's input sizes are free", engines[0].description)
        return engines[0]
    seconds = _measure(engines, inputs)
    best = min(seconds, key=lambda i: seconds[i])
    measured = ", ".join(f"{engines[i].description}: {seconds[i] * 1000:.1f} ms" for i in sorted(seconds))
    _LOG.info("Using %s; measured here on this model: %s", engines[best].description, measured)
    return engines[best]


def _example_inputs(engine: Engine, example: Callable[[Engine], Sequence[Array]] | None) -> Sequence[Array] | None:
    if example is not None:
        return example(engine)
    if any(None in port.shape for port in engine.inputs):
        return None
    return [np.zeros([size or 0 for size in port.shape], port.dtype) for port in engine.inputs]


def _measure(engines: Sequence[Engine], inputs: Sequence[Array]) -> dict[int, float]:
    """Seconds of the fastest run of each engine that can run the inputs, by its index.

    The engines alternate, so that other load on the machine affects all of them. Raises StartupError when none can run.
    """
    best: dict[int, float] = {}
    problems = []
    for i, engine in enumerate(engines):
        try:
            best[i] = _seconds(engine, inputs)  # the first run is slow: the others count, unless it was very slow
        except Exception as error:  # each library has its own
            problems.append(f"{engine.description} can't run the model: {_brief(error)}")
            _LOG.warning("Left out: %s", problems[-1])
    if not best:
        raise StartupError("; ".join(problems))
    deadline = time.perf_counter() + _MEASURE_SECONDS
    for _ in range(_MOST_RUNS):
        if len(best) == 1 or time.perf_counter() >= deadline:
            break
        for i in best:
            best[i] = min(best[i], _seconds(engines[i], inputs))
    return best


def _seconds(engine: Engine, inputs: Sequence[Array]) -> float:
    begin = time.perf_counter()
    engine.run(inputs)
    return time.perf_counter() - begin


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


def _openvino_tensor(port: Any, fallback: str) -> Tensor:
    names = sorted(port.get_names(), key=lambda name: (len(name), name))  # converters add longer ones
    shape = tuple(None if size.is_dynamic else size.get_length() for size in port.get_partial_shape())
    return Tensor(name=names[0] if names else fallback, shape=shape, dtype=np.dtype(port.get_element_type().to_dtype()))


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
            raise StartupError(f"{beside}: not YAML: {_brief(error)}") from error
        return {str(key): str(value) for key, value in content.items()} if isinstance(content, dict) else {}
    information = read.get_rt_info()
    if "framework" not in information:
        return {}
    return {str(key): value.astype(str) for key, value in information["framework"].items()}


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _name(model: str | Path | bytes) -> str:
    return "the model" if isinstance(model, bytes) else str(model)


def _brief(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("Exception from ")] or lines  # OpenVINO's source lines
    return (lines[0] if lines else type(error).__name__)[:300]
