"""Trying a function: real HTTP servers answer as its port and as Nuclio's dashboard, and the real check looks at the replies."""

from __future__ import annotations

import http.server
import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deploy.commands import Commands, Interrupted
from deploy.console import Console, DeploymentError
from deploy.definition.functions import Function
from deploy.host.containers import DockerHost
from deploy.nuclio import Nuclio
from deploy.verify import NoAnswer, ReplyError, Trial, sample_of, try_function
from tests.deploy.host import LABEL, SHAPE
from tests.ports import free_port

# An image is a folder with a `python`; a container runs what it is told in a folder of its own.
DOCKER = """#!/bin/sh
printf 'docker %s\\n' "$*" >>"$STAND_INS/calls"
case "$1 $2" in
  "image inspect") [ -d "$STAND_INS/images/$3" ] ;;
  "run --rm")
    while [ "$1" != --entrypoint ]; do shift; done
    image=$3 script=$5
    shift 5
    folder=$(mktemp -d "$STAND_INS/container.XXXXXX")
    cp "$STAND_INS/images/$image/python" "$folder" && export PATH="$folder:/usr/bin:/bin"
    exec sh -c "$(printf '%s' "$script" | sed "s#/tmp/check#$folder/check#g")" "$@" ;;
esac
"""
PYTHON = f'#!/bin/sh\nexec {sys.executable} "$@"\n'


class Place:
    """A port and a dashboard, the images of Docker, and a detector."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch):
        self.world = folder / "world"
        (self.world / "bin").mkdir(parents=True)
        docker = self.world / "bin" / "docker"
        docker.write_text(DOCKER)
        docker.chmod(0o755)
        monkeypatch.setenv("PATH", f"{self.world / 'bin'}:/usr/bin:/bin")
        monkeypatch.setenv("STAND_INS", str(self.world))
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # nothing may go there
        monkeypatch.setenv("no_proxy", "")
        self.folder = folder / "replies"
        self.status: dict[str, Any] = {"state": "ready"}
        """In Nuclio's list."""
        self.listed = 200
        self.replies: dict[str, tuple[int, bytes, str]] = {}
        """By "port" and "dashboard": status, body and content type."""
        self.delay_s = 0.0
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        """Method, path, headers and body of each request."""
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.port = self.server.server_port
        self.status["httpPort"] = self.port
        self.answer([SHAPE])
        self.function = Function(
            name="finder",
            kind="detector",
            content={
                "metadata": {"name": "finder", "annotations": {"type": "detector", "name": "Fïnder 🔎", "spec": LABEL}},
                "spec": {"description": "Finds", "runtime": "python:3.11", "handler": "main:handler"},
            },
            directory=folder / "my finder",
            device="cpu",
            base="cvat.onnx.base:latest",
            framework="onnx",
            image="cvat.finder:1",
            port=self.port,
        )
        self.host = SimpleNamespace(
            docker=DockerHost(address="127.0.0.1"), dashboard=f"http://127.0.0.1:{self.port}/nuclio"
        )
        self.platform = "local"
        scratch = folder / "scratch"
        scratch.mkdir()
        self.commands = Commands(Console("deploy_cpu.sh"), scratch)
        self.image("cvat.finder:1")

    def answer(self, reply: Any, *, status: int = 200, route: str = "", content_type: str = "application/json") -> None:
        """Sets what comes by one route, or by both."""
        body = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
        for name in [route] if route else ["port", "dashboard"]:
            self.replies[name] = (status, body, content_type)

    def image(self, name: str, python: str = PYTHON) -> None:
        """An image of Docker, and what `python` is in it."""
        path = self.world / "images" / name / "python"
        path.parent.mkdir(parents=True)
        path.write_text(python)
        path.chmod(0o755)

    def list_entry(self) -> dict[str, Any]:
        """What Nuclio's dashboard says of the function."""
        if self.listed == 404:
            return {
                "error": "Function not found",
                "errorStackTrace": "Error - Function not found\n .../function.go:108",
            }
        return {"metadata": {}, "status": self.status}

    def attempt(self) -> Trial:
        nuclio = Nuclio(self.commands, "nuctl", self.platform, "nuclio")
        return try_function(self.function, self.host, nuclio, self.commands, self.folder, user="1000:1000")

    def failure(self) -> DeploymentError:
        with pytest.raises(DeploymentError) as raised:
            self.attempt()
        return raised.value

    def calls(self) -> list[str]:
        path = self.world / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        place = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._note(b"")
                self._send(place.listed, json.dumps(place.list_entry()).encode(), "application/json")

            def do_POST(self) -> None:
                self._note(self.rfile.read(int(self.headers["Content-Length"])))
                if place.commands.stop.wait(place.delay_s):
                    return
                self._send(*place.replies["dashboard" if "function_invocations" in self.path else "port"])

            def _note(self, body: bytes) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                place.asked.append((self.command, self.path, headers, body))

            def _send(self, status: int, body: bytes, content_type: str) -> None:
                self.send_response(status)
                if content_type:
                    self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    made = Place(tmp_path, monkeypatch)
    yield made
    made.commands.stop.set()
    made.server.shutdown()
    made.server.server_close()


