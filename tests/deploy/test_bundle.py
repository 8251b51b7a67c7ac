"""A bundle holds what it says, refuses what is damaged, and takes memory that does not grow with the images."""

from __future__ import annotations

import gzip
import io
import json
import os
import stat
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy import bundle, packing
from deploy.bundle import Manifest, Packed, kept_nuctl, open_bundle, read_manifest
from deploy.commands import Commands, Interrupted
from deploy.console import Console, DeploymentError
from deploy.definition.deployment import Deployment
from deploy.definition.functions import load
from deploy.function import Run
from deploy.host.containers import Container, DockerHost
from deploy.nuclio import Nuclio
from deploy.options import Options
from deploy.preflight import Host
from tests.deploy.host import FUNCTION, LABEL, REPOSITORY

DOCKER = """#!/bin/sh
printf 'docker %s\\n' "$*" >>"$STAND_INS/calls"
case "$1 $2" in
  "info "*) cat "$STAND_INS/architecture" ;;
  "save "*) [ ! -e "$STAND_INS/save_fails" ] || { echo "no such image" >&2; exit 1; }
    if [ -e "$STAND_INS/save_hangs" ]; then sleep 30; fi; head -c "$(cat "$STAND_INS/size")" /dev/zero ;;
  "load "*) gzip -dc >"$STAND_INS/loaded" && echo "Loaded image: a:latest" && echo "Loaded image: b:latest" ;;
  "image inspect") [ ! -e "$STAND_INS/no_dashboard" ] || exit 1; echo '[{"Id": "sha256:1"}]' ;;
  "inspect "*) echo '[{"Name": "/nuclio-local-storage-reader", "Config": {"Image": "gcr.io/iguazio/alpine:3.20"}}]' ;;
esac
"""
DASHBOARD = "quay.io/nuclio/dashboard:1.14.1-arm64"


class Machine:
    """A machine with Docker, nuctl and a function of the user's own; and a bundle of that function."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch):
        self.world = folder / "world"
        self.scratch = folder / "scratch"
        for path in (self.world / "bin", self.scratch):
            path.mkdir(parents=True)
        self.program("docker", DOCKER)
        self.nuctl = self.program("nuctl", """#!/bin/sh\nprintf 'nuctl %s\\n' "$*" >>"$STAND_INS/calls"\n""")
        (self.world / "architecture").write_text("x86_64\n")
        (self.world / "size").write_text("1000")
        monkeypatch.setenv("PATH", f"{self.world / 'bin'}:/usr/bin:/bin")
        monkeypatch.setenv("STAND_INS", str(self.world))
        monkeypatch.setattr(bundle, "_KEPT_NUCTL", folder / "out" / "nuctl")
        self.console = Console("deploy_cpu.sh")
        self.commands = Commands(self.console, self.scratch)
        self.environment: dict[str, str] = {}
        self.target = folder / "bundle.tar"
        self.directory = folder / "finder"
        self.directory.mkdir()
        (self.directory / "function.yaml").write_text(
            FUNCTION.format(
                name="finder",
                kind="detector",
                base="cvat.onnx.base",
                annotations=f"\n    spec: '{LABEL}'",
                spec="",
                trigger="",
            )
        )

    def program(self, name: str, text: str) -> Path:
        path = self.world / "bin" / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    def make(self, device: str = "cpu") -> None:
        """Makes the bundle."""
        docker = DockerHost({"nuclio": Container("nuclio", image=DASHBOARD, status="running")})
        nuclio = Nuclio(self.commands, str(self.nuctl), "local", "nuclio")
        function = load(self.directory, device)
        function.deployment = Deployment(environment=self.environment)
        host = Host(docker, str(self.nuctl), "1.14.1")
        options = Options(device)
        run = Run(options, self.console, self.commands, host, nuclio, self.scratch, functions=[function])
        packing.make(run, self.target)

    def open(self) -> bundle.Bundle:
        return open_bundle(self.target, "cpu", self.scratch)

    def rewrite(self, name: str, change: Callable[[bytes], bytes]) -> None:
        """Changes one file in the bundle."""
        with tarfile.open(self.target) as archive:
            content = [(info, archive.extractfile(info)) for info in archive.getmembers() if info.isfile()]
            files = [(info, file.read()) for info, file in content if file]
        with tarfile.open(self.target, "w") as archive:
            for info, data in files:
                new = change(data) if info.name == name else data
                info.size = len(new)
                archive.addfile(info, io.BytesIO(new))

    def calls(self) -> list[str]:
        return (self.world / "calls").read_text().splitlines()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def test_the_manifest_is_read_back() -> None:
    manifest = Manifest("gpu", "aarch64", "1.14.1", DASHBOARD, {"a": Packed("a:latest-gpu", "gpu")})
    assert read_manifest(manifest.as_text()) == manifest
    without = Manifest("cpu", "x86_64", "1.14.1")
    assert read_manifest(without.as_text()) == without


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("format 1\ndevice cpu\nfunction a a:latest\n", "1"),
        ("device cpu\n", "none"),
        ("format 2\ndevice cpu\n", "architecture"),
    ],
)
def test_another_manifest_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_manifest(text)


