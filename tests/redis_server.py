"""A real Redis on a loopback port of its own, for as long as a test needs it."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import redis

from tests.ports import free_port


@dataclass
class RedisServer:
    """client: a plain connection, to look at what was stored. stop: ends the server for good."""

    port: int
    process: subprocess.Popen[bytes]
    client: redis.Redis

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)


@contextmanager
def redis_server(port: int | None = None) -> Iterator[RedisServer]:
    """Starts the server of Debian's package redis-server, with nothing on disk, and ends it."""
    program = shutil.which("redis-server")
    assert program, "these tests need Redis: apt-get install redis-server"
    port = port or free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    folder = tempfile.TemporaryDirectory()  # a copy of another server writes what it was sent there
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=folder.name)
    client = redis.Redis(port=port)
    try:
        for _ in range(200):
            try:
                client.ping()
                break
            except redis.ConnectionError:
                assert process.poll() is None, "redis-server ended at once"
                time.sleep(0.02)
        yield RedisServer(port, process, client)
    finally:
        client.close()
        process.terminate()
        process.wait(10)
        folder.cleanup()


@contextmanager
def silent_server() -> Iterator[int]:
    """The port of a server that accepts connections and never says a word: the slowest store there is."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        yield listener.getsockname()[1]