def test_both_routes_are_tried_with_the_headers_of_cvat(place: Place) -> None:
    place.delay_s = 0.1
    trial = place.attempt()
    assert trial.found == "1 shape"
    assert trial.seconds is not None
    assert 0.1 <= trial.seconds < 5
    (_, list_path, list_headers, _), (_, path, headers, body), (_, through, more, again) = place.asked
    assert list_path == "/nuclio/api/functions/finder"
    assert list_headers["x-nuclio-project-name"] == "cvat"
    assert list_headers["x-nuclio-function-namespace"] == "nuclio"
    assert path == "/"
    assert not any(name.startswith("x-nuclio") for name in headers)
    assert headers["content-type"] == more["content-type"] == "application/json"
    assert through == "/nuclio/api/function_invocations"
    assert {name: value for name, value in more.items() if name.startswith("x-nuclio")} == {
        "x-nuclio-project-name": "cvat",
        "x-nuclio-function-namespace": "nuclio",
        "x-nuclio-function-name": "finder",
        "x-nuclio-path": "/",
        "x-nuclio-invoke-via": "domain-name",
        "x-nuclio-invoke-timeout": "120s",
    }
    assert body == again == (sample_of(place.function) or Path()).read_bytes()
    (run,) = [call for call in place.calls() if call.startswith("docker run")]
    assert run.startswith("docker run --rm -i --network none --user 1000:1000 --entrypoint sh cvat.finder:1 -c ")
    assert place.calls()[-1].endswith("check direct dashboard")


def test_without_the_dashboard_only_the_port_is_tried(place: Place) -> None:
    place.host.dashboard = ""
    assert place.attempt().found == "1 shape"
    assert [path for _, path, _, _ in place.asked] == ["/"]


def test_on_kubernetes_only_the_dashboard_is_tried(place: Place) -> None:
    place.platform, place.function.port, place.status["httpPort"] = "kube", None, 0
    assert place.attempt().found == "1 shape"
    assert [path for _, path, _, _ in place.asked] == [
        "/nuclio/api/functions/finder",
        "/nuclio/api/function_invocations",
    ]
    place.answer({"error": "no model"}, status=500)
    assert place.failure().remedy.endswith("kubectl -n nuclio logs deployment/nuclio-finder")


def test_docker_on_another_host(place: Place) -> None:
    place.host.docker = DockerHost(address="localhost")
    place.attempt()
    assert place.asked[1][2]["host"] == f"localhost:{place.port}"


@pytest.mark.parametrize(
    ("kind", "annotations", "name"),
    [
        ("detector", {}, "detector"),
        ("interactor", {}, "interactor"),
        ("reid", {}, "reid"),
        ("tracker", {}, "tracker-legacy"),
        ("tracker", {"supported_shape_types": "ellipse, polygon,mask"}, "tracker-polygon"),
        ("tracker", {"supported_shape_types": "ellipse"}, ""),
        ("classifier", {}, ""),
        ("?", {}, ""),
    ],
)
def test_the_sample_of_each_kind(place: Place, kind: str, annotations: dict[str, str], name: str) -> None:
    place.function.kind = kind
    place.function.content["metadata"]["annotations"] = annotations
    path = sample_of(place.function)
    assert (path.stem if path else "") == name
    if not name:
        assert place.attempt() == Trial(None, f"not tried: there is no sample for a {kind}")


