"""The builds of base images: what docker is called with, and what is printed."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from pathlib import Path

import pytest

from deploy import images
from deploy.base_image import PYTHON_LABEL, TORCH_LABEL
from deploy.console import DeploymentError
from deploy.definition.deployment import Deployment
from deploy.definition.functions import Function
from deploy.host.packages import ROOT
from deploy.options import parse
from deploy.preflight import Host
from tests.deploy.programs import Programs

DOCKER = """echo "$*" >>calls
case "$1 $2" in
  "version "*) echo 28.2.2 ;;
  "build "*) cat >context ;;
  "image inspect") [ -e context ] || exit 1; echo '[{"Id": "sha256:1", "Size": 571000000}]' ;;
  "tag "* | "push "*) ;;
  *) exit 1 ;;
esac"""


@pytest.fixture
def programs(tmp_path, monkeypatch) -> Programs:
    programs = Programs(tmp_path)
    monkeypatch.setenv("PATH", f"{programs.bin}:/usr/bin:/bin")
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "TORCH_INDEX_URL", "PYTHON_IMAGE"):
        monkeypatch.delenv(name, raising=False)
    programs.write("docker", DOCKER)
    return programs


def calls(programs, start="build ") -> list[str]:
    path = programs.scratch / "calls"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line for line in lines if line.startswith(start)]


def function(name="finder", framework="onnx", **deployment) -> Function:
    base = f"cvat.{framework}.base:latest" if framework else "somebody/image:1"
    return Function(name, "detector", {}, Path("/f"), "cpu", base, framework, f"cvat.{name}", Deployment(**deployment))


def build(programs, *functions, arguments=(), torch_index=""):
    options = parse("cpu", list(arguments))
    host = Host(None, "nuctl", torch_index=torch_index)  # type: ignore[arg-type] # Docker is not asked
    images.build_base_images(functions, options, host, programs.commands, programs.console, programs.scratch)


def base_only(programs, *arguments, device="cpu"):
    options = parse(device, ["--base-only", *arguments])
    images.base_only(options, programs.commands, programs.console, programs.scratch)


def test_each_base_image_is_built_once(programs, capsys):
    build(programs, function("one"), function("two"), function("three", "opencv"), function("four", ""))
    arguments = "--build-arg PYTHON_IMAGE=python:3.11-slim --build-arg DEVICE=cpu -"
    assert calls(programs) == [
        f"build --network host -t cvat.onnx.base:latest {arguments}",
        f"build --network host -t cvat.opencv.base:latest {arguments}",
    ]
    with tarfile.open(programs.scratch / "context") as archive:
        assert "base/requirements.txt" in archive.getnames()
    assert "  cvat.onnx.base:latest ... 571 MB\n" in capsys.readouterr().out


def test_no_base_image_is_needed(programs, capsys):
    build(programs, function(framework=""))
    assert not calls(programs)
    assert "none needed" in capsys.readouterr().out


def test_settings_of_pip_go_into_the_build(programs, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror.example/simple")
    build(programs, function())
    assert "--build-arg PIP_INDEX_URL=https://mirror.example/simple " in calls(programs)[0]


def test_the_index_of_torch_goes_to_the_framework_that_has_torch(programs):
    build(programs, function(), function("other", "pytorch"), torch_index="https://index.example/cpu")
    onnx, pytorch = calls(programs)
    assert "TORCH_INDEX_URL" not in onnx
    assert "--build-arg TORCH_INDEX_URL=https://index.example/cpu " in pytorch


def test_another_python_image_by_option_environment_or_record(programs, monkeypatch):
    build(programs, function(), arguments=["--python", "company/python:1"])
    monkeypatch.setenv("PYTHON_IMAGE", "company/python:2")
    build(programs, function())
    monkeypatch.delenv("PYTHON_IMAGE")
    build(programs, function(), function("other", python="company/python:3"))
    assert [line.split("PYTHON_IMAGE=")[1].split()[0] for line in calls(programs)] == [
        "company/python:1",
        "company/python:2",
        "company/python:3",
    ]


def test_the_python_image_of_the_base_image_that_is_here(programs, capsys):
    content = [{"Id": "sha256:1", "Size": 1, "Config": {"Labels": {PYTHON_LABEL: "company/python:1"}}}]
    programs.write("docker", DOCKER.replace("[ -e context ] || exit 1; echo ", f"echo '{json.dumps(content)}'; : "))
    build(programs, function())
    assert "PYTHON_IMAGE=company/python:1 " in calls(programs)[0]
    said = "  cvat.onnx.base:latest starts from company/python:1, as before; --python IMAGE takes another\n"
    assert said in capsys.readouterr().out


def test_a_build_that_fails(programs, capsys):
    programs.write(
        "docker", "[ $1 = build ] || exit 1\ncat >/dev/null; seq 30; echo 'ERROR: no such package' >&2; exit 1"
    )
    with pytest.raises(
        DeploymentError, match=r"the base image cvat.onnx.base:latest can't be built: .*no such package"
    ):
        build(programs, function())
    said = capsys.readouterr().out
    assert "    30\n    ERROR: no such package\n" in said
    assert "    10\n" not in said
    assert (programs.scratch / "cvat.onnx.base.log").read_text().startswith("1\n2\n")


def test_a_log_is_that_of_the_last_build(programs):
    (programs.scratch / "cvat.onnx.base.log").write_text("of the build before\n")
    build(programs, function())
    assert "of the build before" not in (programs.scratch / "cvat.onnx.base.log").read_text()


def test_a_cluster_pulls_base_images_from_its_registry(programs):
    build(programs, function(registry="r.example/team"), arguments=["--platform", "kube"])
    build(programs, function(), arguments=["--platform", "kube", "--registry", "r.example/team"])
    assert calls(programs, "tag") == ["tag cvat.onnx.base:latest r.example/team/cvat.onnx.base:latest"] * 2
    assert calls(programs, "push") == ["push r.example/team/cvat.onnx.base:latest"] * 2


def test_a_registry_that_refuses(programs):
    programs.write(
        "docker",
        DOCKER.replace('"tag "* | "push "*) ;;', '"push "*) echo "denied: no access" >&2; exit 1 ;; "tag "*) ;;'),
    )
    with pytest.raises(
        DeploymentError, match=r"r.example/team/cvat.onnx.base:latest can't be pushed: denied: no access"
    ) as caught:
        build(programs, function(registry="r.example/team"), arguments=["--platform", "kube"])
    assert caught.value.remedy == "docker login r.example; the cluster must be able to pull from it too"


def test_a_dry_run_prints_what_a_shell_would_take(programs, capsys):
    programs.console.dry_run = True
    build(programs, function())
    assert not calls(programs)
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("+ "))
    packing, building = line[2:].split(" | ")
    assert building.startswith("docker build --network host -t cvat.onnx.base:latest --build-arg ")
    packed = subprocess.run(packing, shell=True, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        by_hand = set(archive.getnames())
    build_context = images.context_of(images.base_image.of_framework("onnx", "cpu"))
    with tarfile.open(fileobj=io.BytesIO(build_context)) as archive:
        assert set(archive.getnames()) == by_hand


def test_one_base_image_alone(programs, capsys):
    base_only(programs, "onnx")
    assert len(calls(programs)) == 1
    assert "cvat.onnx.base:latest ... 571 MB" in capsys.readouterr().out
    base_only(programs, "pytorch", device="gpu")
    assert "-t cvat.pytorch.base:latest-gpu " in calls(programs)[1]
    assert "DEVICE=gpu" in calls(programs)[1]


def test_one_base_image_of_a_framework_that_there_is_not(programs):
    with pytest.raises(DeploymentError, match="--base-only: there is no framework tensorflow") as caught:
        base_only(programs, "tensorflow")
    assert caught.value.remedy == "there are: onnx, opencv, pytorch"
    assert not calls(programs)


def test_one_base_image_without_docker(programs, capsys):
    programs.write("docker", "echo 'Cannot connect to the Docker daemon' >&2; exit 1")
    with pytest.raises(DeploymentError, match="1 thing missing"):
        base_only(programs, "onnx")
    assert "MISSING the Docker daemon does not answer" in capsys.readouterr().out


def test_the_labels_that_a_base_image_is_remembered_by():
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    assert f"{PYTHON_LABEL}=" in dockerfile
    assert f"{TORCH_LABEL}=" in dockerfile
