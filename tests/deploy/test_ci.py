"""The workflows are valid, and the scripts that they call do what they say."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml

from tests.deploy.host import FUNCTION, LABEL, REPOSITORY, STAND_INS, Host

WORKFLOWS = sorted((REPOSITORY / ".github/workflows").glob("*.yml"))


@pytest.fixture
def github(host: Host) -> Host:
    for tool in ("gh", "git"):
        (host.world / "bin" / tool).symlink_to(STAND_INS / tool)
    return host


def run(host: Host, script: str, *arguments: str, root: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(root / "deploy/ci" / script), *arguments],
        env=host._environment({}),
        capture_output=True,
        text=True,
    )


def test_the_workflows_follow_githubs_schema() -> None:
    assert len(WORKFLOWS) == 2
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", *map(str, WORKFLOWS)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


def test_a_workflow_that_is_wrong_is_found(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(WORKFLOWS[0].read_text().replace("runs-on:", "runs_on:"))
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(wrong)],
        capture_output=True,
    )
    assert done.returncode == 1


def test_every_script_that_a_workflow_calls_is_here_and_can_be_run() -> None:
    called = set()
    for path in WORKFLOWS:
        for job in yaml.safe_load(path.read_text())["jobs"].values():
            for step in job["steps"]:
                called |= set(
                    re.findall(r"(?:^|[\s|])(?:bash )?(\./\S+\.sh|\S*/\S+\.sh|\.ci/run)", step.get("run", ""))
                )
    assert {"deploy/ci/delete_release.sh", "./deploy_cpu.sh", ".ci/run", "deploy/ci/push_images.sh"} <= called
    for name in called:
        assert (REPOSITORY / name).is_file(), name
        assert os.access(REPOSITORY / name, os.X_OK) or name == ".ci/run", f"{name} is not executable"


def test_a_release_that_fails_at_any_step_is_deleted() -> None:
    steps = yaml.safe_load((REPOSITORY / ".github/workflows/release.yml").read_text())["jobs"]["release"]["steps"]
    last = steps[-1]
    assert "delete_release.sh" in last["run"]
    assert last["if"] == "failure() || cancelled()"
    assert not any(step.get("continue-on-error") for step in steps)


def test_what_a_release_holds_is_there() -> None:
    lines = (REPOSITORY / "deploy/ci/release_functions").read_text().splitlines()
    folders = [line for line in lines if not line.startswith("#")]
    assert folders
    for folder in folders:
        assert any((REPOSITORY / "serverless" / folder).rglob("function.yaml")), folder


def test_weights_of_a_release_go_to_their_functions(github: Host) -> None:
    root = _repository(github)
    _release(github, "v1", "weights-finder", {"small/model.onnx": b"weights"})
    done = run(github, "download_weights.sh", "v1", root=root)
    assert done.returncode == 0, done.stderr
    assert (root / "serverless/onnx/finder/weights/small/model.onnx").read_bytes() == b"weights"


def test_weights_for_no_function_and_damaged_weights_are_refused(github: Host) -> None:
    root = _repository(github)
    _release(github, "v1", "weights-nobody", {"a": b""})
    done = run(github, "download_weights.sh", "v1", root=root)
    assert done.returncode == 1
    assert "there is no function nobody" in done.stderr
    digest = hashlib.sha256(b"other").hexdigest()
    _release(github, "v2", "weights-finder", {"small/m": b"weights", "small/weights.sha256": f"{digest}  m\n".encode()})
    done = run(github, "download_weights.sh", "v2", root=root)
    assert done.returncode == 1
    assert "m: FAILED" in done.stdout


def test_a_release_without_weights(github: Host) -> None:
    (github.world / "releases" / "v1").mkdir(parents=True)
    done = run(github, "download_weights.sh", "v1", root=_repository(github))
    assert done.returncode == 0
    assert "no weights are attached" in done.stdout


def test_pushing_what_is_deployed(github: Host) -> None:
    github.deploy(str(github.function()))
    github.set("deployed", "cvat.finder:latest\ncvat.finder:latest\n")
    github.forget()
    done = run(github, "push_images.sh", "ghcr.io/Owner/Name", "v1.2")
    assert done.returncode == 0, done.stderr
    assert [call for call in github.calls() if call.startswith("docker push")] == [
        "docker push --quiet ghcr.io/owner/name/cvat.finder:v1.2",
        "docker push --quiet ghcr.io/owner/name/cvat.finder:latest",
    ]


def test_nothing_to_push_and_a_refused_push_are_failures(github: Host) -> None:
    assert run(github, "push_images.sh", "ghcr.io/o/n", "v1").returncode == 1
    github.deploy(str(github.function()))
    github.set("deployed", "cvat.finder:latest\n")
    github.set("push_fails", "denied\n")
    assert run(github, "push_images.sh", "ghcr.io/o/n", "v1").returncode != 0


def test_deleting_a_release_and_its_tag(github: Host) -> None:
    (github.world / "releases" / "v1").mkdir(parents=True)
    assert run(github, "delete_release.sh", "v1").returncode == 0
    assert github.calls()[-1] == "gh release delete v1 --yes --cleanup-tag"
    assert run(github, "delete_release.sh", "v1").returncode == 0
    assert github.calls()[-1] == "git push origin :refs/tags/v1"


def test_starting_nuclio(github: Host) -> None:
    (github.world / "networks" / "cvat_cvat").unlink()
    (github.world / "bin" / "nuctl").unlink()
    done = run(github, "start_nuclio.sh", "1.15.9")
    assert done.returncode == 0, done.stderr + done.stdout
    calls = github.calls()
    assert any("/releases/download/1.15.9/nuctl-1.15.9-linux-" in call for call in calls)
    assert any(call == "docker network create cvat_cvat" for call in calls)
    started = next(call for call in calls if call.startswith("docker run"))
    # Whoever reaches the dashboard is root on the machine: never on all addresses.
    assert "--publish 127.0.0.1:8070:8070" in started


def _repository(host: Host) -> Path:
    """A small repository with the scripts and one function."""
    root = host.home / "repository"
    shutil.copytree(REPOSITORY / "deploy", root / "deploy", ignore=shutil.ignore_patterns("samples"))
    directory = root / "serverless" / "onnx" / "finder"
    directory.mkdir(parents=True)
    annotations = f"\n    spec: '{LABEL}'"
    text = FUNCTION.format(name="finder", kind="detector", annotations=annotations, spec="", trigger="", base="b")
    (directory / "function.yaml").write_text(text)
    return root


def _release(host: Host, tag: str, asset: str, files: dict[str, bytes]) -> None:
    folder = host.home / tag
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    target = host.world / "releases" / tag
    target.mkdir(parents=True)
    with tarfile.open(target / f"{asset}.tar.gz", "w:gz") as archive:
        archive.add(folder, ".")
