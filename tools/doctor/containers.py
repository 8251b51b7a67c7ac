"""The containers of Nuclio on this host, as Docker describes them."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class Container:
    """A container of Nuclio."""

    name: str
    image: str = ""
    """As it was started, with its tag."""
    status: str = ""
    """"running", "exited", "restarting", ..."""
    ports: Mapping[int, int] = field(default_factory=dict)
    """Container port -> the host port asked for, 0 for any."""
    published: Mapping[int, tuple[str, int]] = field(default_factory=dict)
    """Container port -> its host address and port now."""
    networks: Mapping[str, str] = field(default_factory=dict)
    """Name of a network -> the container's address in it."""
    restart: str = "no"
    """The name of its restart policy."""
    restarts: int = 0
    out_of_memory: bool = False
    """Whether the kernel has killed it to free memory."""


@dataclass(frozen=True, slots=True)
class DockerHost:
    """What Docker on this host knows of Nuclio."""

    containers: Mapping[str, Container] = field(default_factory=dict)
    """All of Nuclio's by name, stopped ones too."""
    problem: str = ""
    """Why Docker did not answer; "" when it did."""
    address: str = "127.0.0.1"
    """Where published ports can be reached."""

    @property
    def dashboard(self) -> Container | None:
        """The container of the dashboard; a running one takes precedence."""
        found = [c for c in self.containers.values() if re.search(r"(^|/)dashboard:", c.image)]
        return min(found, key=lambda c: c.status != "running", default=None)

    def of_function(self, name: str, namespace: str) -> Container | None:
        """The container of a function.

        Args:
            name: the function's.
            namespace: of the function in Nuclio.
        """
        return self.containers.get(f"nuclio-{namespace}-{name}")


def ask_docker(environment: Mapping[str, str] = os.environ) -> DockerHost:
    """The containers whose image or name is Nuclio's.

    Args:
        environment: DOCKER_HOST says where Docker runs.
    """
    match = re.match(r"(?:tcp|ssh)://(?:[^@/]*@)?([^:/]+)", environment.get("DOCKER_HOST", ""))
    address = match[1] if match else "127.0.0.1"
    try:
        lines = _docker("ps", "--all", "--format", "{{.Names}}\t{{.Image}}").splitlines()
        names = [line.split("\t")[0] for line in lines if "nuclio" in line]
        described = json.loads(_docker("inspect", *names)) if names else []
    except FileNotFoundError:
        return DockerHost(problem="docker is not installed on this machine", address=address)
    except subprocess.TimeoutExpired:
        return DockerHost(problem=f"Docker does not answer within {_TIMEOUT_S} s", address=address)
    except (subprocess.CalledProcessError, ValueError) as error:
        said = getattr(error, "stderr", "") or str(error)
        return DockerHost(problem=f"Docker does not answer: {said.strip().splitlines()[-1][:200]}", address=address)
    containers = [_container(item) for item in described]
    return DockerHost({c.name: c for c in containers}, address=address)


def _docker(*arguments: str) -> str:
    done = subprocess.run(  # noqa: S603 - fixed words and names that Docker itself gave
        ["docker", *arguments],  # noqa: S607 - the docker of the path is the one that is meant
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=True,
    )
    return done.stdout


def _container(item: Mapping[str, Any]) -> Container:
    state, host = item.get("State") or {}, item.get("HostConfig") or {}
    network = item.get("NetworkSettings") or {}
    published = {}
    for name, bindings in (network.get("Ports") or {}).items():
        if bindings and bindings[0].get("HostPort"):
            published[_port(name)] = (bindings[0].get("HostIp") or "0.0.0.0", int(bindings[0]["HostPort"]))  # noqa: S104
    return Container(
        name=str(item.get("Name", "")).lstrip("/"),
        image=str((item.get("Config") or {}).get("Image", "")),
        status=str(state.get("Status", "")),
        ports={
            _port(name): int((bindings or [{}])[0].get("HostPort") or 0)
            for name, bindings in (host.get("PortBindings") or {}).items()
        },
        published=published,
        networks={name: n.get("IPAddress", "") for name, n in (network.get("Networks") or {}).items()},
        restart=str((host.get("RestartPolicy") or {}).get("Name") or "no"),
        restarts=int(item.get("RestartCount") or 0),
        out_of_memory=bool(state.get("OOMKilled")),
    )


def _port(name: str) -> int:
    return int(name.split("/")[0])
