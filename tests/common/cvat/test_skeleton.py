import math
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from common.cvat.skeleton import COCO_EDGES, COCO_JOINTS, default_layout, skeleton_svg
from common.errors import StartupError


def elements(svg: str) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """The attributes of the circles and of the lines, in their order."""
    root = ET.fromstring(f"<svg>{svg}</svg>")
    assert {element.tag for element in root} <= {"circle", "line"}
    return [e.attrib for e in root if e.tag == "circle"], [e.attrib for e in root if e.tag == "line"]


class TestSvg:
    def test_has_what_cvat_reads(self) -> None:
        circles, lines = elements(
            skeleton_svg(["hand", "left elbow", "Schulter ä"], [(0, 1), (1, 2)], [(10, 20), (30.5, 40), (50, 60)])
        )
        assert [(c["cx"], c["cy"], c["data-label-name"]) for c in circles] == [
            ("10", "20", "hand"),
            ("30.5", "40", "left elbow"),
            ("50", "60", "Schulter ä"),
        ]
        for number, circle in enumerate(circles, 1):
            assert circle["data-type"] == "element node"
            assert circle["data-element-id"] == circle["data-node-id"] == str(number)
            assert float(circle["r"]) > 0
        assert [(e["x1"], e["y1"], e["x2"], e["y2"]) for e in lines] == [
            ("10", "20", "30.5", "40"),
            ("30.5", "40", "50", "60"),
        ]
        assert [(e["data-node-from"], e["data-node-to"]) for e in lines] == [("1", "2"), ("2", "3")]
        assert {e["data-type"] for e in lines} == {"edge"}

    def test_layout_by_name_may_know_more_joints(self) -> None:
        circles, _ = elements(skeleton_svg(["a", "b"], layout={"b": (1, 2), "a": (3, 4), "c": (5, 6)}))
        assert [(c["cx"], c["cy"]) for c in circles] == [("3", "4"), ("1", "2")]

    def test_an_edge_given_twice_is_drawn_once(self) -> None:
        assert len(elements(skeleton_svg(["a", "b"], [(0, 1), (1, 0), (0, 1)]))[1]) == 1

    @pytest.mark.parametrize("count", [1, 2, 5, 40])
    def test_joints_that_nobody_placed_lie_apart_and_inside(self, count: int) -> None:
        places = default_layout([str(i) for i in range(count)])
        assert len(places) == count
        assert all(0 <= v <= 100 for place in places for v in place)
        for i, one in enumerate(places):
            assert all(math.dist(one, other) > 3 for other in places[:i])

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"joints": []}, "at least one joint"),
            ({"joints": ["a", "a"]}, "unique"),
            ({"joints": ["a", ""]}, "the joint name '' is empty"),
            ({"joints": ['a"b']}, "has one of"),
            ({"joints": ["a<b"]}, "has one of"),
            ({"joints": ["a&b"]}, "has one of"),
            ({"joints": ["a", "b"], "edges": [(0, 2)]}, r"the edge \(0, 2\) does not join two of 2 joints"),
            ({"joints": ["a", "b"], "edges": [(-1, 0)]}, r"the edge \(-1, 0\)"),
            ({"joints": ["a", "b"], "edges": [(1, 1)]}, r"the edge \(1, 1\)"),
            ({"joints": ["a", "b"], "layout": [(1, 2)]}, "2 joints but 1 places"),
            ({"joints": ["a", "b"], "layout": {"a": (1, 2)}}, "the layout has no place for b"),
            ({"joints": ["a"], "layout": [(101, 2)]}, r"the place \(101, 2\) of a is not in 0 to 100 percent"),
            ({"joints": ["a"], "layout": [(-1, 2)]}, "not in 0 to 100"),
            ({"joints": ["a"], "layout": [(math.nan, 2)]}, "not in 0 to 100"),
        ],
    )
    def test_refuses_what_does_not_fit_together(self, arguments: dict[str, Any], message: str) -> None:
        with pytest.raises(StartupError, match=f"^skeleton: .*{message}"):
            skeleton_svg(**arguments)


class TestCoco:
    def test_joints_and_edges_are_those_of_the_data_set(self) -> None:
        assert len(COCO_JOINTS) == len(set(COCO_JOINTS)) == 17
        published = [
            [16, 14], [14, 12], [17, 15], [15, 13], [12, 13], [6, 12], [7, 13], [6, 7], [6, 8], [7, 9], [8, 10], [9, 11],
            [2, 3], [1, 2], [1, 3], [2, 4], [3, 5], [4, 6], [5, 7],
        ]  # fmt: skip
        assert {frozenset((a + 1, b + 1)) for a, b in COCO_EDGES} == {frozenset(edge) for edge in published}

    def test_layout_is_a_person_seen_from_the_front(self) -> None:
        place = dict(zip(COCO_JOINTS, default_layout(COCO_JOINTS), strict=True))
        for part in ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle"):
            left, right = place[f"left_{part}"], place[f"right_{part}"]
            assert left[0] > 50 > right[0]
            assert left[0] + right[0] == 100
            assert left[1] == right[1]
        heights = [place[f"left_{part}"][1] for part in ("eye", "shoulder", "elbow", "hip", "knee", "ankle")]
        assert heights == sorted(heights)

    def test_svg_has_all_joints_and_edges(self) -> None:
        circles, lines = elements(skeleton_svg(COCO_JOINTS, COCO_EDGES))
        assert [circle["data-label-name"] for circle in circles] == list(COCO_JOINTS)
        assert len(lines) == 19
