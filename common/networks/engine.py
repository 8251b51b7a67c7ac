"""Model files on a named device: ONNX Runtime (CPU, CUDA, TensorRT) and OpenVINO (CPU) behind one small interface.

A device that was asked for and isn't there is an error with its remedy, never a slower device in silence. On a CPU, when
both libraries are installed, `auto` runs the model on each and takes the faster one; the log says what was measured.
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
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import yaml
from numpy.typing import NDArray

from common.errors import StartupError, describe

ENGINES = ("auto", "onnxruntime", "openvino", "tensorrt")
PRECISIONS = ("f32", "bf16", "f16")
_MEASURE_SECONDS = 0.8  # for all engines; however slow the model, each runs it twice at least
_CHOICES: contextvars.ContextVar[list[str] | None] = contextvars.ContextVar("choices", default=None)
_LOG = logging.getLogger(__name__)
_ONNX_DTYPES = {"float": "float32", "double": "float64"}  # the rest are numpy's names

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output of a model. shape: None where the size is free."""

    name: str
    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]


class Engine(Protocol):
    """A loaded model. description: which engine on which device. metadata: the texts stored in the file."""

    description: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    metadata: Mapping[str, str]

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """The outputs for the inputs, both in the model's order; inputs are cast to the model's types."""
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
    """Loads an ONNX file (or its bytes) or an OpenVINO .xml.

    device: "cpu", "cuda" or "cuda:1". engine: one of ENGINES. threads: of a CPU engine.
    precision: one of PRECISIONS, of OpenVINO's arithmetic; less than f32 is faster where the CPU has it, and less exact.
    example: makes inputs as they will be, for measuring; None: zeros, of a model whose sizes are all fixed.
    fixed: all inputs will have the shapes of the example, which lets OpenVINO plan for them.
    Raises StartupError when the file is no model, or a device or library that was asked for is not there.
    """
    index = cuda_index(device)
    if engine not in ENGINES:
        raise StartupError(f"ENGINE: expected one of {', '.join(ENGINES)}, got {describe(engine)}")
    if precision not in PRECISIONS:
        raise StartupError(f"PRECISION: expected one of {', '.join(PRECISIONS)}, got {describe(precision)}")
    is_openvino_file = not isinstance(model, bytes) and Path(model).suffix == ".xml"
    if index is not None:
        if engine == "openvino" or is_openvino_file:
            raise StartupError(f"DEVICE={device} needs ONNX Runtime and an .onnx file; OpenVINO runs with DEVICE=cpu")
        return OnnxRuntimeEngine(model, threads=threads, cuda=index, tensorrt=engine == "tensorrt")
    if engine == "tensorrt":
        raise StartupError("ENGINE=tensorrt needs DEVICE=cuda")

    def openvino() -> Engine:
        return OpenVinoEngine(model, threads=threads, precision=precision, example=example if fixed else None)

    def onnxruntime() -> Engine:
        return OnnxRuntimeEngine(model, threads=threads)

    if is_openvino_file:
        if engine == "onnxruntime":
            raise StartupError("ENGINE=onnxruntime needs an .onnx file, got an OpenVINO .xml")
        return openvino()
    if engine != "auto":
        return {"openvino": openvino, "onnxruntime": onnxruntime}[engine]()
    makers = {"onnxruntime": onnxruntime, "openvino": openvino}
    chosen = _fastest({name: make for name, make in makers.items() if _installed(name)}, example)
    note_choice("openvino" if isinstance(chosen, OpenVinoEngine) else "onnxruntime")
    return chosen


def note_choice(library: str) -> None:
    """Says that `library` was chosen by measuring, to whoever listens by `choices`."""
    if (taken := _CHOICES.get()) is not None:
        taken.append(library)


@contextlib.contextmanager
def choices() -> Iterator[list[str]]:
    """What `auto` takes while this is open, in order; for processes that have to agree."""
    taken: list[str] = []
    token = _CHOICES.set(taken)
    try:
        yield taken
    finally:
        _CHOICES.reset(token)


def cuda_index(device: str) -> int | None:
    """The number of a CUDA device, None for the CPU. Raises StartupError for another name."""
    match = re.fullmatch(r"(cpu)|cuda(?::(\d+))?", device.strip().lower())
    if match is None:
        raise StartupError(f"DEVICE: expected cpu, cuda or cuda:<number>, got {describe(device)}")
    return None if match[1] else int(match[2] or 0)


def torch_device(name: str) -> Any:
    """The torch device of an option DEVICE. Raises StartupError when it is not there, with the remedy."""
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
    """A model in ONNX Runtime. cuda: the number of a CUDA device, None for the CPU."""

    def __init__(self, model: str | Path | bytes, *, threads: int = 1, cuda: int | None = None, tensorrt: bool = False):
        if not _installed("onnxruntime"):
            raise StartupError("ONNX Runtime is not installed: pip install onnxruntime (onnxruntime-gpu for CUDA)")
        import onnxruntime as ort

        providers: list[Any] = ["CPUExecutionProvider"]
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
        first = providers[0] if isinstance(providers[0], str) else providers[0][0]
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
        feed = {
            port.name: array.astype(port.dtype, copy=False) for port, array in zip(self.inputs, arrays, strict=True)
        }
        results: list[Array] = self._session.run(None, feed)
        return results


class OpenVinoEngine:
    """A model in OpenVINO on the CPU. example: as for `open_engine`, to fix the free sizes of its inputs."""

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
            self.metadata: Mapping[str, str] = _openvino_metadata(read, model)
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
    _LOG.info("Took %s; measured here on this model: %s", engines[best].description, measured)
    return engines[best]


def _example_inputs(engine: Engine, example: Callable[[Engine], Sequence[Array]] | None) -> Sequence[Array] | None:
    if example is not None:
        return example(engine)
    if any(None in port.shape for port in engine.inputs):
        return None
    return [np.zeros([size or 0 for size in port.shape], port.dtype) for port in engine.inputs]


def _measure(engines: Sequence[Engine], inputs: Sequence[Array]) -> dict[int, float]:
    """Seconds of the fastest run of each engine that can run the inputs, by its place. In turns, so that what else the
    machine does meets all of them. Raises StartupError when none can run them."""
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
    while len(best) > 1 and time.perf_counter() < deadline:
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
    names = sorted(port.get_names())
    shape = tuple(None if size.is_dynamic else size.get_length() for size in port.get_partial_shape())
    return Tensor(name=names[0] if names else fallback, shape=shape, dtype=np.dtype(port.get_element_type().to_dtype()))


def _openvino_metadata(read: Any, model: str | Path | bytes) -> dict[str, str]:
    if not isinstance(model, bytes) and Path(model).suffix == ".xml":
        # Exporters to OpenVINO put a metadata.yaml beside the model.
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
