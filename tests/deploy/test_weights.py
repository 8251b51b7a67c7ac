"""Weights: fetched before a build, or mounted and left out of the image."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.commands import Commands
from deploy.console import Console, DeploymentError
from deploy.definition import weights
from deploy.definition.deployment import Deployment
from deploy.definition.functions import Function, load

CATALOG = "default: small\nvariants:\n  small:\n    files:\n      - {path: m.onnx, url: https://x/m}\n"
DOCKER = """#!/bin/sh
printf '%s\\n' "$*" >>"$STAND_INS/calls"
echo "m.onnx: from https://x/m"
if [ -e "$STAND_INS/fails" ]; then echo "https://x/m: 404; or copy it to /function/weights/small/m.onnx yourself" >&2; exit 1; fi
printf 'm.onnx: fetched'
"""


class Place:
    """A function's directory, and Docker."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
        self.folder, self.world, self.capsys = folder, folder / "world", capsys
        (self.world / "bin").mkdir(parents=True)
        docker = self.world / "bin" / "docker"
        docker.write_text(DOCKER)
        docker.chmod(0o755)
        monkeypatch.setenv("PATH", f"{self.world / 'bin'}:/usr/bin:/bin")
        monkeypatch.setenv("STAND_INS", str(self.world))
        self.directory = folder / "home" / "my, finder"
        self.directory.mkdir(parents=True)
        self.write("main.py", "def handler(context, event): ...\n")
        self.content: dict[str, Any] = {
            "metadata": {"name": "finder", "annotations": {"type": "detector"}},
            "spec": {"build": {"baseImage": "cvat.onnx.base", "image": "cvat.finder"}},
        }
        self.write("weights.yaml", CATALOG)
        self.console = Console("deploy_cpu.sh")
        self.log = folder / "finder.log"

    def write(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def function(self, device: str = "cpu", **options: Any) -> Function:
        self.write("function.yaml", yaml.safe_dump(self.content))
        function = load(self.directory, device)
        function.deployment = Deployment(**options)
        return function

    def fetch(self, function: Function) -> None:
        scratch = self.folder / "scratch"
        scratch.mkdir(exist_ok=True)
        weights.fetch(function, Commands(self.console, scratch), self.console, self.log)

    def calls(self) -> list[str]:
        path = self.world / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def stage(self, function: Function) -> Path:
        return weights.stage(function, self.folder / "stage", self.console)

    def mounted(self) -> Function:
        return self.function(weights="/x")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Place:
    return Place(tmp_path, monkeypatch, capsys)


def test_the_folder_of_a_function(place: Place) -> None:
    function, folder = place.function(), place.folder / "weights"
    folder.mkdir()
    assert weights.folder_of(function, folder, alone=False) is None
    assert weights.folder_of(function, folder, alone=True) == folder
    (folder / "finder").mkdir()
    assert weights.folder_of(function, folder, alone=False) == folder / "finder"
    assert weights.folder_of(function, folder, alone=True) == folder / "finder"


def test_a_function_with_weights_needs_its_folder(place: Place) -> None:
    error = weights.no_folder(place.function(), place.folder)
    assert error is not None
    assert error.cause == f"--weights: there is no folder {place.folder / 'finder'}"
    assert "weights.yaml in its directory names them" in error.remedy
    (place.directory / "weights.yaml").unlink()
    assert weights.no_folder(place.function(), place.folder) is None


def mounted_file(place: Place, *names: str) -> str | None:
    folder = place.folder / "with" / "-".join(names or ["nothing"])
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).mkdir() if name.endswith("dir") else (folder / name).write_bytes(b"x")
    content: dict[str, Any] = {}
    weights.mount(content, folder)
    (volume,) = content["spec"]["volumes"]
    assert volume["volume"]["hostPath"] == {"path": str(folder)}
    assert volume["volumeMount"] == {"name": volume["volume"]["name"], "mountPath": "/opt/nuclio/weights"}
    values = [pair["value"] for pair in content["spec"].get("env", []) if pair["name"] == "MODEL_PATH"]
    return values[0] if values else None


