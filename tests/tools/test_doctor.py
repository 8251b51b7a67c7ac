"""The doctor against a made-up installation: a dashboard and functions that answer, a `docker` that describes them."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.ports import free_port
from tools.collection import ROOT

SPEC = '[{"id": 0, "name": "thing", "type": "rectangle", "attributes": []}]'
GOOD = [{"label": "thing", "type": "rectangle", "points": [10.0, 10.0, 50.0, 60.0], "confidence": "0.9"}]


@dataclass
class Installation:
    """What the made-up servers and `docker` say; a test spoils one thing and asks the doctor."""

    folder: Path
    port: int = 0
    functions: dict[str, Any] = field(default_factory=dict)
    other_projects: dict[str, Any] = field(default_factory=dict)
    replies: dict[str, tuple[int, Any]] = field(default_factory=dict)
    by_dashboard: dict[str, tuple[int, Any]] = field(default_factory=dict)
    containers: list[dict[str, Any]] = field(default_factory=list)
    docker_error: str = ""
    cvat: tuple[int, Any] = (200, [])
    asked: list[dict[str, str]] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    soon: list[str] = field(default_factory=list)
    """The states that the function "finder" has at the second request for the list, the third, ..."""

    def add(self, name: str = "finder", **status: Any) -> dict[str, Any]:
        """A healthy detector; returns what Nuclio says about it."""
        self.functions[name] = {
            "metadata": {"name": name, "annotations": {"name": "Finder", "type": "detector", "spec": SPEC}},
            "spec": {
                "description": "Finds things",
                "triggers": {"web": {"kind": "http", "attributes": {"port": self.port}}},
            },
            "status": {"state": "ready", "httpPort": self.port, **status},
        }
        self.containers.append(container(f"nuclio-nuclio-{name}", f"cvat.{name}:latest", 8080, self.port))
        self.replies[name] = self.by_dashboard[name] = (200, GOOD)
        return self.functions[name]

    def container(self, name: str = "finder") -> dict[str, Any]:
        return next(c for c in self.containers if c["Name"] == f"/nuclio-nuclio-{name}")

    def ask(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        """Runs the doctor: its exit status and report."""
        done = self._run("--json", *(() if "--wait" in arguments else ("--wait", "0")), *arguments)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    def ask_as_a_person(self, *arguments: str) -> str:
        return self._run(*arguments).stdout

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        (self.folder / "error").write_text(self.docker_error)
        (self.folder / "containers.json").write_text(json.dumps(self.containers))
        names = "".join(f"{c['Name'].lstrip('/')}\n" for c in self.containers)
        (self.folder / "names").write_text(names)
        return subprocess.run(
            [sys.executable, "-m", "tools.doctor", *arguments],
            cwd=ROOT,
            env={**own_environment(), **self.environment, "PATH": f"{self.folder}:/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=60,
        )


def own_environment() -> dict[str, str]:
    """This process's environment without what the doctor reads."""
    read = ("DOCKER_HOST", "CVAT_URL", "CVAT_TOKEN", "CVAT_ACCESS_TOKEN")
    return {k: v for k, v in os.environ.items() if k not in read}


def container(name: str, image: str, port: int, host_port: int, address: str = "127.0.0.1") -> dict[str, Any]:
    """What `docker inspect` says about a healthy container."""
    return {
        "Name": f"/{name}",
        "Config": {"Image": image},
        "State": {"Status": "running", "Running": True, "OOMKilled": False},
        "HostConfig": {
            "PortBindings": {f"{port}/tcp": [{"HostIp": "", "HostPort": str(host_port)}]},
            "RestartPolicy": {"Name": "always"},
        },
        "NetworkSettings": {
            "Ports": {f"{port}/tcp": [{"HostIp": address, "HostPort": str(host_port)}]},
            "Networks": {"cvat_cvat": {"IPAddress": "172.30.0.9"}},
        },
        "RestartCount": 0,
    }


