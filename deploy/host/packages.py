"""PyYAML, the one package that a deployment needs beyond Python's standard library.

It is taken from this Python where it has it, as Debian's and Fedora's package python3-yaml, else fetched once into
out/deploy/packages, by this Python's pip or by that of the Python image which base images start from.
"""

from __future__ import annotations

import importlib
import io
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from deploy.console import DeploymentError

ROOT = Path(__file__).resolve().parents[2]
DEFAULT_PYTHON_IMAGE = "python:3.11-slim"
"""The image that base images start from, unless told otherwise."""
FOLDER = ROOT / "out" / "deploy" / "packages"
_REQUIREMENTS = ROOT / "deploy" / "requirements.txt"
_PIP = ("python", "-m", "pip")
_QUICK = ("--quiet", "--disable-pip-version-check", "--no-deps", "--retries", "1")
_TIMEOUT_S = 300


def yaml_module(*, fetch: bool = True) -> Any:
    """The module `yaml`.

    Args:
        fetch: Whether to fetch it where it is missing.

    Returns:
        The module; None where it is missing and was not to be fetched.

    Raises:
        DeploymentError: It can't be fetched.
    """
    if str(FOLDER) not in sys.path:
        sys.path.append(str(FOLDER))
    try:
        return importlib.import_module("yaml")
    except ImportError:
        if not fetch:
            return None
    _fetch()
    importlib.invalidate_caches()
    return importlib.import_module("yaml")


def _fetch() -> None:
    print("Python's package yaml is missing here: fetching it into out/deploy/packages", file=sys.stderr, flush=True)
    problems = []
    try:
        FOLDER.parent.mkdir(parents=True, exist_ok=True)
        for fetch in (_fetch_by_pip, _fetch_by_docker):
            with tempfile.TemporaryDirectory(dir=FOLDER.parent) as scratch:
                made = Path(scratch) / "packages"
                problem = fetch(made)
                if not problem:
                    _keep(made)
                    return
                problems.append(problem)
    except OSError as error:
        problems.append(str(error))
    cause = f"Python's package yaml is missing here and can't be fetched: {'; '.join(problems)}"
    raise DeploymentError(cause, "install it, such as by: sudo apt-get install python3-yaml")


def _fetch_by_pip(folder: Path) -> str:
    # With --target pip also works where the distribution keeps it from its own packages (PEP 668).
    command = [sys.executable, *_PIP[1:], "install", *_QUICK, "--no-compile", "--target", str(folder)]
    done, problem = _run([*command, "-r", str(_REQUIREMENTS)])
    return problem if done is None else ""


def _fetch_by_docker(folder: Path) -> str:
    """Takes the wheel from the container's stdout: Docker's host may see none of the folders here."""
    command = ["docker", "run", "--rm", "--interactive", "--network", "host"]
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST"):
        command += ["--env", name] if name in os.environ else []
    script = f"{' '.join((*_PIP, 'download', *_QUICK))} --only-binary :all: --dest /tmp/wheels -r /dev/stdin >&2 && cat /tmp/wheels/*.whl"
    command += [os.environ.get("PYTHON_IMAGE", DEFAULT_PYTHON_IMAGE), "sh", "-c", script]
    done, problem = _run(command, _REQUIREMENTS.read_bytes())
    if done is None:
        return problem
    with zipfile.ZipFile(io.BytesIO(done)) as wheel:
        wheel.extractall(folder)
    return ""


def _run(command: list[str], data: bytes = b"") -> tuple[bytes | None, str]:
    """The output of a command, or None and why it failed."""
    try:
        done = subprocess.run(command, input=data, capture_output=True, timeout=_TIMEOUT_S)
    except FileNotFoundError:
        return None, f"{command[0]} is not installed"
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, str(error)
    said = done.stderr.decode("utf-8", "replace").strip().splitlines() or [f"{command[0]} failed"]
    return (done.stdout, "") if done.returncode == 0 else (None, said[-1][:300])


def _keep(made: Path) -> None:
    try:
        made.replace(FOLDER)
    except OSError:
        if not (FOLDER / "yaml").is_dir():  # else another run was faster
            raise
