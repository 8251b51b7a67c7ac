"""A server with tasks, and functions at addresses, for the tests of tools.annotate."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from common.config import FunctionConfig
from tests.scenes import png, red_box
from tests.tools.annotate.cvat_server import TOKEN, CvatServer, Task
from tools.annotate.__main__ import main
from tools.collection import ROOT
from tools.wrapper import LoadedFunction

FUNCTIONS = ROOT / "tests/sample_functions"
SIZE_HW = (60, 90)


def box_of(frame: int) -> tuple[int, int, int, int]:
    """Where the red box of a frame is: elsewhere on each."""
    return 10 + frame % 30, 5 + frame % 7, 40 + frame % 30, 35 + frame % 7


def frames(count: int) -> list[tuple[str, bytes]]:
    return [(f"frame_{i:03d}.png", png(red_box(box_of(i), SIZE_HW))) for i in range(count)]


def labels() -> list[dict[str, Any]]:
    return FunctionConfig.load(FUNCTIONS / "everything").labels.to_raw()


def by_label(task: Task, kind: str = "shapes") -> dict[str, list[dict[str, Any]]]:
    """A task's annotations by the name of their label, in order of frames."""
    names = {label["id"]: label["name"] for label in task.labels.values()}
    found: dict[str, list[dict[str, Any]]] = {}
    for annotation in sorted(task.annotations[kind], key=lambda a: a["frame"]):
        found.setdefault(names[annotation["label_id"]], []).append(annotation)
    return found


def content(task: Task) -> list[str]:
    """All annotations of a task without the numbers that the server gave them, in a fixed order."""
    bare = []
    for kind, items in task.annotations.items():
        for item in items:
            plain = {k: v for k, v in item.items() if k not in ("id", "elements")}
            plain["elements"] = [{k: v for k, v in e.items() if k != "id"} for e in item.get("elements", [])]
            bare.append(json.dumps([kind, plain], sort_keys=True))
    return sorted(bare)


@pytest.fixture
def server() -> Iterator[CvatServer]:
    with CvatServer() as running:
        yield running


@pytest.fixture
def annotate(server: CvatServer, tmp_path: Path) -> Callable[..., int]:
    """The program, against the server, with its journals in the test's folder; returns its exit status.

    The function runs in the program's own process unless the test says otherwise.
    """

    def run(*arguments: object, function: str = "everything") -> int:
        common = ["--url", server.url, "--token", TOKEN, "--journals", tmp_path / "journals", "--workers", 0]
        which = ["--function", FUNCTIONS / function] if function else []
        return main([str(a) for a in (*common, *which, *arguments)])

    return run


class Endpoint:
    """A function of the tests behind an address, as under Nuclio. answer: may answer a request in its place."""

    def __init__(self, function: str):
        self._function = LoadedFunction(FUNCTIONS / function, unique=True)
        self.answer: Callable[[dict[str, Any]], tuple[int, bytes] | None] = lambda body: None
        self.calls = 0
        lock, endpoint = threading.Lock(), self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    endpoint.calls += 1
                    reply = endpoint.answer(body)
                    if reply is None:
                        found = endpoint._function(body)
                        reply = found.status, found.body
                self.send_response(reply[0])
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(reply[1])))
                self.end_headers()
                self.wfile.write(reply[1])

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def endpoint() -> Iterator[Callable[[str], Endpoint]]:
    made: list[Endpoint] = []

    def make(function: str) -> Endpoint:
        made.append(Endpoint(function))
        return made[-1]

    yield make
    for one in made:
        one.close()


def picture_of(body: dict[str, Any]) -> bytes:
    return base64.b64decode(body["image"])
