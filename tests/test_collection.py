"""Every function of the collection against every rule, as far as its weights are here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from common.config import FunctionConfig
from common.networks.loader import load_handler_class
from common.serving.kinds import option_names
from common.serving.native import interaction_spec
from tools.check import inspect_function
from tools.collection import COLLECTION, function_directories, lacks, requirement_files, resolve

DIRECTORIES = function_directories()
NAMES = [str(directory.relative_to(COLLECTION)) for directory in DIRECTORIES]
# What a bare clone serves; their tests, and the demo, would show nothing if they were left out here.
COMPLETE = {"onnx/rapidocr/text", "onnx/yolo/shapes", "opencv/appearance", "opencv/grabcut", "opencv/opticalflow"}


@pytest.mark.parametrize("directory", DIRECTORIES, ids=NAMES)
def test_a_function_passes_the_check(directory: Path) -> None:
    lacking = lacks(directory, FunctionConfig.load(directory).environment)
    report = inspect_function(directory, run=not lacking)
    assert not report.findings, "\n".join(map(str, report.findings))
    if not lacking:
        assert report.trial is not None
        assert report.trial.finished
        assert report.trial.requests > 10


def test_a_bare_clone_serves_one_of_each_kind() -> None:
    complete = {
        name
        for name, directory in zip(NAMES, DIRECTORIES, strict=True)
        if not lacks(directory, FunctionConfig.load(directory).environment)
    }
    assert complete >= COMPLETE
    kinds = {FunctionConfig.load(COLLECTION / name).kind for name in COMPLETE}
    assert kinds == {"detector", "interactor", "tracker", "reid"}


def test_what_starts_from_a_box_waits_for_no_click() -> None:
    """CVAT's canvas sends no request, a box notwithstanding, before `min_pos_points` clicks."""
    interactors = [config for config in map(FunctionConfig.load, DIRECTORIES) if config.kind == "interactor"]
    boxes = [c for c in interactors if {"startswith_box", "startswith_box_optional"} & c.annotations.keys()]
    assert len(boxes) >= 5
    assert {c.name: c.annotations.get("min_pos_points") for c in boxes} == {c.name: "0" for c in boxes}
    for config in boxes:
        spec = interaction_spec(config)
        assert (spec.min_pos_points, spec.min_bounding_boxes) == (0, 0)


@pytest.mark.parametrize("name", ["opencv/grabcut", "serverless/opencv/grabcut", "opencv-grabcut"])
def test_a_function_is_found_by_path_and_by_name(name: str) -> None:
    assert resolve(name) == COLLECTION / "opencv/grabcut"


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="there is no such function: expected a directory"):
        resolve("nothing/like/it")
    with pytest.raises(ValueError, match=r"there is no such function; did you mean opencv/grabcut\?"):
        resolve("opencv/grabcat")
    with pytest.raises(ValueError, match=r"there is no such function; did you mean opencv-grabcut\?"):
        resolve("opencv-grabcat")


def test_the_packages_of_a_function_are_those_of_its_base_image(tmp_path: Path) -> None:
    """Not of the folder that it is in: OpenVINO's functions run in the image of ONNX Runtime, and your own lie anywhere."""
    base = COLLECTION / "onnx/base/requirements.txt"
    (tmp_path / "function.yaml").write_text("spec: {build: {baseImage: cvat.onnx.base}}")
    assert requirement_files(tmp_path) == [base]
    (tmp_path / "requirements.txt").touch()
    assert requirement_files(tmp_path) == [base, tmp_path / "requirements.txt"]
    for other in ("spec: {build: {baseImage: 'python:3.11'}}", "spec: {build: {baseImage: cvat.none.base}}", "[", ""):
        (tmp_path / "function.yaml").write_text(other)
        assert requirement_files(tmp_path) == [tmp_path / "requirements.txt"]
    (tmp_path / "function.yaml").unlink()
    assert requirement_files(tmp_path) == [tmp_path / "requirements.txt"]


OF_EVERY_PROCESS = {"THREADS"}  # read before a handler is made

_OPTION = re.compile(r"`([A-Z][A-Z0-9_]+)(?:=[^`]*)?`")


def options_of(directory: Path) -> set[str]:
    known = option_names(FunctionConfig.load(directory), load_handler_class(directory))
    return OF_EVERY_PROCESS | {name.upper() for name in known}


@pytest.mark.parametrize("directory", DIRECTORIES, ids=NAMES)
def test_what_a_function_sets_are_options_of_it(directory: Path) -> None:
    assert not FunctionConfig.load(directory).environment.keys() - options_of(directory)


@pytest.mark.parametrize(
    "readme", sorted(COLLECTION.rglob("README.md")), ids=lambda path: str(path.parent.relative_to(COLLECTION))
)
def test_the_options_that_a_readme_lists_exist(readme: Path) -> None:
    """In its own tables: a family's README lists those of its functions."""
    users = [d for d in DIRECTORIES if readme.parent in (d, *d.parents)]
    known = set().union(*map(options_of, users))
    first_cells = [line.split("|")[1] for line in readme.read_text().splitlines() if line.startswith("| `")]
    assert {name for cell in first_cells for name in _OPTION.findall(cell)} <= known
