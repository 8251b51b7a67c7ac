"""Gives each function a fixed port of the host.

Docker would choose a new random one after each reboot, and CVAT's direct calls would fail. A function keeps the port of its
container, or, where that is gone, the one in Nuclio's record; a new function gets a port derived from its name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from deploy.console import Console, DeploymentError
from deploy.definition.function_file import at, http_trigger
from deploy.definition.functions import Function
from deploy.host.containers import FUNCTION_PORT, Container
from deploy.host.listeners import port_user
from deploy.nuclio import Record
from deploy.options import Options
from deploy.preflight import Host

_RANGE = 1000
_HIGHEST = 65535


def assign(
    functions: Sequence[Function], host: Host, records: Mapping[str, Record], options: Options, console: Console
) -> None:
    """Gives each function its port: the one that its function.yaml asks for, the one that it has, or a free one.

    Args:
        functions: The functions; their `port` is set.
        host: What Docker knows.
        records: The functions that Nuclio has, by name.
        options: The command line.
        console: Where it is reported that a function moves to another port.

    Raises:
        DeploymentError: A port that a function.yaml asks for is taken, or no port is free.
    """
    ports = _Ports(host, records, options)
    waiting = []
    for function in functions:
        fixed = _fixed_port(function)
        if fixed is None:
            waiting.append(function)
            continue
        holder = ports.holder(fixed, function.name)
        if holder:
            raise DeploymentError(
                f"port {fixed}, which the function.yaml of {function.name} asks for, is taken by {holder}",
                "stop what uses it, change attributes.port there, or leave it out: then a free one is found",
            )
        ports.give(fixed, function)
    moving = []
    for function in waiting:
        kept = ports.kept(function.name)
        holder = ports.holder(kept, function.name) if kept else ""
        if kept and not holder:
            ports.give(kept, function)
        else:
            moving.append((function, kept, holder))
    for function, kept, holder in moving:
        ports.give(ports.free(function.name), function)
        if kept:
            console.note(f"{function.name} moves from port {kept}, which {holder} uses now, to {function.port}")


class _Ports:
    """The ports of the host, and who has them."""

    def __init__(self, host: Host, records: Mapping[str, Record], options: Options):
        self._docker, self._records, self._options = host.docker, records, options
        self._given: dict[int, str] = {}

    def give(self, port: int, function: Function) -> None:
        function.port = port
        self._given[port] = function.name

    def kept(self, name: str) -> int | None:
        """The port that was asked for when the function was deployed, and not "any free one"."""
        container = self._container(name)
        asked = container.ports.get(FUNCTION_PORT) if container else None
        record = self._records.get(name)
        return asked or (record.port if record else None)

    def holder(self, port: int, name: str) -> str:
        """What keeps a function from a port that it has or asks for; "" when nothing does."""
        if port in self._given:
            return self._given[port]
        own = self._container(name)
        if own and own.running and port in own.host_ports:
            return ""
        kept = self.kept(name) == port
        for container in self._docker.containers.values():
            # A function keeps its port over a container that is stopped, and would have to ask for the same one again.
            if container is not own and port in container.host_ports and (container.running or not kept):
                return f"the container {container.name}"
        return self._program(port)

    def free(self, name: str) -> int:
        """The first port that is not in use or asked for, counted from the one that is derived from the name."""
        taken = {port for each in self._docker.containers.values() for port in each.host_ports}
        taken |= {record.port for record in self._records.values() if record.port} | self._given.keys()
        first = self._options.first_port
        start = _checksum(name.encode()) % _RANGE
        for step in range(_RANGE):
            port = first + (start + step) % _RANGE
            if port not in taken and not self._program(port):
                return port
        last = first + _RANGE - 1
        raise DeploymentError(f"no free port from {first} to {last}", "--first-port N takes another range")

    def _container(self, name: str) -> Container | None:
        return self._docker.of_function(name, self._options.namespace)

    def _program(self, port: int) -> str:
        """The program on this machine that listens on a port; "" when Docker runs on another machine."""
        return port_user(port) if self._docker.is_here else ""


def _fixed_port(function: Function) -> int | None:
    """The port that function.yaml asks for; for a function known from Nuclio alone None, as its record holds the assigned one."""
    if function.directory is None:
        return None
    trigger = http_trigger(function.content)
    port = at(trigger[1], "attributes", "port") if trigger else None
    if port in (None, 0, ""):
        return None
    text = str(port)
    if not (text.isascii() and text.isdigit() and int(text) <= _HIGHEST):
        cause = f"attributes.port in the function.yaml of {function.name}: expected a port up to {_HIGHEST}, got {port}"
        raise DeploymentError(cause, "change it, or leave it out: then a free one is found")
    return int(text)


def _checksum(data: bytes) -> int:
    """The checksum that POSIX's cksum prints, from which ports have always been derived."""
    total = 0
    length = len(data).to_bytes((len(data).bit_length() + 7) // 8, "little")
    for byte in data + length:
        total ^= byte << 24
        for _ in range(8):
            total = (total << 1) ^ (0x104C11DB7 if total & 0x80000000 else 0)
    return total ^ 0xFFFFFFFF
