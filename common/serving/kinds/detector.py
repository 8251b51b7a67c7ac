"""Detectors: an image in, annotations out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from common.config import FunctionConfig
from common.cvat.conform import conform
from common.cvat.reply import detector_reply
from common.cvat.request import DetectorRequest
from common.errors import StartupError, describe
from common.protocol import BatchDetectorHandler, DetectorHandler, Image
from common.serving.options import check_range
from common.serving.stages import Stages
from common.shapes import Shape
from common.vision.image import decode_image
from common.vision.tiling import find_in_tiles, tiles

_SMALLEST_TILE = 32


class Detector:
    """Options:

    THRESHOLD: the confidence when the user sets none. LABEL_THRESHOLDS: `car=0.4, person=0.6`, of some labels; they take
    the place of THRESHOLD, and a user's own threshold only raises them.
    TILE_SIZE: in pixels, 0 for none: images larger than that are also looked at in tiles, for small objects.
    TILE_OVERLAP: how much of a tile the next one shows again, 0 to 0.9; objects of that size are found whole.
    POLYGON_TOLERANCE: in pixels, for masks' outlines.
    """

    def __init__(
        self,
        config: FunctionConfig,
        handler: DetectorHandler,
        *,
        threshold: float = 0.5,
        label_thresholds: str | None = None,
        tile_size: int = 0,
        tile_overlap: float = 0.2,
        polygon_tolerance: float = 1.0,
    ):
        check_range("THRESHOLD", threshold, 0, 1)
        check_range("TILE_OVERLAP", tile_overlap, 0, 0.9)
        if tile_size and tile_size < _SMALLEST_TILE:
            raise StartupError(f"TILE_SIZE: expected 0 (no tiles) or {_SMALLEST_TILE} pixels or more, got {tile_size}")
        check_range("POLYGON_TOLERANCE", polygon_tolerance)
        self._config, self._handler, self._threshold = config, handler, threshold
        self._label_thresholds = _read_thresholds(label_thresholds, config)
        self._tile_size, self._tile_overlap = tile_size, tile_overlap
        self.polygon_tolerance = polygon_tolerance

    def answer(self, body: Mapping[str, Any], stages: Stages) -> str:
        with stages.measure("decode"):
            request = DetectorRequest.parse(body)
            image = decode_image(request.image)
        stages.facts["image"] = f"{image.shape[1]}x{image.shape[0]}"
        shapes = self.detect(image, request.threshold, stages)
        with stages.measure("encode"):
            return detector_reply(shapes, self.polygon_tolerance)

    def detect(self, image: Image, threshold: float | None, stages: Stages) -> list[Shape]:
        """The shapes of an image as CVAT takes them: labels, attributes and geometry as function.yaml says.

        threshold: None for the function's own; CVAT leaves out a threshold of 0.
        """
        return self.detect_batch([image], threshold, stages)[0]

    @property
    def takes_batches(self) -> bool:
        """Whether the model looks at several images together."""
        return isinstance(self._handler, BatchDetectorHandler) and not self._tile_size

    def detect_batch(self, images: Sequence[Image], threshold: float | None, stages: Stages) -> list[list[Shape]]:
        """What `detect` returns for each of the images."""
        usual = self._threshold if threshold is None else threshold
        limits = {label: max(limit, threshold or 0.0) for label, limit in self._label_thresholds.items()}
        lowest = min([usual, *limits.values()])
        with stages.measure("inference"):
            if len(images) > 1 and self.takes_batches and isinstance(self._handler, BatchDetectorHandler):
                found = self._handler.infer_batch(images, lowest)
            else:
                found = [self._find(image, lowest, stages) for image in images]
            if limits:
                found = [
                    [s for s in shapes if s.score is None or s.score >= limits.get(s.label, usual)] for shapes in found
                ]
        with stages.measure("encode"):
            labels = self._config.labels
            found = [conform(shapes, labels, image.shape[:2]) for shapes, image in zip(found, images, strict=True)]
        stages.facts["shapes"] = sum(map(len, found))
        return found

    def _find(self, image: Image, threshold: float, stages: Stages) -> list[Shape]:
        size_hw = image.shape[0], image.shape[1]
        boxes = tiles(size_hw, self._tile_size, self._tile_overlap) if self._tile_size else []
        if not boxes:
            return self._handler.infer(image, threshold)
        stages.facts["tiles"] = len(boxes)
        return find_in_tiles(lambda part: self._handler.infer(part, threshold), image, boxes)


def _read_thresholds(text: str | None, config: FunctionConfig) -> dict[str, float]:
    """`car=0.4, person=0.6`, or the same as a JSON object for labels with commas and the like, checked."""
    if not text:
        return {}
    try:
        if text.startswith("{"):
            given = {str(label): float(limit) for label, limit in json.loads(text).items()}
        else:
            pairs = (item.rpartition("=") for item in text.split(",") if item.strip())
            given = {label.strip(): float(limit) for label, _, limit in pairs}
    except (ValueError, TypeError, AttributeError):
        raise StartupError(
            f"LABEL_THRESHOLDS: expected label=number pairs such as car=0.4, person=0.6, got {describe(text)}"
        ) from None
    if unknown := [label for label in given if label not in config.labels]:
        raise StartupError(f"LABEL_THRESHOLDS: {', '.join(unknown[:4])} is not among the labels of {config.name}")
    for label, limit in given.items():
        check_range(f"LABEL_THRESHOLDS of {label}", limit, 0, 1)
    return given
