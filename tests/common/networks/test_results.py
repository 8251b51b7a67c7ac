"""Results as shapes of the labels' types, and labels that don't belong to a model."""

from __future__ import annotations

import json
import math

import cv2
import numpy as np
import pytest

from common.cvat.labels import Labels, parse_labels
from common.cvat.reply import detector_reply
from common.cvat.skeleton import skeleton_svg
from common.errors import StartupError
from common.networks.results import Found, check_types, class_labels, to_shapes
from common.shapes import Mask, Polygon, Rectangle, Skeleton, Tag


def labels(kind: str, *names: str, joints: tuple[str, ...] = ()) -> Labels:
    parts = (
        {"sublabels": [{"name": j, "type": "points"} for j in joints], "svg": skeleton_svg(joints)} if joints else {}
    )
    return parse_labels(json.dumps([{"id": i, "name": name, "type": kind, **parts} for i, name in enumerate(names)]))


def one(**what: object) -> Found:
    return Found(np.array([0.75], np.float32), np.array([0]), **what)  # type: ignore[arg-type]


BOX = np.array([[10.0, 20, 50, 40]])


@pytest.mark.parametrize(
    "rotated",
    [
        (50.3, 40.2, 40, 12, 0.4),
        (50, 40, 40, 12, -0.7),
        (50, 40, 12, 40, 1.9),
        (50, 40, 30, 30, 2.3),
        (50, 40, 40, 12, 0),
    ],
)
def test_turned_boxes_cover_in_cvat_what_the_network_means(rotated: tuple[float, ...]) -> None:
    """CVAT draws the points of a rectangle turned clockwise about its centre: its area must be the network's."""
    found = one(boxes_xyxy=BOX, rotated_xywhr=np.array([rotated]))
    (shape,) = to_shapes(found, dict(enumerate(labels("rectangle", "ship").values())), 0.5)
    (annotation,) = json.loads(detector_reply([shape]))
    left, top, right, bottom = annotation["points"]
    degrees = annotation.get("rotation", 0)
    assert 0 <= degrees < 360
    # As the browser does it: an SVG rotation, clockwise on the screen, where y grows downwards.
    turn = math.radians(degrees)
    center = np.array([(left + right) / 2, (top + bottom) / 2])
    upright = np.array([[left, top], [right, top], [right, bottom], [left, bottom]]) - center
    drawn = upright @ np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]]) + center

    def raster(outline: np.ndarray) -> np.ndarray:
        canvas = np.zeros((800, 1000), np.uint8)
        cv2.fillPoly(canvas, [np.round(outline * 10).astype(np.int32)], 1)
        return canvas > 0

    from ultralytics.utils.ops import xywhr2xyxyxyxy

    ours, theirs = raster(drawn), raster(xywhr2xyxyxyxy(np.array(rotated)))
    assert (ours & theirs).sum() > 0.995 * (ours | theirs).sum()
    (polygon,) = to_shapes(found, dict(enumerate(labels("polygon", "ship").values())), 0.5)
    assert (raster(polygon.points_xy) == theirs).mean() > 0.999


def test_each_result_takes_its_labels_type() -> None:
    mask = Mask(bitmap=np.ones((20, 40), np.bool_), left=10, top=20)
    joints = np.array([[[11, 21, 0.9], [12, 22, 0.3]]])

    def shape_of(kind: str, joint_names: tuple[str, ...] = (), **what: object) -> object:
        return to_shapes(one(**what), dict(enumerate(labels(kind, "x", joints=joint_names).values())), 0.5)[0]

    rectangle = shape_of("rectangle", boxes_xyxy=BOX)
    assert isinstance(rectangle, Rectangle) and rectangle.box_xyxy == (10, 20, 50, 40) and rectangle.score == 0.75
    assert isinstance(shape_of("any", boxes_xyxy=BOX), Rectangle)
    assert isinstance(shape_of("mask", boxes_xyxy=BOX, masks=(mask,)), Mask)
    assert isinstance(shape_of("any", boxes_xyxy=BOX, masks=(mask,)), Mask)
    assert isinstance(shape_of("rectangle", boxes_xyxy=BOX, masks=(mask,)), Rectangle)
    polygon = shape_of("polygon", boxes_xyxy=BOX, masks=(mask,))
    assert isinstance(polygon, Polygon)
    assert sorted(polygon.points_xy.tolist()) == [[10, 20], [10, 40], [50, 20], [50, 40]]
    quadrangle = shape_of("polygon", boxes_xyxy=BOX, rotated_xywhr=np.array([[30, 30, 40, 20, math.pi / 2]]))
    assert isinstance(quadrangle, Polygon)
    assert sorted(np.round(quadrangle.points_xy).tolist()) == [[20, 10], [20, 50], [40, 10], [40, 50]]
    skeleton = shape_of("skeleton", ("head", "tail"), boxes_xyxy=BOX, joints=joints)
    assert isinstance(skeleton, Skeleton)
    assert [(j.name, j.x, j.y, j.visible) for j in skeleton.joints] == [("head", 11, 21, True), ("tail", 12, 22, False)]
    assert isinstance(shape_of("rectangle", boxes_xyxy=BOX, joints=joints), Rectangle)
    assert isinstance(shape_of("tag"), Tag)


