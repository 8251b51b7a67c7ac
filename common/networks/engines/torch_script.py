"""TorchScript files, in torch.

`torch.jit.load` runs no pickled Python, but such a file is a program, and operators of torch read and write files: a file
that calls one of them is refused before it is loaded.
"""

from __future__ import annotations

import json
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import StartupError, describe
from common.networks.engines.devices import torch_device
from common.networks.engines.interface import Array, Engine, Tensor, installed

SUFFIX = ".torchscript"
_METADATA = "config.txt"  # the extra file in which Ultralytics' and YOLOv5's exporters write JSON
# However it is written: torch skips line breaks, comments and brackets between the parts of a name, and knows aliases.
_FILE_OPERATORS = re.compile(rb"\.(?:[\s\\()]|#[^\n]*\n)*(save|from_file|load|read_file|write_file)\b")
_GETATTR = re.compile(rb"""\bgetattr\([^()"']*, "(\w+)"\)""")  # as torch writes it, for modules called "0"
_LARGEST_TEXT = 64 << 20  # bytes of one source file, unpacked
_WARM_UP_RUNS = 2  # torch profiles and compiles during the first two


class TorchScriptEngine:
    """A TorchScript file in torch.

    Such a file doesn't declare its shapes: the metadata of its exporter tells the image's size, and a run on the example
    shows the outputs.

    Args:
        model: The file.
        device: "cpu", "cuda" or "cuda:1".
        threads: How many it may use on a CPU.
        example: Makes inputs like those to come; None: zeros, for a model whose metadata tells its size.

    Raises:
        StartupError: The file is not TorchScript, can't be run, or torch or the device is missing.
    """

    def __init__(
        self,
        model: str | Path | bytes,
        *,
        device: str = "cpu",
        threads: int = 1,
        example: Callable[[Engine], Sequence[Array]] | None = None,
    ):
        if isinstance(model, bytes):
            raise StartupError("ENGINE=torchscript needs a .torchscript file")
        if not installed("torch"):
            raise StartupError(
                f"{model}: TorchScript needs torch, which is not installed here: pip install torch; an image of a function has "
                "it if its base image (baseImage in function.yaml) is cvat.pytorch.base. Or export the model to ONNX"
            )
        import torch

        _check_archive(Path(model))
        self._device = torch_device(device)
        torch.set_num_threads(threads)
        extra = {_METADATA: ""}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # torch advises other formats than the one that is here
                self._module = torch.jit.load(str(model), map_location=self._device, _extra_files=extra).eval()
        except (RuntimeError, ValueError, OSError) as error:
            raise StartupError(f"{model}: torch can't load it as TorchScript: {_last_line(error)}") from error
        self.metadata: Mapping[str, str] = _metadata(extra[_METADATA], Path(model))
        self.inputs = self._inputs(Path(model))
        self.outputs: tuple[Tensor, ...] = ()
        where = f"CPU, {threads} threads" if self._device.type == "cpu" else f"CUDA device {self._device.index}"
        self.description = f"TorchScript in torch {torch.__version__} on {where}"
        self._start(Path(model), example)

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """As `Engine.run`.

        Args:
            arrays: The inputs in the model's order.
        """
        return [array for _, array in self._answer(arrays)]

    def _answer(self, arrays: Sequence[Array]) -> list[tuple[str, Array]]:
        import torch

        tensors = [
            torch.from_numpy(np.ascontiguousarray(array, dtype=port.dtype)).to(self._device)
            for port, array in zip(self.inputs, arrays, strict=True)
        ]
        with torch.inference_mode():
            named = list(_tensors(self._module(*tensors)))
            # Half precision and bfloat16, which numpy lacks, are read as the layouts read them: in 32 bit.
            return [
                (name or f"output{i}", (part.float() if part.is_floating_point() else part).cpu().numpy())
                for i, (name, part) in enumerate(named)
            ]

    def _inputs(self, path: Path) -> tuple[Tensor, ...]:
        import torch

        taken = [argument for argument in self._module.forward.schema.arguments[1:] if not argument.has_default_value()]
        if odd := [argument for argument in taken if str(argument.type) != "Tensor"]:
            raise StartupError(
                f"{path}: expected inputs that are tensors, got {odd[0].name}: {odd[0].type}; trace the model on a batch "
                "of images (torch.jit.trace), or export it to ONNX"
            )
        values = [*self._module.parameters(), *self._module.buffers()]
        half = any(value.dtype == torch.float16 for value in values)
        dtype = np.dtype(np.float16 if half else np.float32)
        return tuple(
            Tensor(argument.name, _image_shape(self.metadata) if len(taken) == 1 else (None,) * 4, dtype)
            for argument in taken
        )

    def _start(self, path: Path, example: Callable[[Engine], Sequence[Array]] | None) -> None:
        arrays = example(self) if example is not None else self._zeros(path)
        try:
            for _ in range(_WARM_UP_RUNS):
                answer = self._answer(arrays)
        except StartupError as error:
            raise StartupError(f"{path}: {error}") from error
        except Exception as error:  # whatever the model's operators raise
            shapes = ", ".join("x".join(map(str, array.shape)) for array in arrays)
            raise StartupError(
                f"{path}: torch can't run it on an input of {shapes}: {_last_line(error)}. Is IMAGE_SIZE the size that it was "
                "exported with, and was it exported for this device?"
            ) from error
        self.outputs = tuple(Tensor(name, array.shape, array.dtype) for name, array in answer)

    def _zeros(self, path: Path) -> list[Array]:
        if any(None in port.shape for port in self.inputs):
            raise StartupError(f"{path}: the file doesn't say the size of its input: set IMAGE_SIZE")
        return [np.zeros([size or 0 for size in port.shape], port.dtype) for port in self.inputs]


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive, whatever it is called.

    Args:
        path: Any file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return False
    return any(name.endswith("/constants.pkl") for name in names) and any("/code/" in name for name in names)