DOCKER = """#!/bin/sh
here=$(dirname "$0")
if [ -s "$here/error" ]; then cat "$here/error" >&2; exit 1; fi
case $1 in ps) cat "$here/names" ;; inspect) cat "$here/containers.json" ;; esac
"""


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    """A dashboard, a CVAT and a function's port, all on one port, with one function that is well."""
    made = Installation(tmp_path)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/api/versions":
                self._answer(200, {"dashboard": {"label": "1.15.9"}})
            elif self.path == "/api/functions":
                in_project = self.headers.get("x-nuclio-project-name") == "cvat"
                self._answer(200, made.functions if in_project else made.other_projects)
                if made.soon:
                    made.functions["finder"]["status"]["state"] = made.soon.pop(0)
            elif self.path == "/api/lambda/functions":
                made.asked.append(dict(self.headers))
                self._answer(*made.cvat)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert "image" in body
            if self.path == "/api/function_invocations":
                made.asked.append(dict(self.headers))
                self._answer(*made.by_dashboard[self.headers["x-nuclio-function-name"]])
            else:
                self._answer(*next(iter(made.replies.values())))

        def _answer(self, status: int, content: Any) -> None:
            raw = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    made.port = server.server_port
    (tmp_path / "docker").write_text(DOCKER)
    (tmp_path / "docker").chmod(0o755)
    made.containers.append(container("nuclio", "quay.io/nuclio/dashboard:1.15.9-amd64", 8070, made.port))
    made.add()
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


def only(report: dict[str, Any]) -> dict[str, str]:
    """The one thing that is wrong; every finding has a remedy."""
    assert len(report["findings"]) == 1, report["findings"]
    assert report["findings"][0]["remedy"]
    return report["findings"][0]


def test_a_healthy_installation(installation: Installation) -> None:
    status, report = installation.ask()
    assert status == 0
    assert report["findings"] == []
    row = report["rows"][0]
    assert (row["name"], row["kind"], row["state"], row["port"]) == ("finder", "detector", "ready", installation.port)
    assert row["direct"]["problem"] == row["dashboard"]["problem"] == ""
    sent = installation.asked[0]
    assert sent["x-nuclio-function-name"] == "finder"
    assert sent["x-nuclio-path"] == "/"
    assert sent["x-nuclio-invoke-via"] == "domain-name"
    shown = installation.ask_as_a_person()
    assert "All is well." in shown
    assert f"dashboard 1.15.9 at http://127.0.0.1:{installation.port}" in shown


def test_no_dashboard_at_all(installation: Installation) -> None:
    installation.containers.clear()
    status, report = installation.ask("--dashboard", "http://127.0.0.1:9")
    assert status == 1
    assert "no dashboard answers at http://127.0.0.1:9" in only(report)["what"]
    assert "compose.yaml" in only(report)["remedy"]


def test_a_dashboard_that_is_stopped(installation: Installation) -> None:
    installation.containers[0]["State"] = {"Status": "exited", "Running": False}
    installation.containers[0]["HostConfig"]["PortBindings"] = {}
    installation.containers[0]["NetworkSettings"]["Ports"] = {}
    status, report = installation.ask("--dashboard", "http://127.0.0.1:9")
    assert status == 1
    assert only(report)["what"] == "the dashboard: its container is exited"
    assert only(report)["remedy"].startswith("docker start nuclio")


def test_a_dashboard_that_is_open_to_the_network(installation: Installation) -> None:
    installation.containers[0]["NetworkSettings"]["Ports"]["8070/tcp"][0]["HostIp"] = "0.0.0.0"
    status, report = installation.ask()
    assert status == 0
    assert "can start containers as root" in only(report)["what"]


@pytest.mark.parametrize(
    ("error", "what"),
    [("Cannot connect to the Docker daemon", "Docker does not answer: Cannot connect"), ("", "")],
)
def test_without_docker_the_rest_is_still_looked_at(installation: Installation, error: str, what: str) -> None:
    installation.docker_error = error
    address = f"http://127.0.0.1:{installation.port}"
    status, report = installation.ask("--dashboard", address, *(() if error else ("--no-docker",)))
    assert status == 0
    assert [a["what"].startswith(what) for a in report["findings"]] == ([True] if error else [])
    assert report["rows"][0]["dashboard"]["problem"] == ""


def test_functions_in_another_project(installation: Installation) -> None:
    installation.other_projects = dict(installation.functions)
    installation.functions.clear()
    status, report = installation.ask()
    assert status == 1
    assert "project cvat has no functions, though Nuclio has 1 in others: finder" in only(report)["what"]


def test_no_functions(installation: Installation) -> None:
    installation.functions.clear()
    assert "there are no functions" in only(installation.ask()[1])["what"]


