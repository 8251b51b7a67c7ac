"""Answers for Nuclio's dashboard and for the functions, over HTTP, in the test's process."""

from __future__ import annotations

import contextlib
import functools
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.deploy.stand_ins.world import DASHBOARD, World


@functools.cache
def address() -> str:
    """host:port of the one server of this process, which serves all worlds."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"127.0.0.1:{server.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        folder, _, self.target = self.rfile.readline().decode().rstrip("\n").partition("\t")
        self.world = World(folder)

    def do_GET(self) -> None:
        self._record(b"")
        name = self.path.rpartition("/")[2]
        if self.path == "/api/versions":
            self._send(200, {"dashboard": {"label": self.world.fact("dashboard")}})
        elif self.path.rstrip("/") == "/api/functions":
            self._send(200, {record["metadata"]["name"]: record for record in self.world.records()})
        elif self.path.startswith("/api/functions/") and (record := self.world.record(name)):
            self._send(200, record)
        else:
            self._send(404, {"error": "Function not found"})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._record(body)
        if self.path == "/api/function_invocations":
            self._invoke(self.headers.get("x-nuclio-function-name", ""))
        else:
            container = self.world.function_at(int(self.target.rpartition(":")[2]))
            self._answer(container.partition("-nuclio-")[2] or container, "direct")

    def _invoke(self, name: str) -> None:
        record = self.world.record(name)
        if record is None:
            self._send(404, {"error": f"Failed to invoke function: Function not found: {name} @ nuclio"})
        elif record["status"].get("state") != "ready":
            self._send(500, {"error": "Failed to invoke function: Invocation URL is required"})
        else:
            self._answer(name, DASHBOARD)

    def _answer(self, name: str, route: str) -> None:
        time.sleep(float(self.world.fact(f"replies/{name}.takes") or 0))
        text = self.world.fact(f"replies/{name}.dashboard") if route == DASHBOARD else ""
        status = int(self.world.fact(f"replies/{name}.status") or 200)
        self._send(status, text or self.world.fact(f"replies/{name}"))

    def _record(self, body: bytes) -> None:
        line = f"{self.command} http://{self.target}{self.path}"
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.world.record_call(f"http {line}")
        with open(self.world.path("requests"), "a") as requests:
            requests.write(json.dumps({"line": line, "headers": headers, "body": body.decode()}) + "\n")

    def _send(self, status: int, content: object) -> None:
        body = (content if isinstance(content, str) else json.dumps(content)).encode()
        # A deployment that was interrupted has gone.
        with contextlib.suppress(OSError):
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass
