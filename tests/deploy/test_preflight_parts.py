"""What is looked for before a deployment, part by part, with docker and nuctl as small programs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from deploy import preflight
from deploy.console import DeploymentError
from deploy.definition.deployment import Deployment
from deploy.definition.functions import Function
from deploy.host.gpu import check_gpu
from deploy.options import Options
from tests.deploy.programs import Programs

DOCKER = """case "$1 $2" in
  "version "*) echo 28.2.2 ;;
  "ps "*) ;;
  "network inspect") [ "$3" = cvat_cvat ] ;;
  *) exit 1 ;;
esac"""
NUCTL = """case "$1" in
  version) echo '"Label: 1.15.9, Git commit: 0"' ;;
  get) %s ;;
esac"""


@pytest.fixture
def programs(tmp_path, monkeypatch) -> Programs:
    programs = Programs(tmp_path)
    monkeypatch.setenv("PATH", f"{programs.bin}:/usr/bin:/bin")
    monkeypatch.delenv("NUCTL", raising=False)
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setenv("USER", "ann")
    programs.write("docker", DOCKER)
    programs.write("nuctl", NUCTL % "echo nothing")
    return programs


def check(programs, functions=(), **options):
    given = Options("cpu", dashboard="http://127.0.0.1:9", **options)
    return preflight.check(programs.console, programs.commands, given, functions)


def function(**deployment) -> Function:
    return Function("finder", "detector", {}, Path("/f"), "cpu", "", "", "cvat.finder", Deployment(**deployment))


def test_all_is_there(programs, capsys):
    host = check(programs)
    assert (host.nuctl_version, host.network, host.dashboard) == ("1.15.9", "cvat_cvat", "")
    assert "ok      Docker 28.2.2\n  ok      nuctl 1.15.9\n" in capsys.readouterr().out


@pytest.mark.parametrize("docker", ["", "ssh://gpu1"])
def test_the_disk_of_a_docker_on_another_host_is_not_looked_at(programs, monkeypatch, capsys, docker):
    monkeypatch.setenv("DOCKER_HOST", docker)
    programs.write("docker", DOCKER.replace('"ps "*)', '"info "*) echo / ;; "ps "*)'))
    check(programs)
    assert ("disk: " in capsys.readouterr().out) == (not docker)


def test_those_who_only_list_see_only_what_is_missing(programs, capsys):
    host = preflight.find_tools(programs.console, programs.commands, Options("cpu"))
    assert host.nuctl_version == "1.15.9"
    assert capsys.readouterr().out == ""
    programs.write("docker", "echo 'Cannot connect to the Docker daemon' >&2; exit 1")
    with pytest.raises(DeploymentError, match="1 thing missing, see above; nothing was changed"):
        preflight.find_tools(programs.console, programs.commands, Options("cpu"))


def test_everything_that_is_missing_is_said_at_once(programs, tmp_path, capsys):
    (programs.bin / "nuctl").unlink()
    (tmp_path / "weights").mkdir(mode=0o700)
    with pytest.raises(DeploymentError, match="3 things missing"):
        check(programs, network="elsewhere", weights=tmp_path / "weights")
    said = capsys.readouterr().out
    assert said.count("MISSING") == 3


@pytest.mark.parametrize(
    ("errors", "cause", "remedy"),
    [
        (
            "permission denied while trying to connect",
            "docker is installed, but ann may not use it",
            "usermod -aG docker ann",
        ),
        ("Cannot connect to the Docker daemon.", "the Docker daemon does not answer", "systemctl start docker"),
        ("something else", "docker does not answer: something else", "docker version shows more"),
    ],
)
def test_docker_does_not_answer(programs, capsys, errors, cause, remedy):
    programs.write("docker", f"echo '{errors}' >&2; exit 1")
    with pytest.raises(DeploymentError, match="1 thing missing"):
        check(programs)
    said = capsys.readouterr().out
    assert f"MISSING {cause}" in said
    assert remedy in said


def test_a_dry_run_goes_on_where_nothing_is_installed(programs, capsys, monkeypatch):
    monkeypatch.setenv("PATH", str(programs.scratch))
    programs.console.dry_run = True
    host = check(programs)
    assert (host.nuctl, host.nuctl_version, host.network, host.store) == ("nuctl", "", None, {})
    said = capsys.readouterr().out
    assert said.count("MISSING") == 2
    assert "dry run: continuing anyway" in said


def test_the_image_of_nuctls_store_is_named_with_the_way_to_get_it(programs, capsys):
    image = "gcr.io/iguazio/alpine:3.20"
    refused = "docker: Error response from daemon: Get https://gcr.io/v2/: dial tcp: lookup gcr.io: no such host."
    said = f"Unable to find image '{image}' locally\\n{refused}\\n    ...\\nFailed to get projects"
    programs.write("nuctl", NUCTL % f'printf "{said}" >&2; exit 1')
    with pytest.raises(DeploymentError, match="1 thing missing"):
        check(programs)
    said = capsys.readouterr().out
    assert "MISSING nuctl can't read what is deployed: Error response from daemon: Get https://gcr.io/v2/" in said
    assert f"docker pull {image} && docker save {image}" in said


STORE = {
    "Name": "/nuclio-local-storage-reader",
    "State": {"Running": True},
    "Config": {"Image": "gcr.io/x/alpine:3.20"},
}


@pytest.mark.parametrize("is_here", [True, False])
def test_the_image_of_nuctls_store_must_still_be_here(programs, capsys, is_here):
    script = DOCKER.replace('"ps "*) ;;', '"ps "*) echo 1 ;;').replace(
        "*) exit 1",
        f'"inspect "*) echo \'{json.dumps([STORE])}\' ;;\n  "image inspect") {"echo [{}]" if is_here else "exit 1"} ;;\n  *) exit 1',
    )
    programs.write("docker", script)
    if is_here:
        check(programs)
        return
    with pytest.raises(DeploymentError, match="1 thing missing"):
        check(programs)
    assert "docker pull gcr.io/x/alpine:3.20" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("table", "has_project"),
    [
        (" NAMESPACE | NAME    \n nuclio    | cvat    \n nuclio    | default \n", True),
        (" NAMESPACE | NAME    \n nuclio    | cvat-old \n cvat    | default \n", False),
        ("No projects found", False),
    ],
)
def test_whether_cvats_project_is_there(programs, table, has_project):
    programs.write("nuctl", NUCTL % f"echo '{table}'")
    assert check(programs).has_project is has_project


def test_a_volume_of_a_function_that_is_not_there(programs, capsys, tmp_path):
    def mounting(path):
        volume = {"volume": {"name": "data", "hostPath": {"path": str(path)}}, "volumeMount": {"mountPath": "/data"}}
        return Function("finder", "detector", {"spec": {"volumes": [volume]}}, Path("/f"), "cpu", "", "", "cvat.finder")

    check(programs, [mounting(tmp_path)])
    with pytest.raises(DeploymentError, match="1 thing missing"):
        check(programs, [mounting(tmp_path / "none")])
    assert f"MISSING finder mounts a path that does not exist: {tmp_path}/none" in capsys.readouterr().out


def test_weights_that_the_function_cannot_read(programs, capsys, tmp_path):
    weights = tmp_path / "my weights"
    weights.mkdir()
    (weights / "best.onnx").touch(mode=0o600)
    with pytest.raises(DeploymentError):
        check(programs, weights=weights)
    said = capsys.readouterr().out
    assert f"the functions (user 1000:1000) can't read {weights}/best.onnx" in said
    assert f"chmod -R o+rX '{weights}'" in said


def test_a_folder_that_cannot_be_mounted(programs, capsys, tmp_path):
    weights = tmp_path / "a:b"
    weights.mkdir(mode=0o755)
    with pytest.raises(DeploymentError):
        check(programs, weights=weights)
    assert "nuctl can't mount a folder with a colon in its name" in capsys.readouterr().out


def test_a_builder_that_sees_no_local_images_is_not_used(programs, capsys, monkeypatch):
    monkeypatch.setenv("BUILDX_BUILDER", "mine")
    programs.write("docker", 'case "$1" in buildx) echo "Driver: docker-container" ;; context) echo default ;; esac')
    preflight.use_own_builder(programs.console, programs.commands)
    assert os.environ["BUILDX_BUILDER"] == "default"
    assert "your buildx builder (docker-container) can't see local images" in capsys.readouterr().out


@pytest.mark.parametrize("answer", ["echo 'Driver: docker'", "exit 1"])
def test_the_daemons_own_builder_is_left_as_it_is(programs, monkeypatch, answer):
    monkeypatch.setenv("BUILDX_BUILDER", "mine")
    programs.write("docker", answer)
    preflight.use_own_builder(programs.console, programs.commands)
    assert os.environ["BUILDX_BUILDER"] == "mine"


def recorded(programs, *functions, **options):
    preflight.check_recorded(functions, Options("cpu", **options), programs.commands, programs.console)


def test_a_folder_of_weights_that_is_gone(programs, capsys):
    with pytest.raises(DeploymentError, match="1 thing missing"):
        recorded(programs, function(weights="/gone/finder"))
    assert "MISSING the folder with the weights of finder is gone: /gone/finder" in capsys.readouterr().out


def test_a_network_of_an_earlier_deployment_that_is_gone(programs, capsys):
    recorded(programs, function(network="cvat_cvat"))
    with pytest.raises(DeploymentError, match="1 thing missing"):
        recorded(programs, function(network="gone"))
    assert "there is no Docker network gone, which finder was deployed with" in capsys.readouterr().out


def test_the_folder_of_this_command_line_is_not_looked_at_twice(programs, tmp_path):
    weights = tmp_path / "weights"
    (weights / "finder").mkdir(parents=True, mode=0o700)
    recorded(programs, function(weights=str(weights / "finder")), weights=weights)
    assert programs.console.missing == 0


def test_the_gpu_is_tried_in_an_image_that_is_here(programs, capsys, tmp_path):
    bundle = tmp_path / "bundle.tar"
    bundle.touch()
    options = Options("gpu", bundle=bundle, dashboard="http://127.0.0.1:9")
    preflight.check(programs.console, programs.commands, options, [function()])
    assert "note    the GPU is not tried: no image is here yet" in capsys.readouterr().out
    script = DOCKER.replace(
        "*) exit 1", """"image inspect") echo '[{}]' ;; "run "*) echo "$*" >run; echo 'GPU 0: X (1)' ;; *) exit 1"""
    )
    programs.write("docker", script)
    preflight.check(programs.console, programs.commands, options, [function()])
    assert "ok      GPU: 1 (X)" in capsys.readouterr().out
    assert " --entrypoint nvidia-smi cvat.finder -L" in (programs.scratch / "run").read_text()


def test_a_cluster(programs, capsys):
    programs.write("nuctl", NUCTL % "echo 'Error - connection refused' >&2; exit 1")
    with pytest.raises(DeploymentError, match="2 things missing"):
        check(programs, platform="kube", namespace="labels", weights=None)
    said = capsys.readouterr().out
    assert "MISSING Nuclio in the cluster does not answer nuctl: Error - connection refused" in said
    assert "kubectl -n labels get pods" in said
    assert "MISSING Nuclio's dashboard can't be reached at http://127.0.0.1:9" in said
    assert "kubectl -n labels port-forward service/nuclio-dashboard 8070:8070" in said
    assert "network" not in said
    programs.write("nuctl", NUCTL % "echo nothing")
    programs.console.missing = 0
    assert check(programs, platform="kube", verify=False).network is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "echo 'GPU 0: NVIDIA H200 (UUID: GPU-1)'; echo 'GPU 1: NVIDIA H200 (UUID: GPU-2)'",
            "ok      GPU: 2 (NVIDIA H200)",
        ),
        (
            "echo 'could not select device driver \"\" with capabilities: [[gpu]].' >&2; exit 125",
            "MISSING Docker can't give containers a GPU: the NVIDIA container toolkit is not set up",
        ),
        (
            "echo 'nvidia-container-cli: initialization error: nvml error: driver not loaded' >&2; exit 125",
            "MISSING the NVIDIA driver of this machine does not answer",
        ),
        (
            "echo 'pull access denied' >&2; exit 125",
            "MISSING a container with a GPU does not start: pull access denied",
        ),
    ],
)
def test_the_gpu(programs, capsys, text, said):
    programs.write("docker", text)
    check_gpu("python:3.11-slim", programs.commands, programs.console)
    assert said in capsys.readouterr().out