def test_a_skeleton_without_a_visible_joint_is_left_out() -> None:
    found = one(boxes_xyxy=BOX, joints=np.array([[[11, 21, 0.2]]]))
    by_class = dict(enumerate(labels("skeleton", "x", joints=("head",)).values()))
    assert to_shapes(found, by_class, 0.5) == []
    assert len(to_shapes(found, by_class, 0.2)) == 1


def test_classes_without_a_label_are_left_out() -> None:
    found = Found(np.array([0.9, 0.8], np.float32), np.array([3, 1]), boxes_xyxy=np.repeat(BOX, 2, axis=0))
    (shape,) = to_shapes(found, {1: labels("rectangle", "dog")["dog"]}, 0.5)
    assert (shape.label, shape.score) == ("dog", pytest.approx(0.8))


def test_labels_by_name() -> None:
    model = ("cat", "police_van", "dog's", "a\nb")

    def mapping(*names: str) -> dict[int, str]:
        return {i: label.name for i, label in class_labels(labels("rectangle", *names), model, 4, False).items()}

    assert mapping("cat", "police_van", "dog's", "a b") == {0: "cat", 1: "police_van", 2: "dog's", 3: "a b"}
    assert mapping("dog's", "cat") == {2: "dog's", 0: "cat"}  # some, in another order
    assert mapping("Police van") == {1: "Police van"}
    with pytest.raises(
        StartupError, match=r"no class named bus, person; its 4 classes: cat, .*make new WEIGHTS=.*LABELS_BY=id"
    ):
        mapping("cat", "bus", "person")


def test_both_spellings_of_cocos_names_are_one_class() -> None:
    model = ("motorbike", "aeroplane", "sofa", "pottedplant", "diningtable", "tvmonitor")
    names = ("motorcycle", "airplane", "couch", "potted plant", "dining table", "tv")
    for these, those in ((model, names), (names, model)):
        found = class_labels(labels("rectangle", *those), these, 6, False)
        assert [found[i].name for i in range(6)] == list(those)
    both = class_labels(labels("rectangle", "couch"), ("sofa", "couch"), 2, False)
    assert list(both) == [1], "the same name is nearer"


def test_labels_by_number() -> None:
    wanted = labels("rectangle", "Katze", "Hund")
    assert {i: label.name for i, label in class_labels(wanted, ("cat", "dog"), 2, True).items()} == {
        0: "Katze",
        1: "Hund",
    }
    assert set(class_labels(wanted, None, 80, False)) == {0, 1}
    assert set(class_labels(wanted, None, None, False)) == {0, 1}
    with pytest.raises(StartupError, match=r"model has 1 classes.*not among 0 to 0: Hund"):
        class_labels(wanted, None, 1, False)
    with pytest.raises(StartupError, match="model has 1 classes"):
        class_labels(wanted, ("cat",), 1, True)


def test_types_that_a_task_can_not_give() -> None:
    check_types(labels("polygon", "x"), "segment")
    with pytest.raises(StartupError, match=r"task is detect; .* of type rectangle or any, but these are not: a, b"):
        check_types(labels("mask", "a", "b"), "detect")
    with pytest.raises(StartupError, match="the model finds 17 joints, the label x has 2 sublabels"):
        check_types(labels("skeleton", "x", joints=("a", "b")), "pose", (17, 3))
