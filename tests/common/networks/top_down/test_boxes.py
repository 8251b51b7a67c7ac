"""Which of a detector's classes get a pose."""

from __future__ import annotations

import json

import pytest

from common.cvat.labels import Labels, parse_labels
from common.errors import StartupError
from common.networks.top_down.boxes import labels_of_classes

NAMES = ("cat", "Person", "dog")


def skeletons(*names: str) -> Labels:
    return parse_labels(
        json.dumps(
            [
                {
                    "id": i,
                    "name": name,
                    "type": "skeleton",
                    "svg": "<circle r='0.75' cx='50' cy='50' data-type='element node' data-element-id='1' "
                    "data-node-id='1' data-label-id='1'/>",
                    "sublabels": [{"id": 1, "name": "nose", "type": "points"}],
                }
                for i, name in enumerate(names)
            ]
        )
    )


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize(
    ("labels", "names", "wanted", "expected"),
    [
        pytest.param(("dog", "cat"), NAMES, None, {2: "dog", 0: "cat"}, id="by name"),
        pytest.param(("skater",), NAMES, "", {1: "skater"}, id="person"),
        pytest.param(("skater",), ("horse",), None, {0: "skater"}, id="the only class"),
        pytest.param(("skater",), NAMES, "dog, cat", {2: "skater", 0: "skater"}, id="wanted names"),
        pytest.param(("skater",), None, None, {0: "skater"}, id="no names"),
    ],
)
def test_classes_count_from_the_detectors_first(
    first: int, labels: tuple[str, ...], names: tuple[str, ...] | None, wanted: str | None, expected: dict[int, str]
) -> None:
    """Where class 0 is the background, the first name is that of class 1."""
    found = labels_of_classes(skeletons(*labels), names, wanted, first)
    assert {index: label.name for index, label in found.items()} == {i + first: name for i, name in expected.items()}


def test_wanted_indices_are_the_detectors_own() -> None:
    assert list(labels_of_classes(skeletons("skater"), NAMES, "3", 1)) == [3]
    for first, outside in ((0, "3"), (1, "0"), (1, "4")):
        with pytest.raises(StartupError, match="DETECTOR_CLASSES: expected one of its 3 classes"):
            labels_of_classes(skeletons("skater"), NAMES, outside, first)