@pytest.mark.parametrize(
    ("kind", "annotations", "reply", "found"),
    [
        ("interactor", {}, {"mask": [[1, 1, 0]], "bounds": [128, 140, 130, 140]}, "2 pixels of mask"),
        ("reid", {}, [1, 3, -1, -1], "2 matches"),
        ("tracker", {}, {"shapes": [[85, 95, 175, 185]], "states": [{}]}, "1 shape"),
    ],
)
def test_what_a_reply_holds(place: Place, kind: str, annotations: dict[str, str], reply: Any, found: str) -> None:
    place.function.kind = kind
    place.function.content["metadata"]["annotations"] = {"type": kind, **annotations}
    place.answer(reply)
    assert place.attempt().found == found


@pytest.mark.parametrize(
    ("reply", "finding"),
    [
        ([{**SHAPE, "label": "other"}], "reply[0].label"),
        ({"shapes": []}, "expected a list"),
        (b"<html>502</html>", "expected"),
    ],
)
@pytest.mark.parametrize("route", ["", "dashboard"])
def test_a_wrong_reply(place: Place, reply: Any, finding: str, route: str) -> None:
    place.answer(reply, route=route)
    found = place.failure()
    assert isinstance(found, ReplyError)
    assert found.cause.startswith("CVAT would not accept the reply: ")
    assert finding in found.findings[0]
    assert len(found.findings) == len(set(found.findings))
    assert found.remedy == f"make check FUNCTION='{place.function.directory}' shows all that is wrong with the function"


def test_a_reply_without_a_content_type(place: Place) -> None:
    place.answer([SHAPE], content_type="")
    assert place.attempt().found == "1 shape"
    place.answer({}, content_type="")
    found = place.failure()
    assert isinstance(found, ReplyError)
    assert not any("Traceback" in line for line in found.findings)


def test_an_error_status(place: Place) -> None:
    place.answer({"error": "finder failed: no model"}, status=500)
    found = place.failure()
    assert found.cause == f'port {place.port}: 500: {{"error": "finder failed: no model"}}'
    assert isinstance(found, NoAnswer)
    assert found.remedy == ""  # its log is saved; docker logs may soon show that of the old version again


def test_a_long_error_is_cut_with_a_sign(place: Place) -> None:
    place.answer(b"x" * 5000, status=500)
    assert place.failure().cause == f"port {place.port}: 500: {'x' * 296} ..."


def test_a_function_that_is_not_the_one_meant(place: Place) -> None:
    place.answer({"error": "this is other, and the request is for finder"}, status=421, route="dashboard")
    found = place.failure()
    assert found.cause.startswith("through the dashboard: 421: ")
    assert "this is other" in found.cause
    assert "has the address of another function under this name" in found.remedy


def test_a_port_on_which_nothing_listens_yet(place: Place) -> None:
    place.host.dashboard = ""
    late = free_port()
    place.function.port = late
    made: list[http.server.ThreadingHTTPServer] = []

    def serve() -> None:
        time.sleep(0.6)
        made.append(http.server.ThreadingHTTPServer(("127.0.0.1", late), place.server.RequestHandlerClass))
        made[0].serve_forever(0.01)

    threading.Thread(target=serve, daemon=True).start()
    assert place.attempt().found == "1 shape"
    made[0].shutdown()
    made[0].server_close()


