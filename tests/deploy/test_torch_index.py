"""PyTorch's index of CPU wheels: taken where it answers, kept by an image that was built with it."""

from __future__ import annotations

import http.server
import json
import socket
import threading
import time

import pytest

from deploy.base_image import TORCH_LABEL, of_framework
from deploy.host import torch_index
from tests.deploy.programs import Programs

TORCH = [of_framework("pytorch", "cpu")]


class Index(http.server.BaseHTTPRequestHandler):
    status = 200

    def do_HEAD(self):
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *arguments):
        pass


class Forbidden(Index):
    status = 403


@pytest.fixture(params=[Index])
def index(request):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), request.param)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/whl/cpu"
    server.shutdown()
    server.server_close()


@pytest.fixture
def silent():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/whl/cpu"


@pytest.fixture
def programs(tmp_path, monkeypatch) -> Programs:
    programs = Programs(tmp_path)
    monkeypatch.setenv("PATH", f"{programs.bin}:/usr/bin:/bin")
    programs.write("docker", "exit 1")
    return programs


def chosen(programs, index, bases=TORCH, **environment):
    return torch_index.choose(bases, programs.commands, programs.console, environment=environment, index=index)


def test_it_is_taken_where_it_answers(programs, index, capsys):
    assert chosen(programs, index) == index
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("bases", [[of_framework("onnx", "cpu")], [of_framework("pytorch", "gpu")], []])
def test_an_image_without_torch_or_for_the_gpu_needs_none(programs, index, bases):
    assert chosen(programs, index, bases) == ""


@pytest.mark.parametrize("name", ["PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"])
def test_settings_of_pip_decide(programs, index, name, capsys):
    assert chosen(programs, index, **{name: "https://mirror.example/simple"}) == ""
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("given", ["https://mirror.example/cpu", ""])
def test_another_index_or_none_by_the_environment(programs, index, given):
    assert chosen(programs, index, TORCH_INDEX_URL=given) == given


@pytest.mark.parametrize("index", [Forbidden], indirect=True)
def test_a_proxy_that_refuses_it(programs, index, capsys):
    assert chosen(programs, index) == ""
    said = capsys.readouterr().out
    assert f"PyTorch's index of CPU wheels ({index}) can't be reached" in said
    assert "2 GB larger" in said
    assert "TORCH_INDEX_URL=URL" in said


def test_it_is_not_waited_for_long(silent):
    start = time.monotonic()
    assert not torch_index.is_reachable(silent, timeout_s=0.3)
    assert time.monotonic() - start < 2


def test_an_image_that_was_built_with_it_keeps_it_without_a_network(programs, silent, capsys):
    labels = {"Config": {"Labels": {TORCH_LABEL: "https://earlier.example/cpu"}}}
    programs.write("docker", f"echo '{json.dumps([labels])}'")
    start = time.monotonic()
    assert chosen(programs, silent) == "https://earlier.example/cpu"
    assert time.monotonic() - start < 2
    assert capsys.readouterr().out == ""


def test_an_image_that_was_built_without_it_gets_it_when_it_answers_again(programs, index):
    programs.write("docker", f"echo '{json.dumps([{'Config': {'Labels': {TORCH_LABEL: ''}}}])}'")
    assert chosen(programs, index) == index
