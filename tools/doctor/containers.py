"""What Docker says about the containers of Nuclio on this host."""

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
    """name: the container's. image: as it was started. status: "running", "exited", "restarting", ...

    ports: container port -> the host ports asked for, 0 for "any". published: container port -> (host address, port) now.
    networks: name -> the container's address there. restart: name of its restart policy.
    """

    name: str
    image: str = ""
    status: str = ""
    ports: Mapping[int, int] = field(default_factory=dict)
    published: Mapping[int, tuple[str, int]] = field(default_factory=dict)
    networks: Mapping[str, str] = field(default_factory=dict)
    restart: str = "no"
    restarts: int = 0
    out_of_memory: bool = False

    @property
    def version(self) -> str:
        """The version in the image's tag, "" when there is none."""
        found = re.search(r":(\d+\.\d+\.\d+)", self.image)
        return found[1] if found else ""


@dataclass(frozen=True, slots=True)
class Host:
    """containers: all of Nuclio's, by name, stopped ones too. problem: why there are none to be seen, "" when there are.

    address: where published ports are.
    """

    containers: Mapping[str, Container] = field(default_factory=dict)
    problem: str = ""
    address: str = "127.0.0.1"

    @property
    def dashboard(self) -> Container | None:
        """The container of the dashboard, a running one before others."""
        found = [c for c in self.containers.values() if re.search(r"(^|/)dashboard:", c.image)]
        return next(iter(sorted(found, key=lambda c: c.status != "running")), None)

    def of_function(self, name: str, namespace: str) -> Container | None:
        return self.containers.get(f"nuclio-{namespace}-{name}")


def look(environment: Mapping[str, str] = os.environ) -> Host:
    """The containers whose image or name is of Nuclio."""
    match = re.match(r"(?:tcp|ssh)://(?:[^@/]*@)?([^:/]+)", environment.get("DOCKER_HOST", ""))
    address = match[1] if match else "127.0.0.1"
    try:
        lines = _docker("ps", "--all", "--format", "{{.Names}}\t{{.Image}}").splitlines()
        names = [line.split("\t")[0] for line in lines if "nuclio" in line]
        described = json.loads(_docker("inspect", *names)) if names else []
    except FileNotFoundError:
        return Host(problem="docker is not installed on this machine", address=address)
    except subprocess.TimeoutExpired:
        return Host(problem=f"Docker does not answer within {_TIMEOUT_S} s", address=address)
    except (subprocess.CalledProcessError, ValueError) as error:
        said = getattr(error, "stderr", "") or str(error)
        return Host(problem=f"Docker does not answer: {said.strip().splitlines()[-1][:200]}", address=address)
    containers = [_container(item) for item in described]
    return Host({c.name: c for c in containers}, address=address)


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
