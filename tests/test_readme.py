"""The README says what there is: its table of functions, its targets and its files are those of the repository."""

from __future__ import annotations

import re

import pytest

from common.config import FunctionConfig
from tools.collection import COLLECTION, ROOT, function_directories, name_of
from tools.readme_table import table

README = (ROOT / "README.md").read_text()


def test_the_table_of_functions_is_complete() -> None:
    shown = README.split("<!-- functions -->")[1].split("<!-- /functions -->")[0].strip()
    assert shown == table().strip(), "run: python -m tools.readme_table"


@pytest.mark.parametrize("directory", function_directories(), ids=lambda d: str(d.relative_to(COLLECTION)))
def test_a_function_is_named_after_its_path(directory) -> None:
    config = FunctionConfig.load(directory)
    assert config.name == name_of(directory)
    for name in ("main.py", "model_handler.py", "README.md"):
        assert (directory / name).is_file(), f"{directory} has no {name}"
    assert (directory / "main.py").read_text() == (COLLECTION / "opencv/grabcut/main.py").read_text()


def test_targets_that_the_readme_names_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", README, re.M))
    assert named
    assert named <= targets


def test_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([^)]+)\)", README):
        if not link.startswith("http"):
            assert (ROOT / link).exists(), link
