"""What must be there before anything is built: each missing thing is said with its remedy, all of them at once."""

from __future__ import annotations

import re

import pytest

STORE_PULL = (
    "docker: Error response from daemon: Get https://gcr.io/v2/: dial tcp: lookup gcr.io: no such host.\n"
    "See 'docker run --help'."
)


@pytest.mark.parametrize(
    ("message", "cause", "remedy"),
    [
        (
            'docker: Error response from daemon: could not select device driver "" with capabilities: [[gpu]].',
            "the NVIDIA container toolkit is not set up",
            "nvidia-ctk runtime configure",
        ),
        (
            "nvidia-container-cli: initialization error: nvml error: driver not loaded: unknown.",
            "the NVIDIA driver of this machine does not answer",
            "./deploy_cpu.sh",
        ),
    ],
)
def test_no_gpu(host, message, cause, remedy):
    host.set("gpu_fails", message)
    run = host.deploy(str(host.function()), device="gpu")
    assert run.status == 1
    assert cause in run.output
    assert remedy in run.output
    assert not run.made("docker build |nuctl create|nuctl build|nuctl deploy")


def test_everything_that_is_missing_is_said_at_once(host):
    (host.world / "bin" / "nuctl").unlink()
    host.set("docker_root", str(host.world))
    run = host.deploy(str(host.function()), "--network", "elsewhere")
    assert run.status == 1
    assert "nuctl is not installed" in run.output
    # The version of the dashboard that runs, for this platform.
    assert re.search(
        r"https://github.com/nuclio/nuclio/releases/download/1\.15\.9/nuctl-1\.15\.9-linux-(amd64|arm64)", run.output
    )
    assert "there is no Docker network elsewhere" in run.output
    assert "deploy_cpu.sh: 2 things missing, see above; nothing was changed" in run.errors


@pytest.mark.parametrize(
    ("message", "cause", "remedy"),
    [
        (
            "permission denied while trying to connect to the Docker daemon socket",
            "may not use it",
            "usermod -aG docker",
        ),
        (
            "Cannot connect to the Docker daemon. Is the docker daemon running?",
            "does not answer",
            "systemctl start docker",
        ),
    ],
)
def test_docker_does_not_answer(host, message, cause, remedy):
    host.set("docker_fails", message)
    run = host.deploy(str(host.function()))
    assert run.status == 1
    assert cause in run.output
    assert remedy in run.output


@pytest.mark.parametrize(
    ("version", "said"), [("1.9.2", "is too old"), ("1.14.1", "a nuctl of the same version is safer")]
)
def test_other_versions_of_nuctl(host, version, said):
    host.set("nuctl_version", version)
    run = host.deploy(str(host.function()), "--no-verify")
    assert said in run.output
    assert run.status == (1 if version == "1.9.2" else 0)


def test_a_newer_nuctl_is_said_to_be_unknown(host):
    host.set("nuctl_version", "1.19.0")
    run = host.deploy(str(host.function()), "--no-verify")
    assert "newer than the versions that these scripts know of" in run.output


@pytest.mark.parametrize("value", ["nuctl", "{bin}/nuctl"])
def test_nuctl_by_name_and_by_path(host, value):
    run = host.deploy(str(host.function()), "--no-verify", env={"NUCTL": value.format(bin=host.world / "bin")})
    assert run.status == 0, run.output
    assert "nuctl 1.15.9" in run.output


def test_a_nuctl_that_is_not_there(host):
    run = host.deploy(str(host.function()), env={"NUCTL": "/nowhere/nuctl"})
    assert run.status == 1
    assert "/nowhere/nuctl" in run.output
    assert not run.made("^nuctl")


def test_nuctls_store_that_can_not_be_started_is_said_with_its_image(host):
    host.set("store_fails", STORE_PULL)
    run = host.deploy(str(host.function()))
    assert run.status == 1
    assert "gcr.io/iguazio/alpine:3.20" in run.output
    assert "docker load" in run.output
    assert not run.made("docker build |nuctl build")


def test_a_network_that_a_function_was_deployed_with_and_that_is_gone(host):
    host.set("networks/other")
    directory = host.deployed_function("finder", "--network", "other")
    host.unset("networks/other")
    run = host.deploy(str(directory))
    assert run.status == 1
    assert "there is no Docker network other" in run.output
    assert "--network" in run.output
    assert not run.made("docker build |nuctl build|nuctl deploy")


def test_a_full_disk(host):
    host.set("docker_root", "/proc")  # a file system without any room
    run = host.deploy(str(host.function(base="cvat.pytorch.base")))
    assert run.status == 1
    assert re.search(r"MISSING the disk of Docker \(/proc\) has 0 GB left: the images take [\d.]+ GB", run.output)
    assert "docker system prune" in run.output
    assert not run.made("docker build ")
