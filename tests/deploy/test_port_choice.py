"""Which port a function gets, with containers and records as Docker and Nuclio describe them, and real programs."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from deploy import ports
from deploy.console import Console, DeploymentError
from deploy.definition.functions import Function
from deploy.host.containers import Container, DockerHost, container_name
from deploy.nuclio import Record
from deploy.options import Options
from deploy.preflight import Host


def function(name="finder", port=None, directory=Path("/functions/finder")) -> Function:
    attributes = {"port": port} if port else {}
    content = {"metadata": {"name": name}, "spec": {"triggers": {"web": {"kind": "http", "attributes": attributes}}}}
    return Function(name, "detector", content, directory, "cpu", "", "", f"cvat.{name}:latest")


def container(name, port, *, running=True) -> Container:
    return Container(name=name, running=running, ports={8080: port}, host_ports=frozenset({port} if port else ()))


def of_function(name, port, *, running=True) -> Container:
    return container(container_name(name, "nuclio"), port, running=running)


def assign(*functions, containers=(), records=None, address="docker.example", **options):
    """The ports; with an address of 127.0.0.1 the programs of this machine matter."""
    docker = DockerHost({each.name: each for each in containers}, address=address)
    kept = {name: record(name, port) for name, port in (records or {}).items()}
    ports.assign(functions, Host(docker, "nuctl"), kept, Options("cpu", **options), Console("deploy_cpu.sh"))
    return [each.port for each in functions]


def record(name, port) -> Record:
    return Record({"metadata": {"name": name}, "spec": function(name, port).content["spec"]})


HERE = "127.0.0.1"


@pytest.fixture
def listening():
    with socket.create_server((HERE, 0)) as server:
        yield server.getsockname()[1]


def test_a_port_follows_from_the_name_as_it_always_has():
    checksum = subprocess.run(["cksum"], input=b"onnx-rapidocr-text", capture_output=True).stdout.split()[0]
    assert assign(function("onnx-rapidocr-text")) == [28000 + int(checksum) % 1000] == [28399]


def test_the_port_of_the_container_is_kept():
    assert assign(function(), containers=[of_function("finder", 28500)], first_port=20000) == [28500]


def test_the_port_in_nuclios_record_is_kept_when_the_container_is_gone():
    assert assign(function(), records={"finder": 28501}) == [28501]


def test_the_container_knows_better_than_the_record():
    assert assign(function(), containers=[of_function("finder", 28500)], records={"finder": 28501}) == [28500]


def test_a_random_port_becomes_a_fixed_one():
    assert 28000 <= assign(function(), containers=[of_function("finder", 0)])[0] < 29000


def test_the_port_of_a_function_that_runs_is_its_own(listening):
    assert assign(function(), containers=[of_function("finder", listening)], address=HERE) == [listening]


def test_a_stopped_function_moves_from_a_port_that_a_program_has_taken(listening, capsys):
    (port,) = assign(function(), containers=[of_function("finder", listening, running=False)], address=HERE)
    assert port != listening
    name = Path("/proc/self/comm").read_text().strip()
    moved = f"finder moves from port {listening}, which {name} (process {os.getpid()}) uses now, to {port}"
    assert moved in capsys.readouterr().out


def test_a_port_on_another_interface_is_taken_too():
    with socket.create_server(("127.0.0.2", 0)) as server:
        port = server.getsockname()[1]
        assert assign(function(), records={"finder": port}, address=HERE) != [port]


def test_on_another_docker_host_the_programs_of_this_one_do_not_matter(listening):
    assert assign(function(), records={"finder": listening}) == [listening]


def test_ports_that_others_have_or_want_back_are_left_alone():
    (alone,) = assign(function())
    stranger = container("stranger", alone, running=False)
    assert assign(function(), containers=[stranger]) == [(alone - 28000 + 1) % 1000 + 28000]
    assert assign(function(), records={"other": alone}) == [(alone - 28000 + 1) % 1000 + 28000]


def test_a_port_in_function_yaml_takes_precedence_over_one_that_another_function_would_keep(capsys):
    first, second = function("first"), function("second", port=28700)
    kept, fixed = assign(first, second, records={"first": 28700})
    assert fixed == 28700
    assert kept != 28700
    assert f"first moves from port 28700, which second uses now, to {kept}" in capsys.readouterr().out


@pytest.mark.parametrize("running", [True, False])
def test_a_port_in_function_yaml_that_another_container_has(running):
    stranger = container("stranger", 31000, running=running)
    with pytest.raises(DeploymentError, match=r"port 31000, .* finder asks for, is taken by the container stranger"):
        assign(function(port=31000), containers=[stranger])


def test_a_port_in_function_yaml_that_a_program_has(listening):
    with pytest.raises(DeploymentError, match=rf"port {listening}, .* is taken by .*\(process {os.getpid()}\)"):
        assign(function(port=listening), address=HERE)


@pytest.mark.parametrize("port", ["many", 70000, -1, 31000.5, [31000]])
def test_a_port_in_function_yaml_that_is_none(port):
    with pytest.raises(
        DeploymentError, match=r"attributes.port in the function.yaml of finder: expected a port up to 65535"
    ):
        assign(function(port=port))


def test_a_port_in_function_yaml_in_quotes():
    assert assign(function(port="31000")) == [31000]


def test_two_functions_that_ask_for_one_port():
    with pytest.raises(DeploymentError, match=r"port 31000, .* second asks for, is taken by first"):
        assign(function("first", 31000), function("second", 31000))


def test_the_port_in_a_record_is_not_one_that_a_person_has_written():
    # A function that is known from Nuclio alone: its port may have been taken since.
    stranger = container("stranger", 28500)
    known = function(port=28500, directory=None)
    assert assign(known, containers=[stranger], records={"finder": 28500}) != [28500]


def test_no_port_is_free():
    others = [container(f"other{port}", port) for port in range(28000, 29000)]
    with pytest.raises(DeploymentError, match="no free port from 28000 to 28999"):
        assign(function(), containers=others)
