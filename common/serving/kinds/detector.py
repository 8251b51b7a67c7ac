"""Detectors: an image in, annotations out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from common.config import FunctionConfig, KindName
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
    """The function around a detector's handler.

    Options:
        THRESHOLD: The confidence, 0 to 1, when the user sets none.
        LABEL_THRESHOLDS: `car=0.4, person=0.6`, for some of the labels; they replace THRESHOLD, and a user's own
            threshold only raises them.
        TILE_SIZE: Pixels, 0 for none: larger images are also searched in tiles of that size, for small objects.
        TILE_OVERLAP: How much of a tile the next one shows again, 0 to 0.9; objects of that size are found whole.
        POLYGON_TOLERANCE: How far, in pixels, the polygon beside a mask may leave the mask's edge.
    """

    kind: ClassVar[KindName] = "detector"

    def __init__(
        self,
        config: FunctionConfig,
        load_handler: Callable[[], DetectorHandler],
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
        self._label_thresholds = _read_thresholds(label_thresholds, config)
        handler = load_handler()
        self._labels, self._handler, self._threshold = config.labels, handler, threshold
        self._tile_size, self._tile_overlap = tile_size, tile_overlap
        self._batches = handler if isinstance(handler, BatchDetectorHandler) and not tile_size else None
        self.polygon_tolerance = polygon_tolerance

    def answer(self, body: Mapping[str, Any], stages: Stages) -> str:
        """The JSON text of the reply to a request.

        Args:
            body: The request's JSON object.
            stages: Filled in with the times and facts of this request.

        Raises:
            BadRequest: The request is at fault.
            ModelError: The handler returned something that CVAT can't take.
        """
        with stages.measure("decode"):
            request = DetectorRequest.parse(body)
            image = decode_image(request.image)
        stages.facts["image"] = f"{image.shape[1]}x{image.shape[0]}"
        shapes = self.detect(image, request.threshold, stages)
        with stages.measure("encode"):
            return detector_reply(shapes, self.polygon_tolerance)

    def detect(self, image: Image, threshold: float | None, stages: Stages) -> list[Shape]:
        """The shapes of an image as CVAT takes them: labels, attributes and geometry as function.yaml says.

        Args:
            image: (H, W, 3) uint8 RGB.
            threshold: Confidence, 0 to 1; None for the function's own. CVAT leaves out a threshold of 0.
            stages: Filled in with the times and facts of this image.
        """
        with stages.measure("inference"):
            found = self._find(image, self._lowest(threshold), stages)
        with stages.measure("encode"):
            shapes = self._finished(found, image, threshold)
        stages.facts["shapes"] = len(shapes)
        return shapes

    @property
    def takes_batches(self) -> bool:
        """Whether the model processes several images together."""
        return self._batches is not None

    def detect_batch(self, images: Sequence[Image], threshold: float | None, stages: Stages) -> list[list[Shape]]:
        """What `detect` returns for each of several images.

        Args:
            images: (H, W, 3) uint8 RGB each.
            threshold: Confidence, 0 to 1; None for the function's own.
            stages: Filled in with the times and facts of all of them.
        """
        if self._batches is None or len(images) == 1:
            return [self.detect(image, threshold, stages) for image in images]
        with stages.measure("inference"):
            found = self._batches.infer_batch(images, self._lowest(threshold))
        with stages.measure("encode"):
            shapes = [self._finished(each, image, threshold) for each, image in zip(found, images, strict=True)]
        stages.facts["shapes"] = sum(map(len, shapes))
        return shapes

    def _lowest(self, threshold: float | None) -> float:
        """The confidence that a shape of any label may have to count."""
        return min([self._usual(threshold), *self._limits(threshold).values()])

    def _usual(self, threshold: float | None) -> float:
        return self._threshold if threshold is None else threshold

    def _limits(self, threshold: float | None) -> dict[str, float]:
        return {label: max(limit, threshold or 0.0) for label, limit in self._label_thresholds.items()}

    def _finished(self, shapes: Sequence[Shape], image: Image, threshold: float | None) -> list[Shape]:
        """The shapes that a handler returned without those below their label's threshold, as CVAT takes them."""
        if limits := self._limits(threshold):
            usual = self._usual(threshold)
            shapes = [s for s in shapes if s.score is None or s.score >= limits.get(s.label, usual)]
        return conform(shapes, self._labels, image.shape[:2])

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