@pytest.mark.parametrize("state", ["building", "error", "unhealthy"])
def test_states(installation: Installation, state: str) -> None:
    installation.functions["finder"]["status"] |= {"state": state, "message": "Function wasn't ready in time\nmore"}
    status, report = installation.ask()
    assert status == 1
    if state == "building":
        assert "nuctl delete function finder --force" in only(report)["remedy"]
    else:
        assert only(report)["what"] == f"its state is {state}: Function wasn't ready in time"
        assert "docker logs nuclio-nuclio-finder" in only(report)["remedy"]
    assert report["rows"][0]["direct"] is None


def test_a_description_that_is_missing_breaks_the_whole_list(installation: Installation) -> None:
    del installation.functions["finder"]["spec"]["description"]
    status, report = installation.ask()
    assert status == 1
    assert "CVAT fails on the whole list" in only(report)["what"]


@pytest.mark.parametrize(
    ("key", "value", "field"),
    [("spec", "[{", "metadata.annotations.spec"), ("type", "segmenter", "metadata.annotations.type")],
)
def test_what_cvat_would_not_list(installation: Installation, key: str, value: str, field: str) -> None:
    installation.functions["finder"]["metadata"]["annotations"][key] = value
    status, report = installation.ask()
    assert report["findings"][0]["what"].startswith(field)
    assert status == (1 if report["findings"][0]["severity"] == "error" else 0)


def test_a_random_port(installation: Installation) -> None:
    installation.container()["HostConfig"]["PortBindings"]["8080/tcp"] = [{"HostIp": "", "HostPort": "0"}]
    status, report = installation.ask()
    assert status == 0
    assert "drawn at random" in only(report)["what"]


def test_a_port_that_is_not_the_recorded_one(installation: Installation) -> None:
    installation.functions["finder"]["status"]["httpPort"] = 9
    status, report = installation.ask()
    assert status == 1
    assert f"Nuclio has port 9, the container is at {installation.port}" in only(report)["what"]
    assert only(report)["remedy"] == "./deploy_cpu.sh --no-build finder"
    assert report["rows"][0]["direct"] is None


@pytest.mark.parametrize("state", ["ready", "unhealthy"])
def test_a_container_that_is_gone(installation: Installation, state: str) -> None:
    installation.functions["finder"]["status"]["state"] = state
    installation.containers.pop()
    status, report = installation.ask()
    assert status == 1
    assert only(report)["what"] == "its container is gone"
    assert only(report)["remedy"] == "./deploy_cpu.sh --no-build finder"


@pytest.mark.parametrize("state", ["ready", "unhealthy"])
@pytest.mark.parametrize(
    ("described", "what", "remedy"),
    [
        ({"Status": "exited", "ExitCode": 137}, "its container is exited", "docker start nuclio-nuclio-finder; docker logs"),
        (
            {"Status": "exited", "OOMKilled": True},
            "its container is stopped: the kernel killed it to free memory",
            "docker start nuclio-nuclio-finder; fewer workers",
        ),
        (
            {"Status": "restarting", "ExitCode": 1},
            "its container stops again and again, with exit status 1",
            "docker logs nuclio-nuclio-finder says why",
        ),
        ({"Status": "paused"}, "its container is paused", "docker unpause nuclio-nuclio-finder"),
        ({"Status": "created", "Error": "no such device"}, "its container can't start: no such device", "docker start"),
    ],
)  # fmt: skip
def test_a_stopped_container_is_one_error(
    installation: Installation, described: dict[str, Any], what: str, remedy: str, state: str
) -> None:
    """Nuclio's state, a port without an answer and an address that is gone follow from it."""
    found = installation.container()
    found["State"] = {"Running": False, "OOMKilled": False, **described}
    found["NetworkSettings"] = {"Ports": {}, "Networks": {"cvat_cvat": {"IPAddress": ""}}}
    found["HostConfig"]["PortBindings"]["8080/tcp"][0]["HostPort"] = str(free_port())
    status_of = installation.functions["finder"]["status"]
    status_of |= {"state": state, "internalInvocationUrls": ["172.30.0.9:8080"], "message": "Function is not healthy"}
    installation.replies["finder"] = installation.by_dashboard["finder"] = (500, {})
    status, report = installation.ask()
    assert status == 1
    assert only(report)["what"] == what
    assert only(report)["remedy"].startswith(remedy)
    assert report["rows"][0]["direct"] is report["rows"][0]["dashboard"] is None


