"""Requirement files: pinned, without addresses, one version of each package; and the versions of Python that are supported."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from tools.collection import ROOT

FILES = sorted(p for p in ROOT.rglob("requirements*.txt") if ".venv" not in p.parts and "out" not in p.parts)
PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9.+!]+)(\s*;.*)?$")


def pins(path: Path) -> dict[str, str]:
    found = {}
    for line in path.read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            match = PIN.match(line.strip())
            assert match, f"{path}: not a pin: {line}"
            found[re.sub(r"[-_.]+", "-", match[1]).lower()] = match[2]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_line_is_a_pin_without_an_address(path: Path) -> None:
    pins(path)
    assert "://" not in path.read_text()


def test_one_version_of_each_package() -> None:
    versions: dict[str, dict[str, Path]] = {}
    for path in FILES:
        for name, version in pins(path).items():
            versions.setdefault(name, {}).setdefault(version, path)
    several = {name: found for name, found in versions.items() if len(found) > 1}
    assert not several


def test_opencv_is_the_headless_one() -> None:
    for path in FILES:
        assert not {"opencv-python", "opencv-contrib-python"} & pins(path).keys(), path


PYTHONS = ["3.11", "3.12", "3.13"]


def test_the_same_versions_of_python_are_named_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=3.11,<3.14"
    workflow = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text())
    assert workflow["jobs"]["tests"]["strategy"]["matrix"]["python"] == PYTHONS
    assert (
        re.findall(r"python(3\.\d+)", (ROOT / "Makefile").read_text().split("PYTHONS :=")[1].split("\n")[0]) == PYTHONS
    )
    assert "Python 3.11, 3.12 or 3.13" in (ROOT / "README.md").read_text()


def make_environment(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    python = folder / "environment/bin/python"
    settings = [f"{name}={value}" for name, value in variables.items()]
    command = ["make", f"VENV={folder / 'environment'}", *settings, str(python)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_make_takes_the_first_python_that_runs(tmp_path: Path) -> None:
    # The second one is there but refuses to run, as pyenv's shims do for a version that is not selected.
    done = make_environment(tmp_path, PYTHONS=f"no-such-python false {sys.executable}")
    assert done.returncode == 0, done.stderr
    made = subprocess.run([tmp_path / "environment/bin/python", "-V"], capture_output=True, text=True, check=True)
    assert made.stdout.strip() == "Python {}.{}.{}".format(*sys.version_info)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"PYTHONS": "no-such-python"}, "Python 3.11, 3.12 or 3.13 with the module venv is needed"),
        ({"PYTHON": "false"}, "expected Python 3.11, 3.12 or 3.13 with the module venv, got false"),
    ],
)
def test_make_says_which_python_it_needs(tmp_path: Path, variables: dict[str, str], message: str) -> None:
    done = make_environment(tmp_path, **variables)
    assert done.returncode != 0
    assert message in done.stdout
    assert not (tmp_path / "environment").exists()
