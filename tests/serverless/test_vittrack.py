"""The tracker with a trained network: against OpenCV's own TrackerVit, and on unseen clips through its main.py."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from common.config import FunctionConfig
from common.networks.vittrack import Found, VitTrack
from common.shapes import Rectangle
from common.vision.geometry import box_iou
from tests.serverless.opencv_scenes import asked, in_base64
from tools.collection import COLLECTION, ROOT
from tools.wrapper import LoadedFunction
from training.clicks.drawings import TRIAL_SEEDS, clip
from training.tracker.train import visible_box
from training.tracker.trial import follow, start, unseen_clips

DIRECTORY = COLLECTION / "onnx/opencv/vittrack"
MODEL = ROOT / "tests/models/vittrack/vittrack.onnx"
Image = NDArray[np.uint8]
Box = tuple[float, float, float, float]


@pytest.fixture(scope="module", params=["onnxruntime", "openvino"])
def tracker(request: pytest.FixtureRequest) -> VitTrack:
    return VitTrack(FunctionConfig.load(DIRECTORY), model_path=str(MODEL), engine=request.param)


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
        assert box_iou(shape.box_xyxy, theirs) > 0.9


def find(tracker: VitTrack, frame: Image, state: dict[str, Any]) -> Found:
    template = cv2.imdecode(np.frombuffer(state["template"], np.uint8), cv2.IMREAD_COLOR)
    return tracker.find(frame, template, tuple(state["box"]))


@pytest.fixture(scope="module")
def function() -> LoadedFunction:
    return start(MODEL)


def test_shapes_of_unseen_clips_are_followed_and_reported_lost(function: LoadedFunction) -> None:
    """Ten clips of thirty frames, then five without the shape: frame by frame, with states that went through JSON."""
    scores = [follow(function, trial) for trial in unseen_clips(10, 30, gone=5)]
    assert np.mean(np.concatenate([score.ious for score in scores])) > 0.6
    assert np.mean(np.concatenate([score.lost for score in scores])) >= 0.9


def test_several_objects_are_followed_as_each_alone(function: LoadedFunction) -> None:
    (trial,) = unseen_clips(1, 6)
    first = trial.boxes_xyxy[0]
    assert first is not None
    left, top, right, bottom = first
    shapes = [box_shape(first), box_shape((left - 20, top - 10, right - 20, bottom - 10)), box_shape((5, 5, 60, 50))]
    together = replies(function, trial.images, shapes)
    for i, shape in enumerate(shapes):
        alone = replies(function, trial.images, [shape])
        assert [reply["shapes"][i] for reply in together] == [reply["shapes"][0] for reply in alone]
        assert [i in reply.get("lost", ()) for reply in together] == [0 in reply.get("lost", ()) for reply in alone]


def test_a_shape_is_found_again_where_it_was_lost(function: LoadedFunction) -> None:
    (trial,) = unseen_clips(1, 4, gone=2)
    first = trial.boxes_xyxy[0]
    assert first is not None
    back = [*trial.images, trial.images[3]]  # where it was before it went
    answers = replies(function, back, [box_shape(first)])
    assert ["lost" in answer for answer in answers] == [False, False, False, False, True, True, False]
    assert box_iou(tuple(answers[-1]["shapes"][0]["points"]), tuple(answers[3]["shapes"][0]["points"])) > 0.7
    assert answers[4]["shapes"] == answers[3]["shapes"]  # CVAT's UI can't take null


def test_a_state_is_small(function: LoadedFunction) -> None:
    photo = cv2.imread(str(ROOT / "tools/demo/cat_mug.jpg"))[..., ::-1]
    (state,) = replies(function, [photo], [box_shape((58, 180, 308, 355))])[0]["states"]
    assert len(state) < 30_000


def box_shape(box_xyxy: Box) -> dict[str, Any]:
    return {"type": "rectangle", "points": list(box_xyxy)}


def replies(function: LoadedFunction, images: Iterable[Image], shapes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The reply for each image, with states that went through JSON."""
    answers: list[dict[str, Any]] = []
    for image in images:
        states = json.loads(json.dumps(answers[-1]["states"])) if answers else []
        asked_shapes = [None] * len(states) if answers else shapes
        answers.append(asked(function, {"image": in_base64(image), "shapes": asked_shapes, "states": states}))
    return answers
