"""The optical flow tracker through its real main.py: objects that move over textured backgrounds are followed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from common.errors import StartupError
from common.serving.state import decode_state, encode_state
from common.shapes import Mask
from common.vision.mask import bitmap_to_rle, rle_to_mask
from tests.serverless.opencv_scenes import (
    Bitmap,
    Image,
    asked,
    box_overlap,
    in_base64,
    inside,
    outline,
    overlap,
    painted,
    texture,
    two_colours,
)
from tools.collection import COLLECTION
from tools.wrapper import LoadedFunction

DIRECTORY = COLLECTION / "opencv/opticalflow"
NAME = "opencv-opticalflow"
SIZE_HW = (240, 320)
KINDS = ("rectangle", "polygon", "mask", "points")
Outline = NDArray[np.float64]


@pytest.fixture(scope="module")
def tracker() -> LoadedFunction:
    return LoadedFunction(DIRECTORY, unique=True)


class Thing:
    """A textured object and where it is: its outline at frame t is turned, scaled and moved by `place(t)`."""

    def __init__(self, seed: int, place: Callable[[int], tuple[float, float, float, float]], radius: float = 32):
        rng = np.random.default_rng(seed)
        self._side = int(2 * radius) + 6
        self._surface = texture(rng, (self._side, self._side), tuple(rng.uniform(60, 200, 3)), max(radius / 3, 3))
        self._outline = outline(rng, "blob", (self._side / 2, self._side / 2), radius)
        self._place = place

    def _matrix(self, t: int) -> NDArray[np.float64]:
        x, y, size, turn = self._place(t)
        linear = size * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        return np.hstack([linear, (np.array([x, y]) - linear @ [self._side / 2, self._side / 2])[:, None]])

    def outline(self, t: int) -> Outline:
        matrix = self._matrix(t)
        return self._outline @ matrix[:, :2].T + matrix[:, 2]

    def paint(self, image: Image, t: int) -> Image:
        matrix = self._matrix(t)
        matrix[:, 2] += matrix[:, :2] @ [0.5, 0.5] - 0.5  # OpenCV counts from the centres of pixels
        size_hw = image.shape[0], image.shape[1]
        surface = cv2.warpAffine(self._surface, matrix, size_hw[::-1], borderMode=cv2.BORDER_REPLICATE)
        return painted(image, surface, inside(self.outline(t), size_hw))


class Movie:
    """Things over a textured background, seen by a camera with some noise."""

    def __init__(self, seed: int, things: list[Thing], size_hw: tuple[int, int] = SIZE_HW):
        rng = np.random.default_rng(1000 + seed)
        self._background = texture(rng, size_hw, two_colours(rng)[0], 14)
        self._things, self._seed = things, seed

    def frame(self, t: int) -> Image:
        image = self._background
        for thing in self._things:
            image = thing.paint(image, t)
        noise = np.random.default_rng([self._seed, t]).normal(0, 3, image.shape)
        return np.clip(image + noise, 0, 255).astype(np.uint8)


def wandering(t: int) -> tuple[float, float, float, float]:
    """3 pixels to the right and a little up and down, 1 % larger with each frame."""
    return 90 + 4 * t, 120 + 12 * np.sin(t / 4), 1.01**t, 0.0


def turning(t: int) -> tuple[float, float, float, float]:
    return *wandering(t)[:3], 0.05 * t


def box_of(points: Outline) -> list[float]:
    return [*points.min(axis=0).tolist(), *points.max(axis=0).tolist()]


def marks_of(points: Outline) -> Outline:
    """Some points on an object: between its outline and its middle."""
    return (points[::4] + points.mean(axis=0)) / 2


def wire(kind: str, points: Outline, size_hw: tuple[int, int] = SIZE_HW) -> dict[str, Any]:
    """The shape of an object with an outline, as CVAT sends it."""
    if kind == "mask":
        mask = Mask.from_full(inside(points, size_hw))
        left, top, right, bottom = mask.box_xyxy
        return {"type": kind, "points": [*bitmap_to_rle(mask.bitmap), left, top, right - 1, bottom - 1]}
    flat = {"rectangle": box_of, "polygon": np.ravel, "points": lambda p: np.ravel(marks_of(p))}[kind](points)
    return {"type": kind, "points": [float(v) for v in flat]}


def bitmap_of(shape: dict[str, Any], size_hw: tuple[int, int] = SIZE_HW) -> Bitmap:
    if shape["type"] == "polygon":
        return inside(np.array(shape["points"]).reshape(-1, 2), size_hw)
    mask = rle_to_mask(shape["points"])
    bitmap = np.zeros(size_hw, np.bool_)
    left, top, right, bottom = mask.box_xyxy
    bitmap[top:bottom, left:right] = mask.bitmap
    return bitmap


def quality(shape: dict[str, Any] | None, points: Outline) -> float:
    """How well a shape fits an outline: intersection over union, for points 1 at no error and 0.7 at 3 pixels."""
    if shape is None:
        return 0.0
    if shape["type"] == "rectangle":
        return box_overlap(shape["points"], box_of(points))
    if shape["type"] == "points":
        off = np.hypot(*(np.array(shape["points"]).reshape(-1, 2) - marks_of(points)).T).max()
        return float(1 - 0.1 * off)
    return overlap(bitmap_of(shape), inside(points, SIZE_HW))


def first_reply(tracker: LoadedFunction, image: Image, shapes: list[Any]) -> dict[str, Any]:
    return asked(tracker, {"image": in_base64(image), "shapes": shapes, "states": []})


def next_reply(tracker: LoadedFunction, image: Image, states: list[str]) -> dict[str, Any]:
    """As CVAT asks: the states went through JSON, the shapes are padding. In the reply, None stands for a lost object."""
    states = json.loads(json.dumps(states))
    reply = asked(tracker, {"image": in_base64(image), "shapes": [None] * len(states), "states": states})
    assert len(reply["shapes"]) == len(reply["states"]) == len(states)
    assert None not in reply["shapes"]
    reply["shapes"] = [None if i in reply.get("lost", ()) else shape for i, shape in enumerate(reply["shapes"])]
    return reply


def followed(
    tracker: LoadedFunction, movie: Movie, things: list[Thing], kind: str, times: Iterable[int] = range(1, 31)
) -> NDArray[np.float64]:
    """(frames, things) qualities of what is found at some times, after a start at 0."""
    reply = first_reply(tracker, movie.frame(0), [wire(kind, thing.outline(0)) for thing in things])
    qualities = []
    for t in times:
        reply = next_reply(tracker, movie.frame(t), reply["states"])
        qualities.append([quality(s, thing.outline(t)) for s, thing in zip(reply["shapes"], things, strict=True)])
    return np.array(qualities)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(2))
def test_a_moving_growing_object_is_kept_over_30_frames(tracker: LoadedFunction, kind: str, seed: int) -> None:
    thing = Thing(seed, wandering)
    qualities = followed(tracker, Movie(seed, [thing]), [thing], kind)
    assert len(qualities) == 30
    assert qualities.min() >= 0.9


@pytest.mark.parametrize("kind", ["polygon", "mask", "points"])
def test_a_turning_object_is_turned(tracker: LoadedFunction, kind: str) -> None:
    thing = Thing(7, turning)
    assert followed(tracker, Movie(7, [thing]), [thing], kind).min() >= 0.85


def test_a_box_stays_upright_when_its_object_turns(tracker: LoadedFunction) -> None:
    thing = Thing(7, turning)
    assert followed(tracker, Movie(7, [thing]), [thing], "rectangle").min() >= 0.7


def test_what_would_fool_the_tests_above_does_not(tracker: LoadedFunction) -> None:
    """Each of these has to fail them: shapes that stay, states of one object for another, frames out of order."""
    thing = Thing(0, wandering)
    stayed = [quality(wire("rectangle", thing.outline(0)), thing.outline(t)) for t in range(1, 31)]
    assert min(stayed) < 0.1
    things = [thing, Thing(1, lambda t: (230 - 4 * t, 60, 1, 0))]
    movie = Movie(0, things)
    start = first_reply(tracker, movie.frame(0), [wire("rectangle", one.outline(0)) for one in things])
    swapped = next_reply(tracker, movie.frame(1), start["states"][::-1])
    assert all(quality(s, one.outline(1)) < 0.1 for s, one in zip(swapped["shapes"], things, strict=True))
    shuffled = np.random.default_rng(0).permutation(np.arange(1, 31)).tolist()
    assert followed(tracker, movie, [thing], "rectangle", shuffled).min() < 0.7


def test_several_objects_in_a_call_are_followed_as_each_alone(tracker: LoadedFunction) -> None:
    things = [
        Thing(1, lambda t: (60 + 3 * t, 60, 1, 0), 24),
        Thing(2, lambda t: (250 - 3 * t, 120, 1.01**t, 0), 20),
        Thing(3, lambda t: (100 + t, 190 - t, 1, 0.02 * t), 26),
    ]
    movie = Movie(3, things)
    kinds = ("rectangle", "polygon", "mask")
    shapes = [wire(kind, thing.outline(0)) for kind, thing in zip(kinds, things, strict=True)]
    together = first_reply(tracker, movie.frame(0), shapes)
    alone = [first_reply(tracker, movie.frame(0), [shape])["states"] for shape in shapes]
    for t in range(1, 11):
        together = next_reply(tracker, movie.frame(t), together["states"])
        for i, thing in enumerate(things):
            single = next_reply(tracker, movie.frame(t), alone[i])
            alone[i] = single["states"]
            assert together["shapes"][i] == single["shapes"][0]
            assert together["states"][i] == single["states"][0]
            assert quality(together["shapes"][i], thing.outline(t)) >= 0.85


def test_any_replica_can_go_on(tracker: LoadedFunction) -> None:
    thing = Thing(4, wandering)
    movie = Movie(4, [thing])
    other = LoadedFunction(DIRECTORY, unique=True)
    states = first_reply(tracker, movie.frame(0), [wire("polygon", thing.outline(0))])["states"]
    for t in range(1, 5):
        here, there = (next_reply(one, movie.frame(t), states) for one in (tracker, other))
        assert here == there
        states = there["states"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_object_that_leaves_is_lost_and_may_come_back(tracker: LoadedFunction, kind: str) -> None:
    def place(t: int) -> tuple[float, float, float, float]:
        return 250 + 8 * min(t, 34 - t), 120, 1, 0  # out at the right from frame 13 to 21, and back

    thing = Thing(5, place, 30)
    movie = Movie(5, [thing])
    reply = first_reply(tracker, movie.frame(0), [wire(kind, thing.outline(0))])
    seen = {}
    for t in range(1, 33):
        reply = next_reply(tracker, movie.frame(t), reply["states"])
        (seen[t],) = reply["shapes"]
    assert all(quality(seen[t], thing.outline(t)) >= 0.7 for t in range(1, 5))  # altogether in the picture
    assert all(seen[t] is None for t in range(14, 21))
    assert all(quality(seen[t], thing.outline(t)) >= 0.7 for t in range(30, 33))
    if kind == "rectangle":
        left, _, right, _ = seen[8]["points"]
        assert right == SIZE_HW[1] and abs(left - box_of(thing.outline(8))[0]) < 4  # the part in the picture


def test_an_object_that_vanishes_is_lost_and_is_found_where_it_was(tracker: LoadedFunction) -> None:
    thing = Thing(6, wandering)
    with_it, without = Movie(6, [thing]), Movie(6, [])
    reply = first_reply(tracker, with_it.frame(0), [wire("rectangle", thing.outline(0))])
    for t in range(1, 12):
        reply = next_reply(tracker, (without if 5 <= t < 9 else with_it).frame(t), reply["states"])
        (shape,) = reply["shapes"]
        if 5 <= t < 9:
            assert shape is None
        elif t != 9:  # the frame in which it is back may be missed
            assert quality(shape, thing.outline(t)) >= 0.9


@pytest.mark.parametrize("kind", ["rectangle", "mask"])
def test_an_object_that_is_partly_hidden_is_kept(tracker: LoadedFunction, kind: str) -> None:
    thing = Thing(8, lambda t: (90 + 4 * t, 120, 1, 0), 36)
    movie = Movie(8, [thing])
    post = texture(np.random.default_rng(80), (240, 14), (200.0, 190.0, 60.0))
    reply = first_reply(tracker, movie.frame(0), [wire(kind, thing.outline(0))])
    for t in range(1, 31):
        image = movie.frame(t)
        image[:, 160:174] = post
        reply = next_reply(tracker, image, reply["states"])
        assert quality(reply["shapes"][0], thing.outline(t)) >= 0.85, t


def test_light_may_change(tracker: LoadedFunction) -> None:
    thing = Thing(9, wandering)
    movie = Movie(9, [thing])
    reply = first_reply(tracker, movie.frame(0), [wire("rectangle", thing.outline(0))])
    for t in range(1, 16):
        image = np.clip(movie.frame(t) * (1 - 0.02 * t) - 10 * (t % 2), 0, 255).astype(np.uint8)
        reply = next_reply(tracker, image, reply["states"])
        assert quality(reply["shapes"][0], thing.outline(t)) >= 0.9


def test_small_errors_do_not_add_up(tracker: LoadedFunction) -> None:
    """After a hundred frames of motion to and fro, the object is where it was drawn."""
    thing = Thing(21, lambda t: (160 + 30 * np.sin(t / 8), 120 + 20 * np.sin(t / 11), 1, 0.3 * np.sin(t / 9)))
    movie = Movie(21, [thing])
    reply = first_reply(tracker, movie.frame(0), [wire("polygon", thing.outline(0))])
    for t in range(1, 101):
        reply = next_reply(tracker, movie.frame(t), reply["states"])
    found = np.array(reply["shapes"][0]["points"]).reshape(-1, 2)
    assert np.hypot(*(found - thing.outline(100)).T).max() < 0.5


def test_objects_of_8_pixels(tracker: LoadedFunction) -> None:
    thing = Thing(3, lambda t: (60 + 2 * t, 120 + t, 1, 0), 4.5)
    assert followed(tracker, Movie(10, [thing]), [thing], "rectangle", range(1, 16)).min() >= 0.6


def test_an_object_that_fills_the_picture_moves_with_it(tracker: LoadedFunction) -> None:
    wide = texture(np.random.default_rng(11), (300, 400), (120.0, 110.0, 100.0), 30)
    mark = np.array([[150.0, 110], [170, 110], [170, 130], [150, 130]])
    shapes = [{"type": "rectangle", "points": [0, 0, 320, 240]}, {"type": "polygon", "points": mark.ravel().tolist()}]
    reply = first_reply(tracker, wide[:240, :320], shapes)
    for t in range(1, 11):
        reply = next_reply(
            tracker, np.ascontiguousarray(wide[2 * t : 240 + 2 * t, 4 * t : 320 + 4 * t]), reply["states"]
        )
    whole, part = (np.array(shape["points"]) for shape in reply["shapes"])
    np.testing.assert_allclose(whole, [0, 0, 280, 220], atol=4)
    np.testing.assert_allclose(part.reshape(-1, 2), mark - [40, 20], atol=1.5)


@pytest.mark.parametrize("box", [[0, 0, 60, 60], [260, 180, 320, 240], [0, 100, 320, 140], [319, 0, 320, 240]])
def test_objects_at_the_border_that_stay_stay(tracker: LoadedFunction, box: list[float]) -> None:
    movie = Movie(12, [])
    reply = first_reply(tracker, movie.frame(0), [{"type": "rectangle", "points": box}])
    for t in range(1, 6):
        reply = next_reply(tracker, movie.frame(t), reply["states"])
    assert box_overlap(reply["shapes"][0]["points"], box) >= 0.8


@pytest.mark.parametrize("kind", KINDS)
def test_plain_objects_are_no_fault(tracker: LoadedFunction, kind: str) -> None:
    square = np.array([[100.0, 80], [160, 80], [160, 140], [100, 140], [130, 110]])
    reply = first_reply(tracker, np.full((240, 320, 3), 99, np.uint8), [wire(kind, square)])
    for grey in (99, 130, 20):
        reply = next_reply(tracker, np.full((240, 320, 3), grey, np.uint8), reply["states"])
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    assert next_reply(tracker, noise, reply["states"])["shapes"] == [None]


def test_a_plain_disc_is_followed_by_its_edge(tracker: LoadedFunction) -> None:
    background = texture(np.random.default_rng(13), SIZE_HW, (90.0, 120.0, 80.0), 14)
    reply = None
    for t in range(12):
        image = background.copy()
        cv2.circle(image, (100 + 4 * t, 120), 30, (235, 220, 90), -1, cv2.LINE_AA)
        box = [70.0 + 4 * t, 90.0, 131.0 + 4 * t, 151.0]
        if reply is None:
            reply = first_reply(tracker, image, [{"type": "rectangle", "points": box}])
        else:
            reply = next_reply(tracker, image, reply["states"])
        assert box_overlap(reply["shapes"][0]["points"], box) >= 0.8, t


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (1, 200), (7, 7)])
def test_tiny_frames_are_no_fault(tracker: LoadedFunction, size: tuple[int, int]) -> None:
    height, width = size
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    shapes = [
        {"type": "rectangle", "points": [0, 0, width, height]},
        {"type": "points", "points": [width / 2, height / 2]},
        {"type": "mask", "points": [0, 1, 0, 0, 0, 0]},
    ]
    reply = first_reply(tracker, image, shapes)
    for _ in range(2):
        reply = next_reply(tracker, image, reply["states"])
    larger = np.zeros((300, 20, 3), np.uint8)  # a video has frames of one size; a folder of images may not
    next_reply(tracker, larger, reply["states"])


def test_a_mask_keeps_its_size_and_its_hole(tracker: LoadedFunction) -> None:
    image = texture(np.random.default_rng(14), SIZE_HW, (120.0, 90.0, 140.0), 14)
    rows, columns = np.mgrid[:240, :320]
    ring = np.abs(np.hypot(columns - 160, rows - 120) - 40) < 14
    ring |= (columns > 250) & (columns < 280) & (rows > 100) & (rows < 140)  # and a part of its own
    mask = Mask.from_full(ring)
    left, top, right, bottom = mask.box_xyxy
    points = [*bitmap_to_rle(mask.bitmap), left, top, right - 1, bottom - 1]
    reply = first_reply(tracker, image, [{"type": "mask", "points": points}])
    for t in range(1, 31):
        # To and fro by parts of a pixel, where warping the last mask again and again would wear it down.
        shift = np.array([[1, 0, 0.4 * (t % 3)], [0, 1, -0.3 * (t % 2)]])
        moved = cv2.warpAffine(image, shift, SIZE_HW[::-1], borderMode=cv2.BORDER_REPLICATE)
        reply = next_reply(tracker, moved, reply["states"])
    found = bitmap_of(reply["shapes"][0])
    assert overlap(found, ring) >= 0.95
    assert abs(int(found.sum()) - int(ring.sum())) <= 0.02 * ring.sum()


def test_states_are_small(tracker: LoadedFunction) -> None:
    rng = np.random.default_rng(15)
    size_hw = (900, 1200)
    image = rng.integers(0, 256, (*size_hw, 3), np.uint8)  # noise is what compresses worst
    ragged = inside(outline(rng, "blob", (600, 450), 400), size_hw) & (rng.random(size_hw) > 0.2)
    mask = Mask.from_full(ragged)
    left, top, right, bottom = mask.box_xyxy
    angles = np.linspace(0, 2 * np.pi, 300, endpoint=False)
    polygon = np.stack([600 + 300 * np.cos(angles), 450 + 300 * np.sin(angles)], axis=1)
    shapes = [
        {"type": "rectangle", "points": [200, 100, 900, 800]},
        {"type": "polygon", "points": polygon.ravel().tolist()},
        {"type": "mask", "points": [*bitmap_to_rle(mask.bitmap), left, top, right - 1, bottom - 1]},
        {"type": "points", "points": [600, 450]},
    ]
    reply = first_reply(tracker, image, shapes)
    for states in (reply["states"], next_reply(tracker, image, reply["states"])["states"]):
        assert max(len(state) for state in states) < 8000


def test_a_bare_box_is_answered_with_one(tracker: LoadedFunction) -> None:
    thing = Thing(16, wandering)
    movie = Movie(16, [thing])
    reply = first_reply(tracker, movie.frame(0), [box_of(thing.outline(0))])
    reply = next_reply(tracker, movie.frame(1), reply["states"])
    assert box_overlap(reply["shapes"][0], box_of(thing.outline(1))) >= 0.9


def test_a_turned_box_turns_with_its_object(tracker: LoadedFunction) -> None:
    thing = Thing(17, lambda t: (160 + t, 120, 1, 0.03 * t), 50)
    movie = Movie(17, [thing])
    shape = {"type": "rectangle", "points": [130, 105, 190, 135], "rotation": 30}
    reply = first_reply(tracker, movie.frame(0), [shape])
    for t in range(1, 11):
        reply = next_reply(tracker, movie.frame(t), reply["states"])
    (turned,) = reply["shapes"]
    assert turned["rotation"] == pytest.approx(30 + np.degrees(0.3), abs=3)
    np.testing.assert_allclose(turned["points"], [140, 105, 200, 135], atol=2)


def test_states_that_it_did_not_make_are_refused(tracker: LoadedFunction) -> None:
    thing = Thing(18, wandering)
    movie = Movie(18, [thing])
    (state,) = first_reply(tracker, movie.frame(0), [wire("polygon", thing.outline(0))])["states"]
    bare, content, last = decode_state(NAME, state, "states[0]")
    odd: list[Any] = [None, [], {}, "state", 7]
    for key, value in content.items():
        odd.append({k: v for k, v in content.items() if k != key})
        for other in (None, [], "x", b"", b"12", -1e30, float("nan"), 1e300, [1e9, 1e9], {"a": 1}, True, 10**400):
            if type(other) is not type(value) or other != value:
                odd.append({**content, key: other})
    image, refused = in_base64(movie.frame(1)), 0
    for one in odd:
        try:
            forged = encode_state(NAME, [bare, one, last])
        except Exception:
            continue  # what can't be written can't be sent
        reply = tracker({"image": image, "shapes": [None], "states": [forged]})
        assert reply.status in (200, 400), (one, reply.body)
        refused += reply.status == 400
        if reply.status == 400:
            assert "states[0]" in reply.json()["error"]
    assert refused >= 0.8 * len(odd)
    assert tracker({"image": image, "shapes": [None], "states": [state[:-3]]}).status == 400


@pytest.mark.parametrize(
    ("variable", "value"), [("MIN_LIKENESS", "2"), ("SEARCH_RANGE", "-1"), ("SEARCH_RANGE", "far")]
)
def test_options_are_checked_at_the_start(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(StartupError, match=variable):
        LoadedFunction(DIRECTORY, unique=True)


def test_the_search_range_is_how_far_an_object_may_jump(monkeypatch: pytest.MonkeyPatch) -> None:
    thing = Thing(19, lambda t: (80 + 55 * t, 120, 1, 0), 30)
    movie = Movie(19, [thing])
    found = {}
    for value in ("0.2", "1.5"):
        monkeypatch.setenv("SEARCH_RANGE", value)
        tracker = LoadedFunction(DIRECTORY, unique=True)
        reply = first_reply(tracker, movie.frame(0), [wire("rectangle", thing.outline(0))])
        (shape,) = next_reply(tracker, movie.frame(1), reply["states"])["shapes"]
        found[value] = quality(shape, thing.outline(1))
    assert found["0.2"] < 0.1 and found["1.5"] >= 0.9


@pytest.mark.parametrize("box", [[5, 5, 5.01, 5.01], [100, 80, 100.0001, 110], [0, 50, 3000, 50.02]])
@pytest.mark.parametrize("rotation", [0, 45])
def test_boxes_thinner_than_a_step_of_the_state_keep_an_area(
    tracker: LoadedFunction, box: list[float], rotation: int
) -> None:
    image = np.random.default_rng(20).integers(0, 256, (120, 3000, 3)).astype(np.uint8)
    reply = first_reply(tracker, image, [{"type": "rectangle", "points": box, "rotation": rotation}])
    for _ in range(2):
        reply = next_reply(tracker, image, reply["states"])  # status 200 is checked there
        if reply["shapes"][0] is not None:
            np.testing.assert_allclose(reply["shapes"][0]["points"], box, atol=1)
