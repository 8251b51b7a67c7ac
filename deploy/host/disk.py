"""Whether the disk of Docker has room for the images."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.base_image import BaseImage
from deploy.commands import Commands
from deploy.console import Console
from deploy.host.local_images import find_image

_LEAST_FOR_A_BUILD = 2.0


@dataclass(frozen=True)
class Need:
    """Room on the disk, in GB."""

    least: float
    """Less is never enough."""
    enough: float
    """With the packages that pip unpacks on the way, and the functions' own layers and weights."""

    def __add__(self, other: Need) -> Need:
        return Need(self.least + other.least, self.enough + other.enough)


def need_of_build(bases: Sequence[BaseImage], torch_index: str, commands: Commands) -> Need:
    """The room that a build takes.

    Args:
        bases: The base images to build; one that is here already takes little.
        torch_index: The index that torch is taken from for the CPU; "" for PyPI, whose torch brings CUDA.
        commands: Runs docker.
    """
    need = Need(0, 1)
    for base in bases:
        if find_image(base.name, commands) is None:
            need += _need_of(base, torch_index)
    return Need(max(need.least, _LEAST_FOR_A_BUILD), max(need.enough, _LEAST_FOR_A_BUILD))


def need_of_bundle(bundle: Path) -> Need:
    """The room that the images of a bundle take, which are packed in it.

    Args:
        bundle: The file.
    """
    size = bundle.stat().st_size / 1e9
    return Need(size, 3 * size)


def check_disk(need: Need, commands: Commands, console: Console) -> None:
    """Reports how much room there is on the disk where Docker keeps its images, if that can be seen from here.

    Args:
        need: The room that is needed.
        commands: Runs docker.
        console: Where it is reported.
    """
    folder = commands.ask("docker", "info", "--format", "{{.DockerRootDir}}").output.strip()
    # Docker Desktop keeps its images in a virtual machine, whose disk can't be seen from here.
    if not folder or not Path(folder).is_dir():
        return
    free = shutil.disk_usage(folder).free / 1e9
    left = f"the disk of Docker ({folder}) has {free:.0f} GB left"
    if free < need.least:
        console.bad(
            f"{left}: the images take {need.enough:.0f} GB and more",
            "docker system df shows what takes the room; docker system prune frees what is unused",
        )
    elif free < need.enough:
        console.note(f"{left}; the images may take {need.enough:.0f} GB and more")
    else:
        console.good(f"disk: {free:.0f} GB free in {folder}")


def _need_of(base: BaseImage, torch_index: str) -> Need:
    """The image and, while it is built, the packages that pip has fetched and what is removed from them again."""
    if base.device == "gpu":
        return Need(8, 20) if base.has_torch else Need(4, 10)
    if base.has_torch:
        return Need(2, 5) if torch_index else Need(7, 15)
    return Need(1, 3)
