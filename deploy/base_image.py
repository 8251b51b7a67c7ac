"""The base images that the collection's functions are built on: one for each framework, and one more for its GPU packages."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.commands import Commands
from deploy.console import DeploymentError
from deploy.definition.functions import COLLECTION, Function, frameworks
from deploy.host.local_images import find_image
from deploy.host.packages import DEFAULT_PYTHON_IMAGE

PYTHON_LABEL = "cvat-functions.python"
"""The label of a base image that names the image it was started from."""
TORCH_LABEL = "cvat-functions.torch"
"""The label of a base image that names the index which its torch is from; empty for pip's own."""


@dataclass(frozen=True)
class BaseImage:
    """The base image of a framework."""

    name: str
    """With its tag, such as cvat.onnx.base:latest."""
    framework: str
    device: str
    """"cpu" or "gpu": whose packages it holds."""

    @property
    def folder(self) -> Path:
        """The folder of the framework's requirements."""
        return COLLECTION / self.framework / "base"

    @property
    def has_torch(self) -> bool:
        """Whether torch is among its packages."""
        name = "requirements-gpu.txt" if self.device == "gpu" else "requirements.txt"
        path = self.folder / name
        return path.is_file() and re.search(r"^torch\b", path.read_text(encoding="utf-8"), re.MULTILINE) is not None


def of_functions(functions: Sequence[Function]) -> list[BaseImage]:
    """The base images that functions need, each once.

    Args:
        functions: The functions.
    """
    found = (BaseImage(each.base, each.framework, each.device) for each in functions if each.framework)
    return list(dict.fromkeys(found))


def of_framework(framework: str, device: str) -> BaseImage:
    """The base image of a framework.

    Args:
        framework: Its name, such as onnx.
        device: "cpu" or "gpu"; a framework without GPU packages has one image for both.

    Raises:
        DeploymentError: There is no such framework; status 2.
    """
    known = frameworks()
    if framework not in known:
        raise DeploymentError(
            f"--base-only: there is no framework {framework}", f"there are: {', '.join(known)}", status=2
        )
    if device == "gpu" and not (COLLECTION / framework / "base" / "requirements-gpu.txt").is_file():
        device = "cpu"
    return BaseImage(f"cvat.{framework}.base:latest{'-gpu' if device == 'gpu' else ''}", framework, device)


def python_image(base_image: str, given: str | None, commands: Commands, *, recorded: str | None = None) -> str:
    """The image that a base image starts from.

    A base image remembers it, so that building it again without the option makes the same image.

    Args:
        base_image: The name of the base image, which may be here already.
        given: What the command line or the environment asks for.
        commands: Runs docker.
        recorded: What a function on this base image was deployed with.
    """
    if given:
        return given
    here = find_image(base_image, commands)
    return (here.labels.get(PYTHON_LABEL) if here else "") or recorded or DEFAULT_PYTHON_IMAGE
