"""Interactors: an image and clicks in, one object's mask out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.config import FunctionConfig
from common.cvat.reply import blob_reply, interactor_reply
from common.cvat.request import InteractorRequest
from common.errors import ModelError, StartupError
from common.networks.fingerprint import content_key
from common.protocol import CachedInteractorHandler, InteractorHandler, Prompt
from common.serving.embedding_cache import Arrays, EmbeddingCache, directory_for
from common.serving.options import check_range
from common.serving.stages import Stages
from common.serving.store import DEFAULT_PORT, Store
from common.shapes import Mask
from common.vision.image import decode_image

BLOB_FUNCTION = "pth-facebookresearch-sam-vit-h"  # CVAT's UI decodes the replies of this function, and of no other


@dataclass(frozen=True, slots=True)
class EmbeddedImage:
    """size_hw: height and width of the image. content: what the handler's `embed` returned."""

    size_hw: tuple[int, int]
    content: Any


class Interactor:
    """Options: POLYGON_TOLERANCE, how far in pixels the polygon may leave the mask's edge; for handlers whose
    embeddings are kept, EMBEDDING_CACHE_MB, how many megabytes of them (0: none), EMBEDDING_CACHE_DIR, where, MASK_HINTS,
    whether a prompt that grew by one click starts from the mask before it, and CVAT_FUNCTIONS_REDIS_HOST, _PORT and
    _PASSWORD, the store in which replicas share embeddings.
    """

    def __init__(
        self,
        config: FunctionConfig,
        handler: InteractorHandler,
        *,
        polygon_tolerance: float = 1.0,
        embedding_cache_mb: float = 1024.0,
        embedding_cache_dir: str | None = None,
        mask_hints: bool = True,
        cvat_functions_redis_host: str | None = None,
        cvat_functions_redis_port: int = DEFAULT_PORT,
        cvat_functions_redis_password: str | None = None,
    ):
        check_range("POLYGON_TOLERANCE", polygon_tolerance)
        self._handler, self._tolerance, self._hints = handler, polygon_tolerance, mask_hints
        self._blob = config.name == BLOB_FUNCTION
        if self._blob and not hasattr(handler, "blob"):
            raise StartupError(
                f"CVAT's UI decodes the replies of {BLOB_FUNCTION} with SAM ViT-H's decoder, and this model has none: "
                "deploy it under another name"
            )
        if not 0 <= embedding_cache_mb < math.inf:
            raise StartupError(f"EMBEDDING_CACHE_MB: expected a number of 0 or more, got {embedding_cache_mb}")
        self._cache: EmbeddingCache | None = None
        if embedding_cache_mb and isinstance(handler, CachedInteractorHandler):
            directory = directory_for(config.name, embedding_cache_dir)
            store = Store.at(cvat_functions_redis_host, cvat_functions_redis_port, cvat_functions_redis_password)
            self._cache = EmbeddingCache(directory, int(embedding_cache_mb * 1e6), store)

    def answer(self, body: Mapping[str, Any], stages: Stages) -> str:
        with stages.measure("decode"):
            request = InteractorRequest.parse(body, prompt_needed=not self._blob)
        key, image = self._embed(request, stages)
        if self._blob:
            with stages.measure("encode"):
                return blob_reply(self._handler.blob(image.content))  # type: ignore[attr-defined]
        with stages.measure("inference"):
            bitmap = self._segment(key, image.content, _prompt(request), stages)
        with stages.measure("encode"):
            mask = _mask(bitmap, image.size_hw)
            stages.facts["pixels"] = int(np.count_nonzero(mask.bitmap))
            return interactor_reply(mask, self._tolerance)

    def embed(self, image: NDArray[np.uint8]) -> EmbeddedImage:
        """An image as `segment` wants it, for callers that keep it themselves."""
        return EmbeddedImage((image.shape[0], image.shape[1]), self._handler.embed(image))

    def segment(self, image: EmbeddedImage, request: InteractorRequest) -> Mask:
        """The object that the prompt of a request means, cropped; empty when there is none. The request's image is not used."""
        request.check_inside(image.size_hw)
        return _mask(self._handler.segment(image.content, _prompt(request)), image.size_hw)

    def _embed(self, request: InteractorRequest, stages: Stages) -> tuple[str, EmbeddedImage]:
        """A request's image, and a key of it and the model, "" when nothing is kept."""
        handler = self._handler
        if self._cache is None or not isinstance(handler, CachedInteractorHandler):
            pixels = self._decode(request, stages)
            with stages.measure("embedding"):
                return "", self.embed(pixels)

        def make() -> Arrays:
            pixels = self._decode(request, stages)
            with stages.measure("embedding"):
                return handler.pack(handler.embed(pixels))

        with stages.measure("digest"):
            key = content_key(handler.model_key, request.image)
        arrays, stages.facts["embedding"] = self._cache.get_or_make(key, make)
        embedding = handler.unpack(arrays)
        image = EmbeddedImage(handler.image_size_hw(embedding), embedding)
        self._check(request, image.size_hw, stages)
        return key, image

    def _decode(self, request: InteractorRequest, stages: Stages) -> NDArray[np.uint8]:
        with stages.measure("decode"):
            image = decode_image(request.image)
        # Looked at before the image is encoded, which takes seconds where the click takes milliseconds.
        self._check(request, image.shape[:2], stages)
        return image

    def _check(self, request: InteractorRequest, size_hw: tuple[int, int], stages: Stages) -> None:
        stages.facts["image"] = f"{size_hw[1]}x{size_hw[0]}"
        if not self._blob:
            request.check_inside(size_hw)

    def _segment(self, image_key: str, embedding: Any, prompt: Prompt, stages: Stages) -> NDArray[np.bool_]:
        handler = self._handler
        if self._cache is None or not self._hints or not isinstance(handler, CachedInteractorHandler):
            return handler.segment(embedding, prompt)
        hint = None
        for before in _one_click_less(prompt):
            if (found := self._cache.get(_hint_key(image_key, before))) is not None:
                hint = found["hint"].astype(np.float16, copy=False)
                break
        stages.facts["hint"] = "none" if hint is None else "used"
        bitmap, hint = handler.refine(embedding, prompt, hint)
        self._cache.put(_hint_key(image_key, prompt), {"hint": hint})
        return bitmap


