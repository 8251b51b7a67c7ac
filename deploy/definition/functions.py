"""The functions to deploy: found by their directories, or known from Nuclio."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deploy.console import DeploymentError
from deploy.definition import function_file
from deploy.definition.deployment import Deployment
from deploy.definition.function_file import GPU_NAME, NAME, Fields, at
from deploy.host.packages import ROOT

COLLECTION = ROOT / "serverless"
_REMEDY_WITHOUT_COLLECTION = (
    "from a bundle: --offline FILE; what is deployed already: --no-build; functions of your own: their directories"
)
_NAME_PATTERN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


@dataclass
class Function:
    """A function, and what is decided about its deployment."""

    name: str
    kind: str
    """"detector", "interactor", "tracker" or "reid"; "?" where function.yaml doesn't say."""
    content: Fields
    """Its function.yaml, as it was written."""
    directory: Path | None
    """Where its code is; None for one that is known from Nuclio alone."""
    device: str
    """"gpu" when it gets a GPU; what can't use one, such as a framework without GPU packages, runs on the CPU by either script."""
    base: str
    """The image that it is built on, with its tag; "" for Nuclio's own."""
    framework: str
    """The framework of the collection whose base image that is; "" for another image."""
    image: str
    """The image that it runs, with its tag."""
    deployment: Deployment = field(default_factory=Deployment)
    """The options that it is deployed with."""
    port: int | None = None
    """Its port on the host; None on Kubernetes."""
    is_named: bool = False
    """Whether it was asked for by its name, not as one of a folder or of the collection."""

    @property
    def repository(self) -> str:
        """The image without its tag."""
        return repository_of(self.image)

    @property
    def latest(self) -> str:
        """The name of the image of the last deployment that succeeded."""
        return f"{self.repository}:latest-gpu" if self.device == "gpu" else f"{self.repository}:latest"

    @property
    def has_own_gpu_file(self) -> bool:
        """Whether the GPU has a function.yaml of its own, as in CVAT's collection."""
        return self.device == "gpu" and self.directory is not None and (self.directory / GPU_NAME).is_file()


def repository_of(image: str) -> str:
    """An image's name without its tag.

    Args:
        image: The name; the port of a registry in it is not taken for a tag.
    """
    folder, slash, name = image.rpartition("/")
    return folder + slash + name.split(":")[0].split("@")[0]


def find(arguments: Sequence[str], device: str) -> list[Function]:
    """The functions that the command line names, or the whole collection.

    Args:
        arguments: Directories, folders that hold some, or names of functions of the collection.
        device: "cpu" or "gpu".

    Raises:
        DeploymentError: There is no such function, its file is wrong, or two have one name; status 2.
    """
    found: dict[str, Function] = {}
    for argument in arguments or [str(COLLECTION)]:
        directories = _directories(argument)
        if not directories and not arguments:
            raise DeploymentError("there are no functions beside these scripts", _REMEDY_WITHOUT_COLLECTION, status=2)
        if not directories:
            raise DeploymentError(f"{argument}: there is no function.yaml in it", status=2)
        for directory in directories:
            function = load(directory, device)
            function.is_named = len(directories) == 1
            other = found.setdefault(function.name, function)
            if other.directory != directory:
                cause = f"two functions have the name {function.name}: {other.directory} and {directory}"
                raise DeploymentError(cause, "rename one: metadata.name", status=2)
    return list(found.values())


def load(directory: Path, device: str) -> Function:
    """The function of a directory.

    Args:
        directory: Where its function.yaml is.
        device: "cpu" or "gpu".

    Raises:
        DeploymentError: Its function.yaml is wrong; status 2.
    """
    own_gpu_file = directory / GPU_NAME
    path = own_gpu_file if device == "gpu" and own_gpu_file.is_file() else directory / NAME
    content = function_file.read(path)
    name = str(at(content, "metadata", "name") or "")
    if not _NAME_PATTERN.fullmatch(name):
        cause = f"{path}: metadata.name: expected lower-case letters, digits and dashes, got '{name}'"
        raise DeploymentError(cause, status=2)
    return of_content(content, directory, device)


def of_content(content: Fields, directory: Path | None, device: str) -> Function:
    """A function from the content of its function.yaml.

    Args:
        content: The file, or what Nuclio keeps of it.
        directory: Where its code is, if that is known.
        device: "cpu" or "gpu".
    """
    name = str(at(content, "metadata", "name"))
    base = str(at(content, "spec", "build", "baseImage") or "")
    image = str(at(content, "spec", "build", "image") or "") or f"nuclio/processor-{name}"
    framework = framework_of(base)
    has_own_file = directory is not None and (directory / GPU_NAME).is_file()
    if framework and not has_own_file and not _can_use_gpu(content, framework):
        device = "cpu"
    suffix = "-gpu" if device == "gpu" else ""
    if device == "gpu" or image == repository_of(image):
        image = f"{repository_of(image)}:latest{suffix}"
    return Function(
        name=name,
        kind=str(at(content, "metadata", "annotations", "type") or "?"),
        content=content,
        directory=directory,
        device=device,
        base=f"{base}:latest{suffix}" if framework else base,
        framework=framework,
        image=image,
    )


def _can_use_gpu(content: Fields, framework: str) -> bool:
    if not (COLLECTION / framework / "base" / "requirements-gpu.txt").is_file():
        return False
    # OpenVINO's files run on a CPU alone: functions for them have no option DEVICE.
    return framework != "onnx" or "DEVICE" in function_file.environment(content)


def framework_of(base: str) -> str:
    """The framework of the collection whose base image is built here, from its folder `base`; "" for any other image.

    Args:
        base: The name of a base image, such as cvat.onnx.base.
    """
    match = re.fullmatch(r"cvat\.([^.:/]+)\.base", base)
    return match[1] if match and (COLLECTION / match[1] / "base" / "requirements.txt").is_file() else ""


def frameworks() -> list[str]:
    """The frameworks that have a base image."""
    return sorted(path.parent.parent.name for path in COLLECTION.glob("*/base/requirements.txt"))


def _directories(argument: str) -> list[Path]:
    for path in (Path(argument), COLLECTION / argument, ROOT / argument):
        if path.is_dir():
            return _below(path.resolve())
    for directory in _below(COLLECTION):
        if at(function_file.read(directory / NAME), "metadata", "name") == argument:
            return [directory]
    remedy = "give a directory with a function.yaml, or a folder that holds some"
    if not _below(COLLECTION):
        remedy = _REMEDY_WITHOUT_COLLECTION
    raise DeploymentError(f"{argument}: there is no such function", remedy, status=2)


def _below(folder: Path) -> list[Path]:
    paths: Iterable[Path] = folder.rglob(NAME)
    return sorted(
        path.parent.resolve()
        for path in paths
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
