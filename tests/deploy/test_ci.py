"""The workflows are valid, and the scripts that they call do what they say."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from deploy.ci import start_nuclio
from deploy.console import DeploymentError
from deploy.host import nuctl_program
from tests.deploy.host import FUNCTION, LABEL, REPOSITORY, STAND_INS, Host

WORKFLOWS = sorted((REPOSITORY / ".github/workflows").glob("*.yml"))


@pytest.fixture
def github(host: Host) -> Host:
    for tool in ("gh", "git"):
        (host.world / "bin" / tool).symlink_to(STAND_INS / tool)
    return host


def run(host: Host, step: str, *arguments: str, root: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-B", "-m", f"deploy.ci.{step}", *arguments],
        env=host._environment({}),
        cwd=root,
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


def test_everything_that_a_workflow_calls_is_here_and_can_be_run() -> None:
    lines = []
    for path in WORKFLOWS:
        for job in yaml.safe_load(path.read_text())["jobs"].values():
            lines += [step.get("run", "") for step in job["steps"]]
    text = "\n".join(lines)
    scripts = set(re.findall(r"(?:^|[\s|])(?:bash )?(\./\S+\.sh|\S*/\S+\.sh|\.ci/run)", text))
    assert scripts == {"./deploy_cpu.sh", ".ci/run"}
    for name in scripts:
        assert os.access(REPOSITORY / name, os.X_OK) or name == ".ci/run", f"{name} is not executable"
    modules = set(re.findall(r"python3 -m ([\w.]+)", text))
    assert modules == {
        f"deploy.ci.{path.stem}" for path in (REPOSITORY / "deploy/ci").glob("[a-z]*.py") if path.stem != "program"
    }


@pytest.mark.parametrize("step", ["delete_release", "download_weights", "push_images"])
def test_a_step_without_its_arguments_says_what_it_takes(host: Host, step: str) -> None:
    done = run(host, step)
    assert done.returncode == 2
    assert re.search(rf"^{step}: expected (REGISTRY )?TAG\n  python3 -m deploy.ci.{step} ", done.stderr)
    assert run(host, step, "a", "b", "c").returncode == 2


def test_a_release_that_fails_at_any_step_is_deleted() -> None:
    steps = yaml.safe_load((REPOSITORY / ".github/workflows/release.yml").read_text())["jobs"]["release"]["steps"]
    last = steps[-1]
    assert "deploy.ci.delete_release" in last["run"]
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
    done = run(github, "download_weights", "v1", root=root)
    assert done.returncode == 0, done.stderr
    assert (root / "serverless/onnx/finder/weights/small/model.onnx").read_bytes() == b"weights"


def test_weights_for_no_function_and_damaged_weights_are_refused(github: Host) -> None:
    root = _repository(github)
    _release(github, "v1", "weights-nobody", {"a": b""})
    done = run(github, "download_weights", "v1", root=root)
    assert done.returncode == 1
    assert "there is no function nobody" in done.stderr
    digest = hashlib.sha256(b"other").hexdigest()
    _release(github, "v2", "weights-finder", {"small/m": b"weights", "small/weights.sha256": f"{digest}  m\n".encode()})
    done = run(github, "download_weights", "v2", root=root)
    assert done.returncode == 1
    assert "small/m is damaged: its SHA-256 is not the one in weights.sha256" in done.stderr


def test_a_release_without_weights(github: Host) -> None:
    (github.world / "releases" / "v1").mkdir(parents=True)
    done = run(github, "download_weights", "v1", root=_repository(github))
    assert done.returncode == 0
    assert "no weights are attached" in done.stdout


def test_pushing_what_is_deployed(github: Host) -> None:
    github.deploy(str(github.function()))
    github.forget()
    done = run(github, "push_images", "ghcr.io/Owner/Name", "v1.2")
    assert done.returncode == 0, done.stderr
    assert [call for call in github.calls() if call.startswith("docker push")] == [
        "docker push --quiet ghcr.io/owner/name/cvat.finder:v1.2",
        "docker push --quiet ghcr.io/owner/name/cvat.finder:latest",
    ]


def test_nothing_to_push_and_a_refused_push_are_failures(github: Host) -> None:
    done = run(github, "push_images", "ghcr.io/o/n", "v1")
    assert (done.returncode, done.stderr) == (1, "push_images: no function is deployed: nothing to push\n")
    github.deploy(str(github.function()))
    github.set("push_fails", "denied\n")
    done = run(github, "push_images", "ghcr.io/o/n", "v1")
    assert (done.returncode, done.stderr) == (1, "push_images: docker push --quiet has failed: denied\n")


def test_deleting_a_release_and_its_tag(github: Host) -> None:
    (github.world / "releases" / "v1").mkdir(parents=True)
    assert run(github, "delete_release", "v1").returncode == 0
    assert github.calls()[-1] == "gh release delete v1 --yes --cleanup-tag"
    assert run(github, "delete_release", "v1").returncode == 0
    assert github.calls()[-1] == "git push origin :refs/tags/v1"


def test_starting_nuclio(github: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (github.world / "networks" / "cvat_cvat").unlink()
    monkeypatch.setenv("PATH", f"{github.world / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("STAND_INS", str(github.world))
    monkeypatch.setenv("NUCTL_DIR", str(tmp_path / "programs"))
    monkeypatch.setenv("GITHUB_PATH", str(tmp_path / "path"))
    with _internet() as (address, asked):
        monkeypatch.setattr(nuctl_program, "_RELEASES", address)
        github.facts.add_image(f"quay.io/nuclio/dashboard:1.14.1-{nuctl_program.architecture()}")
        start_nuclio.start(["1.14.1"], port=int(address.rpartition(":")[2]))
    nuctl = tmp_path / "programs" / "nuctl"
    assert (nuctl.read_text(), os.access(nuctl, os.X_OK)) == ("a program", True)
    assert (tmp_path / "path").read_text() == f"{nuctl.parent}\n"
    assert re.fullmatch(r"/1\.14\.1/nuctl-1\.14\.1-linux-(amd64|arm64)", asked[0])
    assert asked[-1] == "/api/versions"
    calls = github.calls()
    assert "docker network create cvat_cvat" in calls
    started = next(call for call in calls if call.startswith("docker run"))
    # Whoever reaches the dashboard is root on the machine: never on all addresses.
    assert re.search(r"--publish 127\.0\.0\.1:\d+:8070 ", started)
    assert re.search(r" quay\.io/nuclio/dashboard:1\.14\.1-(amd64|arm64)$", started)


def test_a_nuctl_that_cannot_be_downloaded(github: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NUCTL_DIR", str(tmp_path / "programs"))
    monkeypatch.setattr(start_nuclio.time, "sleep", lambda seconds: None)
    with _internet() as (address, asked):
        monkeypatch.setattr(nuctl_program, "_RELEASES", f"{address}/nothing")
        with pytest.raises(DeploymentError, match=r"/nothing/1\.0/nuctl-1\.0-.* can't be downloaded: .*404"):
            start_nuclio.start(["1.0"])
    assert len(asked) == 3
    assert not github.calls()


@contextlib.contextmanager
def _internet() -> Iterator[tuple[str, list[str]]]:
    """The releases of Nuclio, and a dashboard that answers: the address, and the paths that were asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(404 if self.path.startswith("/nothing") else 200)
            self.end_headers()
            self.wfile.write(b"a program")

        def log_message(self, format: str, *args: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


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
