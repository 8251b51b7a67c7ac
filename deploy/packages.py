"""PyYAML, the one package that a deployment needs beyond Python's standard library.

It is taken from this Python where it has it, as Debian's and Fedora's package python3-yaml, else fetched once into
out/deploy/packages, by this Python's pip or by that of the Python image which base images start from.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from deploy.console import DeploymentError

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "out" / "deploy" / "packages"
_REQUIREMENTS = Path(__file__).parent / "requirements.txt"
_PYTHON_IMAGE = "python:3.11-slim"
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
    if str(FOLDER) not in sys.path and FOLDER.is_dir():
        sys.path.append(str(FOLDER))
    try:
        return importlib.import_module("yaml")
    except ImportError:
        if not fetch:
            return None
    _fetch()
    importlib.invalidate_caches()
    sys.path.append(str(FOLDER))
    return importlib.import_module("yaml")


def _fetch() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    arguments = ["install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-compile", "--target"]
    image = os.environ.get("PYTHON_IMAGE", _PYTHON_IMAGE)
    mounts = ["--mount", f"type=bind,source={FOLDER},destination=/target"]
    mounts += ["--mount", f"type=bind,source={_REQUIREMENTS},destination=/requirements.txt,readonly"]
    here = [sys.executable, "-m", "pip", *arguments, str(FOLDER), "-r", str(_REQUIREMENTS)]
    in_docker = ["docker", "run", "--rm", "--network", "host", "--user", f"{os.getuid()}:{os.getgid()}", *mounts]
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST"):
        in_docker += ["--env", name] if name in os.environ else []
    in_docker += [image, "python", "-m", "pip", *arguments, "/target", "-r", "/requirements.txt"]
    said = ""
    for command in (here, in_docker):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S)
        except (OSError, subprocess.TimeoutExpired) as error:
            said = str(error)
            continue
        if done.returncode == 0:
            return
        said = (done.stderr.strip().splitlines() or ["pip failed"])[-1]
    raise DeploymentError(
        f"Python's package yaml is missing here and can't be fetched: {said}", "sudo apt-get install python3-yaml"
    )
