"""deploy.host.containers against a `docker` that answers with what Docker 28.2 printed, shortened; and against a real one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deploy.host import containers
from deploy.host.containers import Container, DockerError, DockerHost, Health

DESCRIBED: dict[str, Any] = {
    "Id": "ef7316402407",
    "State": {
        "Status": "running",
        "Running": True,
        "OOMKilled": False,
        "ExitCode": 0,
        "Error": "",
        "StartedAt": "2026-11-21T18:15:15.310885575Z",
        "Health": {"Status": "healthy", "Log": [{"ExitCode": 1, "Output": "bad"}, {"ExitCode": 0, "Output": "good\n"}]},
    },
    "Image": "sha256:1865e5b3f278",
    "Name": "/nuclio-nuclio-finder",
    "RestartCount": 2,
    "HostConfig": {
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "5m"}},
        "PortBindings": {
            "53/udp": [{"HostIp": "", "HostPort": "53"}],
            "8070/tcp": [{"HostIp": "127.0.0.1", "HostPort": "45123"}, {"HostIp": "127.0.0.2", "HostPort": "45124"}],
            "8080/tcp": [{"HostIp": "", "HostPort": ""}],
            "9000/tcp": [{"HostIp": "", "HostPort": "9000-9010"}],
        },
        "RestartPolicy": {"Name": "always", "MaximumRetryCount": 0},
    },
    "Config": {
        "Healthcheck": {"Test": ["CMD-SHELL", "echo good"], "Interval": 2000000000},
        "Image": "cvat.finder:1",
        "Labels": {"nuclio.io/function-name": "finder"},
    },
    "NetworkSettings": {
        "Ports": {
            "8070/tcp": [{"HostIp": "127.0.0.1", "HostPort": "45123"}],
            "8080/tcp": [{"HostIp": "0.0.0.0", "HostPort": "32768"}, {"HostIp": "::", "HostPort": "32768"}],
            "9100/tcp": None,
        },
        "Networks": {"cvat_cvat": {"IPAddress": "172.18.0.2"}},
    },
}
FINDER = Container(
    name="nuclio-nuclio-finder",
    id="ef7316402407",
    image="cvat.finder:1",
    image_id="sha256:1865e5b3f278",
    status="running",
    running=True,
    started_at="2026-11-21T18:15:15.310885575Z",
    health=Health("healthy", 2.0, "good"),
    restart="always",
    restarts=2,
    ports={8070: 45123, 8080: 0, 9000: 0},
    published={8070: ("127.0.0.1", 45123), 8080: ("0.0.0.0", 32768)},
    host_ports=frozenset({45123, 45124, 32768}),
    networks={"cvat_cvat": "172.18.0.2"},
    labels={"nuclio.io/function-name": "finder"},
    log_driver="json-file",
    log_options={"max-size": "5m"},
)


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `docker` before all others in PATH; its lines are the test's to write."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    path = tmp_path / "docker"
    path.touch(mode=0o755)
    return path


def says(docker: Path, described: list[dict[str, Any]], error: str = "", status: int = 0) -> None:
    docker.write_text(
        f"#!/bin/sh\ncase $1 in ps) echo id-1; echo id-2 ;; inspect) cat <<'EOF'\n{json.dumps(described)}\nEOF\n"
        f"printf '%s\\n' '{error}' >&2; exit {status} ;; esac\n"
    )


def test_each_field(docker: Path) -> None:
    says(docker, [DESCRIBED])
    assert containers.find_container("nuclio-nuclio-finder") == FINDER


def test_a_stopped_container(docker: Path) -> None:
    stopped = {
        "Name": "/x",
        "State": {"Status": "exited", "Running": False, "ExitCode": 137, "OOMKilled": True, "Error": "port is taken"},
        "NetworkSettings": {"Ports": {}, "Networks": {"cvat_cvat": {"IPAddress": ""}}},
    }
    says(docker, [stopped])
    expected = Container(
        "x", status="exited", exit_code=137, out_of_memory=True, error="port is taken", networks={"cvat_cvat": ""}
    )
    assert containers.find_container("x") == expected


@pytest.mark.parametrize("health", [{}, {"Status": "none"}])
def test_without_a_health_check(docker: Path, health: dict[str, str]) -> None:
    says(docker, [{**DESCRIBED, "State": {**DESCRIBED["State"], "Health": health}}])
    assert containers.find_container("x") == replace(FINDER, health=None)


def test_all_without_one_that_is_removed_meanwhile(docker: Path) -> None:
    says(docker, [DESCRIBED], "Error response from daemon: No such container: id-2", status=1)
    assert containers.list_containers() == {FINDER.name: FINDER}


def test_no_container_of_that_name(docker: Path) -> None:
    says(docker, [], "Error response from daemon: No such container: x", status=1)
    assert containers.find_container("x") is None


def test_no_containers_at_all(docker: Path) -> None:
    docker.write_text("#!/bin/sh\n[ $1 = ps ]\n")  # "docker inspect" without a name fails
    assert containers.list_containers() == {}


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo Warning >&2; echo Cannot connect >&2; exit 1", "Docker does not answer: Cannot connect"),
        ("exit 3", "Docker does not answer: docker inspect ended with status 3"),
        ("echo nonsense", "docker inspect does not answer in JSON: Expecting value"),
    ],
)
def test_a_docker_that_does_not_answer(docker: Path, script: str, message: str) -> None:
    docker.write_text(f"#!/bin/sh\n{script}\n")
    with pytest.raises(DockerError) as raised:
        containers.find_container("x")
    assert str(raised.value).startswith(message)


def test_no_docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    host = containers.ask_docker({"DOCKER_HOST": "ssh://me@gpu1:22"})
    assert host == DockerHost(problem="docker is not installed on this machine", address="gpu1")


def test_the_containers_of_a_host() -> None:
    def of(*found: Container) -> DockerHost:
        return DockerHost({container.name: container for container in found})

    old = Container("nuclio-old", image="quay.io/nuclio/dashboard:1.13.0-amd64", status="exited")
    new = Container("nuclio", image="quay.io/nuclio/dashboard:1.15.9-amd64", status="running")
    other = Container("board", image="kubernetesui/dashboard:v2", status="running")
    assert of(old, other, new).dashboard == new
    assert of(old, other).dashboard == old
    assert of(other).dashboard is None
    host = of(FINDER, new, Container("nuclio-cvat-finder"))
    assert host.of_function("finder", "nuclio") == FINDER
    assert host.of_function("finder", "else") is None
    assert host.functions("nuclio") == {"finder": FINDER}


@pytest.mark.parametrize(
    ("docker_host", "address"),
    [
        ("", "127.0.0.1"),
        ("unix:///run/docker.sock", "127.0.0.1"),
        ("tcp://10.0.0.5:2376", "10.0.0.5"),
        ("ssh://gpu1", "gpu1"),
    ],
)
def test_where_published_ports_are(docker_host: str, address: str) -> None:
    assert containers.docker_address({"DOCKER_HOST": docker_host}) == address


def test_ctrl_c_does_not_reach_docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A docker that it ended would be taken for a Docker without this container, in the middle of a restoration."""
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\necho '[{\"Name\": \"'$(ps -o sid= -p $$)'\"}]'\n")
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = containers.find_container("finder")
    assert found is not None
    assert int(found.name) != os.getsid(0)


def has_docker() -> bool:
    return bool(shutil.which("docker")) and not subprocess.run(["docker", "info"], capture_output=True).returncode


@pytest.mark.skipif(not has_docker(), reason="needs Docker")
def test_a_real_container() -> None:
    """An empty image does: the container is never started."""
    name = "cvat-functions-test-containers"
    empty = subprocess.run(["docker", "import", "-"], input=bytes(10240), capture_output=True, check=True)
    image = empty.stdout.decode().strip()
    command = ["docker", "create", "--name", name, "--publish", "45999:8080", "--restart", "always", image, "/none"]
    try:
        subprocess.run(command, capture_output=True, check=True)
        found = containers.list_containers()[name]
        assert found == containers.find_container(name)
        assert (found.image_id, found.status, found.running, found.restart) == (image, "created", False, "always")
        assert (found.ports, found.published, found.host_ports) == ({8080: 45999}, {}, {45999})
    finally:
        subprocess.run(["docker", "rm", "--force", name], capture_output=True)
        subprocess.run(["docker", "rmi", image], capture_output=True)