def test_mounting_a_folder_with_one_file_sets_the_model(place: Place) -> None:
    model = "/opt/nuclio/weights/best.onnx"
    assert mounted_file(place, "best.onnx") == model
    assert mounted_file(place, "best.onnx", "weights.sha256", "README.md", "labels.txt", ".hidden") == model
    assert mounted_file(place, "best.onnx", "second.onnx") is None
    assert mounted_file(place, "best.onnx", "small.dir") is None
    assert mounted_file(place, "small.dir") is None
    assert mounted_file(place) is None


def test_mounting_keeps_other_volumes_and_replaces_its_own(place: Place) -> None:
    other = {"volume": {"name": "weights", "hostPath": {"path": "/cache"}}, "volumeMount": {"name": "weights", "mountPath": "/cache"}}  # fmt: skip
    content: dict[str, Any] = {
        "spec": {"volumes": [other], "env": [{"name": "MODEL_PATH", "value": "/old"}, {"name": "A", "value": "b"}]}
    }
    for name in ("one", "two"):
        folder = place.folder / name
        folder.mkdir()
        (folder / f"{name}.pt").write_bytes(b"x")
        weights.mount(content, folder)
    first, second = content["spec"]["volumes"]
    assert first == other
    assert second["volume"] == {"name": "weights-2", "hostPath": {"path": str(place.folder / "two")}}
    assert content["spec"]["env"] == [
        {"name": "A", "value": "b"},
        {"name": "MODEL_PATH", "value": "/opt/nuclio/weights/two.pt"},
    ]


def test_weights_are_fetched_with_the_functions_own_tool(place: Place) -> None:
    place.fetch(place.function())
    (call,) = place.calls()
    assert call == (
        f"run --rm --user {os.getuid()}:{os.getgid()} --network host --env HF_TOKEN "
        f'--mount type=bind,"source={place.directory}",destination=/function '
        "cvat.onnx.base:latest sh -c exec python -m common.networks.weights /function 2>&1"
    )
    said = "m.onnx: from https://x/m\nm.onnx: fetched"
    assert place.capsys.readouterr().out == f"{said}\n"
    assert place.log.read_text() == said


def test_the_variant_that_is_fetched(place: Place) -> None:
    place.content["spec"]["env"] = [{"name": "VARIANT", "value": "of the file"}]
    place.fetch(place.function())
    place.fetch(place.function(environment={"VARIANT": "given"}))
    place.fetch(place.function(environment={"VARIANT": ""}))
    assert [call.partition("networks.weights ")[2] for call in place.calls()] == [
        "/function --variant 'of the file' 2>&1",
        "/function --variant given 2>&1",
        "/function 2>&1",
    ]


def test_weights_that_cannot_be_fetched(place: Place) -> None:
    (place.world / "fails").touch()
    with pytest.raises(DeploymentError) as raised:
        place.fetch(place.function())
    assert raised.value.cause == (
        f"its weights can't be fetched: https://x/m: 404; or copy it to {place.directory}/weights/small/m.onnx yourself"
    )
    assert raised.value.remedy == "with weights of your own: --weights DIR; without a network: --offline FILE"


@pytest.mark.parametrize(
    "catalog", ["variants:\n  small:\n    files:\n      - {path: m.onnx}\n", "variants: 3\n", None]
)
def test_what_is_not_fetched(place: Place, catalog: str | None) -> None:
    if catalog is None:
        (place.directory / "weights.yaml").unlink()
    else:
        place.write("weights.yaml", catalog)
    place.fetch(place.function())
    assert place.calls() == []


@pytest.mark.parametrize(("docker", "calls"), [("tcp://10.0.0.5:2376", 0), ("tcp://localhost:2375", 1)])
def test_a_docker_on_another_host_leaves_it_to_the_build(
    place: Place, monkeypatch: pytest.MonkeyPatch, docker: str, calls: int
) -> None:
    monkeypatch.setenv("DOCKER_HOST", docker)
    place.fetch(place.function())
    assert len(place.calls()) == calls


