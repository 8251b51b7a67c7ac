"""The network of a deployment under test: Nuclio's dashboard and the functions' ports, which answer in the test's process.

Python imports this module at its start, where its folder is on PYTHONPATH. Connections to addresses at which the world has
nothing are refused; a port of this machine is tried for real, as other programs may listen there.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import Any

sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from world import here

_real = socket.create_connection
_DASHBOARD_PORT = 8070


def _create_connection(address: tuple[str, int], *arguments: Any, **options: Any) -> socket.socket:
    host, port = address[0], int(address[1])
    world = here()
    is_local = host in ("127.0.0.1", "localhost")
    if world.is_dashboard(host, port) or (is_local and world.function_at(port)):
        server = os.environ["STAND_IN_NETWORK"].rpartition(":")
        connection = _real((server[0], int(server[2])), *arguments, **options)
        # The first line is for the server: whose world it is, and what was to be reached.
        connection.sendall(f"{world.folder}\t{host}:{port}\n".encode())
        return connection
    if is_local and port != _DASHBOARD_PORT:
        return _real(address, *arguments, **options)
    raise ConnectionRefusedError(111, "Connection refused")


if "STAND_INS" in os.environ:
    socket.create_connection = _create_connection
