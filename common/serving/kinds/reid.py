"""Re-identification: two frames with boxes in, the pairs that show the same object out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from common.config import FunctionConfig, KindName
from common.cvat.reply import reid_reply
from common.cvat.request import ReidRequest
from common.errors import ModelError
from common.protocol import Image, ReidHandler
from common.serving.options import check_range
from common.serving.stages import Stages
from common.vision.image import decode_image
from common.vision.matching import ReidBox, cosine_distances, match


class Reid:
    """The function around a re-identification handler.

    Options:
        THRESHOLD: The largest distance of appearance, 0 (identical) to 1, when the request sets none.
        MAX_DISTANCE: The largest distance of two boxes' centres in pixels, when the request sets none.
    """

    kind: ClassVar[KindName] = "reid"

    def __init__(
        self,
        config: FunctionConfig,
        load_handler: Callable[[], ReidHandler],
        *,
        threshold: float = 0.5,
        max_distance: float = math.inf,
    ):
        check_range("THRESHOLD", threshold, 0, 1)
        check_range("MAX_DISTANCE", max_distance)
        self._handler, self._threshold, self._max_distance = load_handler(), threshold, max_distance

    def answer(self, body: Mapping[str, Any], stages: Stages) -> str:
        """The JSON text of the reply to a request.

        Args:
            body: The request's JSON object.
            stages: Filled in with the times and facts of this request.

        Raises:
            BadRequest: The request is at fault.
            ModelError: The handler returned something other than descriptors.
        """
        with stages.measure("decode"):
            request = ReidRequest.parse(body)
            image0 = decode_image(request.image0, "image0")
            image1 = decode_image(request.image1, "image1")
        stages.facts |= {"boxes0": len(request.boxes0), "boxes1": len(request.boxes1)}
        with stages.measure("inference"):
            partners = [-1] * len(request.boxes0)
            if request.boxes0 and request.boxes1:
                embeddings0, embeddings1 = self.embed(image0, request.boxes0), self.embed(image1, request.boxes1)
                partners = self.match(
                    embeddings0, embeddings1, request.boxes0, request.boxes1, request.threshold, request.max_distance
                )
            stages.facts["matched"] = sum(partner >= 0 for partner in partners)
        with stages.measure("encode"):
            return reid_reply(partners)

    def embed(self, image: Image, boxes: Sequence[ReidBox]) -> NDArray[np.float32]:
        """What the contents of boxes look like.

        Args:
            image: (H, W, 3) uint8 RGB.
            boxes: N boxes of that image.

        Returns:
            (N, D) descriptors of unit length.

        Raises:
            ModelError: The handler returned another number of them, or numbers that are not finite.
        """
        embeddings = self._handler.embed(image, np.array([box.box_xyxy for box in boxes], np.float64).reshape(-1, 4))
        if embeddings.ndim != 2 or len(embeddings) != len(boxes) or not np.isfinite(embeddings).all():
            raise ModelError(f"expected {len(boxes)} finite descriptors, got an array of shape {embeddings.shape}")
        return embeddings

    def match(
        self,
        embeddings0: NDArray[np.float32],
        embeddings1: NDArray[np.float32],
        boxes0: Sequence[ReidBox],
        boxes1: Sequence[ReidBox],
        threshold: float | None,
        max_distance: float | None,
    ) -> list[int]:
        """Pairs the boxes of two images that show the same object.

        Args:
            embeddings0: (N, D) descriptors of `boxes0`.
            embeddings1: (M, D) descriptors of `boxes1`.
            boxes0: N boxes of the first image.
            boxes1: M boxes of the second image.
            threshold: The largest distance of appearance, 0 to 1; None for the function's own.
            max_distance: The largest distance of centres in pixels; None for the function's own.

        Returns:
            For each of `boxes0` the index of the same object in `boxes1`, or -1; no index twice.
        """
        return match(
            cosine_distances(embeddings0, embeddings1),
            boxes0,
            boxes1,
            threshold=self._threshold if threshold is None else threshold,
            max_distance=self._max_distance if max_distance is None else max_distance,
        )