def test_a_function_on_another_image_fetches_nothing(place: Place) -> None:
    place.content["spec"]["build"]["baseImage"] = "somebody/image:1"
    place.fetch(place.function())
    assert place.calls() == []


def test_a_catalog_that_is_wrong_is_left_to_the_tool(place: Place) -> None:
    place.write("weights.yaml", "- url: https://x/m\n")
    place.fetch(place.function())
    assert len(place.calls()) == 1


def test_a_dry_run_prints_what_it_would_do(place: Place) -> None:
    place.console = Console("deploy_cpu.sh", dry_run=True)
    place.fetch(place.function())
    copy = place.stage(place.mounted())
    assert place.calls() == []
    assert not copy.exists()
    fetching, copying = place.capsys.readouterr().out.splitlines()
    assert fetching.startswith("+ docker run --rm --user ")
    assert copying == f"+ cp -RL '{place.directory}' {copy}"


def test_a_directory_that_can_be_built_as_it_is(place: Place) -> None:
    place.write("weights/small/m.onnx", "x")
    assert place.stage(place.function()) == place.directory
    assert not (place.folder / "stage").exists()


def test_a_build_without_weights(place: Place) -> None:
    place.write("weights/small/m.onnx", "x")
    place.write("__pycache__/main.pyc", "x")
    place.write("deeper/__pycache__/other.pyc", "x")
    place.write("deeper/weights/kept", "x")
    copy = place.stage(place.mounted())
    assert copy == place.folder / "stage" / "finder"
    assert sorted(str(path.relative_to(copy)) for path in copy.rglob("*") if path.is_file()) == [
        "deeper/weights/kept",
        "function.yaml",
        "main.py",
        "weights.yaml",
        "weights/.mounted",
    ]
    assert (place.directory / "weights/small/m.onnx").is_file()


def test_the_gpus_own_function_yaml(place: Place) -> None:
    place.write("function-gpu.yaml", yaml.safe_dump({**place.content, "kind": "for the GPU"}))
    copy = place.stage(place.function("gpu"))
    assert yaml.safe_load((copy / "function.yaml").read_text())["kind"] == "for the GPU"
    assert "kind" not in yaml.safe_load((place.directory / "function.yaml").read_text())
    assert place.stage(place.function("cpu")) == place.directory


def test_large_files_are_not_copied_twice(place: Place) -> None:
    place.write("function-gpu.yaml", yaml.safe_dump(place.content))
    model = place.write("weights/small/m.onnx", "x" * (1 << 20))
    copy = place.stage(place.function("gpu"))
    assert (copy / "weights/small/m.onnx").samefile(model)
    assert not (copy / "main.py").samefile(place.directory / "main.py")


def test_symbolic_links_are_followed(place: Place) -> None:
    model = place.folder / "elsewhere.onnx"
    model.write_text("x" * (1 << 20))
    shared = place.folder / "shared"
    shared.mkdir()
    (shared / "code.py").write_text("y")
    (place.directory / "m.onnx").symlink_to(model)
    (place.directory / "shared").symlink_to(shared)
    (place.directory / "loop").symlink_to(place.directory)
    (place.directory / "gone").symlink_to(place.folder / "nowhere")
    copy = place.stage(place.function())
    assert copy != place.directory
    assert not any(path.is_symlink() for path in copy.rglob("*"))
    assert (copy / "m.onnx").samefile(model)
    assert (copy / "shared/code.py").read_text() == "y"
    assert not (copy / "loop").exists()
    assert not (copy / "gone").exists()


def test_a_copy_from_before_is_made_again(place: Place) -> None:
    function = place.mounted()
    old = place.stage(function) / "old"
    old.touch()
    assert not (place.stage(function) / "old").exists()


def test_a_directory_that_cannot_be_copied(place: Place) -> None:
    function = place.mounted()
    (place.folder / "stage").write_text("a file")
    with pytest.raises(DeploymentError, match=r"can't be copied for the build"):
        place.stage(function)
