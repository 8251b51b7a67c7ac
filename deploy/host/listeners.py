"""What listens on a TCP port of this host: a container, or a program, which Linux names in /proc."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from deploy.host.containers import Container

_PROC = Path("/proc")
_LISTEN = "0A"  # a socket's state in /proc/net/tcp


@dataclass(frozen=True)
class Program:
    """A process."""

    id: int
    """0 when unknown: only root sees what the processes of other users listen on."""
    name: str = ""


def port_user(port: int, containers: Iterable[Container] = ()) -> str:
    """What uses a port of this host, in words; "" when nothing does.

    Args:
        port: The port.
        containers: The containers of this host's Docker, which are checked first.
    """
    for container in containers:
        if container.running and any(port == host_port for _, host_port in container.published.values()):
            return f"the container {container.name}"
    program = listener(port)
    if program is None:
        return ""
    if program.id:
        return f"{program.name} (process {program.id})"
    command = f"ss -ltnp 'sport = :{port}'" if (_PROC / "net/tcp").exists() else f"lsof -nP -iTCP:{port} -sTCP:LISTEN"
    return f"another program (sudo {command} names it)"


def listener(port: int) -> Program | None:
    """The program that listens on a port of this host; None when none does.

    Args:
        port: The port.
    """
    if not (_PROC / "net/tcp").exists():  # not Linux
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return Program(0)
        return None
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    return _owner(sockets) or Program(0) if sockets else None


def _listening_inodes(port: int) -> Iterator[str]:
    for table in ("net/tcp", "net/tcp6"):
        with contextlib.suppress(OSError):
            for line in (_PROC / table).read_text().splitlines()[1:]:
                columns = line.split()
                if columns[3] == _LISTEN and int(columns[1].rpartition(":")[2], 16) == port:
                    yield columns[9]


def _owner(sockets: set[str]) -> Program | None:
    for process in sorted(_PROC.glob("[0-9]*"), key=lambda path: int(path.name)):
        with contextlib.suppress(OSError):  # ended meanwhile, or another user's
            for descriptor in (process / "fd").iterdir():
                if str(descriptor.readlink()) in sockets:
                    return Program(int(process.name), (process / "comm").read_text().strip())
    return None
