"""deploy/start.sh finds a Python and runs the package beside it, from anywhere."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.host import REPOSITORY

MAIN = """import json, os, sys
print(json.dumps({"arguments": sys.argv[1:], "file": __file__, "cwd": os.getcwd(), "python": sys.executable,
    "customized": "CUSTOMIZED" in os.environ}))
"""
OLD = """#!/bin/sh
case $1 in -V) echo Python 3.8.20 ;; *) exit 1 ;; esac
"""
TOOLS = ("sh", "dirname", "readlink", "head", "cat")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with the repository's scripts around another package, and a path with the tools of any system but Python."""
    package = tmp_path / "my scripts" / "deploy"
    package.mkdir(parents=True)
    shutil.copy(REPOSITORY / "deploy/start.sh", package)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(MAIN)
    for device in ("cpu", "gpu"):
        shutil.copy(REPOSITORY / f"deploy_{device}.sh", package.parent)
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        (tmp_path / "bin" / tool).symlink_to(str(shutil.which(tool)))
    return tmp_path


def start(place: Path, *command: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env={"PATH": str(place / "bin"), "PYTHON": sys.executable, **environment},
        cwd=cwd or place,
        capture_output=True,
        text=True,
        timeout=60,
    )


def python(place: Path, name: str, text: str = "") -> Path:
    """A Python on the path: this one, or a made-up program."""
    path = place / "bin" / name
    if text:
        path.write_text(text)
        path.chmod(0o755)
    else:
        path.symlink_to(sys.executable)
    return path


def test_the_arguments_and_the_working_directory_are_kept(place: Path) -> None:
    done = start(place, "my scripts/deploy/start.sh", "cpu", "--env", "A=b  c'd", "*")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["arguments"] == ["cpu", "--env", "A=b  c'd", "*"]
    assert said["cwd"] == str(place)
    assert said["file"] == str(place / "my scripts/deploy/__main__.py")


@pytest.mark.parametrize("shell", [["sh"], ["bash"], []])
@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_the_scripts_work_through_links_and_from_anywhere(place: Path, device: str, shell: list[str]) -> None:
    (place / "bin/bash").symlink_to(str(shutil.which("bash")))
    (place / "elsewhere").mkdir()
    link = place / "elsewhere" / "deploy-functions"
    link.symlink_to(f"../my scripts/deploy_{device}.sh")
    for name in (str(link), "elsewhere/deploy-functions", str(place / f"my scripts/deploy_{device}.sh")):
        done = start(place, *shell, name, "--list")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["arguments"] == [device, "--list"]
        assert json.loads(done.stdout)["file"] == str(place / "my scripts/deploy/__main__.py")


def test_modules_of_the_user_are_not_taken_for_those_of_the_scripts(place: Path) -> None:
    for module in ("here/deploy", "here/runpy", "here/json", "path/deploy"):
        (place / module).mkdir(parents=True)
        for file in ("__init__.py", "__main__.py"):
            (place / module / file).write_text("raise SystemExit('the module of the user')")
    for pythonpath in ("", str(place / "path"), f"{place / 'path'}:", f":{place / 'path'}"):
        done = start(place, "../my scripts/deploy/start.sh", "cpu", cwd=place / "here", PYTHONPATH=pythonpath)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["file"] == str(place / "my scripts/deploy/__main__.py")


def test_what_pythonpath_adds_is_there(place: Path) -> None:
    (place / "path").mkdir()
    (place / "path/sitecustomize.py").write_text("import os; os.environ['CUSTOMIZED'] = '1'")
    done = start(place, "my scripts/deploy/start.sh", "cpu", PYTHONPATH=str(place / "path"))
    assert json.loads(done.stdout)["customized"], done.stderr


def test_nothing_is_written_beside_the_package(place: Path) -> None:
    (place / "my scripts/deploy/__main__.py").write_text("import deploy.other")
    (place / "my scripts/deploy/other.py").touch()
    done = start(place, "my scripts/deploy/start.sh", "cpu")
    assert done.returncode == 0, done.stderr
    assert not list((place / "my scripts").rglob("*.pyc"))


@pytest.mark.parametrize("name", ["python3", "python3.9", "python3.13"])
def test_a_python_of_the_path_is_found(place: Path, name: str) -> None:
    python(place, name)
    done = start(place, "my scripts/deploy/start.sh", "cpu", PYTHON="")
    assert done.returncode == 0, done.stderr
    assert os.path.basename(json.loads(done.stdout)["python"]).startswith("python")


def test_a_python_that_is_too_old_or_does_not_run_is_passed_over(place: Path) -> None:
    python(place, "python3", OLD)
    python(place, "python3.13", "#!/bin/sh\necho 'pyenv: python3.13: command not found' >&2; exit 127\n")
    done = start(place, "my scripts/deploy/start.sh", "cpu", PYTHON="")
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == (
        "Python 3.9 or newer is needed, but was not found on the path: sudo apt-get install python3"
    )
    python(place, "python3.11")
    assert start(place, "my scripts/deploy/start.sh", "cpu", PYTHON="").returncode == 0


def test_a_python_that_is_given_must_suit(place: Path) -> None:
    old = python(place, "old", OLD)
    python(place, "python3")
    done = start(place, "my scripts/deploy/start.sh", "cpu", PYTHON=str(old))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"PYTHON: expected Python 3.9 or newer, got {old} (Python 3.8.20)\n"
    assert start(place, "my scripts/deploy/start.sh", "cpu", PYTHON=str(place / "bin/python3")).returncode == 0
