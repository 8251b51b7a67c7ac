"""Pictures show annotations where they are: colours at known pixels, nothing elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from common.cvat.labels import Label
from common.cvat.skeleton import skeleton_svg
from common.shapes import Cuboid, Ellipse, Joint, Mask, Points, Polygon, Polyline, Rectangle, Skeleton, Tag
from tools.draw import color_of, overlay

GREY = np.full((200, 300, 3), 128, np.uint8)
BODY = Label(
    name="body",
    id=1,
    type="skeleton",
    sublabels=(Label(name="a", id=0), Label(name="b", id=1)),
    svg=skeleton_svg(["a", "b"], [(0, 1)]),
)


def drawn(*shapes) -> np.ndarray:
    return overlay(GREY, shapes, [BODY])


def is_colored(picture: np.ndarray, x: int, y: int, name: str = "thing") -> bool:
    return bool((picture[y, x] == color_of(name)).all())


def test_the_picture_itself_stays_as_it_is() -> None:
    before = GREY.copy()
    picture = drawn(Rectangle(label="thing", box_xyxy=(50, 100, 150, 180)))
    assert (before == GREY).all()
    assert picture.shape == GREY.shape
    assert picture.dtype == np.uint8


def test_a_rectangle_is_its_edges() -> None:
    picture = drawn(Rectangle(label="thing", box_xyxy=(50, 100, 150, 180)))
    assert all(is_colored(picture, x, y) for x, y in [(100, 100), (100, 180), (50, 140), (150, 140)])
    assert (picture[140, 100] == 128).all()


def test_a_rotated_rectangle_turns_clockwise() -> None:
    # A flat box of 100 x 20 about (150, 100), turned by 30 degrees: its right end goes down.
    picture = drawn(Rectangle(label="thing", box_xyxy=(100, 90, 200, 110), rotation=30))
    end = (round(150 + 50 * np.cos(np.pi / 6)), round(100 + 50 * np.sin(np.pi / 6)))
    assert is_colored(picture, *end)
    assert not is_colored(picture, end[0], 200 - end[1])


def test_an_ellipse_touches_its_radii() -> None:
    picture = drawn(Ellipse(label="thing", center_xy=(150, 120), radii_xy=(60, 30)))
    assert all(is_colored(picture, x, y) for x, y in [(210, 120), (90, 120), (150, 150), (150, 90)])


def test_a_mask_is_tinted_and_outlined() -> None:
    bitmap = np.ones((40, 60), bool)
    picture = drawn(Mask(label="thing", bitmap=bitmap, left=100, top=100))
    assert not (picture[120, 130] == 128).all()
    assert not is_colored(picture, 130, 120)  # tinted, so that the picture shows through
    assert is_colored(picture, 100, 120)
    assert (picture[150, 130] == 128).all()


def test_a_skeleton_shows_visible_joints_and_their_edges() -> None:
    joints = (Joint("a", 50, 150), Joint("b", 250, 150))
    assert is_colored(drawn(Skeleton(label="body", joints=joints)), 150, 150, "body")
    hidden = (joints[0], Joint("b", 250, 150, visible=False))
    assert not is_colored(drawn(Skeleton(label="body", joints=hidden)), 150, 150, "body")
    unknown = Skeleton(label="unknown body", joints=joints)
    assert not is_colored(drawn(unknown), 150, 150, unknown.label)


def test_captions_show_the_label_and_stay_inside() -> None:
    corner = drawn(Polygon(label="thing", points_xy=[[290, 0], [299, 0], [299, 9]], score=0.5))
    assert not (corner[:20, 200:290] == 128).all()
    tags = drawn(Tag(label="thing", score=0.9))
    assert not (tags[:20, :40] == 128).all()


def test_points_and_lines_are_where_they_are() -> None:
    picture = drawn(
        Polyline(label="thing", points_xy=[(20, 20), (280, 20)]),
        Points(label="dot", points_xy=[(50, 100)]),
        Cuboid(label="box", points_xy=[(200 + 10 * i, 100 + 10 * i) for i in range(8)]),
    )
    assert is_colored(picture, 150, 20)
    assert is_colored(picture, 50, 100, "dot")
    assert is_colored(picture, 200, 100, "box") and is_colored(picture, 270, 170, "box")


def test_shapes_without_a_label_have_the_colour_of_their_place_and_no_caption() -> None:
    mask = Mask(bitmap=np.ones((40, 60), bool), left=100, top=100)
    tracked = drawn(Rectangle(box_xyxy=(10, 30, 50, 50)), None, mask, Rectangle(box_xyxy=(200, 20, 280, 60)))
    assert is_colored(tracked, 10, 40, "0")
    assert is_colored(tracked, 100, 120, "2") and not (tracked[120, 130] == 128).all()
    assert is_colored(tracked, 200, 40, "3")
    assert (tracked[:18] == 128).all()  # where captions would be


@pytest.mark.parametrize("name", ["", "a", "car", "Auto ä"])
def test_colours_are_bright_and_lasting(name: str) -> None:
    assert color_of(name) == color_of(name)
    assert max(color_of(name)) == 255
