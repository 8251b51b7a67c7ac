"""A running `python -m tools.serve`, on ports of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping

import httpx

from tools.collection import ROOT


class Server:
    """The process; its log is read all the time so that nothing blocks."""

    def __init__(self, *arguments: str, environment: Mapping[str, str] | None = None):
        # Port 0: the system gives one that nobody has, and the functions take the next free ones.
        command = [sys.executable, "-m", "tools.serve", "--port", "0", *arguments]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.lines: list[str] = []
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()
        self._client: httpx.Client | None = None

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    @property
    def output(self) -> str:
        """All that it has printed so far."""
        return "\n".join(self.lines)

    @property
    def port(self) -> int:
        """The port of the dashboard API; known once it says so."""
        self.wait_for("a page with this list: http")
        (line,) = [line for line in self.lines if "a page with this list: http" in line]
        return int(line.rpartition(":")[2])

    @property
    def client(self) -> httpx.Client:
        """A client of the dashboard API."""
        if self._client is None:
            self._client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=60, trust_env=False)
        return self._client

    def wait_for(self, text: str, seconds: float = 60) -> None:
        """Waits until it has printed a text; fails when it ends before."""
        deadline = time.monotonic() + seconds
        while text not in self.output:
            assert time.monotonic() < deadline, f"{text!r} did not appear in:\n{self.output}"
            assert self.process.poll() is None or text in self.output, f"the server ended:\n{self.output}"
            time.sleep(0.02)

    def functions(self) -> dict:
        """What the dashboard API lists, asked with the headers that CVAT sends."""
        headers = {"x-nuclio-project-name": "cvat", "x-nuclio-function-namespace": "nuclio"}
        return self.client.get("/api/functions", headers=headers).raise_for_status().json()

    def direct(self, name: str, body: object, **more: object) -> httpx.Response:
        """Sends a request to a function's own port."""
        port = self.functions()[name]["status"]["httpPort"]
        return self.client.post(f"http://127.0.0.1:{port}/", json=body, **more)

    def invoke(self, name: str, body: object) -> httpx.Response:
        """Sends a request through the dashboard API, as CVAT does."""
        headers = {
            "x-nuclio-function-name": name,
            "x-nuclio-path": "/",
            "x-nuclio-function-namespace": "nuclio",
            "X-Nuclio-Invoke-Timeout": "120s",
            "x-nuclio-invoke-via": "domain-name",
        }
        return self.client.post("/api/function_invocations", json=body, headers=headers)

    def stop(self, number: int = signal.SIGINT) -> int:
        """Ends it, and returns its exit status."""
        if self._client is not None:
            self._client.close()
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(20)
        finally:
            self.process.kill()
            self._reading.join(5)