def stop(installation: Installation, port: int) -> None:
    """Stops the function's container, which wants a port."""
    found = installation.container()
    found["State"] = {"Status": "exited", "Running": False}
    found["HostConfig"]["PortBindings"]["8080/tcp"][0]["HostPort"] = str(port)
    found["NetworkSettings"]["Ports"] = {}


def test_a_port_that_a_program_has_is_named_with_it(installation: Installation) -> None:
    """Here the program is the test itself."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        stop(installation, port)
        status, report = installation.ask()
    assert status == 1
    assert f"(process {os.getpid()}) has its port {port}" in only(report)["what"]
    expected = (
        "stop that one, then docker start nuclio-nuclio-finder; or give the function another port: "
        "./deploy_cpu.sh --no-build finder"
    )
    assert only(report)["remedy"] == expected


def test_a_port_that_another_container_has_is_named_with_it(installation: Installation) -> None:
    stop(installation, 45000)
    installation.containers.append(container("web", "nginx:1", 80, 45000))
    assert only(installation.ask()[1])["what"] == "its container can't start: the container web has its port 45000"


@pytest.mark.parametrize(
    ("spec", "annotations", "command"),
    [
        ({"resources": {"limits": {"nvidia.com/gpu": 1}}}, {}, "./deploy_gpu.sh --no-build finder"),
        ({}, {"cvat-functions/deployment": '{"device": "gpu"}'}, "./deploy_gpu.sh --no-build finder"),
        ({}, {"cvat-functions/deployment": '{"device": "cpu"}'}, "./deploy_cpu.sh --no-build finder"),
    ],
)
def test_the_remedy_names_the_script_that_deployed_it(
    installation: Installation, spec: dict[str, Any], annotations: dict[str, str], command: str
) -> None:
    installation.functions["finder"]["spec"] |= spec
    installation.functions["finder"]["metadata"]["annotations"] |= annotations
    installation.containers.pop()
    assert only(installation.ask()[1])["remedy"] == command


def just_started(found: dict[str, Any], health: str, seconds_ago: float = 1) -> None:
    began = datetime.now(UTC) - timedelta(seconds=seconds_ago)
    found["State"] |= {
        "StartedAt": began.strftime("%Y-%m-%dT%H:%M:%S.%f000Z"),  # nanoseconds
        "Health": {"Status": health},
    }


def test_nuclios_health_check_is_waited_for(installation: Installation) -> None:
    """After `docker start` a function is "unhealthy" to Nuclio until its next round, though it is well."""
    just_started(installation.container(), "healthy")
    installation.functions["finder"]["status"] |= {"state": "unhealthy", "message": "Function is not healthy"}
    installation.soon = ["unhealthy", "ready"]
    status, report = installation.ask("--wait", "30")
    assert (status, report["findings"], report["rows"][0]["state"]) == (0, [], "ready")


def test_what_stays_unhealthy_is_an_error(installation: Installation) -> None:
    just_started(installation.container(), "healthy")
    installation.functions["finder"]["status"] |= {"state": "unhealthy", "message": "Function is not healthy"}
    begin = time.monotonic()
    status, report = installation.ask("--wait", "2")
    assert time.monotonic() - begin > 2
    assert status == 1
    assert only(report)["what"] == "Nuclio reports it as unhealthy, though its container passes its health check"
    assert only(report)["remedy"] == "./deploy_cpu.sh --no-build finder"


@pytest.mark.parametrize("state", ["ready", "unhealthy"])
@pytest.mark.parametrize("health", ["starting", "unhealthy"])
def test_a_model_that_still_loads_is_told_to_wait_for(installation: Installation, health: str, state: str) -> None:
    just_started(installation.container(), health, 40)
    installation.functions["finder"]["status"]["state"] = state
    status, report = installation.ask("--wait", "1")
    assert status == 1
    assert only(report)["what"].startswith("it is not ready yet: its container was started ")
    assert only(report)["remedy"].startswith("wait, then run make doctor again; docker logs --follow")
    installation.functions["finder"]["spec"]["readinessTimeoutSeconds"] = 30
    status, report = installation.ask("--wait", "30")  # it is not waited for any more
    assert only(report)["what"].startswith("its container runs, but fails its health check, ")


def test_ports_that_are_open_to_the_network_are_one_warning(installation: Installation) -> None:
    installation.add("other")
    for name in ("finder", "other"):
        installation.container(name)["NetworkSettings"]["Ports"]["8080/tcp"][0]["HostIp"] = "0.0.0.0"
    status, report = installation.ask()
    assert status == 0
    expected = (
        f"anyone who can reach this machine can call the functions, without a password: ports {installation.port}"
    )
    assert only(report)["what"].startswith(expected)
    assert "docs/deploy.md" in only(report)["remedy"]


def test_a_port_on_an_address_of_its_own_is_called_there(installation: Installation) -> None:
    """127.0.0.2 is this machine too; nothing but the port's own address says where it answers."""
    installation.container()["NetworkSettings"]["Ports"]["8080/tcp"][0]["HostIp"] = "127.0.0.2"
    status, report = installation.ask()
    assert status == 1
    assert f"on its port {installation.port}: no answer" in only(report)["what"]


