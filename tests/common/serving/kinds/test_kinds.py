"""What `common.serving.kinds.make` does for all kinds."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.config import FunctionConfig
from common.errors import StartupError
from common.networks.loader import load_handler_class
from common.serving import kinds
from common.serving.kinds import Kind
from common.serving.stages import Stages
from tests.functions import write_function
from tests.image_files import encode, to_base64

IMAGE = to_base64(encode(np.full((20, 20, 3), 255, np.uint8)))


def made(
    directory: Path, kind: str, environment: dict[str, str], given: dict[str, Any] | None = None, **options: Any
) -> Kind:
    config = FunctionConfig.load(write_function(directory, kind, **options))
    return kinds.make(config, load_handler_class(directory), environment, given)


def found(function: Kind) -> int:
    return len(json.loads(function.answer({"image": IMAGE}, Stages())))


def test_options_given_go_before_the_environment_and_that_before_the_function_yaml(tmp_path: Path) -> None:
    env = {"THRESHOLD": "0.9"}
    assert found(made(tmp_path, "detector", {}, env=env)) == 0
    assert found(made(tmp_path, "detector", {"THRESHOLD": "0.1"}, env=env)) == 1
    assert found(made(tmp_path, "detector", {"THRESHOLD": "0.1"}, {"threshold": 0.9}, env=env)) == 0
    assert found(made(tmp_path, "detector", {"THRESHOLD": ""})) == 1


def test_an_option_that_neither_handler_nor_kind_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"^unknown option 'treshold'; known options: .*margin.*, threshold"):
        made(tmp_path, "detector", {}, {"treshold": 0.5})


def test_a_function_goes_by_the_name_under_which_it_was_deployed(tmp_path: Path) -> None:
    body = {"image": IMAGE, "shapes": [[1, 1, 9, 9]]}
    for environment, name in (({}, "test-tracker"), ({"NUCLIO_FUNCTION_NAME": "deployed"}, "deployed")):
        reply = json.loads(made(tmp_path, "tracker", environment).answer(body, Stages()))
        assert reply["states"][0].startswith(f"{name}.")


@pytest.mark.parametrize(
    ("kind", "option"),
    [
        ("detector", {"threshold": "7"}),
        ("detector", {"label_thresholds": "house=0.5"}),
        ("interactor", {"polygon_tolerance": -1}),
        ("interactor", {"embedding_cache_mb": -1}),
        ("tracker", {"lost": "never"}),
        ("reid", {"max_distance": -1}),
    ],
)
def test_an_option_out_of_range_is_refused_before_the_model_is_loaded(
    tmp_path: Path, kind: str, option: dict[str, Any]
) -> None:
    def load(*_: object) -> None:
        raise AssertionError("the model was loaded")

    config = FunctionConfig.load(write_function(tmp_path, kind))
    with pytest.raises(StartupError, match=next(iter(option)).upper()):
        kinds.make(config, load, {}, option)
