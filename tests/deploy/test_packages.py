"""PyYAML comes by itself to a Python that lacks it: from a folder of wheels here, without a network."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from tests.deploy.host import REPOSITORY

SCRIPT = """import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from deploy.definition import function_file
from deploy.host import packages
from deploy.console import DeploymentError
path = Path(sys.argv[1]) / "function.yaml"
try:
    print(function_file.read(path)["metadata"]["name"], packages.yaml_module().__file__)
except DeploymentError as error:
    print(error.cause, error.remedy, sep="\\n")
"""
# What `docker run ... IMAGE sh -c SCRIPT` does, with a Python that has pip.
DOCKER = """#!/bin/sh
printf '%s\\n' "$*" >>"$CALLS"
while [ "$1" != sh ]; do shift; done
export PATH="$PYTHON_FOLDER:$PATH" PYTHONPATH="$PIP_FOLDER"
sh -c "$(printf '%s' "$3" | sed "s#/tmp/wheels#$WHEELS_OUT#g")"
"""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a wheel of PyYAML, made of the package that is installed here."""
    folder = tmp_path_factory.mktemp("wheels")
    source = Path(str(yaml.__file__)).parent
    info = f"PyYAML-{yaml.__version__}.dist-info"
    with zipfile.ZipFile(folder / f"PyYAML-{yaml.__version__}-py3-none-any.whl", "w") as wheel:
        for path in source.glob("*.py"):
            wheel.write(path, f"yaml/{path.name}")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: PyYAML\nVersion: {yaml.__version__}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return folder


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with neither PyYAML nor pip, as Debian's python3."""
    folder = tmp_path_factory.mktemp("python")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def pip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH with nothing but pip."""
    specification = importlib.util.find_spec("pip")
    if specification is None or specification.origin is None:
        pytest.skip("this environment has no pip")
    folder = tmp_path_factory.mktemp("pip")
    (folder / "pip").symlink_to(Path(specification.origin).parent)
    return folder


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    shutil.copytree(REPOSITORY / "deploy", root / "deploy", ignore=shutil.ignore_patterns("__pycache__", "samples"))
    pinned = f"PyYAML=={yaml.__version__}\n"
    assert (root / "deploy/requirements.txt").read_text() == pinned, "not the version that is installed here"
    (root / "function.yaml").write_text("metadata:\n  name: finder\n")
    return root


def run(python: Path, repository: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(python), "-B", "-c", SCRIPT, str(repository)],
        env={"PATH": "/usr/bin:/bin", "HOME": str(repository), "PIP_NO_INDEX": "1", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def fetched(repository: Path) -> Path:
    return repository / "out/deploy/packages"


def test_by_pip_once(repository: Path, wheels: Path, bare_python: Path, pip: Path) -> None:
    done = run(bare_python, repository, PIP_FIND_LINKS=str(wheels), PYTHONPATH=str(pip))
    assert done.stdout == f"finder {fetched(repository)}/yaml/__init__.py\n", done.stderr
    assert "fetching it into out/deploy/packages" in done.stderr
    assert not list(fetched(repository).rglob("*.pyc"))
    again = run(bare_python, repository)
    assert (again.stdout, again.stderr) == (done.stdout, "")


def test_by_a_container_where_there_is_no_pip(
    repository: Path, wheels: Path, bare_python: Path, pip: Path, tmp_path: Path
) -> None:
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text(DOCKER)
    docker.chmod(0o755)
    done = run(
        bare_python,
        repository,
        PATH=f"{docker.parent}:/usr/bin:/bin",
        CALLS=str(tmp_path / "calls"),
        PYTHON_FOLDER=str(bare_python.parent),
        PIP_FOLDER=str(pip),
        WHEELS_OUT=str(tmp_path / "downloaded"),
        PIP_FIND_LINKS=str(wheels),
        PIP_INDEX_URL="https://mirror.example/simple",
        PYTHON_IMAGE="company/python:3.11",
    )
    assert done.stdout == f"finder {fetched(repository)}/yaml/__init__.py\n", done.stderr
    call = (tmp_path / "calls").read_text()
    assert "--env PIP_INDEX_URL company/python:3.11 sh -c python -m pip download" in call
    assert "--mount" not in call, "Docker's host may see none of the folders here"


def test_neither_way(repository: Path, bare_python: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = run(bare_python, repository, PATH=str(tmp_path / "empty"))
    cause, remedy = done.stdout.splitlines()
    assert cause.startswith("Python's package yaml is missing here and can't be fetched: ")
    assert "No module named pip; docker is not installed" in cause
    assert "sudo apt-get install python3-yaml" in remedy
    assert not fetched(repository).exists()


def test_a_folder_that_cannot_be_written(repository: Path, bare_python: Path) -> None:
    (repository / "out").write_text("a file")
    done = run(bare_python, repository)
    assert "can't be fetched: " in done.stdout, done.stderr


def test_json_needs_no_package(repository: Path, bare_python: Path) -> None:
    (repository / "function.yaml").write_text('{"metadata": {"name": "finder"}}')
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from deploy.definition import function_file\n"
        "path = Path(sys.argv[1]) / 'function.yaml'\n"
        "function_file.write(path, {'read': function_file.read(path)})\n"
        "print(function_file.read(path)['read']['metadata']['name'], 'yaml' in sys.modules)\n"
    )
    done = subprocess.run(
        [str(bare_python), "-B", "-c", script, str(repository)],
        env={"PATH": os.defpath},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "finder False\n", done.stderr
    assert not (repository / "out").exists()
