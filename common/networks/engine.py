"""Opens model files on a device: ONNX Runtime (CPU, CUDA, TensorRT), OpenVINO (CPU), TorchScript (CPU, CUDA).

A device that was asked for but is missing is an error that says what to do, never a silent fallback to a slower device.
On a CPU with both libraries installed, `auto` runs the model on each and takes the faster one; the log says what was
measured.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from common.errors import StartupError
from common.networks.engines.devices import cuda_index, torch_device
from common.networks.engines.interface import PRECISIONS, Array, Engine, Tensor, brief, installed
from common.networks.engines.onnx_runtime import OnnxRuntimeEngine
from common.networks.engines.open_vino import OpenVinoEngine
from common.networks.engines.torch_script import SUFFIX as TORCHSCRIPT_SUFFIX
from common.networks.engines.torch_script import TorchScriptEngine
from common.networks.fingerprint import content_key
from common.networks.shared_choice import shared_choice

__all__ = [
    "ENGINES",
    "PRECISIONS",
    "Array",
    "Engine",
    "OnnxRuntimeEngine",
    "OpenVinoEngine",
    "Tensor",
    "TorchScriptEngine",
    "choices",
    "cuda_index",
    "note_choice",
    "open_engine",
    "torch_device",
]
ENGINES = ("auto", "onnxruntime", "openvino", "tensorrt", "torchscript")
_MEASURE_SECONDS = 0.8  # for all engines together; each runs the model at least twice
_MOST_RUNS = 10  # of each engine: enough for a small model, which would be run a hundred times
_CHOICES: contextvars.ContextVar[list[str] | None] = contextvars.ContextVar("choices", default=None)
_LOG = logging.getLogger(__name__)


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
        model: An ONNX file, its bytes, an OpenVINO .xml or a .torchscript file.
        device: "cpu", "cuda" or "cuda:1".
        engine: One of ENGINES; an .xml is run by openvino, a .torchscript file by torchscript alone.
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
    if not isinstance(model, bytes) and Path(model).suffix == TORCHSCRIPT_SUFFIX:
        if engine not in ("auto", "torchscript"):
            raise StartupError(f"ENGINE={engine} can't run a .torchscript file: leave ENGINE=auto, or export to ONNX")
        return TorchScriptEngine(model, device=device, threads=threads, example=example)
    if engine == "torchscript":
        raise StartupError("ENGINE=torchscript needs a .torchscript file")
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
            chosen = _fastest({name: make for name, make in makers.items() if installed(name)}, example)
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
            problems.append(f"{engine.description} can't run the model: {brief(error)}")
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
