"""Interactors: an image and clicks in, one object's mask out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from common.config import FunctionConfig, KindName
from common.cvat.reply import blob_reply, interactor_reply
from common.cvat.request import InteractorRequest
from common.errors import ModelError, StartupError
from common.networks.fingerprint import content_key
from common.protocol import CachedInteractorHandler, Image, InteractorHandler, Prompt
from common.serving.embedding_cache import Arrays, EmbeddingCache, directory_for
from common.serving.options import check_range
from common.serving.stages import Stages
from common.serving.store import DEFAULT_PORT, Store
from common.shapes import Mask
from common.vision.image import decode_image

BLOB_FUNCTION = "pth-facebookresearch-sam-vit-h"  # CVAT's UI decodes the replies of this function, and of no other


@dataclass(frozen=True, slots=True)
class EmbeddedImage:
    """An image as the handler has encoded it."""

    size_hw: tuple[int, int]
    """(height, width) in pixels."""
    content: Any
    """What the handler's `embed` returned."""
    key: str = ""
    """Names the image and the model in the cache; empty where nothing is kept."""


class Interactor:
    """The function around an interactor's handler.

    Options:
        POLYGON_TOLERANCE: How far, in pixels, the polygon may leave the mask's edge.

    For handlers whose embeddings are kept (`CachedInteractorHandler`):
        EMBEDDING_CACHE_MB: How many megabytes of embeddings are kept; 0: none.
        EMBEDDING_CACHE_DIR: Where; default: the system's temporary folder.
        MASK_HINTS: Whether a prompt that grew by one click starts from the mask before it.
        CVAT_FUNCTIONS_REDIS_HOST, _PORT, _PASSWORD: The store in which replicas share embeddings.
    """

    kind: ClassVar[KindName] = "interactor"

    def __init__(
        self,
        config: FunctionConfig,
        load_handler: Callable[[], InteractorHandler],
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
        if not 0 <= embedding_cache_mb < math.inf:
            raise StartupError(f"EMBEDDING_CACHE_MB: expected a number of 0 or more, got {embedding_cache_mb}")
        handler = load_handler()
        self._handler, self._tolerance = handler, polygon_tolerance
        self._blob = config.name == BLOB_FUNCTION
        if self._blob and not hasattr(handler, "blob"):
            raise StartupError(
                f"CVAT's UI decodes the replies of {BLOB_FUNCTION} with SAM ViT-H's decoder, and this model has none: "
                "deploy it under another name"
            )
        self._steps: _Direct | _Cached = _Direct(handler)
        self.cache: EmbeddingCache | None = None
        """Where embeddings are kept, None when they are not."""
        if embedding_cache_mb and isinstance(handler, CachedInteractorHandler):
            directory = directory_for(config.name, embedding_cache_dir)
            store = Store.at(cvat_functions_redis_host, cvat_functions_redis_port, cvat_functions_redis_password)
            self.cache = EmbeddingCache(directory, int(embedding_cache_mb * 1e6), store)
            self._steps = _Cached(handler, self.cache, mask_hints)

    def answer(self, body: Mapping[str, Any], stages: Stages) -> str:
        """The JSON text of the reply to a request.

        Args:
            body: The request's JSON object.
            stages: Filled in with the times and facts of this request.

        Raises:
            BadRequest: The request is at fault.
            ModelError: The handler returned something other than a bitmap of the image's size.
        """
        with stages.measure("decode"):
            request = InteractorRequest.parse(body, prompt_needed=not self._blob)

        def check(size_hw: tuple[int, int]) -> None:
            stages.facts["image"] = f"{size_hw[1]}x{size_hw[0]}"
            if not self._blob:
                request.check_inside(size_hw)

        def decode() -> Image:
            with stages.measure("decode"):
                pixels = decode_image(request.image)
            check(pixels.shape[:2])  # before the image is encoded: that takes seconds, a click milliseconds
            return pixels

        image = self._steps.embed(request.image, decode, stages)
        check(image.size_hw)  # an image from the cache was not decoded
        if self._blob:
            with stages.measure("encode"):
                return blob_reply(self._handler.blob(image.content))  # type: ignore[attr-defined]
        with stages.measure("inference"):
            bitmap = self._steps.segment(image, _prompt(request), stages)
        with stages.measure("encode"):
            mask = _mask(bitmap, image.size_hw)
            stages.facts["pixels"] = int(np.count_nonzero(mask.bitmap))
            return interactor_reply(mask, self._tolerance)

    def embed(self, image: Image) -> EmbeddedImage:
        """An image as `segment` wants it, for callers that keep it themselves.

        Args:
            image: (H, W, 3) uint8 RGB.
        """
        return _embedded(self._handler, image)

    def segment(self, image: EmbeddedImage, request: InteractorRequest) -> Mask:
        """The object that a prompt means.

        Args:
            image: What `embed` returned.
            request: The prompt; the image in it is not used.

        Returns:
            The object's mask, cropped; empty when the model finds no object.

        Raises:
            BadRequest: A point or the box is outside the image.
        """
        request.check_inside(image.size_hw)
        return _mask(self._handler.segment(image.content, _prompt(request)), image.size_hw)


class _Direct:
    """Every request encodes its image."""

    def __init__(self, handler: InteractorHandler):
        self._handler = handler

    def embed(self, file: bytes, decode: Callable[[], Image], stages: Stages) -> EmbeddedImage:
        pixels = decode()
        with stages.measure("embedding"):
            return _embedded(self._handler, pixels)

    def segment(self, image: EmbeddedImage, prompt: Prompt, stages: Stages) -> NDArray[np.bool_]:
        return self._handler.segment(image.content, prompt)


class _Cached:
    """An image is encoded once, and a prompt that grew by one click starts from the mask before it (`hints`)."""

    def __init__(self, handler: CachedInteractorHandler, cache: EmbeddingCache, hints: bool):
        self._handler, self._cache, self._hints = handler, cache, hints

    def embed(self, file: bytes, decode: Callable[[], Image], stages: Stages) -> EmbeddedImage:
        def make() -> Arrays:
            pixels = decode()
            with stages.measure("embedding"):
                return self._handler.pack(self._handler.embed(pixels))

        with stages.measure("digest"):
            key = content_key(self._handler.model_key, file)
        arrays, stages.facts["embedding"] = self._cache.get_or_make(key, make)
        embedding = self._handler.unpack(arrays)
        return EmbeddedImage(self._handler.image_size_hw(embedding), embedding, key)

    def segment(self, image: EmbeddedImage, prompt: Prompt, stages: Stages) -> NDArray[np.bool_]:
        if not self._hints:
            return self._handler.segment(image.content, prompt)
        hint = None
        for before in _one_click_less(prompt):
            if (found := self._cache.get(_hint_key(image.key, before))) is not None:
                hint = found["hint"].astype(np.float16, copy=False)
                break
        stages.facts["hint"] = "none" if hint is None else "used"
        bitmap, hint = self._handler.refine(image.content, prompt, hint)
        self._cache.put(_hint_key(image.key, prompt), {"hint": hint})
        return bitmap


def _embedded(handler: InteractorHandler, image: Image) -> EmbeddedImage:
    return EmbeddedImage((image.shape[0], image.shape[1]), handler.embed(image))


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
