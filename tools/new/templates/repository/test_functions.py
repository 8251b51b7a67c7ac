"""Every function keeps the rules of CVAT and Nuclio; its replies are tested beside it."""

from pathlib import Path

import pytest

from tools.check import check_function
from tools.collection import function_directories


@pytest.mark.parametrize("directory", function_directories(), ids=lambda d: d.name)
def test_the_check_finds_nothing(directory: Path) -> None:
    """`make check FUNCTION=...` prints the findings with their remedies."""
    assert check_function(directory) == []
