import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.config import FunctionConfig
from common.errors import BadRequest, ModelError, StartupError
from common.networks.loader import load_handler_class
from common.serving import kinds
from common.serving.kinds import Kind
from common.serving.stages import Stages
from tests.functions import REID, write_function
from tests.image_files import encode, to_base64

COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]


def picture(order: list[int]) -> str:
    """Three squares beside each other in an order of colours."""
    pixels = np.zeros((20, 60, 3), np.uint8)
    for place, colour in enumerate(order):
        pixels[:, 20 * place : 20 * place + 20] = COLOURS[colour]
    return to_base64(encode(pixels))


BOXES = [{"points": [x, 0, x + 20, 20], "label_id": 1, "type": "rectangle"} for x in (0, 20, 40)]


def reid(directory: Path, handler: str | None = None, **options: Any) -> Kind:
    config = FunctionConfig.load(write_function(directory, "reid", handler, **options))
    return kinds.make(config, load_handler_class(directory), {})


def matched(made: Kind, stages: Stages | None = None, **fields: Any) -> list[int]:
    body = {"image0": picture([0, 1, 2]), "image1": picture([2, 0, 1]), "boxes0": BOXES, "boxes1": BOXES, **fields}
    return json.loads(made.answer(body, stages or Stages()))


def test_the_same_objects_are_found(tmp_path: Path) -> None:
    stages = Stages()
    assert matched(reid(tmp_path), stages) == [1, 2, 0]
    assert list(stages.milliseconds) == ["decode", "inference", "encode"]
    assert stages.facts == {"boxes0": 3, "boxes1": 3, "matched": 3}


def test_limits_of_the_request_go_before_the_function_s(tmp_path: Path) -> None:
    made = reid(tmp_path, env={"MAX_DISTANCE": "25", "THRESHOLD": "0.4"})
    assert matched(made) == [1, 2, -1]
    assert matched(made, max_distance=100) == [1, 2, 0]
    assert matched(made, max_distance=5) == [-1, -1, -1]
    assert matched(made, max_distance=5, threshold=1) == [0, 1, 2]


def test_other_labels_never_match(tmp_path: Path) -> None:
    boxes = [{**box, "label_id": i} for i, box in enumerate(BOXES)]
    assert matched(reid(tmp_path), boxes1=boxes) == [1, -1, -1]


@pytest.mark.parametrize(("boxes0", "boxes1", "reply"), [([], BOXES, []), (BOXES, [], [-1, -1, -1]), ([], [], [])])
def test_no_boxes(tmp_path: Path, boxes0: Any, boxes1: Any, reply: list[int]) -> None:
    assert matched(reid(tmp_path), boxes0=boxes0, boxes1=boxes1) == reply


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "return np.array(colours, np.float32)[1:]",
            r"^expected 3 finite descriptors, got an array of shape \(2, 3\)$",
        ),
        (
            "return np.array(colours, np.float32) * np.nan",
            r"^expected 3 finite descriptors, got an array of shape \(3, 3\)$",
        ),
        (
            "return np.array(colours, np.float32).ravel()",
            r"^expected 3 finite descriptors, got an array of shape \(9,\)$",
        ),
    ],
)
def test_descriptors_that_are_none_are_the_model_s_fault(tmp_path: Path, change: str, message: str) -> None:
    made = reid(tmp_path, REID.replace("return np.array(colours, np.float32)", change))
    with pytest.raises(ModelError, match=message):
        matched(made)


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"THRESHOLD": "1.5"}, r"^THRESHOLD: expected a number from 0 to 1, got 1\.5$"),
        ({"MAX_DISTANCE": "-5"}, r"^MAX_DISTANCE: expected a number of 0 or more, got -5\.0$"),
        ({"MAX_DISTANCE": "nan"}, r"^MAX_DISTANCE: expected a number"),
    ],
)
def test_wrong_options_are_refused_at_start(tmp_path: Path, env: dict[str, str], message: str) -> None:
    with pytest.raises(StartupError, match=message):
        reid(tmp_path, env=env)


def test_errors_name_the_image(tmp_path: Path) -> None:
    made = reid(tmp_path)
    for field in ("image0", "image1"):
        with pytest.raises(BadRequest, match=rf"^{field}: expected an image file"):
            matched(made, **{field: to_base64(b"no image")})
