"""The environments in which exporters run: made once, below the environment of the collection's tools."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from common.errors import StartupError
from tools.collection import ROOT, shown

_REQUIREMENTS = "requirements.txt"


def python_for(exporter: Path, modules: Sequence[str]) -> Path:
    """A Python that has an exporter's packages: the one that runs this, or that of the exporter's own environment.

    Args:
        exporter: The exporter's folder, with its requirements.txt.
        modules: What it imports; if all of them are here, no other environment is needed.

    Returns:
        The path of the interpreter.

    Raises:
        StartupError: The environment can't be made; with the commands to make it by hand.
    """
    if all(importlib.util.find_spec(module) for module in modules):
        return Path(sys.executable)
    environment = _place() / exporter.name
    digest = hashlib.sha256((exporter / _REQUIREMENTS).read_bytes()).hexdigest()[:16]
    python, stamp = environment / "bin" / "python", environment / f".installed-{digest}"
    with _locked(environment):
        if not (stamp.is_file() and python.exists()):
            try:
                _make(environment, exporter / _REQUIREMENTS)
            except BaseException:  # Ctrl-C too: half an environment is gigabytes that nothing uses
                shutil.rmtree(environment, ignore_errors=True)
                raise
            stamp.touch()
    return python


def _place() -> Path:
    """The folder of all exporters' environments: in the virtual environment that runs this, if it is one."""
    inside = Path(sys.prefix) if sys.prefix != sys.base_prefix else ROOT / ".venv"
    return inside / "exporters"


@contextmanager
def _locked(environment: Path) -> Iterator[None]:
    try:
        environment.parent.mkdir(parents=True, exist_ok=True)
        with environment.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two at once would install into the same folder
            yield
    except OSError as error:
        raise StartupError(
            f"{environment}: the exporter's environment can't be made: {error.strerror}; make it writable, or "
            "use AS_IS=1"
        ) from error


def _make(environment: Path, requirements: Path) -> None:
    shutil.rmtree(environment, ignore_errors=True)
    print(
        f"Making an environment for the exporter in {shown(environment)}, once: torch and its libraries, some gigabytes to "
        "download ...",
        flush=True,
    )
    python = environment / "bin" / "python"
    install = [*("-m", "pip", "install", "--disable-pip-version-check", "--no-deps", "--prefer-binary"), "-r"]
    for command in ([sys.executable, "-m", "venv", str(environment)], [str(python), *install, str(requirements)]):
        done = subprocess.run(  # noqa: S603
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=_environment(), check=False
        )
        if done.returncode:
            lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
            reason = next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1] if lines else "")
            raise StartupError(
                f"the environment of the exporter can't be made: {reason[:120]}. Use AS_IS=1, or export where the package is "
                "(yolo export model=best.pt format=onnx), or make it where there is a network: "
                f"python3 -m venv {shown(environment)}; {shown(python)} -m pip install --no-deps -r {shown(requirements)}"
            )


def _environment() -> dict[str, str]:
    """Without what would make pip or venv work on the environment that runs this."""
    return {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    }
