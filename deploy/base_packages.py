"""Installs the packages of a base image and removes the files that no function uses; the Dockerfile runs it in the image.

    python base_packages.py requirements.txt [imports.txt]

DEVICE (cpu, the default, or gpu) and TORCH_INDEX_URL, an index with CPU builds of torch, come from the environment. Both
steps belong in one RUN: a file that a later layer removes still takes its space.

Bytecode is kept for the modules that functions import when they start, and for no others. Functions run as a user who can't
write beside the packages, so what has none is compiled again at each start: torch and transformers take 12 s then, not 4.
"""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path, PurePosixPath

# Tests, and files for compilers, linkers and type checkers, which the image does not have.
_UNUSED_FOLDERS = {"tests", "test"}
_UNUSED_SUFFIXES = {".a", ".cmake", ".cu", ".cuh", ".h", ".hpp", ".pxd", ".pyi", ".pyx"}
_LICENCES = re.compile(r"(LICEN[CS]E|NOTICE|COPYING|AUTHORS)", re.IGNORECASE)

# Files of single packages, as patterns below site-packages.
_UNUSED_FILES = {
    # Functions compute on the CPU and read ONNX files and OpenVINO's own. The plugins for Intel's GPUs and NPUs need drivers.
    "openvino": (
        "openvino/libs/libopenvino_intel_gpu_plugin.so*",
        "openvino/libs/libopenvino_intel_npu_*",
        "openvino/libs/libopenvino_jax_frontend.so*",
        "openvino/libs/libopenvino_paddle_frontend.so*",
        "openvino/libs/libopenvino_pytorch_frontend.so*",
        "openvino/libs/libopenvino_tensorflow*_frontend.so*",
        "openvino/libs/cache.json",
    ),
    # The library for programs in C, a second time: Python's module has it built in. Scripts that convert models.
    "onnxruntime": ("onnxruntime/capi/libonnxruntime.so*", "onnxruntime/transformers/*"),
    "torch": ("torch/bin/protoc*",),
}

# Libraries of CUDA: packages of their own, and parts of torch that load them.
_CUDA = re.compile(r"nvidia-|cuda-|triton$")
_CUDA_PARTS_OF_TORCH = ("torch/lib/libtorch_cuda_linalg.so", "torch/lib/libcaffe2_nvrtc.so")


def main(arguments: Sequence[str]) -> None:
    """Installs the packages, removes unused files, and imports what functions import.

    Args:
        arguments: The path of a requirements file, and that of a list of modules that functions import.
    """
    device = os.environ.get("DEVICE") or "cpu"
    if device not in ("cpu", "gpu"):
        sys.exit(f"DEVICE: expected cpu or gpu, got {device}")
    requirements = read_lines(Path(arguments[0]))
    if device == "cpu":
        requirements = _install_for_cpu(requirements, os.environ.get("TORCH_INDEX_URL", ""))
    else:
        _install(requirements)
    names = [name_of(line) for line in requirements]
    remove(unused_files(names, keep_headers_of_cuda=device == "gpu"))
    if len(arguments) > 1:
        modules = installed_modules(read_lines(Path(arguments[1])))
        if device == "cpu":
            loaded = import_and_list_libraries(modules)
            remove(path for path in _cuda_files(names) if path.resolve() not in loaded)
        import_and_list_libraries(modules)


