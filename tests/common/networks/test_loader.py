import sys
from pathlib import Path

import pytest

from common.errors import StartupError
from common.networks.loader import load_handler_class


def handler_file(directory: Path, text: str) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "model_handler.py").write_text(text)
    return directory


def test_several_functions_fit_in_one_process(tmp_path: Path) -> None:
    one = load_handler_class(handler_file(tmp_path / "one", "class ModelHandler:\n    number = 1"))
    two = load_handler_class(handler_file(tmp_path / "two", "class ModelHandler:\n    number = 2"))
    assert (one.number, two.number) == (1, 2)
    assert load_handler_class(tmp_path / "one") is one
    assert "model_handler" not in sys.modules


def test_an_imported_class_counts(tmp_path: Path) -> None:
    directory = handler_file(tmp_path / "a", "from pathlib import Path as ModelHandler")
    assert load_handler_class(directory) is Path


def test_dataclasses_in_it_find_their_module(tmp_path: Path) -> None:
    text = "from __future__ import annotations\nfrom dataclasses import dataclass\n\n@dataclass\nclass ModelHandler:\n    a: int = 5\n"
    assert load_handler_class(handler_file(tmp_path / "a", text))().a == 5


@pytest.mark.parametrize("text", ["", "ModelHandler = 5", "def ModelHandler(config): ..."])
def test_without_the_class(tmp_path: Path, text: str) -> None:
    with pytest.raises(StartupError, match=r"model_handler\.py: expected a class named ModelHandler$"):
        load_handler_class(handler_file(tmp_path / "a", text))


def test_without_the_file(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"model_handler\.py: no such file$"):
        load_handler_class(tmp_path)


def test_a_file_that_fails_fails_again(tmp_path: Path) -> None:
    directory = handler_file(tmp_path / "a", "import a_module_that_nobody_has")
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="a_module_that_nobody_has"):
            load_handler_class(directory)
    handler_file(directory, "class ModelHandler: ...")
    assert load_handler_class(directory).__name__ == "ModelHandler"
