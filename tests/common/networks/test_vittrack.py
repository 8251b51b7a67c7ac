"""The tracker against OpenCV's own TrackerVit with the same file, and the files and states that are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from common.config import FunctionConfig
from common.errors import BadState, StartupError
from common.networks.vittrack import Found, Maps, VitTrack, VitTrackNetwork, region_around, strongest
from common.shapes import Rectangle
from common.vision.search_region import SearchRegion
from tools.collection import COLLECTION, ROOT
from training.clicks.drawings import TRIAL_SEEDS, clip
from training.tracker.train import visible_box

MODEL = ROOT / "tests/models/vittrack.onnx"
Image = NDArray[np.uint8]
Box = tuple[float, float, float, float]


def handler(**options: Any) -> VitTrack:
    return VitTrack(FunctionConfig.load(COLLECTION / "onnx/opencv/vittrack"), **{"model_path": str(MODEL), **options})


@pytest.fixture(scope="module", params=["onnxruntime", "openvino"])
def tracker(request: pytest.FixtureRequest) -> VitTrack:
    return handler(engine=request.param)


class Reference:
    """cv2.TrackerVit, whose boxes are whole pixels, rounded down.

    It takes the last row and column of a frame for padding, so it gets one more of each, black as its padding. And it divides
    1 by the deviations as OpenCV divides by a Scalar, a quaternion: this test gives it what becomes ImageNet's that way.
    """

    def __init__(self, frame: Image, box_xywh: tuple[int, int, int, int]):
        params = cv2.TrackerVit_Params()
        params.net, params.tracking_score_threshold = str(MODEL), 0.0
        params.stdvalue = inverse_quaternion((1 / 0.229, 1 / 0.224, 1 / 0.225))
        self._tracker = cv2.TrackerVit_create(params)
        self._tracker.init(self._bgr(frame), box_xywh)

    def update(self, frame: Image) -> tuple[Box, float]:
        _, (x, y, width, height) = self._tracker.update(self._bgr(frame))
        return (x, y, x + width, y + height), self._tracker.getTrackingScore()

    @staticmethod
    def _bgr(frame: Image) -> Image:
        return np.pad(frame[..., ::-1], ((0, 1), (0, 1), (0, 0)))


def inverse_quaternion(values: tuple[float, float, float]) -> tuple[float, float, float, float]:
    """The Scalar s for which OpenCV's `1 / s` is (*values, 0)."""
    first, second, third = (value / sum(v**2 for v in values) for value in values)
    return first, -second, -third, 0.0


def frames_and_box(seed: int, length: int = 12) -> tuple[NDArray[np.uint8], Box]:
    moving = clip(TRIAL_SEEDS + seed, length, (240, 320), occluded=False)
    return moving.images, visible_box(moving.masks[0])


@pytest.mark.parametrize("seed", range(4))
def test_each_step_is_that_of_opencv(tracker: VitTrack, seed: int) -> None:
    """From the same last box: OpenCV's whole pixels are ours rounded down, and the scores are equal."""
    frames, last = frames_and_box(seed)
    left, top, right, bottom = (int(v) for v in last)
    reference = Reference(frames[0], (left, top, right - left, bottom - top))
    state = tracker.start(frames[0], Rectangle(box_xyxy=last))
    for frame in frames[1:]:
        ours = find(tracker, frame, {**state, "box": list(last)})
        theirs, score = reference.update(frame)
        assert ours.score == pytest.approx(score, abs=1e-3)
        corner_and_size = np.array(
            [*ours.box_xyxy[:2], ours.box_xyxy[2] - ours.box_xyxy[0], ours.box_xyxy[3] - ours.box_xyxy[1]]
        )
        theirs_xywh = np.array([theirs[0], theirs[1], theirs[2] - theirs[0], theirs[3] - theirs[1]])
        # The middle of what rounding down makes the same, and a little for the engines' arithmetic.
        np.testing.assert_allclose(corner_and_size, theirs_xywh + 0.5, atol=0.5 + 0.02)
        last = theirs


@pytest.mark.parametrize("seed", range(4))
def test_a_clip_is_followed_as_opencv_does(tracker: VitTrack, seed: int) -> None:
    """Each from its own last box: half a pixel from rounding, and what it makes of the next region."""
    frames, last = frames_and_box(seed)
    left, top, right, bottom = (int(v) for v in last)
    reference = Reference(frames[0], (left, top, right - left, bottom - top))
    state = tracker.start(frames[0], Rectangle(box_xyxy=last))
    for frame in frames[1:]:
        shape, state = tracker.track(frame, state)
        theirs, _ = reference.update(frame)
        assert shape is not None
        np.testing.assert_allclose(shape.box_xyxy, theirs, atol=3)


def find(tracker: VitTrack, frame: Image, state: dict[str, Any]) -> Found:
    template = cv2.imdecode(np.frombuffer(state["template"], np.uint8), cv2.IMREAD_COLOR)
    return tracker.find(frame, template, tuple(state["box"]))


def test_a_template_is_kept_without_loss(tracker: VitTrack) -> None:
    frames, box = frames_and_box(0)
    state = tracker.start(frames[0], Rectangle(box_xyxy=box))
    kept = cv2.imdecode(np.frombuffer(state["template"], np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(kept, region_around(box, 2).crop(frames[0], 128))


def test_the_upright_box_around_a_rotated_one_is_followed(tracker: VitTrack) -> None:
    frames, _ = frames_and_box(0)
    state = tracker.start(frames[0], Rectangle(box_xyxy=(100, 100, 140, 120), rotation=90))
    np.testing.assert_allclose(state["box"], [110, 90, 130, 130])


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
    ],
)  # fmt: skip
def test_states_of_others_are_refused(tracker: VitTrack, state: Any) -> None:
    with pytest.raises(BadState, match="state that this tracker made"):
        tracker.track(np.zeros((50, 60, 3), np.uint8), state)


def network(
    path: Path,
    inputs: dict[str, list[Any]],
    outputs: dict[str, list[int]],
    value: float = 0.5,
) -> Path:
    """A file whose outputs are constant."""
    nodes = [
        helper.make_node(
            "Constant", [], [name], value=helper.make_tensor(f"{name}_value", TensorProto.FLOAT, shape, np.full(shape, value).ravel())
        )
        for name, shape in outputs.items()
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "constant",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


INPUTS: dict[str, list[Any]] = {"template": [1, 3, 128, 128], "search": [1, 3, 256, 256]}
OUTPUTS = {"output1": [1, 1, 16, 16], "output2": [1, 2, 16, 16], "output3": [1, 2, 16, 16]}


def test_inputs_are_found_by_their_names(tmp_path: Path) -> None:
    reversed_inputs = dict(reversed(INPUTS.items()))
    opened = VitTrackNetwork(network(tmp_path / "a.onnx", reversed_inputs, OUTPUTS), engine="onnxruntime")
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
    tmp_path: Path, inputs: dict[str, list[Any]], outputs: dict[str, list[int]], value: float
) -> None:
    path = network(tmp_path / "other.onnx", inputs, outputs, value)
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
def test_wrong_options_stop_the_function(options: dict[str, Any], message: str) -> None:
    with pytest.raises(StartupError, match=message):
        handler(**options)