def test_a_bundle_holds_its_functions_without_yaml(machine: Machine) -> None:
    machine.make()
    assert any("--image cvat.finder:latest" in call for call in machine.calls())
    assert f"docker save cvat.finder:latest gcr.io/iguazio/alpine:3.20 {DASHBOARD}" in machine.calls()
    opened = machine.open()
    file = opened.folder / "functions" / "finder" / "function.yaml"
    assert json.loads(file.read_text())["metadata"]["name"] == "finder"
    (function,) = opened.functions([])
    assert (function.name, function.image, function.device) == ("finder", "cvat.finder:latest", "cpu")
    assert function.framework == "", "no base image is built of it"
    assert opened.functions(["finder", str(machine.directory)]) == [function]
    assert opened.manifest.nuctl == "1.14.1"


def test_a_function_that_runs_on_the_cpu_does_so_from_a_bundle_for_the_gpu(machine: Machine) -> None:
    # The packed scripts can't tell: that opencv has no GPU packages is known from serverless/opencv/base.
    path = machine.directory / "function.yaml"
    path.write_text(path.read_text().replace("cvat.onnx.base", "cvat.opencv.base"))
    machine.make(device="gpu")
    (function,) = open_bundle(machine.target, "gpu", machine.scratch).functions([])
    assert (function.device, function.image) == ("cpu", "cvat.finder:latest")


def test_the_options_of_a_bundle_go_along(machine: Machine) -> None:
    machine.environment = {"VARIANT": "large"}
    machine.make()
    (function,) = machine.open().functions([])
    assert function.content["spec"]["env"] == [{"name": "VARIANT", "value": "large"}]


def test_a_function_yaml_of_its_own_for_the_gpu_goes_along(machine: Machine) -> None:
    text = (machine.directory / "function.yaml").read_text()
    (machine.directory / "function-gpu.yaml").write_text(text.replace("value: small", "value: large"))
    machine.make(device="gpu")
    (function,) = open_bundle(machine.target, "gpu", machine.scratch).functions([])
    assert function.has_own_gpu_file
    assert function.content["spec"]["env"][0]["value"] == "large"


def test_tar_reads_it(machine: Machine) -> None:
    machine.make()
    folder = machine.scratch / "unpacked"
    folder.mkdir()
    subprocess.run(["tar", "-xf", str(machine.target)], cwd=folder, check=True)
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder, check=True)
    assert gzip.decompress((folder / "images.tar.gz").read_bytes()) == bytes(1000)
    assert (folder / "nuctl").stat().st_mode & stat.S_IXUSR


