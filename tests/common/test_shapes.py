import dataclasses

import numpy as np
import pytest

from common.shapes import Cuboid, Ellipse, Joint, Mask, Points, Polygon, Polyline, Rectangle, Shape, Skeleton, Tag
from tests.ascii import bitmap, drawn


class TestPoints:
    @pytest.mark.parametrize("kind", [Polygon, Polyline, Points, Cuboid])
    def test_are_pairs_of_floats_from_anything(self, kind: type) -> None:
        for points in ([1, 2, 3, 4], [[1, 2], [3, 4]], np.array([[1, 2], [3, 4]], np.int32), ((1.0, 2), (3, 4))):
            shape = kind(points_xy=points)
            assert shape.points_xy.dtype == np.float64
            assert shape.points_xy.tolist() == [[1, 2], [3, 4]]

    def test_are_a_copy_that_stays_as_it_is(self) -> None:
        points = np.array([[1.0, 2], [3, 4], [5, 6]])
        polygon = Polygon(points_xy=points)
        points[0] = 99
        assert polygon.points_xy[0].tolist() == [1, 2]
        with pytest.raises(ValueError, match="read-only"):
            polygon.points_xy[0] = 99


class TestMask:
    def test_from_full_takes_the_box_around_the_pixels(self) -> None:
        mask = Mask.from_full(bitmap(".....\n..#..\n.##..\n....."), label="a", score=0.5)
        assert drawn(mask.bitmap) == ".#\n##"
        assert (mask.left, mask.top, mask.box_xyxy) == (1, 1, (1, 1, 3, 3))
        assert (mask.label, mask.score) == ("a", 0.5)

    def test_from_full_of_a_full_and_of_an_empty_bitmap(self) -> None:
        assert Mask.from_full(np.ones((3, 4), bool)).box_xyxy == (0, 0, 4, 3)
        for size_hw in ((3, 4), (0, 0), (0, 5)):
            assert Mask.from_full(np.zeros(size_hw, bool)).bitmap.shape == (0, 0)

    @pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32, bool])
    def test_what_is_not_zero_counts(self, dtype: type) -> None:
        values = np.array([[0, 1], [255, 0]]).astype(dtype)
        for mask in (Mask(bitmap=values), Mask.from_full(values)):
            assert mask.bitmap.dtype == np.bool_
            assert drawn(mask.bitmap) == ".#\n#."

    def test_can_not_be_written_to_and_leaves_the_array_that_it_was_made_of_alone(self) -> None:
        values = np.ones((2, 2), bool)
        mask = Mask(bitmap=values)
        with pytest.raises(ValueError, match="read-only"):
            mask.bitmap[0, 0] = False
        values[0, 0] = False  # the caller's own array is still the caller's

    def test_place_is_of_python_integers(self) -> None:
        mask = Mask(bitmap=np.ones((1, 1), bool), left=np.int32(5), top=np.float64(6.0))  # type: ignore[arg-type]
        assert (type(mask.left), type(mask.top), mask.box_xyxy) == (int, int, (5, 6, 6, 7))

    @pytest.mark.parametrize("shape", [(4,), (1, 4, 4), ()])
    def test_of_a_bitmap_with_other_than_two_axes_is_refused(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match="2 axes"):
            Mask(bitmap=np.ones(shape, bool))


def test_shapes_have_attributes_of_their_own() -> None:
    one, other = Rectangle(box_xyxy=(1, 2, 3, 4)), Rectangle(box_xyxy=(1, 2, 3, 4))
    assert one.attributes is not other.attributes


EXAMPLES = [
    Tag(),
    Rectangle(box_xyxy=(1, 2, 3, 4)),
    Ellipse(center_xy=(5, 5), radii_xy=(2, 1)),
    Polygon(points_xy=[[1, 2], [3, 4], [5, 6]]),
    Polyline(points_xy=[[1, 2], [3, 4]]),
    Points(points_xy=[[1, 2]]),
    Cuboid(points_xy=np.arange(16)),
    Mask(bitmap=np.ones((1, 1), bool)),
    Skeleton(joints=(Joint("hand", 1, 2),)),
]


@pytest.mark.parametrize("shape", EXAMPLES, ids=lambda shape: shape.type)
class TestEachShape:
    def test_is_frozen_and_has_no_other_fields(self, shape: Shape) -> None:
        with pytest.raises(dataclasses.FrozenInstanceError):
            shape.label = "b"  # type: ignore[misc]
        assert not hasattr(shape, "__dict__")

    def test_takes_its_fields_by_name_only(self, shape: Shape) -> None:
        fields = [getattr(shape, field.name) for field in dataclasses.fields(shape)]
        with pytest.raises(TypeError, match="positional"):
            type(shape)(*fields)

    def test_is_equal_to_itself_alone(self, shape: Shape) -> None:
        """Arrays have no single answer to ==, so shapes don't ask them."""
        assert shape == shape
        assert shape != dataclasses.replace(shape)
        assert len({shape, dataclasses.replace(shape)}) == 2

    def test_has_what_all_have_in_common(self, shape: Shape) -> None:
        assert (shape.label, shape.score, shape.attributes, shape.group) == ("", None, {}, 0)
        assert shape.type == type(shape).__name__.lower()


def test_defaults() -> None:
    assert Rectangle(box_xyxy=(1, 2, 3, 4)).rotation == Ellipse(center_xy=(1, 1), radii_xy=(1, 1)).rotation == 0
    mask = Mask(bitmap=np.ones((1, 1), bool))
    assert (mask.left, mask.top, mask.outline_xy) == (0, 0, None)
    assert Joint("hand", 1, 2).visible
    assert Joint("hand", 1, 2) == Joint("hand", 1.0, 2.0)
