"""What the tracker makes of a network's maps, its states, and the files and states that are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from common.config import FunctionConfig
from common.errors import BadState, StartupError
from common.networks.vittrack import Maps, VitTrack, VitTrackNetwork, region_around, strongest
from common.shapes import Rectangle
from common.vision.search_region import SearchRegion
from tests.common.networks.vittrack_files import INPUTS, OUTPUTS, constant_tracker
from tools.collection import COLLECTION

FRAME = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
CONFIG = FunctionConfig.load(COLLECTION / "onnx/opencv/vittrack")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return constant_tracker(tmp_path_factory.mktemp("vittrack") / "constant.onnx")


@pytest.fixture(scope="module")
def tracker(model: Path) -> VitTrack:
    return VitTrack(CONFIG, model_path=str(model), engine="onnxruntime")


def test_a_template_is_kept_without_loss(tracker: VitTrack) -> None:
    box = (30.0, 40.5, 90.0, 80.25)
    state = tracker.start(FRAME, Rectangle(box_xyxy=box))
    kept = cv2.imdecode(np.frombuffer(state["template"], np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(kept, region_around(box, 2).crop(FRAME, 128))


def test_the_upright_box_around_a_rotated_one_is_followed(tracker: VitTrack) -> None:
    state = tracker.start(FRAME, Rectangle(box_xyxy=(100, 100, 140, 120), rotation=90))
    np.testing.assert_allclose(state["box"], [110, 90, 130, 130])


def test_a_lost_object_keeps_its_state(model: Path) -> None:
    strict = VitTrack(CONFIG, model_path=str(model), engine="onnxruntime", threshold=0.6)
    state = strict.start(FRAME, Rectangle(box_xyxy=(100, 100, 140, 120)))
    assert strict.track(FRAME, state) == (None, state)


def test_an_object_that_has_left_the_frame_is_lost(tracker: VitTrack) -> None:
    state = tracker.start(FRAME, Rectangle(box_xyxy=(100, 100, 140, 120)))
    shape, _ = tracker.track(FRAME, state)
    assert shape is not None and shape.score == pytest.approx(0.5 * np.hanning(18)[8] ** 2)
    assert tracker.track(FRAME, {**state, "box": [600.0, 100.0, 640.0, 120.0]})[0] is None


def test_the_best_cell_is_read_by_hand() -> None:
    scores, sizes, offsets = np.zeros((16, 16)), np.zeros((2, 16, 16)), np.zeros((2, 16, 16))
    scores[4, 9], scores[0, 0] = 0.8, 0.9  # the second one is far from the middle
    sizes[:, 4, 9], offsets[:, 4, 9] = (0.25, 0.5), (0.5, 0.25)
    found = strongest(Maps(scores, sizes, offsets), SearchRegion(100, 200, 160))
    x, y = 100 + 160 * 9.5 / 16, 200 + 160 * 4.25 / 16
    np.testing.assert_allclose(found.box_xyxy, (x - 20, y - 40, x + 20, y + 40))
    weight = np.sin(np.pi * 5 / 17) ** 2 * np.sin(np.pi * 10 / 17) ** 2
    assert found.score == pytest.approx(0.8 * weight)


@pytest.mark.parametrize(
    "state",
    [
        None,
        {},
        {"box": [1, 2, 3, 4]},
        {"template": b"", "box": [1, 2, 3, 4]},
        {"template": b"no picture", "box": [1, 2, 3, 4]},
        {"template": "text", "box": [1, 2, 3, 4]},
        {"template": cv2.imencode(".png", np.zeros((64, 64, 3), np.uint8))[1].tobytes(), "box": [1, 2, 3, 4]},
        {"template": cv2.imencode(".png", np.zeros((128, 128, 3), np.uint8))[1].tobytes(), "box": [1, 2, 3]},
        {"template": cv2.imencode(".png", np.zeros((128, 128, 3), np.uint8))[1].tobytes(), "box": [1, 2, 1, 4]},
        {"template": cv2.imencode(".png", np.zeros((128, 128, 3), np.uint8))[1].tobytes(), "box": [1, 2, float("nan"), 4]},
        {"template": cv2.imencode(".png", np.zeros((128, 128, 3), np.uint8))[1].tobytes(), "box": [1, 2, 1e30, 4]},
        {"template": cv2.imencode(".png", np.zeros((128, 128, 3), np.uint8))[1].tobytes(), "box": [1, 2, 10**400, 4]},
    ],
)  # fmt: skip
def test_states_of_others_are_refused(tracker: VitTrack, state: Any) -> None:
    with pytest.raises(BadState, match="state that this tracker made"):
        tracker.track(np.zeros((50, 60, 3), np.uint8), state)


def test_inputs_are_found_by_their_names(tmp_path: Path) -> None:
    reversed_inputs = dict(reversed(INPUTS.items()))
    opened = VitTrackNetwork(constant_tracker(tmp_path / "a.onnx", reversed_inputs, OUTPUTS), engine="onnxruntime")
    assert (opened.template_side, opened.search_side) == (128, 256)


@pytest.mark.parametrize(
    ("inputs", "outputs", "value"),
    [
        pytest.param({"images": [1, 3, 640, 640]}, {"output0": [1, 84, 8400]}, 0.5, id="a detector"),
        pytest.param({"x": [1, 3, 128, 128], "z": [1, 3, 256, 256]}, OUTPUTS, 0.5, id="other names"),
        pytest.param(INPUTS, {"a": [1, 1, 16, 16], "b": [1, 2, 16, 16], "c": [1, 2, 16, 16]}, 0.5, id="other outputs"),
        pytest.param(INPUTS, OUTPUTS | {"output1": [1, 2, 16, 16]}, 0.5, id="two maps of scores"),
        pytest.param(INPUTS, OUTPUTS | {"output2": [1, 2, 8, 8]}, 0.5, id="maps of several sizes"),
        pytest.param(INPUTS | {"template": [1, 1, 128, 128]}, OUTPUTS, 0.5, id="grey"),
        pytest.param(INPUTS | {"search": [1, 3, 256, 128]}, OUTPUTS, 0.5, id="not square"),
        pytest.param(INPUTS | {"search": [1, 3, "h", "w"]}, OUTPUTS, 0.5, id="free size"),
        pytest.param(INPUTS, OUTPUTS, 4.5, id="logits"),
        pytest.param(INPUTS, OUTPUTS, float("nan"), id="not a number"),
    ],
)
def test_other_networks_are_refused(
    tmp_path: Path, inputs: dict[str, list[int | str]], outputs: dict[str, list[int]], value: float
) -> None:
    path = constant_tracker(tmp_path / "other.onnx", inputs, outputs, value)
    with pytest.raises(StartupError, match=r"expected a network like OpenCV's VitTrack.*(Seen: inputs|for noise)"):
        VitTrackNetwork(path, engine="onnxruntime")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 1.5}, "THRESHOLD"),
        ({"color": "grey"}, "COLOR: expected bgr or rgb"),
        ({"model_path": "nowhere.onnx"}, "MODEL_PATH"),
    ],
)
def test_wrong_options_stop_the_function(model: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(StartupError, match=message):
        VitTrack(CONFIG, **{"model_path": str(model), **options})
