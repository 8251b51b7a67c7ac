"""Requirement files: pinned, complete, of one mind, and without addresses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

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
    assert pins(path)
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
