"""The trained RT-DETR on drawn pictures: made into a function by `make new`, asked through its main.py, and measured against
what was drawn, decoded from the JSON that CVAT would get."""

from __future__ import annotations

import numpy as np
import pytest

from tests.serverless.test_yolo_drawn import body_of, found_in
from tools.collection import ROOT
from tools.new.__main__ import make
from tools.wrapper import LoadedFunction
from training.shapes.draw import SHAPES
from training.shapes.measure import Tally, fresh_scenes

MODEL = ROOT / "tests/models/rtdetr"
PICTURES = 100
THRESHOLD = 0.5


@pytest.fixture(scope="module")
def function(tmp_path_factory: pytest.TempPathFactory) -> LoadedFunction:
    target = tmp_path_factory.mktemp("rtdetr") / "shapes-detr"
    made = make({"WEIGHTS": str(MODEL), "NAME": "shapes-detr", "OUT": str(target)})
    assert made.plan.facts is not None and made.plan.facts.like == "onnx/detr/detect"
    return LoadedFunction(made.directory, unique=True)


def test_unseen_drawings(function: LoadedFunction) -> None:
    numbers = Tally()
    for scene in fresh_scenes("detect", PICTURES):
        reply = function(body_of(scene) | {"threshold": THRESHOLD})
        assert reply.status == 200, reply.body[:300]
        numbers.add(scene.things, list(found_in(reply.json(), list(SHAPES), scene.image.shape[:2])))
    assert len(numbers.box_ious) / numbers.things >= 0.9
    assert np.mean(numbers.box_ious) > 0.8
    assert numbers.extra <= 0.3 * numbers.things
