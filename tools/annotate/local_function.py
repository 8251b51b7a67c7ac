"""Predictors for functions that run in this process."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from common.config import FunctionConfig
from common.cvat.request import parse_reid_boxes
from common.protocol import Image
from common.serving import kinds
from common.serving.kinds.detector import Detector
from common.serving.kinds.reid import Reid
from common.serving.stages import Stages
from common.shapes import Shape
from common.vision.image import decode_image
from common.vision.matching import ReidBox
from tools.annotate.annotation_encoder import AnnotationEncoder
from tools.annotate.predictor import FrameInput, FrameResult, Predictor, annotate_each, match_each

KindT = TypeVar("KindT", Detector, Reid)


@dataclass(frozen=True)
class LocalDetector:
    """How to make a detector in this process."""

    overlap: ClassVar[int] = 0

    directory: Path
    options: Mapping[str, Any]
    threshold: float | None
    """None for the function's own."""
    encoder: AnnotationEncoder
    workers: int = 1
    """How many such processes share the machine's cores."""

    def open(self, library: str = "") -> Predictor:
        """See `PredictorSpec.open`."""
        return _LocalDetector(self, _load(Detector, self.directory, self.options, self.workers, library))


class _LocalDetector:
    def __init__(self, spec: LocalDetector, detector: Detector):
        self._threshold, self._detector = spec.threshold, detector
        self._encoder = replace(spec.encoder, tolerance=detector.polygon_tolerance)

    def predict(self, block: Sequence[FrameInput]) -> list[FrameResult]:
        if len(block) > 1 and self._detector.takes_batches:
            # When one of the frames fails, each is annotated alone.
            with contextlib.suppress(Exception):
                images = [decode_image(frame.data) for frame in block]
                found = self._detector.detect_batch(images, self._threshold, Stages())
                return [self._result(*one) for one in zip(block, images, found, strict=True)]
        return annotate_each(self._annotate, block)

    def _annotate(self, frame: FrameInput) -> FrameResult:
        image = decode_image(frame.data)
        return self._result(frame, image, self._detector.detect(image, self._threshold, Stages()))

    def _result(self, frame: FrameInput, image: Image, shapes: Sequence[Shape]) -> FrameResult:
        size_wh = image.shape[1], image.shape[0]
        return FrameResult(frame.frame, self._encoder(frame.frame, shapes), size_wh=size_wh)


@dataclass(frozen=True)
class LocalReid:
    """How to make a reid function in this process."""

    overlap: ClassVar[int] = 1

    directory: Path
    options: Mapping[str, Any]
    threshold: float | None
    """The largest distance of appearance; None for the function's own."""
    max_distance: float | None
    """In pixels; None for the function's own."""
    workers: int = 1
    """How many such processes share the machine's cores."""

    def open(self, library: str = "") -> Predictor:
        """See `PredictorSpec.open`."""
        return _LocalReid(self, _load(Reid, self.directory, self.options, self.workers, library))


class _LocalReid:
    def __init__(self, spec: LocalReid, reid: Reid):
        self._spec, self._reid = spec, reid

    def predict(self, block: Sequence[FrameInput]) -> list[FrameResult]:
        # Each frame is decoded and embedded once, though it belongs to two pairs.
        embedded: dict[int, tuple[Sequence[ReidBox], NDArray[np.float32]]] = {}

        def embed(frame: FrameInput) -> tuple[Sequence[ReidBox], NDArray[np.float32]]:
            if frame.frame not in embedded:
                boxes = parse_reid_boxes({"boxes": list(frame.boxes)}, "boxes")
                embedded[frame.frame] = boxes, self._reid.embed(decode_image(frame.data), boxes)
            return embedded[frame.frame]

        def match(first: FrameInput, second: FrameInput) -> FrameResult:
            (boxes0, embeddings0), (boxes1, embeddings1) = embed(first), embed(second)
            limits = self._spec.threshold, self._spec.max_distance
            partners = self._reid.match(embeddings0, embeddings1, boxes0, boxes1, *limits)
            return FrameResult(first.frame, partners=partners)

        return match_each(match, block)


def _load(kind: type[KindT], directory: Path, options: Mapping[str, Any], workers: int, library: str) -> KindT:
    config = replace(FunctionConfig.load(directory), workers=max(workers, 1))
    return kinds.load_as(kind, config, {**options, "engine": library} if library else options)
