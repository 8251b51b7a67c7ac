"""Checks the prerequisites before anything is built, and reports all that is missing at once, each with its remedy."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deploy import base_image
from deploy.base_image import BaseImage
from deploy.bundle import Bundle
from deploy.commands import NOT_FOUND, Commands
from deploy.console import Console, DeploymentError, count, quoted
from deploy.definition.configuration import USER
from deploy.definition.function_file import at
from deploy.definition.functions import Function
from deploy.host import torch_index
from deploy.host.containers import DockerHost, ask_docker, docker_address
from deploy.host.disk import Need, check_disk, need_of_build, need_of_bundle
from deploy.host.gpu import check_gpu
from deploy.host.local_images import find_image
from deploy.host.network import (
    USUAL_DASHBOARD,
    dashboard_version,
    find_dashboard,
    find_network,
    find_store,
    is_dashboard,
    network_exists,
    start_command,
)
from deploy.host.nuctl_program import find_nuctl
from deploy.host.packages import DEFAULT_PYTHON_IMAGE
from deploy.nuclio import PROJECT, STORE, Nuclio, reason_of, store_remedy
from deploy.options import Options


@dataclass
class Host:
    """The machine that functions are deployed on, and what was found there."""

    docker: DockerHost
    """What Docker knows; nothing of a cluster."""
    nuctl: str
    """The program."""
    nuctl_version: str = ""
    dashboard: str = ""
    """The address of Nuclio's dashboard; "" when it can't be reached."""
    network: str | None = None
    """The network of CVAT; None without one, and on Kubernetes."""
    store: dict[str, str] = field(default_factory=dict)
    """The variables that tell functions where CVAT's store is."""
    has_project: bool = False
    """Whether Nuclio is known to have CVAT's project."""
    torch_index: str = ""
    """The index that base images for the CPU take torch from; "" for pip's own."""


def find_tools(console: Console, commands: Commands, options: Options, bundle: Bundle | None = None) -> Host:
    """Looks for docker and nuctl; prints only what is missing.

    Args:
        console: Where it is printed.
        commands: Runs the programs.
        options: The command line.
        bundle: A bundle that was opened, which has a nuctl of its own.

    Raises:
        DeploymentError: Something is missing.
    """
    host = _tools(console, commands, options, bundle, aloud=False)
    _end_when_missing(console)
    return host


def find_docker(console: Console, commands: Commands) -> None:
    """Looks for docker; prints only that it is missing.

    Args:
        console: Where it is printed.
        commands: Runs docker.

    Raises:
        DeploymentError: It is missing.
    """
    _check_docker(console, commands, aloud=False)
    _end_when_missing(console)


def check(
    console: Console,
    commands: Commands,
    options: Options,
    functions: Sequence[Function],
    *,
    bundle: Bundle | None = None,
) -> Host:
    """Checks everything that a deployment needs.

    Args:
        console: Where it is printed.
        commands: Runs the programs.
        options: The command line.
        functions: The functions to deploy, as far as they are known.
        bundle: The bundle to deploy from, which has a nuctl of its own.

    Raises:
        DeploymentError: Something is missing.
    """
    console.heading("Checking")
    host = _tools(console, commands, options, bundle, aloud=True)
    is_building = options.build and not options.bundle
    bases = base_image.of_functions(functions) if is_building else []
    if not host.docker.problem:
        if is_building:
            use_own_builder(console, commands)
        if not options.on_kubernetes:
            start = (bundle.start_dashboard if bundle else "") or start_command(host.nuctl_version)
            host.dashboard = find_dashboard(host.docker, options.dashboard, start, console)
            host.network = find_network(host.docker, options.network, commands, console)
        host.store = find_store(host.docker, host.network)
        host.torch_index = torch_index.choose(bases, commands, console)
        if host.docker.is_here:
            check_disk(_room_needed(options, bases, host.torch_index, commands), commands, console)
        if options.device == "gpu" and not options.on_kubernetes:
            _check_gpu(functions, bases, options, commands, console)
    # Before the images of a bundle are loaded, that in which nuctl keeps its records may be missing.
    if host.nuctl_version and not bundle and (options.on_kubernetes or not host.docker.problem):
        _check_nuclio(host, options, commands, console)
    if options.on_kubernetes:
        host.dashboard = _dashboard_of_cluster(options, console)
    elif host.docker.is_here:
        _check_volumes(functions, console)
    if options.weights:
        _check_weights_folder(options.weights, options.user or USER, console)
    _end_when_missing(console)
    return host