def _check_archive(path: Path) -> None:
    """Refuses what isn't TorchScript, and programs that read or write files."""
    if not path.is_file():
        raise StartupError(f"{path}: no such file")
    if not is_torchscript(path):
        raise StartupError(f"{path}: not a TorchScript file, or cut off; such a file is written by torch.jit.save")
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                name = entry.filename.lower()  # torch finds its entries in either case
                if "/code/" not in name or not name.endswith(".py"):
                    continue
                if entry.file_size > _LARGEST_TEXT:
                    raise StartupError(f"{path}: {entry.filename} is too large for a model's code")
                if operator := _file_operator(archive.read(entry)):
                    raise StartupError(
                        f"{path}: its code calls {operator}, which reads or writes files; a model has no use for that, so it is "
                        "not loaded"
                    )
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError) as error:
        raise StartupError(f"{path}: not a TorchScript file, or cut off: {error}") from error


def _file_operator(source: bytes) -> str:
    """An operator for files that TorchScript source code may call; "" for none."""
    while (plain := _GETATTR.sub(rb"_.\1", source)) != source:  # one inside the other
        source = plain
    if found := _FILE_OPERATORS.search(source):
        return f"torch.{found[1].decode()}"
    return "getattr with a name that torch.jit.save doesn't write" if re.search(rb"\bgetattr\b", source) else ""


def _metadata(text: str | bytes, path: Path) -> dict[str, str]:
    if not text:
        return {}
    try:
        content = json.loads(text)
    except ValueError as error:
        raise StartupError(f"{path}: {_METADATA} in it is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise StartupError(f"{path}: {_METADATA} in it: expected an object, got {describe(content)}")
    if isinstance(shape := content.get("shape"), list) and len(shape) == 4:  # YOLOv5's own exporter
        content = {"batch": shape[0], "channels": shape[1], "imgsz": shape[2:], **content}
    return {str(key): str(value) for key, value in content.items() if value is not None}


def _image_shape(metadata: Mapping[str, str]) -> tuple[int | None, ...]:
    """(batch, channels, height, width) of the example with which a model was traced, None where it isn't known."""
    sizes = re.findall(r"\d+", metadata.get("imgsz", ""))
    if "'dynamic': True" in metadata.get("args", "") or not 1 <= len(sizes) <= 2:
        return (None, None, None, None)
    batch, channels = (metadata.get(key, "") for key in ("batch", "channels"))
    return (
        int(batch) if batch.isdecimal() else None,
        int(channels) if channels.isdecimal() else 3,
        int(sizes[0]),
        int(sizes[-1]),
    )


def _tensors(answer: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The tensors of nested tuples, lists and objects, in their order, with the keys of the objects as names."""
    if hasattr(answer, "detach"):
        yield name, answer
    elif isinstance(answer, dict):
        for key, part in answer.items():
            yield from _tensors(part, f"{name}.{key}" if name else str(key))
    elif isinstance(answer, (tuple, list)):
        for i, part in enumerate(answer):
            yield from _tensors(part, f"{name}.{i}" if name and len(answer) > 1 else name)
    elif answer is not None:
        raise StartupError(f"expected outputs that are tensors, got {describe(answer)}")


def _last_line(error: Exception) -> str:
    """What went wrong, without the stack of the model's code that torch writes above it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__).removeprefix("RuntimeError: ")[:300]