def test_logs_without_a_limit_are_one_warning(installation: Installation) -> None:
    installation.add("other")
    installation.add("third")
    for name, log in (("finder", {}), ("other", {"max-file": "3"}), ("third", {"max-size": "10m"})):
        installation.container(name)["HostConfig"]["LogConfig"] = {"Type": "json-file", "Config": log}
    status, report = installation.ask()
    assert status == 0
    assert only(report)["what"] == "the logs of 2 containers can grow until the disk is full"
    for name in ("finder", "other"):
        installation.container(name)["HostConfig"]["LogConfig"]["Type"] = "local"  # has a limit of its own
    assert installation.ask()[1]["findings"] == []
    installation.containers[0]["HostConfig"]["LogConfig"] = {"Type": "json-file", "Config": {}}
    assert only(installation.ask()[1])["what"] == "the log of nuclio can grow until the disk is full"


def test_another_network_than_the_dashboards(installation: Installation) -> None:
    installation.container()["NetworkSettings"]["Networks"] = {"bridge": {"IPAddress": "172.17.0.4"}}
    status, report = installation.ask()
    assert status == 1
    assert "in another Docker network" in only(report)["what"]
    assert "docker network connect cvat_cvat nuclio-nuclio-finder" in only(report)["remedy"]
    assert report["rows"][0]["dashboard"] is None


def test_an_address_of_before_docker_restarted(installation: Installation) -> None:
    installation.functions["finder"]["status"]["internalInvocationUrls"] = ["172.30.0.9:8080"]
    assert installation.ask()[0] == 0
    installation.container()["NetworkSettings"]["Networks"]["cvat_cvat"]["IPAddress"] = "172.30.0.4"
    status, report = installation.ask()
    assert status == 1
    assert only(report)["what"].startswith("the dashboard calls functions where they were before Docker restarted")
    assert only(report)["what"].endswith(": finder (172.30.0.9, now at 172.30.0.4)")
    assert only(report)["remedy"].startswith("./deploy_cpu.sh --no-build deploys all again")
    assert report["rows"][0]["dashboard"] is None
    installation.add("other", internalInvocationUrls=["172.30.0.4:8080"])
    assert only(installation.ask()[1])["what"].endswith("172.30.0.4); other (172.30.0.4, now at 172.30.0.9)")


def test_a_function_that_refuses_what_is_meant_for_another(installation: Installation) -> None:
    """As when containers can't be looked at."""
    error = {"error": "this is other, and the request is for finder"}
    installation.by_dashboard["finder"] = (421, error)
    status, report = installation.ask()
    assert status == 1
    assert only(report)["what"].startswith("through the dashboard: it answers 421")
    assert only(report)["remedy"].startswith("./deploy_cpu.sh --no-build deploys all again")


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        ("Failed to invoke function: connection refused", "the same Docker network"),
        ("finder failed: no model", "docker logs nuclio-nuclio-finder"),
    ],
)
def test_who_is_to_blame_for_a_failure_through_the_dashboard(
    installation: Installation, error: str, remedy: str
) -> None:
    installation.by_dashboard["finder"] = (500, {"error": error})
    assert remedy in only(installation.ask()[1])["remedy"]


