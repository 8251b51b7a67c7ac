"""What connects functions with CVAT: Nuclio's dashboard, CVAT's Docker network, and its store."""

from __future__ import annotations

import os
import re

from deploy.commands import Commands
from deploy.console import Console, quoted
from deploy.host import web
from deploy.host.containers import DASHBOARD_PORT, DockerHost
from deploy.host.nuctl_program import USUAL_NUCLIO, architecture
from deploy.host.packages import ROOT

CVAT_NETWORK = "cvat_cvat"
"""Of CVAT's docker-compose.yml."""
CVAT_STORE = "cvat_redis_ondisk"
"""The container of CVAT's store for larger data."""
USUAL_DASHBOARD = f"http://localhost:{DASHBOARD_PORT}"
_STORE_PORT = "6666"
_TIMEOUT_S = 5
_EVERY_ADDRESS = ("0.0.0.0", "::", "127.0.0.1")  # noqa: S104 - as Docker writes it


def dashboard_version(docker: DockerHost) -> str:
    """The version of the dashboard that is here; "" when it isn't known.

    Args:
        docker: What Docker knows.
    """
    match = re.search(r":([0-9]+\.[0-9]+\.[0-9]+)", docker.dashboard.image if docker.dashboard else "")
    return match[1] if match else ""


def start_command(nuclio_version: str) -> str:
    """The command that starts a dashboard of Nuclio beside CVAT.

    Args:
        nuclio_version: The version to start; "" for the usual one.
    """
    version = f"NUCLIO_VERSION={nuclio_version} " if nuclio_version not in ("", USUAL_NUCLIO) else ""
    version += "" if architecture() == "amd64" else f"NUCLIO_ARCH={architecture()} "
    return f"{version}docker compose -f {quoted([str(ROOT / 'compose.yaml')])} up -d"


def dashboard_address(docker: DockerHost) -> str:
    """Where the dashboard is: at its published port, or, where it has none, at its container's own address.

    Args:
        docker: What Docker knows.
    """
    dashboard = docker.dashboard
    if dashboard is None or not dashboard.running:
        return USUAL_DASHBOARD
    if DASHBOARD_PORT in dashboard.published:
        bound, port = dashboard.published[DASHBOARD_PORT]
        host = docker.address if bound in _EVERY_ADDRESS else bound
        return f"http://{host}:{port}"
    own = next((address for address in dashboard.networks.values() if address), "")
    return f"http://{own}:{DASHBOARD_PORT}" if own else USUAL_DASHBOARD


def is_dashboard(address: str) -> bool:
    """Whether a dashboard of Nuclio answers.

    Args:
        address: Such as http://localhost:8070.
    """
    try:
        return web.send(f"{address}/api/versions", timeout_s=_TIMEOUT_S).ok
    except web.NoReply:
        return False


def find_dashboard(docker: DockerHost, given: str, start: str, console: Console) -> str:
    """Looks for the dashboard of Docker's Nuclio and reports it.

    Args:
        docker: What Docker knows.
        given: Its address, where a person has named it.
        start: The command that starts a dashboard, for the remedy.
        console: Where it is reported.

    Returns:
        Its address; "" when it can't be reached from here.
    """
    address = given or dashboard_address(docker)
    running = [each.name for each in docker.dashboards if each.running]
    if len(running) > 1 and not given:
        others = ", ".join(running[1:])
        console.note(
            f"several dashboards of Nuclio run: {running[0]} is used, not {others}", "--dashboard URL names one"
        )
    if is_dashboard(address):
        console.good(f"{f'Nuclio{chr(39)}s dashboard {dashboard_version(docker)}'.strip()} at {address}")
        return address
    container = docker.dashboard
    if container is None:
        console.note(
            "no dashboard of Nuclio runs here: CVAT finds no functions without one",
            f"{start}, beside a running CVAT; or CVAT's own components/serverless",
        )
    elif not container.running:
        console.note(
            f"Nuclio's dashboard ({container.name}) is stopped: CVAT finds no functions without it",
            f"docker start {container.name}",
        )
    else:
        console.note(
            f"Nuclio's dashboard runs ({container.name}), but can't be reached from here ({address}): functions are tried "
            "on their ports only"
        )
    return ""


def find_network(docker: DockerHost, given: str | None, commands: Commands, console: Console) -> str | None:
    """Looks for the network that functions have to be in and reports it.

    Nuclio's dashboard reaches a function in its own network only; so does CVAT where it calls through the dashboard.

    Args:
        docker: What Docker knows.
        given: Its name, where a person has named it.
        commands: Runs docker.
        console: Where it is reported.

    Returns:
        Its name; None without one.
    """
    if given:
        if not network_exists(given, commands):
            console.bad(f"there is no Docker network {given}", "docker network ls shows those there are")
        return given
    joined = docker.dashboard.networks if docker.dashboard else {}
    name = next((each for each in joined if each not in ("bridge", "host", "none")), CVAT_NETWORK)
    if not network_exists(name, commands):
        label = "label=com.docker.compose.network=cvat"
        listed = commands.ask("docker", "network", "ls", "--filter", label, "--format", "{{.Name}}").output.split()
        if not listed:
            console.note(
                f"there is no network {CVAT_NETWORK}: the functions get ports on this machine only",
                "start CVAT first, or name its network: --network NAME",
            )
            return None
        name = listed[0]
    console.good(f"network {name}")
    return name


def network_exists(name: str, commands: Commands) -> bool:
    """Whether Docker has a network.

    Args:
        name: Its name.
        commands: Runs docker.
    """
    return commands.ask("docker", "network", "inspect", name).ok


def find_store(docker: DockerHost, network: str | None) -> dict[str, str]:
    """The variables that tell functions where CVAT's store for larger states and shared caches is.

    Args:
        docker: What Docker knows.
        network: The network of the functions.

    Returns:
        The variables; an empty dict without a store.
    """
    host = os.environ.get("CVAT_FUNCTIONS_REDIS_HOST", "")
    store = docker.containers.get(CVAT_STORE)
    if not host and network and store is not None and store.running and network in store.networks:
        host = CVAT_STORE
    if not host:
        return {}
    port = os.environ.get("CVAT_FUNCTIONS_REDIS_PORT") or _STORE_PORT
    return {"CVAT_FUNCTIONS_REDIS_HOST": host, "CVAT_FUNCTIONS_REDIS_PORT": port}