def test_a_port_on_which_nothing_listens(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.verify._REFUSED_FOR_S", 0.3)
    place.host.dashboard = ""
    place.function.port = free_port()
    found = place.failure()
    assert found.cause == f"port {place.function.port}: no answer (Connection refused)"
    assert isinstance(found, NoAnswer)


def test_a_function_that_never_answers(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.verify._REPLY_TIMEOUT_S", 1)
    place.host.dashboard = ""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place.function.port = silent.getsockname()[1]
        assert place.failure().cause == f"port {place.function.port}: no answer (nothing within 1 s)"


def test_a_port_that_closes_connections(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Docker's proxy does while nothing listens in the container."""
    monkeypatch.setattr("deploy.verify._REFUSED_FOR_S", 0.3)
    place.host.dashboard = ""
    with socket.create_server(("127.0.0.1", 0)) as closing:
        place.function.port = closing.getsockname()[1]
        accepted = 0

        def close_all() -> None:
            nonlocal accepted
            while True:
                try:
                    connection, _ = closing.accept()
                except OSError:
                    return
                accepted += 1
                connection.recv(1 << 16)
                connection.close()

        threading.Thread(target=close_all, daemon=True).start()
        found = place.failure().cause
        assert found.startswith(f"port {place.function.port}: no answer (")
        assert accepted > 1


@pytest.mark.parametrize("when", ["answering", "refusing"])
def test_an_interruption(place: Place, when: str) -> None:
    place.host.dashboard = ""
    if when == "answering":
        place.delay_s = 20
    else:
        place.function.port = free_port()
    threading.Timer(0.3, place.commands.stop.set).start()
    begin = time.monotonic()
    with pytest.raises(Interrupted):
        place.attempt()
    assert time.monotonic() - begin < 3


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        ({"state": "unhealthy"}, "Nuclio says that its state is unhealthy"),
        ({}, "Nuclio says that its state is unknown"),
        ({"state": "ready"}, "Nuclio has it on port ?, not {port}"),
        ({"state": "ready", "httpPort": 7}, "Nuclio has it on port 7, not {port}"),
    ],
)
def test_what_nuclios_own_list_says(place: Place, status: dict[str, Any], cause: str) -> None:
    place.status = status
    found = place.failure()
    assert found.cause == cause.format(port=place.port)
    assert found.remedy
    assert len(place.asked) == 1


def test_a_function_that_nuclios_list_lacks(place: Place) -> None:
    place.listed = 404
    found = place.failure()
    assert found.cause == "Nuclio's dashboard does not list it: 404: Function not found"
    assert f"{place.host.dashboard} belong to this Docker, and to namespace nuclio?" in found.remedy
    place.host.dashboard = f"http://127.0.0.1:{free_port()}"
    assert place.failure().cause == "Nuclio's dashboard does not list it: no answer (Connection refused)"


def test_an_image_that_lacks_the_packages(place: Place) -> None:
    place.function.image = "somebody/image:1"
    place.image("somebody/image:1", f'#!/bin/sh\nexec {sys.executable} -S -E "$@"\n')
    place.image("cvat.opencv.base:latest")
    assert place.attempt().found == "1 shape"
    assert [call.split(" -c ")[0].split()[-1] for call in place.calls() if "docker run" in call] == [
        "somebody/image:1",
        "cvat.opencv.base:latest",
    ]


def test_an_image_whose_common_is_older(place: Place) -> None:
    """The check comes with the `common` that it was written for: the image gives Python and its packages."""
    old = place.world / "old"
    (old / "common").mkdir(parents=True)
    (old / "common" / "__init__.py").write_text("")
    (old / "common" / "config.py").write_text("raise RuntimeError('this is the old one')\n")
    place.function.image = "cvat.finder:old"
    place.image(
        "cvat.finder:old",
        f'#!/bin/sh\nexport PYTHONPATH="${{PYTHONPATH:+$PYTHONPATH:}}{old}"\nexec {sys.executable} "$@"\n',
    )
    assert place.attempt().found == "1 shape"
    assert len([call for call in place.calls() if "docker run" in call]) == 1


def test_without_an_image_for_the_check(place: Place) -> None:
    place.function.image = place.function.base = ""
    assert place.attempt().found == "an answer in JSON, not checked"
    place.answer(b"<html>")
    assert place.failure().cause == "the reply is not JSON: <html>"


def test_a_function_that_is_known_from_nuclio_alone(place: Place) -> None:
    place.function.directory = None
    assert place.attempt().found == "1 shape"
    place.answer({})
    assert isinstance(place.failure(), ReplyError)
