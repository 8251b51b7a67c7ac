"""What CVAT would drop without a word, or not show: corrected where there is one right correction, refused where not."""

import json
import math
from typing import Any

import numpy as np
import pytest

from common.cvat.conform import attribute_text, conform, conform_geometry
from common.cvat.labels import Attribute, Labels, parse_labels
from common.errors import ModelError, NothingInside
from common.shapes import (
    Cuboid,
    Ellipse,
    Joint,
    Mask,
    Points,
    Polygon,
    Polyline,
    Rectangle,
    Shape,
    Skeleton,
    Tag,
)
from tests.ascii import bitmap, drawn

SIZE_HW = (50, 100)

LABELS: Labels = parse_labels(
    json.dumps(
        [
            {
                "name": "car",
                "attributes": [
                    {"name": "colour", "input_type": "select", "values": ["red", "blue", "7"]},
                    {"name": "side", "input_type": "radio", "values": ["left", "right"]},
                    {"name": "parked", "input_type": "checkbox", "values": ["false"]},
                    {"name": "doors", "input_type": "number", "values": ["2", "11", "4"]},
                    {"name": "plate", "input_type": "text", "values": [""]},
                ],
            },
            {"name": "box", "type": "rectangle"},
            {
                "name": "arm",
                "type": "skeleton",
                "svg": "<circle/>",
                "sublabels": [{"name": "hand"}, {"name": "elbow"}, {"name": "shoulder"}],
            },
        ]
    )
)


def one(shape: Shape) -> Any:
    (conformed,) = conform([shape], LABELS, SIZE_HW)
    return conformed


def refused(shape: Shape) -> str:
    with pytest.raises(ModelError) as caught:
        conform([Tag(label="car"), shape], LABELS, SIZE_HW)
    return str(caught.value)


class TestLabel:
    def test_known_ones_stay(self) -> None:
        assert [
            s.label for s in conform([Tag(label="car"), Rectangle(label="box", box_xyxy=(1, 2, 3, 4))], LABELS, SIZE_HW)
        ] == [
            "car",
            "box",
        ]

    def test_unknown_ones_are_refused(self) -> None:
        assert refused(Tag(label="cat")) == "shape 1: the label 'cat' is not in the function's spec: car, box, arm"
        assert "the label ''" in refused(Tag())

    def test_of_another_type_is_refused(self) -> None:
        polygon = Polygon(label="box", points_xy=[[1, 1], [5, 1], [5, 5]])
        assert refused(polygon) == "shape 1 (box): the label is of type rectangle, the shape a polygon"

    def test_a_list_of_a_thousand_labels_is_not_in_the_message(self) -> None:
        labels = parse_labels(json.dumps([{"name": f"label {i}"} for i in range(1000)]))
        with pytest.raises(ModelError, match=r"label 7 and 992 more$"):
            conform([Tag(label="cat")], labels, SIZE_HW)


class TestAttributes:
    @pytest.mark.parametrize(
        ("name", "value", "text"),
        [
            ("colour", "red", "red"),
            ("colour", 7, "7"),
            ("colour", 7.0, "7"),
            ("side", "left", "left"),
            ("parked", True, "true"),
            ("parked", np.bool_(False), "false"),
            ("parked", "true", "true"),
            ("doors", 6, "6"),
            ("doors", 6.0, "6"),
            ("doors", np.float32(6.4), "6"),
            ("doors", "10", "10"),
            ("doors", 7, "6"),
            ("doors", 9, "10"),
            ("doors", 11, "10"),  # in range, but the last step before its end is 10
            ("doors", 1.5, "2"),
            ("plate", "M-ÜÄ 12", "M-ÜÄ 12"),
            ("plate", "", ""),
            ("plate", 12, "12"),
            ("plate", np.int64(12), "12"),
            ("plate", 0.5, "0.5"),
            ("plate", True, "true"),
        ],
    )
    def test_become_the_text_that_cvat_takes(self, name: str, value: Any, text: str) -> None:
        assert one(Tag(label="car", attributes={name: value})).attributes == {name: text}

    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("size", "big", "shape 1 (car): the attribute 'size' is not in the function's spec: colour, side, parked, doors, plate"),
            ("colour", "green", "shape 1 (car): attribute colour: expected one of red, blue, 7, got the text 'green'"),
            ("colour", "Red", "shape 1 (car): attribute colour: expected one of red, blue, 7, got the text 'Red'"),
            ("side", None, "shape 1 (car): attribute side: expected a text, got null"),
            ("parked", 1, "shape 1 (car): attribute parked: expected one of true, false, got 1"),
            ("parked", "yes", "shape 1 (car): attribute parked: expected one of true, false, got the text 'yes'"),
            ("doors", 30, "shape 1 (car): attribute doors: expected a number from 2 to 11, got 30"),
            ("doors", -5, "shape 1 (car): attribute doors: expected a number from 2 to 11, got -5"),
            ("doors", 13, "shape 1 (car): attribute doors: expected a number from 2 to 11, got 13"),
            ("doors", math.nan, "shape 1 (car): attribute doors: expected a number, got nan"),
            ("doors", "many", "shape 1 (car): attribute doors: expected a number, got the text 'many'"),
            ("doors", True, "shape 1 (car): attribute doors: expected a number, got true"),
            ("doors", None, "shape 1 (car): attribute doors: expected a number, got null"),
            ("plate", math.inf, "shape 1 (car): attribute plate: expected a value, got inf"),
            ("plate", ["a"], "shape 1 (car): attribute plate: expected a text, got ['a']"),
        ],
    )  # fmt: skip
    def test_that_have_no_such_text_are_refused(self, name: str, value: Any, message: str) -> None:
        assert refused(Tag(label="car", attributes={name: value})) == message

    def test_each_number_of_a_range_lands_on_a_step(self) -> None:
        attribute = Attribute("n", "number", ("-7", "20", "5"))
        for tenth in range(-70, 201):
            number = int(attribute_text(attribute, tenth / 10, "x"))
            assert number in (-7, -2, 3, 8, 13, 18)
            assert abs(number - tenth / 10) <= 2.5

    def test_the_ends_of_a_range_belong_to_it(self) -> None:
        attribute = Attribute("n", "number", ("0", "10", "5"))
        assert [attribute_text(attribute, value, "x") for value in (0, -0.4, 10, 10.4)] == ["0", "0", "10", "10"]


