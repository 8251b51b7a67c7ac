"""A function under Nuclio's own Python wrapper, which the processor would start and feed through a socket.

The environment variable NUCLIO_WRAPPER names the file: pkg/processor/runtime/python/py/_nuclio_wrapper.py of Nuclio.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import msgpack

from tools.wrapper import Reply

REPOSITORY = Path(__file__).resolve().parents[2]


class RealWrapper:
    """One worker. logs: the records that it sent to the processor."""

    def __init__(self, directory: Path, folder: Path, *, timeout: float = 60):
        self.logs: list[dict[str, Any]] = []
        listeners = {}
        for name in ("event", "control"):
            listeners[name] = socket.socket(socket.AF_UNIX)
            listeners[name].bind(str(folder / f"{name}.sock"))
            listeners[name].listen(1)
            listeners[name].settimeout(timeout)
        words = {
            "handler": "main:handler",
            "event-socket-path": folder / "event.sock",
            "control-socket-path": folder / "control.sock",
            "platform-kind": "local",
            "namespace": "nuclio",
            "worker-id": 0,
            "trigger-kind": "http",
            "trigger-name": "web",
        }
        command = [sys.executable, "-u", os.environ["NUCLIO_WRAPPER"], "--decode-event-strings"]
        for name, value in words.items():
            command += [f"--{name}", str(value)]
        # In an image `common` lies on the path of every Python; here it is the repository's.
        environment = {**os.environ, "PYTHONPATH": f"{directory}:{REPOSITORY}"}
        self._process = subprocess.Popen(
            command, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self._sockets = []
        for listener in listeners.values():
            connection, _ = listener.accept()
            connection.settimeout(timeout)
            self._sockets.append(connection)
            listener.close()
        self._replies = self._sockets[0].makefile("rb")
        self._read("s")  # started: init_context is done

    def __call__(self, request: bytes, content_type: str = "application/json") -> Reply:
        """Answers one POST, as the client would get it."""
        event = {
            "body": request,
            "content_type": content_type,
            "content-type": content_type,
            "trigger": {"kind": "http", "name": "web"},
            "fields": {},
            "headers": {"Content-Type": content_type},
            "id": "1",
            "method": "POST",
            "path": "/",
            "size": len(request),
            "timestamp": int(time.time()),
            "url": "",
            "shard_id": 0,
            "num_shards": 0,
            "type": "",
            "type_version": "",
            "version": "",
            "offset": 0,
            "topic": "",
        }
        packed = msgpack.packb(event, use_bin_type=True)
        self._sockets[0].sendall(struct.pack(">i", len(packed)) + packed)
        answer = json.loads(self._read("r"))
        raw = answer["body"]
        body = base64.b64decode(raw) if answer["body_encoding"] == "base64" else raw.encode()
        return Reply(answer["status_code"], body, answer["content_type"], answer["headers"])

    def __enter__(self) -> RealWrapper:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.terminate()
        for connection in self._sockets:
            connection.close()
        try:
            self._process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()

    def _read(self, wanted: str) -> bytes:
        while line := self._replies.readline():
            if line[:1] == b"l":
                self.logs.append(json.loads(line[1:]))
            elif line[:1].decode() == wanted:
                return line[1:]
        output, _ = self._process.communicate(timeout=5)
        raise AssertionError(f"the wrapper has ended: {output.decode()[-2000:]}")