def read_lines(path: Path) -> list[str]:
    """The lines of a file without comments and empty lines.

    Args:
        path: The file.
    """
    lines = (line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def name_of(requirement: str) -> str:
    """The name of the package in a line of a requirements file, in lower case and with dashes.

    Args:
        requirement: Such as "ml_dtypes==0.6.0".
    """
    return re.sub(r"[-_.]+", "-", re.split(r"[=<>!~;\[ ]", requirement, maxsplit=1)[0]).lower()


def _install(requirements: Iterable[str], *options: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "requirements.txt"
        path.write_text("\n".join(requirements) + "\n", encoding="utf-8")
        command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-compile", *options, "-r", str(path)]
        done = subprocess.run(command, check=False)
    if done.returncode:
        sys.exit(done.returncode)


def _install_for_cpu(requirements: list[str], torch_index: str) -> list[str]:
    """Installs torch first: its build says whether it needs CUDA's libraries. Returns what has been installed."""
    torch = [line for line in requirements if name_of(line) in ("torch", "torchvision")]
    if torch:
        _install(torch, *(["--extra-index-url", torch_index] if torch_index else []))
        if torch_is_for_cpu():
            requirements = [line for line in requirements if not _CUDA.match(name_of(line))]
            print("torch is a CPU build: CUDA's libraries are left out", flush=True)
        else:
            print("torch is a build with CUDA, which can't be imported without CUDA's libraries", flush=True)
    _install(line for line in requirements if line not in torch)
    return requirements


def torch_is_for_cpu() -> bool:
    """Whether the torch that is installed was built without CUDA; it need not be importable."""
    version = metadata.distribution("torch").locate_file("torch/version.py")
    return runpy.run_path(str(version)).get("cuda") is None


def unused_files(names: Iterable[str], *, keep_headers_of_cuda: bool = False) -> Iterator[Path]:
    """The files of packages that no function uses. Licences and packages' metadata are never among them.

    Args:
        names: The names of installed packages.
        keep_headers_of_cuda: Whether what compilers read stays in CUDA's packages, which compile for GPUs as they run.
    """
    for name in names:
        unused_here = _UNUSED_FILES.get(name, ())
        keep_headers = keep_headers_of_cuda and _CUDA.match(name)
        for path in _files(name):
            if _is_metadata(path):
                continue
            unused = bool(_UNUSED_FOLDERS.intersection(path.parts[:-1])) or any(map(path.match, unused_here))
            if unused or (path.suffix in _UNUSED_SUFFIXES and not keep_headers):
                yield Path(str(path.locate()))


def _files(name: str) -> Iterable[metadata.PackagePath]:
    try:
        return metadata.files(name) or ()
    except metadata.PackageNotFoundError:  # by its marker it is for another Python or machine
        return ()


def _is_metadata(path: PurePosixPath) -> bool:
    return path.parts[0].endswith((".dist-info", ".egg-info")) or bool(_LICENCES.match(path.name))


def _cuda_files(names: Iterable[str]) -> Iterator[Path]:
    for name in names:
        for path in _files(name) if _CUDA.match(name) or name == "torch" else ():
            if not _is_metadata(path) and (name != "torch" or str(path) in _CUDA_PARTS_OF_TORCH):
                yield Path(str(path.locate()))


def remove(paths: Iterable[Path]) -> None:
    """Removes files, and the folders that are empty then.

    Args:
        paths: The files; those that don't exist are passed over.
    """
    removed = list(paths)
    size = sum(path.stat().st_size for path in removed if path.is_file())
    for path in removed:
        path.unlink(missing_ok=True)
    for folder in sorted({parent for path in removed for parent in path.parents}, key=lambda p: -len(p.parts)):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    print(f"removed {len(removed)} files that no function uses, {size / 1e6:.0f} MB", flush=True)


def installed_modules(modules: Iterable[str]) -> list[str]:
    """Those modules whose package is installed: a GPU has other packages than a CPU.

    Args:
        modules: Names, such as "torch.nn".
    """
    tops = metadata.packages_distributions() if sys.version_info >= (3, 10) else {}
    return [module for module in modules if module.partition(".")[0] in tops]


def import_and_list_libraries(modules: Sequence[str]) -> set[Path]:
    """Imports modules in a process of their own, which writes their bytecode.

    Args:
        modules: Their names.

    Returns:
        The files that the process had mapped into memory, with symbolic links resolved.
    """
    script = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)\nprint(open('/proc/self/maps').read())"
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    done = subprocess.run(
        [sys.executable, "-c", script, *modules], env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        sys.exit("the packages can't be imported")
    fields = (line.split(maxsplit=5) for line in done.stdout.splitlines())
    return {Path(each[5]).resolve() for each in fields if len(each) == 6 and each[5].startswith("/")}


if __name__ == "__main__":
    main(sys.argv[1:])