class TestScoreAndGroup:
    @pytest.mark.parametrize(
        ("score", "expected"), [(None, None), (0.5, 0.5), (np.float32(0.25), 0.25), (1.0000001, 1.0), (-0.1, 0.0)]
    )
    def test_score_is_kept_from_0_to_1(self, score: Any, expected: float | None) -> None:
        assert one(Tag(label="car", score=score)).score == expected

    @pytest.mark.parametrize("score", [math.nan, math.inf])
    def test_score_that_is_none_is_refused(self, score: float) -> None:
        assert (
            refused(Tag(label="car", score=score)) == f"shape 1 (car): expected a confidence from 0 to 1, got {score}"
        )

    @pytest.mark.parametrize("group", [0, 5, np.int64(5)])
    def test_group(self, group: Any) -> None:
        assert type(one(Tag(label="car", group=group)).group) is int

    @pytest.mark.parametrize(("group", "got"), [(-1, "-1"), (1.5, "1.5"), (True, "true"), ("1", "the text '1'")])
    def test_group_that_is_none_is_refused(self, group: Any, got: str) -> None:
        assert (
            refused(Tag(label="car", group=group)) == f"shape 1 (car): expected a group number of 0 or more, got {got}"
        )


class TestRectangle:
    @pytest.mark.parametrize(
        ("box", "expected"),
        [
            ((10, 10, 20, 20), (10, 10, 20, 20)),
            ((-5, -5, 20, 20), (0, 0, 20, 20)),
            ((90, 40, 120, 90), (90, 40, 100, 50)),
            ((-1e9, -1e9, 1e9, 1e9), (0, 0, 100, 50)),
            (np.array([1, 2, 3, 4], np.float32), (1, 2, 3, 4)),
        ],
    )
    @pytest.mark.parametrize("rotation", [0, 180, 360, -180])
    def test_upright_is_clipped_to_the_image(self, box: Any, expected: tuple[float, ...], rotation: float) -> None:
        shape = one(Rectangle(label="car", box_xyxy=box, rotation=rotation))
        assert shape.box_xyxy == expected
        assert all(type(v) is float for v in shape.box_xyxy)
        assert 0 <= shape.rotation < 360

    @pytest.mark.parametrize(
        "box", [(-10, 0, 0, 10), (100, 0, 110, 10), (0, -9, 5, 0), (0, 50, 5, 60), (200, 200, 300, 300)]
    )
    def test_outside_the_image_is_refused(self, box: tuple[float, ...]) -> None:
        with pytest.raises(
            NothingInside, match=r"^shape 0 \(car\): the box .* is outside the image of 100 x 50 pixels$"
        ):
            one(Rectangle(label="car", box_xyxy=box))

    @pytest.mark.parametrize("box", [(10, 10, 10, 20), (10, 10, 20, 10), (20, 20, 10, 10)])
    def test_without_area_is_refused(self, box: tuple[float, ...]) -> None:
        assert "expected a box with an area, got [" in refused(Rectangle(label="car", box_xyxy=box))

    @pytest.mark.parametrize("box", [(math.nan, 0, 1, 1), (0, 0, math.inf, 1)])
    def test_of_no_numbers_is_refused(self, box: tuple[float, ...]) -> None:
        assert "box: expected finite numbers, got [" in refused(Rectangle(label="car", box_xyxy=box))
        assert "rotation: expected finite numbers" in refused(
            Rectangle(label="car", box_xyxy=(0, 0, 1, 1), rotation=math.nan)
        )

    def test_turned_keeps_its_corners_because_they_are_those_before_the_turn(self) -> None:
        shape = one(Rectangle(label="car", box_xyxy=(80, 10, 120, 20), rotation=-90))
        assert (shape.box_xyxy, shape.rotation) == ((80, 10, 120, 20), 270)

    @pytest.mark.parametrize("box", [(90, 10, 112, 20), (-12, 10, 10, 20), (10, -8, 20, 7), (10, 45, 20, 57)])
    def test_turned_with_its_centre_outside_is_refused(self, box: tuple[float, ...]) -> None:
        assert "is outside the image" in refused(Rectangle(label="car", box_xyxy=box, rotation=45))

    @pytest.mark.parametrize("box", [(90, 10, 110, 20), (-10, 10, 10, 20), (10, -8, 20, 8), (10, 45, 20, 55)])
    def test_turned_with_its_centre_on_the_border_stays(self, box: tuple[float, ...]) -> None:
        assert one(Rectangle(label="car", box_xyxy=box, rotation=45)).box_xyxy == box


