"""Modules by their old names, and the order of the rooms."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.moved import MOVED, new_name

COMMON = Path(__file__).parents[2] / "common"
ROOMS = ("vision", "cvat", "networks", "serving")  # lowest first


@pytest.mark.parametrize("name", sorted(MOVED))
def test_every_moved_module_has_its_new_home(name: str) -> None:
    path = COMMON.parent / Path(*MOVED[name].split("."))
    assert path.is_dir() or path.with_suffix(".py").is_file()


def test_an_old_name_gives_the_module_of_today_and_says_its_name() -> None:
    program = (
        "import warnings\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        "    from common import nuclio\n"
        "    import common.mask\n"
        "    from common.yolo.metadata import Metadata\n"
        "    from common.yolo.handler import YoloHandler\n"
        "import common.serving.nuclio, common.vision.mask, common.networks.formats.metadata as metadata\n"
        "import common.networks.exported.handler as handler\n"
        "assert nuclio is common.serving.nuclio and common.mask is common.vision.mask\n"
        "assert Metadata is metadata.Metadata and YoloHandler is handler.YoloHandler\n"
        "assert nuclio.__spec__.name == 'common.serving.nuclio', nuclio.__spec__\n"
        "print(*(w.message for w in caught), sep='\\n')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=COMMON.parent)
    assert done.returncode == 0, done.stderr
    assert "common.nuclio is now common.serving.nuclio" in done.stdout
    assert "common.mask is now common.vision.mask" in done.stdout


def test_an_old_name_runs_as_a_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "common.weights", "--help"], capture_output=True, text=True, cwd=COMMON.parent
    )
    assert done.returncode == 0 and "usage" in done.stdout, done.stderr


def test_a_module_that_never_was_is_not_found() -> None:
    assert new_name("common.shapes") is None
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("common.nothing")


def imports(folder: Path) -> Iterator[tuple[Path, str]]:
    """The full names of all that the modules below a folder import, each with its file."""
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                yield from ((path, f"{node.module}.{alias.name}") for alias in node.names)
            elif isinstance(node, ast.Import):
                yield from ((path, alias.name) for alias in node.names)


@pytest.mark.parametrize("room", ROOMS)
def test_no_room_imports_from_one_above_it(room: str) -> None:
    above = {f"common.{other}" for other in ROOMS[ROOMS.index(room) + 1 :]}
    found = list(imports(COMMON / room))
    assert found
    assert [entry for entry in found if ".".join(entry[1].split(".")[:2]) in above] == []


@pytest.mark.parametrize("folder", ["common", "serverless"])
def test_what_goes_into_images_imports_no_tool(folder: str) -> None:
    found = list(imports(COMMON.parent / folder))
    assert found
    assert [entry for entry in found if entry[1].split(".")[0] in ("tools", "training", "deploy", "tests")] == []
