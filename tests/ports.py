"""Ports for servers that a test starts: no two workers of pytest-xdist give the same one."""

from __future__ import annotations

import os
import random
import socket

_FIRST, _EACH = 11_000, 1_000  # below the range from which the system gives ports to clients (from 32768 on)
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_given: set[int] = set()


def free_port() -> int:
    """A loopback port that nobody listens on, given to one caller only."""
    first = _FIRST + _WORKER % 16 * _EACH
    for port in random.sample(range(first, first + _EACH), _EACH):
        if port not in _given and _is_free(port):
            _given.add(port)
            return port
    raise OSError(f"no free port from {first} to {first + _EACH - 1}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