class TestEllipse:
    def test_keeps_its_numbers(self) -> None:
        shape = one(Ellipse(label="car", center_xy=(10, 20), radii_xy=(30, 5), rotation=370))
        assert (shape.center_xy, shape.radii_xy, shape.rotation) == ((10, 20), (30, 5), 10)

    @pytest.mark.parametrize("center", [(0, 0), (100, 50)])
    def test_with_its_centre_on_the_border_stays(self, center: tuple[float, float]) -> None:
        assert one(Ellipse(label="car", center_xy=center, radii_xy=(0.5, 0.5))).center_xy == center

    @pytest.mark.parametrize(
        ("center", "radii", "message"),
        [
            ((10, -1), (5, 5), "the centre [10, -1] is outside the image"),
            ((10, 51), (5, 5), "the centre [10, 51] is outside the image"),
            ((10, 20), (0, 5), "an ellipse with an area"),
            ((10, 20), (5, -1), "an ellipse with an area"),
            ((101, 20), (5, 5), "the centre [101, 20] is outside the image"),
            ((math.nan, 20), (5, 5), "ellipse: expected finite numbers"),
        ],
    )
    def test_that_is_none_is_refused(self, center: Any, radii: Any, message: str) -> None:
        assert message in refused(Ellipse(label="car", center_xy=center, radii_xy=radii))


class TestPoints:
    @pytest.mark.parametrize(
        ("kind", "points", "expected"),
        [
            (Polygon, [[-5, 10], [50, -5], [120, 60]], [[0, 10], [50, 0], [100, 50]]),
            (Polyline, [[-5, 10], [120, 10]], [[0, 10], [100, 10]]),
            (Points, [[100, 50]], [[100, 50]]),
            (Points, [[0, 0]], [[0, 0]]),
            (Polyline, [[0, 10], [0, 20]], [[0, 10], [0, 20]]),
            (Polygon, [[-9, 10], [0.5, 10], [0.5, 20]], [[0, 10], [0.5, 10], [0.5, 20]]),
            (Points, [[-3, 20], [5, 5]], [[0, 20], [5, 5]]),
        ],
    )
    def test_are_clipped_to_the_image(self, kind: Any, points: Any, expected: Any) -> None:
        assert one(kind(label="car", points_xy=points)).points_xy.tolist() == expected

    def test_cuboid_keeps_its_form(self) -> None:
        points = np.arange(16).reshape(8, 2) - 5
        assert one(Cuboid(label="car", points_xy=points)).points_xy.tolist() == points.tolist()

    @pytest.mark.parametrize(
        ("kind", "points", "message"),
        [
            (Polygon, [[1, 1], [5, 5]], "expected 3 or more points for type polygon, got 2"),
            (Polygon, [], "expected 3 or more points for type polygon, got 0"),
            (Polyline, [[1, 1]], "expected 2 or more points for type polyline, got 1"),
            (Points, [], "expected 1 or more points for type points, got 0"),
            (Cuboid, [[1, 1]] * 7, "expected 8 points for type cuboid, got 7"),
            (Cuboid, [[1, 1]] * 9, "expected 8 points for type cuboid, got 9"),
            (Polygon, [[1, 1], [5, math.nan], [3, 3]], "points: expected finite numbers, got [1, 1, 5, nan, ...]"),
            (Polygon, [[1, 1], [5, 1], [9, 1]], "expected a polygon with an area"),
        ],
    )
    def test_too_few_or_none_are_refused(self, kind: Any, points: Any, message: str) -> None:
        assert message in refused(kind(label="car", points_xy=points))

    @pytest.mark.parametrize(
        ("kind", "points"),
        [
            (Polygon, [[-9, 1], [-5, 9], [-1, 5]]),
            (Polygon, [[-9, 1], [-5, 9], [0, 5]]),  # touches the border: nothing of its area is inside
            (Polygon, [[100, 1], [105, 9], [103, 5]]),
            (Polyline, [[1, 51], [90, 60]]),
            (Points, [[101, 5], [120, 6]]),
        ],
    )
    def test_outside_the_image_are_refused(self, kind: Any, points: Any) -> None:
        with pytest.raises(NothingInside, match="all points are outside the image of 100 x 50 pixels"):
            one(kind(label="car", points_xy=points))


