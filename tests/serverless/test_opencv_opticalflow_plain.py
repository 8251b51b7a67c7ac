"""The optical flow tracker on plain objects, without a mark to follow: found by their outlines, or reported lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import pytest

from common.serving.state import decode_state, encode_state
from common.vision.mask import bitmap_to_rle
from tests.serverless.opencv_scenes import Image, asked, box_overlap, in_base64, texture
from tools.collection import COLLECTION
from tools.wrapper import LoadedFunction

DIRECTORY = COLLECTION / "opencv/opticalflow"
NAME = "opencv-opticalflow"
SIZE_HW = (360, 480)
BLACK, WHITE = (0, 0, 0), (255, 255, 255)
Color = tuple[int, int, int]
Place = Callable[[int], tuple[float, float]]
Box = tuple[float, float, float, float]


@pytest.fixture(scope="module")
def tracker() -> LoadedFunction:
    return LoadedFunction(DIRECTORY, unique=True)


def line(x: float, y: float, right: float, down: float) -> Place:
    """A centre that moves by so much a frame."""
    return lambda t: (x + right * t, y + down * t)


def plain(color: Color) -> Image:
    return np.full((*SIZE_HW, 3), color, np.uint8)


def gradient(start: float, end: float, *, down: bool = False) -> Image:
    """A grey that changes evenly from the left to the right, or from the top to the bottom."""
    height, width = SIZE_HW
    ramp = np.linspace(start, end, height if down else width)
    rows = np.repeat(ramp[:, None], width, 1) if down else np.repeat(ramp[None], height, 0)
    return np.repeat(rows[..., None], 3, 2).astype(np.uint8)


@dataclass(frozen=True)
class Clip:
    """A plain object that moves over a background."""

    place: Place
    side: float = 80
    color: Color = BLACK
    background: Image = field(default_factory=lambda: plain(WHITE))
    form: str = "square"
    noise: float = 0
    growth: float = 1
    hidden: Callable[[int], bool] = lambda t: False
    loose: float = 0  # pixels by which the drawn box is larger than the object, on each side

    def box(self, t: int) -> Box:
        """The box around the object, as a user draws it."""
        (x, y), half = self.place(t), self.side * self.growth**t / 2 + self.loose
        return x - half, y - half, x + half, y + half

    def frame(self, t: int) -> Image:
        image, half = self.background.copy(), self.side * self.growth**t / 2
        if not self.hidden(t):
            corners = {
                "square": [(-1, -1), (1, -1), (1, 1), (-1, 1)],
                "triangle": [(0, -1), (1, 1), (-1, 1)],
                "disc": [(np.cos(a), np.sin(a)) for a in np.linspace(0, 2 * np.pi, 90, endpoint=False)],
            }[self.form]
            points = (np.array(corners) * half + self.place(t) - 0.5) * 16
            cv2.fillPoly(image, [np.rint(points).astype(np.int32)], self.color, cv2.LINE_AA, 4)
        noise = np.random.default_rng(t).normal(0, self.noise, image.shape) if self.noise else 0
        return np.clip(image + noise, 0, 255).astype(np.uint8)


def wire(kind: str, box: Box) -> dict[str, Any]:
    """A box as a shape of some type, as CVAT sends it."""
    left, top, right, bottom = box
    if kind == "polygon":
        return {"type": kind, "points": [left, top, right, top, right, bottom, left, bottom]}
    if kind == "mask":
        left, top, right, bottom = (round(v) for v in box)
        whole = bitmap_to_rle(np.ones((bottom - top, right - left), np.bool_))
        return {"type": kind, "points": [*whole, left, top, right - 1, bottom - 1]}
    return {"type": "rectangle", "points": list(box)}


def box_of(shape: dict[str, Any]) -> list[float]:
    """The box around a shape of a reply."""
    if shape["type"] == "polygon":
        points = np.array(shape["points"]).reshape(-1, 2)
        return [*points.min(axis=0).tolist(), *points.max(axis=0).tolist()]
    left, top, right, bottom = shape["points"][-4:]
    return [left, top, right + 1, bottom + 1] if shape["type"] == "mask" else [left, top, right, bottom]


def overlaps(tracker: LoadedFunction, clip: Clip, frames: int = 15, kind: str = "rectangle") -> list[float | None]:
    """For each frame after the first how well the object is found, None where it is reported lost."""
    first = {"image": in_base64(clip.frame(0)), "shapes": [wire(kind, clip.box(0))], "states": []}
    states, found = asked(tracker, first)["states"], []
    for t in range(1, frames + 1):
        reply = asked(tracker, {"image": in_base64(clip.frame(t)), "shapes": [None], "states": states})
        states = reply["states"]
        lost = 0 in reply.get("lost", ())
        # What is cut off at the image's edges is not part of a rectangle.
        limits = (0, 0, *SIZE_HW[::-1])
        box = [f(v, limit) for f, v, limit in zip((max, max, min, min), clip.box(t), limits, strict=True)]
        found.append(None if lost else box_overlap(box_of(reply["shapes"][0]), box))
    return found


def test_a_black_square_on_white_is_followed(tracker: LoadedFunction) -> None:
    assert min(overlaps(tracker, Clip(line(400, 200, -8, 0), 111), 30)) > 0.95


def test_a_blue_square_on_white_is_followed(tracker: LoadedFunction) -> None:
    assert min(overlaps(tracker, Clip(line(80, 80, 10, 2), 111, (0, 0, 255)), 30)) > 0.95


@pytest.mark.parametrize(
    "clip",
    [
        Clip(line(100, 150, 6, 2), color=(255, 0, 0), background=plain((0, 130, 0))),  # both of the same brightness
        Clip(line(100, 150, 6, 2), color=(100, 100, 100), background=plain((120, 120, 120)), noise=3),
        Clip(line(100, 150, 12, 2), 20),
        Clip(line(100, 150, 3, 1), 8, (200, 30, 30)),
        Clip(line(150, 180, 8, 0), 220, (40, 80, 160)),
        Clip(line(60, 180, 25, 0), 60, (40, 160, 80), noise=2),
        Clip(line(100, 150, 7, 3), form="disc", color=(200, 60, 20)),
        Clip(line(100, 150, 7, 3), form="triangle", color=(200, 60, 20)),
        Clip(line(100, 200, 8, 0), color=(200, 40, 40), background=gradient(0, 255)),
        Clip(line(100, 100, 5, 5), background=gradient(60, 220, down=True)),
        Clip(
            line(100, 150, 6, 3),
            color=(250, 250, 250),
            background=texture(np.random.default_rng(13), SIZE_HW, (90.0, 120.0, 80.0)),
        ),
        Clip(line(350, 200, -8, 0), noise=8),
        Clip(line(350, 200, -8, 0), noise=20),
        Clip(line(350, 200, -8, 0), loose=10, noise=3),
        Clip(line(350, 200, -8, 0), loose=-5, noise=3),
    ],
    ids=[
        *("isoluminant", "faint", "small-fast", "tiny", "large", "fast", "disc", "triangle", "on-a-gradient"),
        *("on-a-vertical-gradient", "on-texture", "noise", "strong-noise", "drawn-too-large", "drawn-too-small"),
    ],
)
def test_a_plain_object_is_followed(tracker: LoadedFunction, clip: Clip) -> None:
    found = overlaps(tracker, clip)
    assert None not in found
    assert min(one for one in found if one is not None) > 0.9


@pytest.mark.parametrize("kind", ["polygon", "mask"])
@pytest.mark.parametrize("form", ["square", "disc"])
def test_other_shapes_are_followed_as_boxes_are(tracker: LoadedFunction, kind: str, form: str) -> None:
    clip = Clip(line(380, 200, -8, 1), 110, (30, 60, 160), form=form, noise=2)
    assert min(overlaps(tracker, clip, kind=kind)) > 0.93


@pytest.mark.parametrize("growth", [1.02, 0.97])
def test_a_change_of_size_is_followed(tracker: LoadedFunction, growth: float) -> None:
    assert min(overlaps(tracker, Clip(line(200, 180, 2, 1), 100, (20, 20, 120), growth=growth))) > 0.92


def test_an_object_that_stops_is_found_where_it_stopped(tracker: LoadedFunction) -> None:
    assert min(overlaps(tracker, Clip(lambda t: (100 + 8 * min(t, 6), 150)))) > 0.95


def test_an_object_that_leaves_is_lost_and_found_when_it_comes_back(tracker: LoadedFunction) -> None:
    found = overlaps(tracker, Clip(lambda t: (390 + 16 * min(t, 20 - t), 200)), 20)  # out from frame 9 to 11
    assert all(one is not None and one > 0.9 for one in found[:5] + found[-4:])
    assert found[8:11] == [None] * 3


def test_an_object_that_vanishes_is_lost_and_found_again(tracker: LoadedFunction) -> None:
    found = overlaps(tracker, Clip(line(150, 200, 4, 0), noise=2, hidden=lambda t: 5 <= t < 10))
    assert found[4:9] == [None] * 5
    assert all(one is not None and one > 0.95 for one in found[:4] + found[10:])


def test_an_object_that_is_covered_is_lost(tracker: LoadedFunction) -> None:
    class Covered(Clip):
        def frame(self, t: int) -> Image:
            image = super().frame(t)
            image[100:300, 220:330] = (30, 160, 30)
            return image

    found = overlaps(tracker, Covered(line(100, 200, 10, 0)), 16)
    assert all(one is not None and one > 0.95 for one in found[:7])  # before it gets there
    assert found[-2:] == [None, None]
    assert all(one is None or one > 0.6 for one in found)


@pytest.mark.parametrize(
    "clip",
    [
        Clip(line(60, 200, 10, 0), color=(200, 200, 200), background=plain((200, 200, 200)), noise=3),
        Clip(line(240, 0, 0, 12), side=30, color=WHITE),
        Clip(line(240, 100, 0, 12), side=2000, color=(90, 90, 90)),
    ],
    ids=["invisible", "white-on-white", "all-there-is"],
)
def test_what_has_neither_marks_nor_an_outline_is_lost(tracker: LoadedFunction, clip: Clip) -> None:
    first = {"image": in_base64(clip.frame(0)), "shapes": [wire("rectangle", (200, 100, 260, 160))], "states": []}
    states = asked(tracker, first)["states"]
    for t in range(1, 5):
        reply = asked(tracker, {"image": in_base64(clip.frame(t)), "shapes": [None], "states": states})
        assert reply["lost"] == [0]
        states = reply["states"]


def test_a_part_of_a_straight_edge_is_lost(tracker: LoadedFunction) -> None:
    """The edge looks the same everywhere along it: a square that moves along it can't be told from one that stays."""
    clip = Clip(line(200, 250, 0, -8), 300, noise=2)
    box = (330.0, 150.0, 370.0, 190.0)  # half on the square's right edge
    states = asked(tracker, {"image": in_base64(clip.frame(0)), "shapes": [wire("rectangle", box)], "states": []})[
        "states"
    ]
    for t in range(1, 5):
        reply = asked(tracker, {"image": in_base64(clip.frame(t)), "shapes": [None], "states": states})
        assert reply["lost"] == [0]
        states = reply["states"]


