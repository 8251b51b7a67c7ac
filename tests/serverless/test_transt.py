"""TransT through its real main.py, on small random parameters: boxes as those of a plain tracker, states, lost objects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from common.errors import StartupError
from common.serving.state import decode_state, encode_state
from common.vision.geometry import clip_box
from tests.common.networks.transt.plain_transt import save_tiny, tiny_state, track
from tests.serverless.opencv_scenes import asked, in_base64, texture
from tools.collection import COLLECTION
from tools.wrapper import LoadedFunction

DIRECTORY = COLLECTION / "pytorch/dschoerk/transt"
NAME = "pytorch-dschoerk-transt"
SIZE_HW = (120, 160)
BOXES = [(40.0, 30.0, 80.0, 66.0), (3.0, 5.0, 30.5, 41.25), (120.0, 90.0, 158.0, 118.0)]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("transt") / "tiny.pth")


@pytest.fixture(scope="module")
def frames() -> list[NDArray[np.uint8]]:
    wide = texture(np.random.default_rng(0), (200, 240), (90.0, 120.0, 80.0), 14)
    height, width = SIZE_HW
    return [np.ascontiguousarray(wide[4 * t : 4 * t + height, 5 * t : 5 * t + width]) for t in range(6)]


def loaded(weights: Path, monkeypatch: pytest.MonkeyPatch, **variables: object) -> LoadedFunction:
    for name, value in {"MODEL_PATH": weights, "THREADS": 1, "THRESHOLD": 0, **variables}.items():
        monkeypatch.setenv(name, str(value))
    return LoadedFunction(DIRECTORY, unique=True)


def begun(function: LoadedFunction, frame: NDArray[np.uint8], *boxes: Any) -> Any:
    shapes = [{"type": "rectangle", "points": list(box)} for box in boxes]
    return asked(function, {"image": in_base64(frame), "shapes": shapes, "states": []})


def next_reply(function: LoadedFunction, frame: NDArray[np.uint8], states: list[str]) -> Any:
    body = {"image": in_base64(frame), "shapes": [None] * len(states), "states": json.loads(json.dumps(states))}
    return asked(function, body)


@pytest.mark.parametrize("window", [0.49, 0.9])
def test_boxes_are_those_of_a_plain_tracker(
    weights: Path, frames: list[NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch, window: float
) -> None:
    function = loaded(weights, monkeypatch, WINDOW=window)
    with torch.inference_mode():
        expected = [track(tiny_state(), frames, box, window) for box in BOXES]
    reply = begun(function, frames[0], *BOXES)
    moved = 0.0
    for t, frame in enumerate(frames[1:]):
        reply = next_reply(function, frame, reply["states"])
        assert "lost" not in reply or not reply["lost"]
        for i, box in enumerate(BOXES):
            points = reply["shapes"][i]["points"]
            np.testing.assert_allclose(points, clip_box(expected[i][t], SIZE_HW), atol=0.5)
            moved = max(moved, float(np.abs(np.subtract(points, box)).max()))
    assert moved > 5  # where the boxes are is the network's answer


def test_several_objects_in_a_call_are_followed_as_each_alone(
    weights: Path, frames: list[NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch
) -> None:
    function, other = loaded(weights, monkeypatch), loaded(weights, monkeypatch)
    together = begun(function, frames[0], *BOXES)
    alone = [begun(function, frames[0], box)["states"] for box in BOXES]
    for frame in frames[1:3]:
        together = next_reply(function, frame, together["states"])
        for i, states in enumerate(alone):
            single = next_reply(other, frame, states)  # any replica can go on
            assert single["shapes"][0] == together["shapes"][i]
            assert single["states"][0] == together["states"][i]
            alone[i] = single["states"]


def test_an_object_with_a_low_score_is_lost_and_can_be_found_again(
    weights: Path, frames: list[NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch
) -> None:
    strict, lenient = loaded(weights, monkeypatch, THRESHOLD=1), loaded(weights, monkeypatch)
    reply = begun(strict, frames[0], BOXES[0])
    for frame in frames[1:4]:
        reply = next_reply(strict, frame, reply["states"])
        assert reply["lost"] == [0]
        assert reply["shapes"][0]["points"] == list(BOXES[0])  # CVAT's UI needs a shape
    _, content, _ = decode_state(NAME, reply["states"][0], "states[0]")
    assert content["lost"] == 3 and content["center"] == [60.0, 48.0]
    found = next_reply(lenient, frames[4], reply["states"])
    assert not found.get("lost")
    _, content, _ = decode_state(NAME, found["states"][0], "states[0]")
    assert content["lost"] == 0 and content["center"] != [60.0, 48.0]


def test_a_lost_object_is_found_wherever_it_is_most_likely(
    weights: Path, frames: list[NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nearness to the last place counts for an object that is followed, not for one that was lost."""
    function = loaded(weights, monkeypatch, WINDOW=1)
    (state,) = begun(function, frames[0], BOXES[0])["states"]
    bare, content, last = decode_state(NAME, state, "states[0]")
    lost = encode_state(NAME, [bare, {**content, "lost": 2}, last])
    near, anywhere = next_reply(function, frames[1], [state, lost])["shapes"]
    with torch.inference_mode():
        (expected,) = track(tiny_state(), frames[:2], BOXES[0], window=0)
    np.testing.assert_allclose(anywhere["points"], clip_box(expected, SIZE_HW), atol=0.5)
    assert near != anywhere