class TestMask:
    PIXELS = bitmap("....\n.##.\n.#..")

    def test_is_cropped(self) -> None:
        shape = one(Mask(label="car", bitmap=self.PIXELS, left=10, top=20, score=0.5))
        assert drawn(shape.bitmap) == "##\n#."
        assert (shape.box_xyxy, shape.label, shape.score) == ((11, 21, 13, 23), "car", 0.5)

    def test_is_clipped_to_the_image(self) -> None:
        assert drawn(one(Mask(label="car", bitmap=self.PIXELS, left=-2, top=47)).bitmap) == "#"
        assert drawn(one(Mask(label="car", bitmap=self.PIXELS, left=97, top=48)).bitmap) == "##"

    def test_empty_is_refused(self) -> None:
        for size in ((3, 3), (0, 0)):
            with pytest.raises(NothingInside, match=r"^shape 0 \(car\): the mask is empty$"):
                one(Mask(label="car", bitmap=np.zeros(size, bool)))

    def test_outside_the_image_is_refused(self) -> None:
        for left, top in ((-10, 0), (100, 0), (98, 49), (0, -3)):
            with pytest.raises(NothingInside, match="the mask is outside the image of 100 x 50 pixels"):
                one(Mask(label="car", bitmap=self.PIXELS, left=left + 1, top=top))

    def test_a_given_outline_is_clipped(self) -> None:
        shape = one(Mask(label="car", bitmap=self.PIXELS, outline_xy=np.array([[-1.0, 0], [2, 0], [2, 60]])))
        assert shape.outline_xy.tolist() == [[0, 0], [2, 0], [2, 50]]

    @pytest.mark.parametrize(
        ("outline", "message"),
        [
            ([[1.0, 1], [2, 2]], "the outline of a mask needs 3 points, got 2"),
            ([[1.0, 1], [2, 2], [3, math.nan]], "outline: expected finite"),
        ],
    )
    def test_a_given_outline_that_is_none_is_refused(self, outline: Any, message: str) -> None:
        assert message in refused(Mask(label="car", bitmap=self.PIXELS, outline_xy=np.array(outline)))


class TestSkeleton:
    def test_joints_are_clipped_and_stay_in_order(self) -> None:
        shape = one(Skeleton(label="arm", joints=(Joint("elbow", 5, 60), Joint("hand", -3, 4.5, visible=False))))
        assert shape.joints == (Joint("elbow", 5, 50), Joint("hand", 0, 4.5, visible=False))

    @pytest.mark.parametrize(
        ("joints", "message"),
        [
            ([Joint("knee", 1, 1)], "the joints knee are not in the function's spec: hand, elbow, shoulder"),
            ([Joint("hand", 1, 1), Joint("hand", 2, 2)], "a joint is given more than once"),
            ([Joint("hand", 1, 1, visible=False)], "expected at least one visible joint"),
            ([], "expected at least one visible joint"),
            ([Joint("hand", math.nan, 1)], "joint hand: expected a point, got [nan, 1]"),
        ],
    )
    def test_of_wrong_joints_is_refused(self, joints: list[Joint], message: str) -> None:
        assert refused(Skeleton(label="arm", joints=tuple(joints))).startswith(f"shape 1 (arm): {message}")


class TestGeometryAlone:
    def test_of_a_tag_is_the_tag(self) -> None:
        tag = Tag()
        assert conform_geometry(tag, SIZE_HW) is tag

    def test_errors_name_the_place(self) -> None:
        with pytest.raises(ModelError, match=r"^shapes\[3\]: expected a box with an area"):
            conform_geometry(Rectangle(box_xyxy=(1, 1, 1, 1)), SIZE_HW, "shapes[3]")
