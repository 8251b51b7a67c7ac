"""The containers on Docker's host, as Docker describes them."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

FUNCTION_PORT = 8080
"""The port inside each function's container."""
DASHBOARD_PORT = 8070
"""The port inside the dashboard's container."""
HERE = "127.0.0.1"
"""The address of Docker's host when that is this machine."""
_TIMEOUT_S = 30


class DockerError(Exception):
    """Docker did not answer; the message says why in one line."""


@dataclass(frozen=True)
class Health:
    """The health of a container that has a health check."""

    status: str
    """"starting", "healthy" or "unhealthy"."""
    interval_s: float = 0.0
    """The seconds between two checks; 0 when that is not known."""
    output: str = ""
    """What the last check printed."""


@dataclass(frozen=True)
class Container:
    """A container, running or stopped."""

    name: str
    id: str = ""
    """Changes when the container is made anew, not when it is restarted."""
    image: str = ""
    """As it was started, with its tag."""
    image_id: str = ""
    """sha256:..., which stays when the tag moves to another image."""
    status: str = ""
    """"running", "exited", "restarting", "created", "paused", "removing" or "dead"."""
    running: bool = False
    """True also while it is restarting or paused."""
    started_at: str = ""
    """When it was started last, in UTC as RFC 3339 has it; "0001-01-01T00:00:00Z" for never."""
    exit_code: int = 0
    """Of its last run; 0 while it runs."""
    error: str = ""
    """Why Docker could not start it, such as a port that is taken."""
    out_of_memory: bool = False
    """Whether the kernel has killed it to free memory."""
    memory_limit: int = 0
    """Bytes that it may use; 0 without a limit."""
    health: Health | None = None
    """None without a health check."""
    restart: str = "no"
    """The name of its restart policy."""
    restarts: int = 0
    """How often that policy has restarted it."""
    ports: Mapping[int, int] = field(default_factory=dict)
    """TCP port of the container -> the host port asked for, 0 for any."""
    published: Mapping[int, tuple[str, int]] = field(default_factory=dict)
    """TCP port of the container -> its host address and port now; empty while it is stopped."""
    host_ports: frozenset[int] = frozenset()
    """All TCP ports of the host that it has now or asked for, which it takes again when it is started."""
    networks: Mapping[str, str] = field(default_factory=dict)
    """Name of a network -> the container's address in it, "" while it is stopped."""
    labels: Mapping[str, str] = field(default_factory=dict)
    log_driver: str = ""
    log_options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class DockerHost:
    """What Docker on this host knows."""

    containers: Mapping[str, Container] = field(default_factory=dict)
    """All containers by name, stopped ones too."""
    problem: str = ""
    """Why Docker did not answer; "" when it did."""
    address: str = HERE
    """Where published ports can be reached."""

    @property
    def is_here(self) -> bool:
        """Whether Docker runs on this very machine, so that its ports are this machine's."""
        return self.address in ("127.0.0.1", "localhost", "::1")

    @property
    def dashboards(self) -> list[Container]:
        """The containers of Nuclio's dashboard, running ones first."""
        found = [
            c
            for c in self.containers.values()
            if re.search(r"(^|/)dashboard:", c.image) and "nuclio" in f"{c.name} {c.image}"
        ]
        return sorted(found, key=lambda c: c.status != "running")

    @property
    def dashboard(self) -> Container | None:
        """The container of Nuclio's dashboard; a running one takes precedence."""
        return next(iter(self.dashboards), None)

    def of_function(self, name: str, namespace: str) -> Container | None:
        """The container of a function.

        Args:
            name: The function's.
            namespace: Of the function in Nuclio.
        """
        return self.containers.get(container_name(name, namespace))

    def functions(self, namespace: str) -> dict[str, Container]:
        """The containers of all functions, by the function's name.

        Args:
            namespace: Of the functions in Nuclio.
        """
        prefix = container_name("", namespace)
        return {name[len(prefix) :]: c for name, c in self.containers.items() if name.startswith(prefix)}


def container_name(function: str, namespace: str) -> str:
    """The name that Nuclio gives to a function's container.

    Args:
        function: The function's name.
        namespace: Of the function in Nuclio.
    """
    return f"nuclio-{namespace}-{function}"


def docker_address(environment: Mapping[str, str] = os.environ) -> str:
    """The host on which published ports can be reached.

    Args:
        environment: DOCKER_HOST says where Docker runs.
    """
    match = re.match(r"(?:tcp|ssh)://(?:[^@/]*@)?([^:/]+)", environment.get("DOCKER_HOST", ""))
    return match[1] if match else HERE


