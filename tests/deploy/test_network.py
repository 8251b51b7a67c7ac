"""Where functions and CVAT meet: the dashboard's address, CVAT's network and its store."""

from __future__ import annotations

import http.server
import threading

import pytest

from deploy.host import network
from deploy.host.containers import Container, DockerHost
from tests.deploy.programs import Programs

IMAGE = "quay.io/nuclio/dashboard:1.15.9-amd64"


class Dashboard(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/api/versions" else 404)
        self.end_headers()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def address():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Dashboard)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def programs(tmp_path, monkeypatch) -> Programs:
    programs = Programs(tmp_path)
    monkeypatch.setenv("PATH", f"{programs.bin}:/usr/bin:/bin")
    return programs


def docker(*containers, address="127.0.0.1") -> DockerHost:
    return DockerHost({each.name: each for each in containers}, address=address)


def dashboard(**more) -> Container:
    return Container(**{"name": "nuclio", "image": IMAGE, "status": "running", "running": True, **more})


@pytest.mark.parametrize(
    ("container", "where"),
    [
        (dashboard(published={8070: ("0.0.0.0", 8071)}), "http://docker.example:8071"),
        (dashboard(published={8070: ("192.168.7.7", 8070)}), "http://192.168.7.7:8070"),
        (dashboard(networks={"cvat_cvat": "172.30.0.5"}), "http://172.30.0.5:8070"),
        (dashboard(status="exited", running=False), "http://localhost:8070"),
    ],
)
def test_where_the_dashboard_is(container, where):
    assert network.dashboard_address(docker(container, address="docker.example")) == where


def test_without_a_container_it_is_looked_for_at_the_usual_address():
    assert network.dashboard_address(docker()) == "http://localhost:8070"


def test_a_dashboard_answers_without_the_proxy_of_the_environment(address, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    assert network.is_dashboard(address)
    assert not network.is_dashboard(f"{address}/elsewhere")


@pytest.mark.parametrize("wrong", ["http://127.0.0.1:9", "nonsense", "http://[", "http://127.0.0.1:port"])
def test_nothing_answers(wrong):
    assert not network.is_dashboard(wrong)


def test_the_dashboard_is_reported_with_its_version(address, programs, capsys):
    found = network.find_dashboard(docker(dashboard()), address, "start it", programs.console)
    assert found == address
    assert f"ok      Nuclio's dashboard 1.15.9 at {address}" in capsys.readouterr().out


def test_several_dashboards(address, programs, capsys):
    both = docker(
        dashboard(name="nuclio"), dashboard(name="nuclio-old"), dashboard(name="nuclio-stopped", running=False)
    )
    network.find_dashboard(both, "", "start it", programs.console)
    assert "several dashboards of Nuclio run: nuclio is used, not nuclio-old" in capsys.readouterr().out
    network.find_dashboard(both, address, "start it", programs.console)
    assert "several" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("containers", "said"),
    [
        ([], "start it, beside a running CVAT"),
        ([dashboard(status="exited", running=False)], "docker start nuclio"),
        ([dashboard()], "Nuclio's dashboard runs (nuclio), but can't be reached from here"),
    ],
)
def test_a_dashboard_that_cannot_be_reached(programs, capsys, containers, said):
    assert network.find_dashboard(docker(*containers), "http://127.0.0.1:9", "start it", programs.console) == ""
    assert said in capsys.readouterr().out


def test_a_dashboard_is_started_in_the_version_of_nuctl():
    assert network.start_command("1.14.1").startswith("NUCLIO_VERSION=1.14.1 docker compose -f ")
    for usual in ("", "1.15.9"):
        assert network.start_command(usual).startswith("docker compose -f ")


@pytest.mark.parametrize(
    ("networks", "name"),
    [
        ({"bridge": "172.17.0.2", "labels_cvat": "172.30.0.5"}, "labels_cvat"),
        ({"bridge": "172.17.0.2"}, "cvat_cvat"),
        ({}, "cvat_cvat"),
    ],
)
def test_the_network_is_that_of_the_dashboard(programs, networks, name):
    programs.write("docker", "exit 0")
    assert network.find_network(docker(dashboard(networks=networks)), None, programs.commands, programs.console) == name


def test_the_network_of_a_cvat_of_another_name(programs):
    programs.write("docker", '[ "$2" = ls ] && echo labels_cvat')
    assert network.find_network(docker(), None, programs.commands, programs.console) == "labels_cvat"


def test_there_is_no_network(programs, capsys):
    programs.write("docker", "exit 1")
    assert network.find_network(docker(), None, programs.commands, programs.console) is None
    assert "there is no network cvat_cvat" in capsys.readouterr().out
    network.find_network(docker(), "elsewhere", programs.commands, programs.console)
    assert "MISSING there is no Docker network elsewhere" in capsys.readouterr().out
    assert programs.console.missing == 1


def test_cvats_store(monkeypatch):
    monkeypatch.delenv("CVAT_FUNCTIONS_REDIS_HOST", raising=False)
    monkeypatch.delenv("CVAT_FUNCTIONS_REDIS_PORT", raising=False)
    store = Container("cvat_redis_ondisk", running=True, networks={"cvat_cvat": "172.30.0.6"})
    expected = {"CVAT_FUNCTIONS_REDIS_HOST": "cvat_redis_ondisk", "CVAT_FUNCTIONS_REDIS_PORT": "6666"}
    assert network.find_store(docker(store), "cvat_cvat") == expected
    assert network.find_store(docker(store), "another") == {}
    assert network.find_store(docker(), "cvat_cvat") == {}
    monkeypatch.setenv("CVAT_FUNCTIONS_REDIS_HOST", "redis.example")
    monkeypatch.setenv("CVAT_FUNCTIONS_REDIS_PORT", "7000")
    expected = {"CVAT_FUNCTIONS_REDIS_HOST": "redis.example", "CVAT_FUNCTIONS_REDIS_PORT": "7000"}
    assert network.find_store(docker(store), "cvat_cvat") == expected