def _prompt(request: InteractorRequest) -> Prompt:
    return Prompt(
        pos_points_xy=np.array(request.pos_points, np.float64).reshape(-1, 2),
        neg_points_xy=np.array(request.neg_points, np.float64).reshape(-1, 2),
        box_xyxy=request.box_xyxy,
    )


def _mask(bitmap: NDArray[np.bool_], size_hw: tuple[int, int]) -> Mask:
    if bitmap.shape != size_hw:
        raise ModelError(f"the mask is of {bitmap.shape[::-1]} pixels, the image of {size_hw[1]} x {size_hw[0]}")
    return Mask.from_full(bitmap)


def _one_click_less(prompt: Prompt) -> Iterator[Prompt]:
    """The prompts that this one may have grown from: CVAT keeps the order within the positive and negative points."""
    if len(prompt.pos_points_xy) and (len(prompt.pos_points_xy) > 1 or prompt.box_xyxy is not None):
        yield replace(prompt, pos_points_xy=prompt.pos_points_xy[:-1])
    if len(prompt.neg_points_xy):
        yield replace(prompt, neg_points_xy=prompt.neg_points_xy[:-1])


def _hint_key(image_key: str, prompt: Prompt) -> str:
    box = np.array(prompt.box_xyxy or (), np.float64)
    points = (prompt.pos_points_xy, prompt.neg_points_xy, box)
    return content_key("hint", image_key, *(np.ascontiguousarray(p, np.float64).tobytes() for p in points))
