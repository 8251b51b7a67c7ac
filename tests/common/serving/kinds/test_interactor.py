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
from tests.functions import INTERACTOR, write_function
from tests.image_files import encode, to_base64

PICTURE = np.zeros((40, 60, 3), np.uint8)
PICTURE[10:20, 15:45] = 255
IMAGE = to_base64(encode(PICTURE))


def interactor(directory: Path, handler: str | None = None, **options: Any) -> Kind:
    config = FunctionConfig.load(write_function(directory, "interactor", handler, **options))
    return kinds.make(config, load_handler_class(directory), {})


def answered(made: Kind, **fields: Any) -> Any:
    return json.loads(made.answer({"image": IMAGE, **fields}, Stages()))


def test_a_click_gives_mask_bounds_and_outline(tmp_path: Path) -> None:
    stages = Stages()
    reply = json.loads(
        interactor(tmp_path).answer({"image": IMAGE, "pos_points": [[20, 15]], "neg_points": []}, stages)
    )
    assert reply["mask"] == [[1] * 30] * 10
    assert reply["bounds"] == [15, 10, 44, 19]
    assert sorted(reply["points"]) == [[15, 10], [15, 20], [45, 10], [45, 20]]
    assert reply.keys() == {"mask", "bounds", "points"}
    assert set(stages.milliseconds) >= {"decode", "inference", "encode"}
    assert stages.facts["image"] == "60x40"
    assert stages.facts["pixels"] == 300


def test_points_and_box_reach_the_handler(tmp_path: Path) -> None:
    made = interactor(tmp_path)
    reply = answered(made, pos_points=[[20, 15]], neg_points=[[5, 10], [5, 19]], obj_bbox=[[18, 0], [30, 40]])
    assert reply["bounds"] == [18, 11, 29, 18]
    assert answered(made, obj_bbox=[[30, 40], [18, 0]])["bounds"] == [18, 10, 29, 19]


def test_nothing_found_is_an_answer(tmp_path: Path) -> None:
    reply = answered(interactor(tmp_path), pos_points=[[1, 1]], obj_bbox=[[0, 0], [5, 5]])
    assert reply == {"mask": [[0]], "bounds": [0, 0, 0, 0], "points": []}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, r"^pos_points: expected at least one positive point or a box"),
        ({"pos_points": [[60.5, 5]]}, r"^pos_points\[0\]: expected a point inside the image of 60 x 40 pixels, got \[60\.5, 5\]$"),
        ({"pos_points": [[5, 5]], "neg_points": [[5, -1]]}, r"^neg_points\[0\]: expected a point inside"),
        ({"obj_bbox": [[0, 0], [61, 5]]}, r"^obj_bbox\[1\]: expected a point inside"),
    ],
)  # fmt: skip
def test_bad_prompts(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        answered(interactor(tmp_path), **fields)


def test_a_mask_of_another_size_is_the_model_s_fault(tmp_path: Path) -> None:
    made = interactor(tmp_path, INTERACTOR.replace("return mask", "return mask[1:]"))
    with pytest.raises(ModelError, match=r"^the mask is of \(60, 39\) pixels, the image of 60 x 40$"):
        answered(made, pos_points=[[5, 5]])


def test_a_mask_of_numbers_is_as_good_as_one_of_bool(tmp_path: Path) -> None:
    made = interactor(tmp_path, INTERACTOR.replace("return mask", "return mask.astype(np.float32) * 255"))
    assert answered(made, pos_points=[[5, 15]])["mask"] == [[1] * 30] * 10


@pytest.mark.parametrize("tolerance", ["-1", "nan", "wide"])
def test_wrong_tolerance_is_refused_at_start(tmp_path: Path, tolerance: str) -> None:
    with pytest.raises(StartupError, match=r"^POLYGON_TOLERANCE: expected a number"):
        interactor(tmp_path, env={"POLYGON_TOLERANCE": tolerance})


def test_the_name_of_cvat_s_sam_plugin_needs_its_model(tmp_path: Path) -> None:
    config = FunctionConfig.load(write_function(tmp_path, "interactor"))
    with pytest.raises(StartupError, match="deploy it under another name"):
        kinds.make(config, load_handler_class(tmp_path), {"NUCLIO_FUNCTION_NAME": "pth-facebookresearch-sam-vit-h"})