def test_points_on_a_plain_object_never_stay_behind(tracker: LoadedFunction) -> None:
    clip = Clip(line(400, 200, -8, 0), 111, noise=8)
    shape = {"type": "points", "points": [400.0, 200.0]}
    states = asked(tracker, {"image": in_base64(clip.frame(0)), "shapes": [shape], "states": []})["states"]
    for t in range(1, 8):
        reply = asked(tracker, {"image": in_base64(clip.frame(t)), "shapes": [None], "states": states})
        x, y = reply["shapes"][0]["points"]
        assert 0 in reply.get("lost", ()) or np.hypot(x - clip.place(t)[0], y - clip.place(t)[1]) < 4
        states = reply["states"]


def test_states_hold_the_silhouette_and_stay_small(tracker: LoadedFunction) -> None:
    clip = Clip(line(200, 180, 3, 1), 120, (20, 20, 120), noise=8, form="triangle")
    body = {"image": in_base64(clip.frame(0)), "shapes": [wire("rectangle", clip.box(0))], "states": []}
    (state,) = asked(tracker, body)["states"]
    assert len(state) < 8000
    bare, content, last = decode_state(NAME, state, "states[0]")
    *color, width, template = content["silhouette"]
    np.testing.assert_allclose(color, (20, 20, 120), atol=6)
    image = in_base64(clip.frame(1))
    for odd in (
        [],
        [1, 2, 3],
        [300, 0, 0, 20, template],
        [*color, 0, template],
        [*color, width, b"no picture"],
        7,
        "x",
    ):
        forged = encode_state(NAME, [bare, {**content, "silhouette": odd}, last])
        reply = tracker({"image": image, "shapes": [None], "states": [forged]})
        assert reply.status == 400 and "states[0]" in reply.json()["error"], odd


def test_states_from_before_there_were_silhouettes_go_on(tracker: LoadedFunction) -> None:
    background = texture(np.random.default_rng(1), SIZE_HW, (90.0, 120.0, 80.0))
    body = {"image": in_base64(background), "shapes": [wire("rectangle", (100, 100, 160, 160))], "states": []}
    bare, content, last = decode_state(NAME, asked(tracker, body)["states"][0], "states[0]")
    older = {key: value for key, value in content.items() if key not in ("silhouette", "marked")}
    moved = np.roll(background, 5, axis=1)
    reply = asked(
        tracker, {"image": in_base64(moved), "shapes": [None], "states": [encode_state(NAME, [bare, older, last])]}
    )
    assert box_overlap(reply["shapes"][0]["points"], (105, 100, 165, 160)) > 0.95