@pytest.mark.parametrize(
    "box", [(0, 0, 160, 120), (0, 0, 0.02, 0.02), (159.5, 119.5, 160, 120), (0, 50, 160, 50.01), (-40, -30, 20, 20)]
)
def test_odd_boxes(weights: Path, frames: list[NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch, box: Any) -> None:
    function = loaded(weights, monkeypatch)
    reply = begun(function, frames[0], box)
    for frame in (*frames[1:3], np.zeros((7, 3, 3), np.uint8), frames[4]):  # one of another size among them
        reply = next_reply(function, frame, reply["states"])
        left, top, right, bottom = reply["shapes"][0]["points"]
        assert 0 <= left < right <= 160 and 0 <= top < bottom <= 120


def test_a_huge_frame_takes_no_more_memory_than_its_regions(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = np.zeros((3000, 4000, 3), np.uint8)
    frame[::7] = 200
    reply = begun(loaded(weights, monkeypatch), frame, (0, 0, 4000, 3000))
    assert len(reply["states"][0]) < 100_000


def test_states_are_small_and_hold_the_picture(
    weights: Path, frames: list[NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch
) -> None:
    function = loaded(weights, monkeypatch)
    photograph = cv2.cvtColor(cv2.imread("tools/demo/cat_mug.jpg"), cv2.COLOR_BGR2RGB)
    (state,) = begun(function, photograph, (58, 180, 308, 355))["states"]
    assert len(state) < 30_000
    _, content, _ = decode_state(NAME, state, "states[0]")
    assert type(content["template"]) is bytes
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)  # what compresses worst
    (state,) = begun(function, noise, (64, 64, 192, 192))["states"]
    assert len(state) < 80_000


def test_states_that_it_did_not_make_are_refused(
    weights: Path, frames: list[NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    function = loaded(weights, monkeypatch)
    (state,) = begun(function, frames[0], BOXES[0])["states"]
    bare, content, last = decode_state(NAME, state, "states[0]")
    odd: list[Any] = [None, [], {}, "state", 7]
    for key, value in content.items():
        odd.append({name: each for name, each in content.items() if name != key})
        for other in (None, [], "x", b"", b"12", -1e30, float("nan"), [1e9, 1e9], [float("inf"), 1], {"a": 1}):
            if other != value:
                odd.append({**content, key: other})
    image = in_base64(frames[1])
    for one in odd:
        forged = encode_state(NAME, [bare, one, last])
        reply = function({"image": image, "shapes": [None], "states": [forged]})
        assert reply.status == 400 and "states[0]" in reply.json()["error"], (one, reply.body)
    other = loaded(save_tiny(tmp_path / "other.pth", seed=1), monkeypatch)
    reply = other({"image": image, "shapes": [None], "states": [state]})
    assert reply.status == 400 and "got one made with another" in reply.json()["error"]


def test_templates_are_kept_by_content_and_not_for_ever(
    weights: Path, frames: list[NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from common.config import FunctionConfig
    from common.networks.transt import tracker
    from common.shapes import Rectangle

    monkeypatch.setattr(tracker, "_REMEMBERED", 2)
    handler = tracker.TransTTracker(FunctionConfig.load(DIRECTORY), model_path=str(weights), threshold=0)
    states = [handler.start(frames[0], Rectangle(box_xyxy=box)) for box in BOXES]
    first = [handler.track(frames[1], state) for state in states]
    again = [handler.track(frames[1], state) for state in states]
    assert [shape.box_xyxy for shape, _ in first] == [shape.box_xyxy for shape, _ in again]
    assert len(handler._templates) == 2


@pytest.mark.parametrize(
    ("variable", "value"), [("THRESHOLD", "1.5"), ("WINDOW", "-1"), ("WINDOW", "far"), ("DEVICE", "cuda:99")]
)
def test_options_are_checked_at_the_start(
    weights: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    with pytest.raises(StartupError, match=variable):
        loaded(weights, monkeypatch, **{variable: value})


def test_without_a_file_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StartupError, match="MODEL_PATH"):
        loaded(Path("/nowhere/transt.pth"), monkeypatch)