def ask_docker(environment: Mapping[str, str] = os.environ) -> DockerHost:
    """What Docker knows; a Docker that does not answer is a `problem` of the result.

    Args:
        environment: DOCKER_HOST says where Docker runs.
    """
    address = docker_address(environment)
    try:
        return DockerHost(list_containers(), address=address)
    except DockerError as error:
        return DockerHost(problem=str(error), address=address)


def list_containers() -> dict[str, Container]:
    """All containers by name, stopped ones too.

    Raises:
        DockerError: Docker did not answer.
    """
    ids = _docker("ps", "--all", "--quiet", "--no-trunc").split()
    return {container.name: container for container in _inspect(*ids)} if ids else {}


def find_container(name: str) -> Container | None:
    """One container; None when no container has that name.

    Args:
        name: Its name or id.

    Raises:
        DockerError: Docker did not answer.
    """
    return next(iter(_inspect(name)), None)


def _inspect(*names: str) -> list[Container]:
    # A container that has been removed since it was listed is left out: "inspect" prints the others, and fails.
    text = _docker("inspect", "--type", "container", *names, may_lack=True)
    try:
        return [_container(item) for item in json.loads(text)]
    except ValueError as error:
        raise DockerError(f"docker inspect does not answer in JSON: {error}") from error


def _docker(*arguments: str, may_lack: bool = False) -> str:
    try:
        done = subprocess.run(
            ["docker", *arguments],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            start_new_session=True,  # Ctrl-C must not end it: "no answer" would be taken for "no container"
        )
    except FileNotFoundError as error:
        raise DockerError("docker is not installed on this machine") from error
    except subprocess.TimeoutExpired as error:
        raise DockerError(f"Docker does not answer within {_TIMEOUT_S} s") from error
    lacks = may_lack and re.search("no such (container|object)", done.stderr, re.IGNORECASE)
    if done.returncode and not lacks:
        said = done.stderr.strip().splitlines() or [f"docker {arguments[0]} ended with status {done.returncode}"]
        raise DockerError(f"Docker does not answer: {said[-1][:200]}")
    return done.stdout


def _container(item: Mapping[str, Any]) -> Container:
    state, host, config = item.get("State") or {}, item.get("HostConfig") or {}, item.get("Config") or {}
    network, log = item.get("NetworkSettings") or {}, host.get("LogConfig") or {}
    asked, now = _bindings(host.get("PortBindings")), _bindings(network.get("Ports"))
    return Container(
        name=str(item.get("Name", "")).lstrip("/"),
        id=str(item.get("Id", "")),
        image=str(config.get("Image", "")),
        image_id=str(item.get("Image", "")),
        status=str(state.get("Status", "")),
        running=bool(state.get("Running")),
        started_at=str(state.get("StartedAt", "")),
        exit_code=int(state.get("ExitCode") or 0),
        error=str(state.get("Error") or ""),
        out_of_memory=bool(state.get("OOMKilled")),
        memory_limit=int(host.get("Memory") or 0),
        health=_health(state, config),
        restart=str((host.get("RestartPolicy") or {}).get("Name") or "no"),
        restarts=int(item.get("RestartCount") or 0),
        ports={port: bindings[0][1] if bindings else 0 for port, bindings in asked.items()},
        published={port: bindings[0] for port, bindings in now.items() if bindings and bindings[0][1]},
        host_ports=frozenset(port for bound in (asked, now) for b in bound.values() for _, port in b if port),
        networks={name: n.get("IPAddress", "") for name, n in (network.get("Networks") or {}).items()},
        labels=dict(config.get("Labels") or {}),
        log_driver=str(log.get("Type") or ""),
        log_options=dict(log.get("Config") or {}),
    )


def _health(state: Mapping[str, Any], config: Mapping[str, Any]) -> Health | None:
    health = state.get("Health") or {}
    if health.get("Status", "none") == "none":
        return None
    log = health.get("Log") or [{}]
    check = config.get("Healthcheck") or {}
    return Health(
        status=str(health["Status"]),
        interval_s=(check.get("Interval") or 0) / 10**9,
        output=str(log[-1].get("Output") or "").strip(),
    )


def _bindings(described: Mapping[str, Any] | None) -> dict[int, list[tuple[str, int]]]:
    """TCP port of the container -> the host's addresses and ports, 0 where Docker chooses, as in a range of ports."""
    found = {}
    for name, bindings in (described or {}).items():
        port, _, protocol = name.partition("/")
        if protocol in ("", "tcp"):
            given = [(b.get("HostIp") or "0.0.0.0", str(b.get("HostPort"))) for b in bindings or []]  # noqa: S104
            found[int(port)] = [(address, int(text) if text.isdigit() else 0) for address, text in given]
    return found
