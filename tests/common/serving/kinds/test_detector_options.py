"""Tiles and thresholds by label: what every detector has, through a handler that shows what it was asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from common.config import FunctionConfig
from common.cvat.labels import parse_labels
from common.errors import StartupError
from common.serving.kinds.detector import Detector
from common.serving.stages import Stages
from common.shapes import Rectangle, Shape

LABELS = parse_labels('[{"name": "car", "type": "rectangle"}, {"name": "a=b, c", "type": "rectangle"}]')
CONFIG = FunctionConfig(directory=Path(), name="onnx-some", kind="detector", labels=LABELS)


class Finder:
    """Two shapes in each picture, and a note of each call: (height, width, threshold)."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int, float]] = []

    def infer(self, image: np.ndarray, threshold: float) -> list[Shape]:
        self.calls.append((*image.shape[:2], threshold))
        found = [("car", 0.45, 10), ("car", 0.7, 40), ("a=b, c", 0.45, 70), ("a=b, c", 0.7, 100)]
        return [
            Rectangle(label=label, score=score, box_xyxy=(x, 5, x + 20, 25))
            for label, score, x in found
            if score >= threshold and x + 20 <= image.shape[1]
        ]


def found(options: dict[str, object], threshold: float | None) -> list[tuple[str, float]]:
    shapes = Detector(CONFIG, Finder, **options).detect(np.zeros((60, 160, 3), np.uint8), threshold, Stages())  # type: ignore[arg-type]
    return [(shape.label, shape.score) for shape in shapes]


@pytest.mark.parametrize(
    ("own", "asked", "expected"),
    [
        (None, None, [("car", 0.7), ("a=b, c", 0.7)]),
        ("car=0.4", None, [("car", 0.45), ("car", 0.7), ("a=b, c", 0.7)]),
        ("car=0.8", None, [("a=b, c", 0.7)]),
        ("car=0.4", 0.6, [("car", 0.7), ("a=b, c", 0.7)]),  # never below what the user asked for
        ("car=0.8", 0.1, [("a=b, c", 0.45), ("a=b, c", 0.7)]),
        ('{"a=b, c": 0.4}', None, [("car", 0.7), ("a=b, c", 0.45), ("a=b, c", 0.7)]),
    ],
)
def test_thresholds_by_label(own: str | None, asked: float | None, expected: list[tuple[str, float]]) -> None:
    assert found({"label_thresholds": own, "threshold": 0.5}, asked) == expected


@pytest.mark.parametrize("text", ["car", "car=high", "car=2", "bus=0.5", '{"car": "x"}', "{", '["car"]', "car=nan"])
def test_refuses_thresholds(text: str) -> None:
    with pytest.raises(StartupError, match="LABEL_THRESHOLDS"):
        Detector(CONFIG, Finder, label_thresholds=text)


def test_tiles_are_looked_at_beside_the_whole_image() -> None:
    finder, stages = Finder(), Stages()
    shapes = Detector(CONFIG, lambda: finder, tile_size=64, tile_overlap=0.25).detect(
        np.zeros((60, 160, 3), np.uint8), 0.6, stages
    )
    assert finder.calls == [(60, 160, 0.6), (60, 64, 0.6), (60, 64, 0.6), (60, 64, 0.6)]
    assert stages.facts["tiles"] == 3
    # Each sight is of another place, except those of the first tile, which are the whole image's.
    lefts = sorted(shape.box_xyxy[0] for shape in shapes if shape.label == "car")
    assert lefts == [40, 88, 136]


def test_no_tiles_for_an_image_that_is_no_larger() -> None:
    finder = Finder()
    Detector(CONFIG, lambda: finder, tile_size=160).detect(np.zeros((60, 160, 3), np.uint8), None, Stages())
    assert [call[:2] for call in finder.calls] == [(60, 160)]


@pytest.mark.parametrize("options", [{"tile_size": 8}, {"tile_size": -640}, {"tile_size": 640, "tile_overlap": 1.0}])
def test_refuses_tiles(options: dict[str, float]) -> None:
    with pytest.raises(StartupError, match="TILE_"):
        Detector(CONFIG, Finder, **options)  # type: ignore[arg-type]