def test_the_scripts_are_packed_without_what_only_development_needs(machine: Machine) -> None:
    machine.make()
    with tarfile.open(machine.target) as archive:
        names = {name[len("cvat-functions/") :] for name in archive.getnames() if name.startswith("cvat-functions/")}
        assert all(info.uid == 0 and not info.uname for info in archive)
    assert {"deploy_cpu.sh", "deploy/bundle.py", "deploy/samples/detector.json", "tools/durations.py"} <= names
    assert {"serverless/collection.py", "tools/check/reply_rules.py", "compose.yaml", "docs/deploy.md"} <= names
    unwanted = ("__pycache__", "deploy/ci/", "deploy/samples/make.py", "deploy/Dockerfile", "serverless/onnx")
    assert not [name for name in names if any(part in name for part in unwanted)]


def test_the_images_are_loaded(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.make()
    machine.open().load_images(machine.commands, machine.console)
    assert (machine.world / "loaded").read_bytes() == bytes(1000)
    assert "  2 images\n" in capsys.readouterr().out


def test_damaged_images_never_reach_docker(machine: Machine) -> None:
    machine.make()
    machine.rewrite("images.tar.gz", lambda data: data[:-20] + b"x" + data[-19:])
    with pytest.raises(DeploymentError, match="is damaged: its images") as caught:
        machine.open().load_images(machine.commands, machine.console)
    assert caught.value.status == 1
    assert "docker load" not in machine.calls()


def test_a_damaged_nuctl_is_refused(machine: Machine) -> None:
    machine.make()
    machine.rewrite("nuctl", lambda data: data + b"x")
    with pytest.raises(DeploymentError, match="is damaged: nuctl") as caught:
        machine.open()
    assert caught.value.status == 2


@pytest.mark.parametrize("kept", [0, 100, 0.5, -700])
def test_a_bundle_that_has_not_arrived_whole_is_refused(machine: Machine, kept: float) -> None:
    (machine.world / "size").write_text("10000000")
    machine.make()
    data = machine.target.read_bytes()
    length = int(len(data) * kept) if isinstance(kept, float) else kept if kept >= 0 else len(data) - 10240 + kept
    machine.target.write_bytes(data[:length])
    with pytest.raises(DeploymentError, match="or is incomplete"):
        machine.open()


def test_a_bundle_of_the_first_format_names_the_scripts_inside_it(machine: Machine) -> None:
    machine.make()
    machine.rewrite("manifest", lambda _: b"format 1\ndevice cpu\nfunction finder cvat.finder:latest\n")
    with pytest.raises(DeploymentError, match="a format that this version does not know: 1") as caught:
        machine.open()
    assert caught.value.remedy == f"use the scripts inside it: tar -xf {machine.target} cvat-functions"


def test_a_bundle_for_the_other_device_is_refused(machine: Machine) -> None:
    machine.make()
    with pytest.raises(DeploymentError, match="was made for the cpu"):
        open_bundle(machine.target, "gpu", machine.scratch)


def test_a_path_out_of_the_folder_is_refused(machine: Machine) -> None:
    machine.make()
    machine.rewrite("manifest", lambda data: data.replace(b"function finder", b"function ../../finder"))
    with pytest.raises(DeploymentError, match="is not a bundle"):
        machine.open()


def test_a_function_that_is_not_in_it(machine: Machine) -> None:
    machine.make()
    with pytest.raises(DeploymentError, match="nobody is not in the bundle") as caught:
        machine.open().functions(["nobody"])
    assert (caught.value.remedy, caught.value.status) == ("in it: finder", 2)


def test_images_of_another_architecture_are_refused(machine: Machine) -> None:
    machine.make()
    (machine.world / "architecture").write_text("aarch64\n")
    with pytest.raises(DeploymentError, match="images are for x86_64, this machine is aarch64"):
        machine.open().load_images(machine.commands, machine.console)


def test_the_dashboard_of_the_bundle_is_started_not_that_of_another_version(machine: Machine) -> None:
    machine.make()
    command = f"NUCLIO_VERSION=1.14.1 NUCLIO_ARCH=arm64 docker compose -f {REPOSITORY / 'compose.yaml'} up -d"
    assert machine.open().start_dashboard == command
    text = (REPOSITORY / "compose.yaml").read_text()
    assert "${NUCLIO_VERSION:-" in text
    assert "${NUCLIO_ARCH:-" in text


def test_a_dashboard_whose_image_is_gone_is_left_out(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    (machine.world / "no_dashboard").touch()
    machine.make()
    assert "docker save cvat.finder:latest gcr.io/iguazio/alpine:3.20" in machine.calls()
    assert f"Nuclio's dashboard is not packed: its image {DASHBOARD} is no longer here" in capsys.readouterr().out
    assert machine.open().start_dashboard == ""


def test_its_nuctl_is_found_later(machine: Machine) -> None:
    machine.make()
    assert kept_nuctl() is None
    machine.open().keep_nuctl()
    kept = kept_nuctl()
    assert kept is not None
    assert kept.read_bytes() == machine.nuctl.read_bytes()
    assert os.access(kept, os.X_OK)


def test_a_failed_build_names_the_function_and_leaves_no_file(machine: Machine) -> None:
    machine.program("nuctl", "#!/bin/sh\necho 'ERROR: something else' >&2; exit 1\n")
    with pytest.raises(DeploymentError, match="finder can't be built: ERROR: something else") as caught:
        machine.make()
    assert caught.value.remedy == f"the whole log: {machine.scratch / 'finder.log'}"
    assert not list(machine.target.parent.glob("bundle.tar*"))


def test_a_failed_save_leaves_no_file(machine: Machine) -> None:
    (machine.world / "save_fails").touch()
    with pytest.raises(DeploymentError, match="docker save has failed: no such image"):
        machine.make()
    assert not list(machine.target.parent.glob("bundle.tar*"))


def test_an_interruption_ends_docker_and_leaves_no_file(machine: Machine) -> None:
    (machine.world / "save_hangs").touch()
    threading.Timer(0.5, machine.commands.stop.set).start()
    with pytest.raises(Interrupted):
        machine.make()
    assert not list(machine.target.parent.glob("bundle.tar*"))


def test_a_dry_run_writes_nothing(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.make()
    machine.console.dry_run = True
    machine.target = machine.target.with_name("other.tar")
    machine.make()
    machine.target = machine.target.with_name("bundle.tar")
    machine.open().load_images(machine.commands, machine.console)
    output = capsys.readouterr().out
    assert "+ docker save cvat.finder:latest gcr.io/iguazio/alpine:3.20" in output
    assert f"+ tar -xOf {machine.target} images.tar.gz | docker load" in output
    assert not machine.target.with_name("other.tar").exists()
    assert not (machine.world / "loaded").exists()


def test_memory_does_not_grow_with_the_images(machine: Machine) -> None:
    (machine.world / "size").write_text(str(300_000_000))
    script = f"""
import resource
from pathlib import Path
from deploy import bundle, packing
from deploy.commands import Commands
from deploy.console import Console
from deploy.host.containers import DockerHost
from deploy.function import Run
from deploy.definition.functions import load
from deploy.nuclio import Nuclio
from deploy.options import Options
from deploy.preflight import Host
console = Console("deploy_cpu.sh")
commands = Commands(console, Path({str(machine.scratch)!r}))
nuclio = Nuclio(commands, {str(machine.nuctl)!r}, "local", "nuclio")
host = Host(DockerHost(), nuclio.nuctl, "1.14.1")
functions = [load(Path({str(machine.directory)!r}), "cpu")]
run = Run(Options("cpu"), console, commands, host, nuclio, commands.scratch, functions=functions)
target = Path({str(machine.target)!r})
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
packing.make(run, target)
bundle.open_bundle(target, "cpu", commands.scratch).load_images(commands, console)
print("grown by", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert (machine.world / "loaded").stat().st_size == 300_000_000
    assert int(done.stdout.split()[-1]) < 40_000, "kB"
