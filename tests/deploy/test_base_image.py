"""Base images: what they start from, and what Docker builds them of."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from deploy import base_image, images
from deploy.base_image import PYTHON_LABEL, of_framework
from deploy.console import DeploymentError
from deploy.definition.functions import Function
from deploy.host.packages import ROOT
from tests.deploy.programs import Programs


@pytest.fixture
def programs(tmp_path, monkeypatch) -> Programs:
    programs = Programs(tmp_path)
    monkeypatch.setenv("PATH", f"{programs.bin}:/usr/bin:/bin")
    programs.write("docker", "exit 1")
    return programs


def labelled(programs, labels):
    programs.write("docker", f"echo '{json.dumps([{'Id': 'sha256:1', 'Size': 7, 'Config': {'Labels': labels}}])}'")


def python_image(programs, given=None, recorded=None):
    return base_image.python_image("cvat.onnx.base:latest", given, programs.commands, recorded=recorded)


def test_a_base_image_starts_from_pythons_image_by_default(programs):
    assert python_image(programs) == "python:3.11-slim"


@pytest.mark.parametrize("labels", [None, {}, {"maintainer": "somebody"}])
def test_one_of_before_without_the_label(programs, labels):
    labelled(programs, labels)
    assert python_image(programs) == "python:3.11-slim"


def test_it_remembers_what_it_started_from(programs):
    labelled(programs, {PYTHON_LABEL: "company/python:3.11"})
    assert python_image(programs) == "company/python:3.11"


def test_what_is_asked_for_takes_precedence(programs):
    labelled(programs, {PYTHON_LABEL: "company/python:3.11"})
    assert python_image(programs, given="python:3.11-slim") == "python:3.11-slim"


def test_without_the_base_image_a_function_remembers_it(programs):
    assert python_image(programs, recorded="company/python:3.11") == "company/python:3.11"


def test_the_frameworks():
    assert of_framework("onnx", "gpu").name == "cvat.onnx.base:latest-gpu"
    assert of_framework("opencv", "gpu").name == "cvat.opencv.base:latest"  # it has no GPU packages
    assert of_framework("pytorch", "cpu").has_torch
    assert of_framework("pytorch", "gpu").has_torch
    assert not of_framework("onnx", "cpu").has_torch


def test_a_framework_that_there_is_not():
    with pytest.raises(DeploymentError, match="there is no framework torch") as caught:
        of_framework("torch", "cpu")
    assert caught.value.remedy == "there are: onnx, opencv, pytorch"
    assert caught.value.status == 2


def test_each_base_image_is_needed_once():
    def function(name, framework, base):
        return Function(name, "detector", {}, Path("/f"), "cpu", base, framework, f"cvat.{name}")

    found = base_image.of_functions(
        [
            function("one", "onnx", "cvat.onnx.base:latest"),
            function("two", "onnx", "cvat.onnx.base:latest"),
            function("three", "", "somebody/image"),
        ]
    )
    assert [each.name for each in found] == ["cvat.onnx.base:latest"]


def test_what_it_is_built_from_is_the_same_each_time_and_holds_no_bytecode():
    base = of_framework("onnx", "cpu")
    (ROOT / "common" / "__pycache__").mkdir(exist_ok=True)
    context = images.context_of(base)
    assert context == images.context_of(base)
    with tarfile.open(fileobj=io.BytesIO(context)) as archive:
        entries = archive.getmembers()
    names = [entry.name for entry in entries]
    assert {"common/config.py", "base/requirements.txt", "base/requirements-gpu.txt", "Dockerfile"} <= set(names)
    assert {name.split("/")[0] for name in names} == {"common", "base", "Dockerfile", "base_packages.py"}
    assert not any("__pycache__" in name for name in names)
    dockerfile = next(entry for entry in entries if entry.name == "Dockerfile")
    assert dockerfile.mtime == pytest.approx((ROOT / "deploy" / "Dockerfile").stat().st_mtime, abs=1)
    assert {(entry.uid, entry.gid, entry.uname) for entry in entries} == {(0, 0, "")}