def test_the_same_failure_on_both_routes_is_one_error(installation: Installation) -> None:
    installation.replies["finder"] = installation.by_dashboard["finder"] = (500, {"error": "finder failed: no model"})
    found = only(installation.ask()[1])
    expected = f"on its port {installation.port} and through the dashboard: it answers 500: "
    assert found["what"] == expected + '{"error": "finder failed: no model"}'
    assert found["remedy"] == "docker logs nuclio-nuclio-finder says more"


def test_no_restart_policy_and_restarts(installation: Installation) -> None:
    installation.container()["HostConfig"]["RestartPolicy"] = {"Name": "no"}
    installation.container()["RestartCount"] = 3
    installation.container()["State"]["OOMKilled"] = True
    status, report = installation.ask()
    assert status == 0
    found = " ".join(finding["what"] for finding in report["findings"])
    assert "does not come back after a reboot" in found
    assert "restarted 3 times" in found
    assert "ran out of memory" in found
    assert any("--memory" in finding["remedy"] for finding in report["findings"])


def test_a_function_that_answers_an_error(installation: Installation) -> None:
    installation.replies["finder"] = (500, {"error": "finder failed: no model"})
    status, report = installation.ask()
    assert status == 1
    expected = f'on its port {installation.port}: it answers 500: {{"error": "finder failed: no model"}}'
    assert only(report)["what"] == expected


def test_a_reply_that_cvat_does_not_take(installation: Installation) -> None:
    installation.by_dashboard["finder"] = (200, [{**GOOD[0], "label": "other"}])
    status, report = installation.ask()
    assert status == 1
    assert only(report)["what"].startswith("through the dashboard: reply[0].label: expected")


def test_nothing_is_sent_when_told_so(installation: Installation) -> None:
    installation.replies["finder"] = installation.by_dashboard["finder"] = (500, {})
    assert installation.ask("--no-send")[0] == 0
    assert not installation.asked


def test_cvats_own_list(installation: Installation) -> None:
    url = f"http://127.0.0.1:{installation.port}"
    installation.cvat = (200, [{"id": "finder"}])
    assert installation.ask("--cvat", url, "--token", "secret")[0] == 0
    assert installation.asked[-1]["Authorization"] == "Token secret"
    installation.add("other")
    status, report = installation.ask("--cvat", url)
    assert status == 1
    assert (only(report)["subject"], only(report)["what"]) == ("other", "CVAT does not list it")


@pytest.mark.parametrize("listed", [[], [f"function-{i}" for i in range(12)]])
def test_a_cvat_that_asks_another_server_is_one_error(installation: Installation, listed: list[str]) -> None:
    installation.cvat = (200, [{"id": name} for name in listed])
    installation.add("other")
    url = f"http://127.0.0.1:{installation.port}"
    status, report = installation.ask("--cvat", url)
    assert status == 1
    assert (only(report)["severity"], only(report)["subject"]) == ("error", "CVAT")
    lists = (
        "function-0, function-1, function-10, function-11 and 8 more, which are not there" if listed else "no functions"
    )
    assert only(report)["what"] == f"CVAT uses another server than {url}: it lists {lists}"
    assert "CVAT_NUCLIO_HOST" in only(report)["remedy"]


def test_the_token_is_taken_from_the_variable_of_annotate(installation: Installation) -> None:
    installation.environment["CVAT_ACCESS_TOKEN"] = "of-annotate"
    installation.cvat = (200, [{"id": "finder"}])
    assert installation.ask("--cvat", f"http://127.0.0.1:{installation.port}", "--no-send")[0] == 0
    assert installation.asked[-1]["Authorization"] == "Token of-annotate"


@pytest.mark.parametrize(
    ("status", "what", "remedy"),
    [
        (401, "CVAT refuses the token (401)", "set CVAT_ACCESS_TOKEN"),
        (403, "CVAT refuses the token (403)", "set CVAT_ACCESS_TOKEN"),
        (404, "CVAT has no AI tools", "CVAT_SERVERLESS=1"),
        (500, "CVAT can't list functions: 500", "CVAT_NUCLIO_HOST"),
    ],
)
def test_what_keeps_cvat_from_listing(installation: Installation, status: int, what: str, remedy: str) -> None:
    installation.cvat = (status, {})
    code, report = installation.ask("--cvat", f"http://127.0.0.1:{installation.port}", "--token", "t")
    assert code == 1
    assert only(report)["what"].startswith(what)
    assert remedy in only(report)["remedy"]


