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
from tests.functions import write_function
from tests.image_files import encode, to_base64

PICTURE = np.zeros((40, 60, 3), np.uint8)
PICTURE[10:20, 15:45] = 255
IMAGE = to_base64(encode(PICTURE))


def detector(
    directory: Path, handler: str | None = None, environment: dict[str, str] | None = None, **options: Any
) -> Kind:
    config = FunctionConfig.load(write_function(directory, "detector", handler, **options))
    return kinds.make(config, load_handler_class(directory), environment or {})


def test_finds_what_is_there(tmp_path: Path) -> None:
    stages = Stages()
    reply = detector(tmp_path).answer({"image": IMAGE}, stages)
    assert json.loads(reply) == [
        {
            "label": "bright",
            "type": "rectangle",
            "confidence": "0.8000",
            "points": [15, 10, 45, 20],
            "attributes": [{"name": "text", "value": "hell Ü"}],
        }
    ]
    assert list(stages.milliseconds) == ["decode", "inference", "encode"]
    assert stages.facts == {"image": "60x40", "shapes": 1}


def test_finds_nothing(tmp_path: Path) -> None:
    assert detector(tmp_path).answer({"image": to_base64(encode(PICTURE * 0))}, Stages()) == "[]"


@pytest.mark.parametrize(
    ("own", "asked", "found"),
    [
        (None, None, 1),
        (None, 0.9, 0),
        ("0.9", None, 0),
        ("0.9", 0.5, 1),
        ("0.9", 0, 1),
        ("0.9", 0.95, 0),
        ("0", None, 1),
    ],
)
def test_threshold_is_the_request_s_or_else_the_function_s(
    tmp_path: Path, own: str | None, asked: float | None, found: int
) -> None:
    env = {} if own is None else {"THRESHOLD": own}
    body = {"image": IMAGE} if asked is None else {"image": IMAGE, "threshold": asked}
    assert len(json.loads(detector(tmp_path, env=env).answer(body, Stages()))) == found


def test_a_shape_that_sticks_out_is_clipped(tmp_path: Path) -> None:
    (shape,) = json.loads(detector(tmp_path, env={"MARGIN": "30"}).answer({"image": IMAGE}, Stages()))
    assert shape["points"] == [0, 0, 60, 40]


def test_the_environment_goes_before_the_function_yaml(tmp_path: Path) -> None:
    made = detector(tmp_path, env={"MARGIN": "30"}, environment={"MARGIN": "1"})
    assert json.loads(made.answer({"image": IMAGE}, Stages()))[0]["points"] == [14, 9, 46, 21]


MASK = """
    import numpy as np
    from common.shapes import Mask

    class ModelHandler:
        def __init__(self, config):
            pass

        def infer(self, image, threshold):
            y, x = np.mgrid[: image.shape[0], : image.shape[1]]
            return [Mask.from_full((x - 30) ** 2 + (y - 20) ** 2 < 18**2, label="mask")]
"""


def test_polygon_tolerance(tmp_path: Path) -> None:
    def points(directory: str, tolerance: str) -> int:
        made = detector(tmp_path / directory, MASK, env={"POLYGON_TOLERANCE": tolerance})
        return len(json.loads(made.answer({"image": IMAGE}, Stages()))[0]["points"]) // 2

    assert points("a", "0") > points("b", "1") > points("c", "5") >= 3


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"THRESHOLD": "2"}, r"^THRESHOLD: expected a number from 0 to 1, got 2\.0$"),
        ({"THRESHOLD": "-0.1"}, r"^THRESHOLD: expected a number from 0 to 1"),
        ({"THRESHOLD": "nan"}, r"^THRESHOLD: expected a number"),
        ({"THRESHOLD": "high"}, r"^THRESHOLD: expected a number, got the text 'high'$"),
        ({"POLYGON_TOLERANCE": "-1"}, r"^POLYGON_TOLERANCE: expected a number of 0 or more, got -1\.0$"),
        ({"MARGIN": "1.5"}, r"^MARGIN: expected a whole number, got the text '1\.5'$"),
    ],
)
def test_wrong_options_are_refused_at_start(tmp_path: Path, env: dict[str, str], message: str) -> None:
    with pytest.raises(StartupError, match=message):
        detector(tmp_path, env=env)


def test_a_shape_that_cvat_would_drop_is_the_model_s_fault(tmp_path: Path) -> None:
    made = detector(tmp_path, labels=[{"name": "dark"}])
    with pytest.raises(ModelError, match=r"^shape 0: the label 'bright' is not in the function's spec: dark$"):
        made.answer({"image": IMAGE}, Stages())


def test_bad_requests_name_the_field(tmp_path: Path) -> None:
    made = detector(tmp_path)
    with pytest.raises(BadRequest, match=r"^threshold: "):
        made.answer({"image": IMAGE, "threshold": "x"}, Stages())
    with pytest.raises(BadRequest, match=r"^image: expected an image file \(JPEG"):
        made.answer({"image": to_base64(b"no image")}, Stages())
