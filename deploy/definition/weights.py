"""Where a function's weights come from.

They are fetched into its directory before the build and reused by the next one, mounted from a folder of the user, or part of
the images of a bundle.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from deploy.commands import Commands
from deploy.console import Console, DeploymentError, quoted
from deploy.definition import function_file
from deploy.definition.function_file import GPU_NAME, NAME, Fields, at, section
from deploy.definition.functions import Function
from deploy.host.containers import DockerHost, docker_address

MOUNTED_AT = "/opt/nuclio/weights"
"""Where a function looks for its weights."""
CATALOG = "weights.yaml"
_FOLDER = "weights"
_MARKER = ".mounted"  # common.networks.weights fetches nothing during the build where it finds this
_VOLUME = "weights"
_INSIDE = "/function"  # where the directory is in the container that fetches them
_NOT_WEIGHTS = (".sha256", ".md", ".txt")
_LINKED_FROM = 1 << 20  # bytes; what is smaller is copied, so that it may be changed


def folder_of(function: Function, weights: Path, *, alone: bool) -> Path | None:
    """The folder with a function's weights.

    Args:
        function: The function.
        weights: What --weights gives.
        alone: Whether it is the only function: `weights` itself may be its folder then.

    Returns:
        The folder; None when the function has none there.
    """
    folder = weights / function.name
    if folder.is_dir():
        return folder
    return weights if alone else None


def no_folder(function: Function, weights: Path) -> DeploymentError | None:
    """What is wrong when there is no folder with a function's weights.

    Args:
        function: The function.
        weights: What --weights gives.

    Returns:
        The error; None for a function without a weights.yaml, which may need no weights.
    """
    if function.directory is None or not (function.directory / CATALOG).is_file():
        return None
    return DeploymentError(
        f"--weights: there is no folder {weights / function.name}",
        "make it, with the function's files in it: weights.yaml in its directory names them",
    )


def mount(content: Fields, folder: Path) -> None:
    """Mounts a folder with weights; a folder with one file sets MODEL_PATH too.

    Args:
        content: A function.yaml, which is changed. Its other volumes stay.
        folder: On the host, or on the nodes of a cluster.
    """
    spec = section(content, "spec")
    others = [each for each in spec.get("volumes") or [] if at(each, "volumeMount", "mountPath") != MOUNTED_AT]
    taken = {at(each, "volume", "name") for each in others}
    name = next(name for name in _names() if name not in taken)
    volume = {"name": name, "hostPath": {"path": str(folder)}}
    spec["volumes"] = [*others, {"volume": volume, "volumeMount": {"name": name, "mountPath": MOUNTED_AT}}]
    file = _only_file(folder)
    if file:
        function_file.set_environment(content, {"MODEL_PATH": f"{MOUNTED_AT}/{file}"})


def must_fetch(function: Function) -> bool:
    """Whether a build takes files for a function from the network, or has taken them before.

    Args:
        function: The function.
    """
    if function.directory is None or not function.framework or not (function.directory / CATALOG).is_file():
        return False
    try:
        catalog = function_file.read(function.directory / CATALOG)
    except DeploymentError:
        return True  # the function's own tool says what is wrong with it
    variants = at(catalog, "variants")
    lists = [at(variant, "files") for variant in variants.values()] if isinstance(variants, dict) else []
    return any(at(file, "url") for files in lists if isinstance(files, list) for file in files)


def fetch(function: Function, commands: Commands, console: Console, log: Path) -> None:
    """Fetches what weights.yaml names into a function's directory, by the function's own tool in its base image.

    A Docker on another host can't mount the directory: there the build itself fetches the files.

    Args:
        function: The function; its base image has been built.
        commands: Runs the tool.
        console: Shows the progress.
        log: A file to which the progress is appended.

    Raises:
        DeploymentError: They can't be fetched.
        Interrupted: The run was interrupted.
    """
    if not must_fetch(function) or not DockerHost(address=docker_address()).is_here:
        return
    variant = function.deployment.environment.get(
        "VARIANT", function_file.environment(function.content).get("VARIANT", "")
    )
    tool = ["python", "-m", "common.networks.weights", _INSIDE, *(("--variant", variant) if variant else ())]
    done = commands.change(
        *("docker", "run", "--rm", "--user", f"{os.getuid()}:{os.getgid()}", "--network", "host", "--env", "HF_TOKEN"),
        *("--mount", f"type=bind,{_quoted_field(f'source={function.directory}')},destination={_INSIDE}"),
        # One stream: Docker's client keeps no order between two, and the last line says why it failed.
        *(function.base, "sh", "-c", f"exec {quoted(tool)} 2>&1"),
        log=log,
        show=console.line,
    )
    if not done.ok:
        words = re.sub(rf"(?<![\w/]){_INSIDE}(?=/)", lambda match: str(function.directory), done.last_words)
        raise DeploymentError(
            f"its weights can't be fetched: {words}",
            "with weights of your own: --weights DIR; without a network: --offline FILE",
        )


def stage(function: Function, folder: Path, console: Console) -> Path:
    """The directory that nuctl builds: a function's own, or a copy where that can't be built as it is.

    A copy is made for mounted weights, which stay out of the image; for a function-gpu.yaml, which becomes the copy's
    function.yaml; and for symbolic links, on which nuctl fails. Large files are hard links where the file system allows.

    Args:
        function: The function.
        folder: A temporary folder; the copy is in it under the function's name.
        console: Where a dry run prints what would be copied.

    Returns:
        The directory.

    Raises:
        DeploymentError: It can't be copied.
    """
    directory = function.directory
    if directory is None:
        raise DeploymentError(f"{function.name}: its directory is not known", "name the directory of its function.yaml")
    mounted = function.deployment.weights is not None
    if not mounted and not function.has_own_gpu_file and not any(path.is_symlink() for path in directory.rglob("*")):
        return directory
    copy = folder / function.name
    if console.dry_run:
        console.command(quoted(["cp", "-RL", str(directory), str(copy)]))
        return copy
    without = {"__pycache__", _FOLDER} if mounted else {"__pycache__"}

    def left_out(parent: str, names: list[str]) -> set[str]:
        at_top = Path(parent) == directory
        return {
            name
            for name in names
            if name == "__pycache__" or (at_top and name in without) or _is_loop(Path(parent) / name)
        }

    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(directory, copy, ignore=left_out, copy_function=_link_or_copy, ignore_dangling_symlinks=True)
        if mounted:
            (copy / _FOLDER).mkdir()
            (copy / _FOLDER / _MARKER).touch()
        if function.has_own_gpu_file:
            shutil.copyfile(directory / GPU_NAME, copy / NAME)
    except (OSError, shutil.Error) as error:
        raise DeploymentError(f"{directory} can't be copied for the build: {error}") from error
    return copy


def _names() -> Iterator[str]:
    yield _VOLUME
    number = 2
    while True:
        yield f"{_VOLUME}-{number}"
        number += 1


def _only_file(folder: Path) -> str:
    """The one file that a folder holds: what MODEL_PATH is when it is mounted; "" when it holds more, or folders."""
    entries = [path for path in folder.glob("*") if not path.name.startswith(".") and path.suffix not in _NOT_WEIGHTS]
    return entries[0].name if len(entries) == 1 and entries[0].is_file() else ""


def _quoted_field(text: str) -> str:
    """A field of --mount, which is a line of CSV."""
    doubled = text.replace('"', '""')
    return f'"{doubled}"' if "," in text or '"' in text else text


def _is_loop(path: Path) -> bool:
    return path.is_symlink() and path.is_dir() and (path.resolve() == path.parent or path.resolve() in path.parents)


def _link_or_copy(source: str, target: str) -> None:
    real = os.path.realpath(source)
    if os.stat(real).st_size >= _LINKED_FROM:
        try:
            os.link(real, target)
            return
        except OSError:  # another file system, or another user's file
            pass
    shutil.copy2(real, target)
