"""deploy.host.listeners: who has a port of this host."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.host import listeners
from deploy.host.containers import Container
from deploy.host.listeners import Program, listener, port_user
from tests.ports import free_port

pytestmark = pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs Linux")


@pytest.fixture(params=[socket.AF_INET, socket.AF_INET6], ids=["IPv4", "IPv6"])
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    with socket.socket(request.param) as made:
        try:
            made.bind(("::1" if request.param == socket.AF_INET6 else "127.0.0.1", 0))
        except OSError:
            pytest.skip("no IPv6 here")
        made.listen()
        yield made.getsockname()[1]


def test_a_program_of_ours_has_its_id_and_name(port: int) -> None:
    name = Path("/proc/self/comm").read_text().strip()
    assert listener(port) == Program(os.getpid(), name)
    assert port_user(port) == f"{name} (process {os.getpid()})"


def test_a_program_of_another_process(tmp_path: Path) -> None:
    port = free_port()
    script = f"import socket; s = socket.create_server(('127.0.0.1', {port})); print(flush=True); input()"
    process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        found = listener(port)
        assert found is not None and found.id == process.pid
    finally:
        process.kill()
        process.communicate()


def test_a_port_that_is_free() -> None:
    port = free_port()
    assert listener(port) is None
    assert port_user(port) == ""


def test_a_client_of_a_port_does_not_listen_on_it(port: int) -> None:
    with socket.socket() as client:
        client.bind(("127.0.0.1", 0))
        assert listener(client.getsockname()[1]) is None


def test_without_root_the_command_that_names_it(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listeners, "_owner", lambda sockets: None)  # as for the socket of another user
    assert listener(port) == Program(0)
    assert port_user(port) == f"another program (sudo ss -ltnp 'sport = :{port}' names it)"


def test_elsewhere_than_on_linux(port: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(listeners, "_PROC", tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        assert port_user(taken) == f"another program (sudo lsof -nP -iTCP:{taken} -sTCP:LISTEN names it)"
    assert port_user(free_port()) == ""


def test_a_container_is_named_before_the_program_that_serves_it(port: int) -> None:
    running = Container("web", running=True, published={80: ("0.0.0.0", port)})
    stopped = Container("old", running=False, host_ports=frozenset({port}))
    assert port_user(port, [stopped, running]) == "the container web"
    assert port_user(port, [stopped]) == f"{Path('/proc/self/comm').read_text().strip()} (process {os.getpid()})"
