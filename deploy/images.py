"""Builds the base images that functions are built on. With Docker's cache, a second build takes about a second."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from deploy import base_image
from deploy.base_image import BaseImage
from deploy.cause import explain
from deploy.commands import Commands
from deploy.console import Console, DeploymentError, human_size, quoted
from deploy.definition.functions import Function
from deploy.host import torch_index
from deploy.host.local_images import find_image
from deploy.host.packages import DEFAULT_PYTHON_IMAGE, ROOT
from deploy.options import Options
from deploy.preflight import Host, find_docker, use_own_builder

_FILES = ("Dockerfile", "base_packages.py")
_PIP_SETTINGS = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST")
_LOG_LINES = 15


def build_base_images(
    functions: Sequence[Function], options: Options, host: Host, commands: Commands, console: Console, logs: Path
) -> None:
    """Builds each base image that functions need, once; for a cluster it is pushed too.

    Args:
        functions: The functions.
        options: The command line.
        host: Says which index torch is taken from.
        commands: Runs docker.
        console: Where it is printed.
        logs: The folder of the logs.

    Raises:
        DeploymentError: One can't be built or pushed.
        Interrupted: The run was interrupted.
    """
    console.heading("Base images")
    bases = base_image.of_functions(functions)
    for base in bases:
        users = [each.deployment for each in functions if each.base == base.name]
        recorded = next((each.python for each in users if each.python), None)
        python = _python_image(base, options, commands, console, recorded)
        _build(base, python, host.torch_index, commands, console, logs)
        for registry in dict.fromkeys(each.registry or options.registry for each in users):
            if registry and options.on_kubernetes:
                _push(base, registry, commands)
    if not bases:
        console.line("  none needed")


def base_only(options: Options, commands: Commands, console: Console, logs: Path) -> None:
    """Builds the base image of one framework and nothing else.

    Args:
        options: The command line, which names the framework.
        commands: Runs docker.
        console: Where it is printed.
        logs: The folder of the logs.

    Raises:
        DeploymentError: There is no such framework, docker is missing, or the image can't be built.
        Interrupted: The run was interrupted.
    """
    base = base_image.of_framework(options.base_only, options.device)
    find_docker(console, commands)
    console.heading("Base images")
    use_own_builder(console, commands)
    index = torch_index.choose([base], commands, console)
    _build(base, _python_image(base, options, commands, console), index, commands, console, logs)
    if options.on_kubernetes and options.registry:
        _push(base, options.registry, commands)


def size_of(image: str, commands: Commands) -> int:
    """The size of an image in bytes; 0 when it isn't here.

    Args:
        image: Its name.
        commands: Runs docker.
    """
    here = find_image(image, commands)
    return here.size_bytes if here else 0


def context_of(base: BaseImage) -> bytes:
    """What Docker builds a base image from: a tar archive of the Dockerfile and of what it copies.

    The same files make the same archive, whoever packs them.

    Args:
        base: The base image.
    """
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for folder, name in _sources(base):
            for path in _below(folder / name):
                entry = archive.gettarinfo(str(path), str(path.relative_to(folder)))
                entry.uid = entry.gid = 0
                entry.uname = entry.gname = ""
                if entry.isfile():
                    with path.open("rb") as file:
                        archive.addfile(entry, file)
                else:
                    archive.addfile(entry)
    return packed.getvalue()


def _sources(base: BaseImage) -> Iterable[tuple[Path, str]]:
    return (ROOT, "common"), (base.folder.parent, "base"), *((ROOT / "deploy", name) for name in _FILES)


def _below(path: Path) -> Iterator[Path]:
    yield path
    if path.is_dir():
        for child in sorted(path.iterdir()):
            if child.name != "__pycache__":
                yield from _below(child)


def _python_image(
    base: BaseImage, options: Options, commands: Commands, console: Console, recorded: str | None = None
) -> str:
    python = base_image.python_image(base.name, options.python, commands, recorded=recorded)
    if python not in (options.python, DEFAULT_PYTHON_IMAGE):
        console.line(f"  {base.name} starts from {python}, as before; --python IMAGE takes another")
    return python


def _build(base: BaseImage, python: str, index: str, commands: Commands, console: Console, logs: Path) -> None:
    log = logs / f"{base.name.split(':')[0]}.log"
    if not console.dry_run:
        log.write_text("", encoding="utf-8")
        console.line(f"  {base.name} ... ", end="")
    words = ["docker", "build", "--network", "host", "-t", base.name]
    for argument in _arguments(base, python, index):
        words += ["--build-arg", argument]
    data = b"" if console.dry_run else context_of(base)
    done = commands.change(*words, "-", log=log, data=data, source=_source(base))
    if done.ok:
        if not console.dry_run:
            console.line(human_size(size_of(base.name, commands)))
        return
    console.line()
    for line in done.output.splitlines()[-_LOG_LINES:]:
        console.line(f"    {line}")
    error = explain(done.output, "", container=None)
    cause = f"the base image {base.name} can't be built: {error.cause}"
    raise DeploymentError(cause, error.remedy or f"the whole log: {log}")


def _arguments(base: BaseImage, python: str, index: str) -> Iterator[str]:
    yield f"PYTHON_IMAGE={python}"
    yield f"DEVICE={base.device}"
    if index and base.has_torch and base.device == "cpu":
        yield f"{torch_index.VARIABLE}={index}"
    for name in _PIP_SETTINGS:
        if os.environ.get(name):
            yield f"{name}={os.environ[name]}"


def _source(base: BaseImage) -> str:
    """The shell command that packs the same, for a dry run."""
    (folder, name), *others = _sources(base)
    words = ["tar", "-C", str(folder), "--exclude=__pycache__", "-c", name]
    for folder, name in others:
        words += ["-C", str(folder), name]
    return quoted(words)


def _push(base: BaseImage, registry: str, commands: Commands) -> None:
    name = f"{registry}/{base.name}"
    done = commands.change("docker", "tag", base.name, name)
    if done.ok:
        done = commands.change("docker", "push", name)
    if not done.ok:
        login = f"docker login {registry.split('/')[0]}; the cluster must be able to pull from it too"
        raise DeploymentError(f"{name} can't be pushed: {done.last_words}", login)
