"""Predictors for functions that run in this process."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from common.cvat.request import parse_reid_boxes
from common.protocol import Image
from common.serving.kinds.detector import Detector
from common.serving.kinds.reid import Reid
from common.serving.stages import Stages
from common.shapes import Shape
from common.vision.image import decode_image
from common.vision.matching import ReidBox
from tools.annotate.annotation_encoder import AnnotationEncoder
from tools.annotate.predictor import FrameInput, FrameResult, result_or_error


class LocalDetector:
    """A detector in this process."""

    def __init__(self, detector: Detector, threshold: float | None, encoder: AnnotationEncoder):
        """Takes a detector whose model is loaded.

        Args:
            detector: the detector.
            threshold: None for the function's own.
            encoder: what its shapes become.
        """
        self._detector, self._threshold = detector, threshold
        self._encoder = replace(encoder, tolerance=detector.polygon_tolerance)

    def predict(self, block: Sequence[FrameInput]) -> list[FrameResult]:
        """See `Predictor.predict`."""
        if len(block) > 1 and self._detector.takes_batches:
            # When one of the frames fails, each is annotated alone.
            with contextlib.suppress(Exception):
                images = [decode_image(frame.data) for frame in block]
                found = self._detector.detect_batch(images, self._threshold, Stages())
                return [self._result(*one) for one in zip(block, images, found, strict=True)]
        return [result_or_error(self._annotate, frame) for frame in block]

    def _annotate(self, frame: FrameInput) -> FrameResult:
        image = decode_image(frame.data)
        return self._result(frame, image, self._detector.detect(image, self._threshold, Stages()))

    def _result(self, frame: FrameInput, image: Image, shapes: Sequence[Shape]) -> FrameResult:
        size_wh = image.shape[1], image.shape[0]
        return FrameResult(frame.frame, self._encoder(frame.frame, shapes), size_wh=size_wh)


class LocalReid:
    """A reid function in this process."""

    def __init__(self, reid: Reid, threshold: float | None, max_distance: float | None):
        """Takes a reid function whose model is loaded.

        Args:
            reid: the reid function.
            threshold: the largest distance of appearance; None for the function's own.
            max_distance: in pixels; None for the function's own.
        """
        self._reid, self._limits = reid, (threshold, max_distance)

    def predict(self, block: Sequence[FrameInput]) -> list[FrameResult]:
        """See `Predictor.predict`."""
        # Each frame is decoded and embedded once, though it belongs to two pairs.
        embedded: dict[int, tuple[Sequence[ReidBox], NDArray[np.float32]]] = {}

        def embed(frame: FrameInput) -> tuple[Sequence[ReidBox], NDArray[np.float32]]:
            if frame.frame not in embedded:
                boxes = parse_reid_boxes({"boxes": list(frame.boxes)}, "boxes")
                embedded[frame.frame] = boxes, self._reid.embed(decode_image(frame.data), boxes)
            return embedded[frame.frame]

        def match(first: FrameInput, second: FrameInput) -> FrameResult:
            (boxes0, embeddings0), (boxes1, embeddings1) = embed(first), embed(second)
            partners = self._reid.match(embeddings0, embeddings1, boxes0, boxes1, *self._limits)
            return FrameResult(first.frame, partners=partners)

        return [result_or_error(match, first, second) for first, second in itertools.pairwise(block)]