def test_a_personal_access_token_is_tried_too_and_none_sends_no_header(installation: Installation) -> None:
    installation.cvat = (401, {})
    url = f"http://127.0.0.1:{installation.port}"
    installation.ask("--cvat", url, "--token", "t", "--no-send")
    assert [headers["Authorization"] for headers in installation.asked] == ["Token t", "Bearer t"]
    installation.asked.clear()
    _, report = installation.ask("--cvat", url, "--no-send")
    assert "Authorization" not in installation.asked[0]
    assert "without a token" in only(report)["what"]


def test_a_cvat_that_is_not_there(installation: Installation) -> None:
    assert "can't be reached" in only(installation.ask("--cvat", "http://127.0.0.1:9")[1])["what"]


def test_a_reader_that_has_seen_enough_gets_no_traceback(installation: Installation) -> None:
    """As with `make doctor | head -1`, for any time at which the reader goes."""
    for i in range(40):
        installation.add(f"function-{i}-" + "x" * 2000)
    installation.ask("--no-send")  # writes what the made-up docker says
    environment = {**own_environment(), "PATH": f"{installation.folder}:/usr/bin:/bin"}
    command = f"{sys.executable} -m tools.doctor --no-send"
    done = subprocess.run(
        ["bash", "-c", f"{command} | head -1; exit ${{PIPESTATUS[0]}}"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.startswith("Docker: 41 function containers")
    assert done.returncode in (0, 1)


# Without Docker: the real `make serve`.

SERVED = """
def init_context(context):
    pass

def handler(context, event):
    return context.Response(body='{reply}', headers={{}}, content_type="application/json", status_code={status})
"""


@contextlib.contextmanager
def serving(folder: Path, *, status: int = 200, description: str = "Finds things") -> Iterator[str]:
    """`tools.serve` with one function; its address."""
    function = folder / "finder"
    function.mkdir()
    (function / "main.py").write_text(SERVED.format(reply=json.dumps(GOOD), status=status))
    annotations = {"name": "Finder", "type": "detector", "spec": SPEC}
    described = {
        "metadata": {"name": "finder", "annotations": annotations},
        "spec": {"description": description, "runtime": "python:3.11", "handler": "main:handler"},
    }
    (function / "function.yaml").write_text(json.dumps(described))
    port = free_port()
    command = [sys.executable, "-m", "tools.serve", "--port", str(port), str(function)]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False).json()["healthy"]:
                    break
            assert time.monotonic() < deadline and server.poll() is None
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(30)


@pytest.mark.parametrize("docker", ["no docker", "docker without Nuclio"])
def test_make_serve_is_well_without_docker(installation: Installation, tmp_path: Path, docker: str) -> None:
    installation.docker_error = "Cannot connect to the Docker daemon" if docker == "no docker" else ""
    installation.containers.clear()
    with serving(tmp_path) as address:
        status, report = installation.ask("--dashboard", address)
    assert (status, report["findings"]) == (0, [])
    assert report["lines"] == [f"make serve at {address}"]
    (row,) = report["rows"]
    assert row["direct"]["problem"] == row["dashboard"]["problem"] == ""
    assert row["direct"]["seconds"] > 0


def test_the_remedies_for_make_serve_are_its_own(installation: Installation, tmp_path: Path) -> None:
    with serving(tmp_path, status=500, description="") as address:
        status, report = installation.ask("--dashboard", address)
    assert status == 1
    listing, requests = report["findings"]
    assert "it has no description" in listing["what"]
    assert listing["remedy"] == "correct its function.yaml, and restart make serve"
    assert "and through the dashboard: it answers 500" in requests["what"]
    assert requests["remedy"] == "the output of make serve says more"
    status, report = installation.ask("--dashboard", address)
    assert "make serve" in only(report)["remedy"]


def test_a_function_in_place_of_the_dashboard_is_told_in_one_line(installation: Installation, tmp_path: Path) -> None:
    with serving(tmp_path, status=400) as address:
        functions = httpx.get(f"{address}/api/functions", trust_env=False).json()
        port = functions["finder"]["status"]["httpPort"]
        finding = only(installation.ask("--no-docker", "--dashboard", f"localhost:{port}")[1])
    assert "its list of functions can't be read: Client error '400" in finding["what"]
    assert "\n" not in finding["what"]
    assert f"is http://localhost:{port} the dashboard, and not a function?" in finding["remedy"]