def check_recorded(functions: Sequence[Function], options: Options, commands: Commands, console: Console) -> None:
    """Checks what functions take over from their last deployment: the network, and the folder with weights.

    Args:
        functions: The functions, with the options that they are deployed with.
        options: The command line.
        commands: Runs docker.
        console: Where it is printed.

    Raises:
        DeploymentError: Something is gone.
    """
    if options.on_kubernetes:
        return
    networks = {each.deployment.network: each.name for each in functions}
    for network, name in networks.items():
        if network and network != options.network and not network_exists(network, commands):
            cause = f"there is no Docker network {network}, which {name} was deployed with"
            console.bad(cause, "--network NAME takes another; --forget takes the one of CVAT")
    for function in functions:
        if not function.deployment.weights or not DockerHost(address=docker_address()).is_here:
            continue
        folder = Path(function.deployment.weights)
        if options.weights and folder.is_relative_to(options.weights):
            continue  # `check` has looked at it
        if folder.is_dir():
            _check_weights_folder(folder, function.deployment.user or USER, console)
        else:
            cause = f"the folder with the weights of {function.name} is gone: {folder}"
            console.bad(cause, "--weights DIR names another; --forget deploys without it")
    _end_when_missing(console)


def use_own_builder(console: Console, commands: Commands) -> None:
    """Makes docker, and nuctl's docker, build with the daemon's own builder.

    A buildx builder in a container can't see the images of this daemon, so "FROM cvat.onnx.base" would fail there.

    Args:
        console: Where it is printed.
        commands: Runs docker.
    """
    described = commands.ask("docker", "buildx", "inspect").output
    driver = re.search(r"^Driver: *(\S+)", described, re.MULTILINE)
    if driver and driver[1] != "docker":
        context = commands.ask("docker", "context", "show").output.strip() or "default"
        os.environ["BUILDX_BUILDER"] = context
        console.note(
            f"your buildx builder ({driver[1]}) can't see local images: building with the daemon's own ({context})"
        )


def _tools(console: Console, commands: Commands, options: Options, bundle: Bundle | None, *, aloud: bool) -> Host:
    docker = DockerHost(address=docker_address())
    problem = _check_docker(console, commands, aloud=aloud)
    if problem:
        docker = DockerHost(problem=problem, address=docker.address)
    elif not options.on_kubernetes:
        docker = ask_docker()
        if docker.problem:
            console.bad(docker.problem, "docker ps --all shows more")
    program = find_nuctl(console, commands, str(bundle.nuctl) if bundle else "", dashboard_version(docker), aloud=aloud)
    return Host(docker, program.path, program.version)


def _check_docker(console: Console, commands: Commands, *, aloud: bool) -> str:
    """Reports whether Docker answers.

    Returns:
        Why it does not; "" when it does.
    """
    done = commands.ask("docker", "version", "--format", "{{.Server.Version}}")
    if done.ok and done.output.strip():
        if aloud:
            console.good(f"Docker {done.output.strip()}")
        return ""
    user = os.environ.get("USER", "")
    if done.status == NOT_FOUND:
        cause = "docker is not installed"
        remedy = "https://docs.docker.com/engine/install/ (CVAT itself needs it too)"
    elif "ermission denied" in done.errors:
        cause = f"docker is installed, but {user or 'this user'} may not use it"
        remedy = f"sudo usermod -aG docker {user or '$USER'}, then log in again; or run this with sudo"
    elif re.search("annot connect|s the docker daemon running", done.errors):
        cause, remedy = "the Docker daemon does not answer", "start it: sudo systemctl start docker, or Docker Desktop"
    else:
        cause, remedy = f"docker does not answer: {done.last_words}", "docker version shows more"
    console.bad(cause, remedy)
    return cause


