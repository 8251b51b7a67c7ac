"""The options as a person gives them: messages go to stderr, with exit status 2, before anything is asked."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.deploy.host import REPOSITORY


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nonsense"], "--nonsense: there is no such option"),
        (["--nonsense", "1"], "--nonsense: there is no such option"),
        (["--jobs", "many"], "--jobs: expected a whole number from 1 to 64, got many"),
        (["--jobs"], "--jobs: its value is missing"),
        (["--env"], "--env: its value is missing"),
        (["--gpus", "1"], "--gpus: there is no such option; it is an option of deploy_gpu.sh"),
        (["nowhere"], "nowhere: there is no such function"),
        (["--env", "no value"], "--env: expected NAME=VALUE"),
        (["--registry", "r"], "are for --platform kube"),
        (["--platform", "kube", "--registry", "r", "--min-replicas", "3", "--max-replicas", "2"], "is more than"),
        (["--offline", "nowhere.tar"], "there is no file nowhere.tar"),
        (["--weights", "nowhere"], "there is no folder nowhere"),
        (["--user", "root"], "expected UID:GID in numbers"),
        (["--memory", "much"], "expected an amount of memory such as 4Gi or 512Mi, got much"),
        (["--cpu", "all"], "expected a number of CPUs such as 2, 0.5 or 500m, got all"),
    ],
)
def test_wrong_arguments(host, arguments, message):
    run = host.deploy(*arguments)
    assert run.status == 2
    assert message in run.errors
    assert "deploy_cpu.sh: " in run.errors
    assert not run.calls


def test_a_cluster_without_a_registry(host):
    run = host.deploy(str(host.function()), "--platform", "kube", "--no-verify")
    assert run.status == 2
    assert "--platform kube needs --registry: the cluster pulls its images from there" in run.errors
    assert not run.made("^(docker|nuctl) (build|create|deploy|tag|push) ")


def test_an_option_with_an_equals_sign(host):
    run = host.deploy(str(host.function()), "--jobs=2", "--env=A=1=2", "--no-verify")
    assert run.status == 0, run.output
    assert host.deployed().env["A"] == "1=2"


def test_two_functions_of_one_name(host):
    directory = host.function()
    (host.home / "copy").mkdir()
    (host.home / "copy" / "function.yaml").write_text((directory / "function.yaml").read_text())
    run = host.deploy(str(host.home))
    assert run.status == 2
    assert "two functions have the name finder" in run.errors


def test_a_function_yaml_that_is_not_yaml(host):
    directory = host.function()
    (directory / "function.yaml").write_text("metadata:\n  name: [\n")
    run = host.deploy(str(directory))
    assert run.status == 2
    assert "function.yaml is not YAML: line 3, column 1: expected the node content" in run.errors
    assert "unicode string" not in run.errors


def test_help_names_every_option():
    done = subprocess.run(["bash", str(REPOSITORY / "deploy_gpu.sh"), "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    text = (REPOSITORY / "deploy/options.py").read_text()
    options = set(re.findall(r'"(--[a-z-]+)"', text))
    assert len(options) > 25
    for option in options:
        assert option in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()) <= 120


def test_what_goes_to_stdout_and_what_to_stderr(host):
    host.set("build_fails", "it fails")
    run = host.deploy(str(host.function()))
    assert run.status == 1
    assert run.errors.startswith("deploy_cpu.sh: the base image cvat.onnx.base:latest can't be built")
    host.set("build_fails", "")
    host.set("on_build/finder", 'fail("it fails")')
    run = host.deploy("finder")
    assert run.status == 1
    assert run.errors == ""
    assert "1 of 1 failed: see above for the cause and the remedy of each" in run.output


def test_from_another_folder_and_through_a_link(host):
    link = host.home / "deploy_cpu.sh"
    link.symlink_to(REPOSITORY / "deploy_cpu.sh")
    host.function()
    run = host.deploy("finder", "--dry-run", root=host.home)
    assert run.status == 0, run.output