def _room_needed(options: Options, bases: Sequence[BaseImage], index: str, commands: Commands) -> Need:
    if options.bundle:
        return need_of_bundle(options.bundle)
    return need_of_build(bases, index, commands) if options.build else Need(0, 1)


def _check_gpu(
    functions: Sequence[Function], bases: Sequence[BaseImage], options: Options, commands: Commands, console: Console
) -> None:
    """Tries the GPU in an image that is here, or else in the Python image, which the build pulls in any case."""
    pythons = [base_image.python_image(base.name, options.python, commands) for base in bases[:1]]
    candidates = [*pythons, *(base.name for base in bases)] or [each.image for each in functions]
    here = next((name for name in candidates if find_image(name, commands)), None)
    if here is None and options.bundle:
        console.note("the GPU is not tried: no image is here yet to start a container from")
        return
    check_gpu(here or (pythons or [options.python or DEFAULT_PYTHON_IMAGE])[0], commands, console)


def _check_nuclio(host: Host, options: Options, commands: Commands, console: Console) -> None:
    done = Nuclio(commands, host.nuctl, options.platform, options.namespace).ask("get", "projects")
    if done.ok:
        host.has_project = re.search(rf"\| *{PROJECT} *(\||$)", done.output, re.MULTILINE) is not None
        if not options.on_kubernetes:
            _check_image_of_store(host.docker, commands, console)
    elif options.on_kubernetes:
        console.bad(
            f"Nuclio in the cluster does not answer nuctl: {reason_of(done)}",
            f"kubectl -n {options.namespace} get pods shows whether it runs; kubectl config current-context which cluster "
            "is meant",
        )
    else:
        console.bad(f"nuctl can't read what is deployed: {reason_of(done)}", store_remedy(done))


def _check_image_of_store(docker: DockerHost, commands: Commands, console: Console) -> None:
    """A deployment starts a container from it again, at a moment when the old container of the function is already gone."""
    store = docker.containers.get(STORE)
    if store and store.running and find_image(store.image, commands) is None:
        console.bad(
            f"the image in which nuctl keeps its records is gone, and each deployment needs it: {store.image}",
            f"docker pull {store.image}; without a network: docker save it on another machine, docker load it here",
        )


def _check_volumes(functions: Sequence[Function], console: Console) -> None:
    """What a function.yaml mounts must exist: Nuclio would notice only when the old container is already gone."""
    for function in functions:
        for volume in at(function.content, "spec", "volumes") or []:
            path = at(volume, "volume", "hostPath", "path")
            if path and not Path(path).exists():
                console.bad(
                    f"{function.name} mounts a path that does not exist: {path}", "create it, or change spec.volumes"
                )


def _dashboard_of_cluster(options: Options, console: Console) -> str:
    address = options.dashboard or USUAL_DASHBOARD
    if is_dashboard(address):
        console.good(f"Nuclio's dashboard at {address}")
    elif options.verify:
        console.bad(
            f"Nuclio's dashboard can't be reached at {address}: the functions are tried through it",
            f"kubectl -n {options.namespace} port-forward service/nuclio-dashboard 8070:8070 in another terminal; or "
            "--dashboard URL; or --no-verify",
        )
    return address


def _check_weights_folder(folder: Path, user: str, console: Console) -> None:
    """The functions run as a user other than the owner of the weights."""
    hidden = next(_unreadable(folder), None)
    if hidden is not None:
        console.bad(f"the functions (user {user}) can't read {hidden}", f"chmod -R o+rX {quoted([str(folder)])}")
    if ":" in str(folder):
        console.bad(f"nuctl can't mount a folder with a colon in its name: {folder}", "rename it")


def _unreadable(folder: Path) -> Iterator[Path]:
    for path in (folder, *sorted(folder.rglob("*"))):
        mode = path.lstat().st_mode
        if not stat.S_ISLNK(mode) and not mode & stat.S_IROTH:
            yield path


def _end_when_missing(console: Console) -> None:
    if not console.missing:
        return
    if console.dry_run:
        console.note("dry run: continuing anyway")
        console.missing = 0
        return
    raise DeploymentError(f"{count(console.missing, 'thing')} missing, see above; nothing was changed")
