"""What looks at the pictures: a function in this process, or one behind an address.

An engine answers a block of pictures with an outcome for each; what is wrong with one picture stands in its outcome.
Recipes make engines; they are plain values, so that a worker process can be given one.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import orjson
import pybase64
from PIL import Image as PillowImage

from common.config import FunctionConfig
from common.cvat.conform import conform, conform_geometry
from common.cvat.labels import Labels
from common.cvat.request import parse_reid_boxes, parse_shape
from common.errors import BadRequest, FunctionError, ModelError
from common.networks.loader import load_handler_class
from common.networks.runtime import limit_threads
from common.protocol import Image
from common.serving import kinds
from common.serving.stages import Stages
from common.shapes import Joint, Shape, Skeleton, Tag
from common.vision.image import decode_image
from common.vision.mask import flat_to_mask
from tools.annotate.annotation_encoder import AnnotationEncoder, FrameAnnotations
from tools.annotate.errors import CannotRun, FrameError


@dataclass(frozen=True, slots=True)
class FrameInput:
    """A frame to look at. boxes: for reid, the annotations of its boxes."""

    frame: int
    data: bytes
    boxes: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class FrameResult:
    """What became of a frame: its annotations, or what went wrong.

    size_wh: of the picture, (0, 0) when it could not be opened.
    partners: for reid, for each box the index of the same object on the next frame of the block, or -1.
    """

    frame: int
    annotations: FrameAnnotations | None = None
    error: str = ""
    size_wh: tuple[int, int] = (0, 0)
    partners: Sequence[int] | None = None


class Predictor(Protocol):
    def run(self, block: Sequence[FrameInput]) -> list[FrameResult]:
        """An outcome for each picture of a block, in order. For reid: for each but the last."""
        ...

    def close(self) -> None: ...


class PredictorSpec(Protocol):
    """overlap: how many pictures of a block belong to the next one as well: none, or the last one of pairs."""

    overlap: ClassVar[int]

    def __call__(self) -> Predictor: ...

    def with_library(self, library: str) -> PredictorSpec:
        """The same with what the model runs in; "" leaves that to the function."""
        ...


class _Local:
    """What recipes for functions in this process share."""

    options: Mapping[str, Any]

    def with_library(self, library: str) -> Any:
        return replace(self, options={**self.options, "engine": library}) if library else self  # type: ignore[type-var]


class _Remote:
    """What recipes for functions at an address share."""

    def with_library(self, library: str) -> Any:
        return self


@dataclass(frozen=True)
class LocalDetector(_Local):
    """A detector in this process. workers: how many such processes share the machine."""

    overlap: ClassVar[int] = 0

    directory: Path
    options: Mapping[str, Any]
    threshold: float | None
    translate: AnnotationEncoder
    workers: int = 1

    def __call__(self) -> Predictor:
        return _LocalDetector(self, _make(self.directory, self.options, self.workers))


class _LocalDetector:
    def __init__(self, recipe: LocalDetector, detector: Any):
        self._recipe, self._detector = recipe, detector
        self._translate = replace(recipe.translate, tolerance=detector.polygon_tolerance)

    def run(self, block: Sequence[FrameInput]) -> list[FrameResult]:
        if len(block) > 1 and self._detector.takes_batches:
            # When anything goes wrong with one of them, the others are looked at alone.
            with contextlib.suppress(Exception):
                images = [decode_image(job.data) for job in block]
                found = self._detector.detect_batch(images, self._recipe.threshold, Stages())
                return [self._outcome(*one) for one in zip(block, images, found, strict=True)]
        return [_guarded(self._one, job) for job in block]

    def _one(self, job: FrameInput) -> FrameResult:
        image = decode_image(job.data)
        return self._outcome(job, image, self._detector.detect(image, self._recipe.threshold, Stages()))

    def _outcome(self, job: FrameInput, image: Image, shapes: Sequence[Shape]) -> FrameResult:
        return FrameResult(job.frame, self._translate(job.frame, shapes), size_wh=(image.shape[1], image.shape[0]))

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class LocalReid(_Local):
    """A reid function in this process. threshold, max_distance: None for the function's own."""

    overlap: ClassVar[int] = 1

    directory: Path
    options: Mapping[str, Any]
    threshold: float | None
    max_distance: float | None
    workers: int = 1

    def __call__(self) -> Predictor:
        return _LocalReid(self, _make(self.directory, self.options, self.workers))


class _LocalReid:
    def __init__(self, recipe: LocalReid, reid: Any):
        self._recipe, self._reid = recipe, reid

    def run(self, block: Sequence[FrameInput]) -> list[FrameResult]:
        # Each frame is opened and embedded once, though it belongs to two pairs.
        seen: dict[int, Any] = {}

        def described(job: FrameInput) -> Any:
            if job.frame not in seen:
                boxes = parse_reid_boxes({"boxes": list(job.boxes)}, "boxes")
                seen[job.frame] = boxes, self._reid.embed(decode_image(job.data), boxes)
            return seen[job.frame]

        def pair(first: FrameInput, second: FrameInput) -> FrameResult:
            boxes0, embeddings0 = described(first)
            boxes1, embeddings1 = described(second)
            partners = self._reid.match(
                embeddings0, embeddings1, boxes0, boxes1, self._recipe.threshold, self._recipe.max_distance
            )
            return FrameResult(first.frame, partners=partners)

        return [_guarded(partial(pair, second=other), job) for job, other in itertools.pairwise(block)]

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class RemoteDetector(_Remote):
    """A detector behind one of several addresses. labels: the function's, None when nobody knows them."""

    overlap: ClassVar[int] = 0

    urls: Sequence[str]
    threshold: float | None
    translate: AnnotationEncoder
    labels: Labels | None
    timeout_s: float

    def __call__(self) -> Predictor:
        return _RemoteDetector(self)


class _RemoteDetector:
    def __init__(self, recipe: RemoteDetector):
        self._recipe, self._caller = recipe, _Caller(recipe.urls, recipe.timeout_s)

    def run(self, block: Sequence[FrameInput]) -> list[FrameResult]:
        return [_guarded(self._one, job) for job in block]

    def _one(self, job: FrameInput) -> FrameResult:
        size_wh = _size_wh(job.data)
        body: dict[str, Any] = {"image": pybase64.b64encode_as_string(job.data)}
        if self._recipe.threshold is not None:
            body["threshold"] = self._recipe.threshold
        reply = self._caller.ask(body)
        if not isinstance(reply, list):
            raise FrameError("the function's reply is no list of annotations; is it a detector?")
        shapes = [_shape_of(item, i) for i, item in enumerate(reply)]
        size_hw = size_wh[1], size_wh[0]
        if self._recipe.labels is not None:
            shapes = conform(shapes, self._recipe.labels, size_hw)
        else:
            shapes = [conform_geometry(shape, size_hw, f"shape {i}") for i, shape in enumerate(shapes)]
        return FrameResult(job.frame, self._recipe.translate(job.frame, shapes), size_wh=size_wh)

    def close(self) -> None:
        self._caller.close()


@dataclass(frozen=True)
class RemoteReid(_Remote):
    """A reid function behind one of several addresses."""

    overlap: ClassVar[int] = 1

    urls: Sequence[str]
    threshold: float | None
    max_distance: float | None
    timeout_s: float

    def __call__(self) -> Predictor:
        return _RemoteReid(self)


class _RemoteReid:
    def __init__(self, recipe: RemoteReid):
        self._recipe, self._caller = recipe, _Caller(recipe.urls, recipe.timeout_s)

    def run(self, block: Sequence[FrameInput]) -> list[FrameResult]:
        def pair(first: FrameInput, second: FrameInput) -> FrameResult:
            body: dict[str, Any] = {
                "image0": pybase64.b64encode_as_string(first.data),
                "image1": pybase64.b64encode_as_string(second.data),
                "boxes0": list(first.boxes),
                "boxes1": list(second.boxes),
            }
            if self._recipe.threshold is not None:
                body["threshold"] = self._recipe.threshold
            if self._recipe.max_distance is not None:
                body["max_distance"] = self._recipe.max_distance
            reply = self._caller.ask(body)
            if not _is_matching(reply, len(first.boxes), len(second.boxes)):
                raise FrameError("the function's reply is no list of one partner for each box; is it a reid function?")
            return FrameResult(first.frame, partners=reply)

        return [_guarded(partial(pair, second=other), job) for job, other in itertools.pairwise(block)]

    def close(self) -> None:
        self._caller.close()


class _Caller:
    """Calls to a function that runs at several addresses."""

    _TRIES = 6
    _FIRST_PAUSE = 0.25  # seconds, doubled after each try
    # No worker free, starting again, or behind a proxy that can't reach it: not the picture's fault.
    _PASSING = (429, 502, 503, 504)

    def __init__(self, urls: Sequence[str], timeout_s: float):
        import httpx  # workers' processes, which hold models, don't need it

        self._httpx = httpx
        self._urls = itertools.cycle(random.sample(list(urls), len(urls)))
        self._client = httpx.Client(timeout=httpx.Timeout(timeout_s, connect=15))

    def ask(self, body: Mapping[str, Any]) -> Any:
        """The parsed reply. Raises FrameError for an answer that is an error, CannotRun when there is no answer."""
        content = orjson.dumps(body)
        problem: Exception | None = None
        for attempt in range(self._TRIES):
            url = next(self._urls)
            try:
                reply = self._client.post(url, content=content, headers={"Content-Type": "application/json"})
            except self._httpx.ReadTimeout as error:
                raise FrameError(f"{url}: no answer within {self._client.timeout.read:g} s") from error
            except self._httpx.TransportError as error:
                problem = CannotRun(f"{url}: no function answers: {type(error).__name__}: {error}")
            else:
                if reply.status_code == 200:
                    return _parsed(reply.content)
                error_text = f"{url}: the function answers {reply.status_code}: {_error_text(reply)}"
                problem = FrameError(error_text)
                if reply.status_code not in self._PASSING:
                    break
            if attempt + 1 < self._TRIES:
                time.sleep(self._FIRST_PAUSE * 2**attempt)
        assert problem is not None
        raise problem

    def close(self) -> None:
        self._client.close()


def _make(directory: Path, options: Mapping[str, Any], workers: int) -> Any:
    config = replace(FunctionConfig.load(directory), workers=max(workers, 1))
    limit_threads(config.workers)
    return kinds.make(config, load_handler_class(config.directory), os.environ, options)


def _guarded(look: Callable[[FrameInput], FrameResult], job: FrameInput) -> FrameResult:
    """The outcome of one picture; whatever goes wrong with it becomes its error."""
    try:
        return look(job)
    except CannotRun:
        raise
    except (FunctionError, FrameError) as error:
        return FrameResult(job.frame, error=str(error))
    except Exception as error:  # a model may raise anything, and the next picture has nothing to do with it
        return FrameResult(job.frame, error=f"{type(error).__name__}: {str(error)[:300]}")


def _size_wh(data: bytes) -> tuple[int, int]:
    try:
        with PillowImage.open(io.BytesIO(data)) as image:
            width, height = image.size
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            return (height, width) if turned else (width, height)
    except Exception as error:  # Pillow raises many things for what is no image
        raise FrameError(f"the picture can't be opened: {error}") from error


def _shape_of(item: Any, i: int) -> Shape:
    """An annotation of a detector's reply as a shape. Raises FrameError."""
    where = f"annotation {i} of the function's reply"
    try:
        kind = item["type"]
        shape: Shape
        if kind == "tag":
            shape = Tag()
        elif kind == "mask":
            shape = flat_to_mask(item["mask"])
            if outline := item.get("points"):
                shape = replace(shape, outline_xy=np.array(outline, np.float64).reshape(-1, 2))
        elif kind == "skeleton":
            shape = Skeleton(
                joints=tuple(
                    Joint(str(e["label"]), float(e["points"][0]), float(e["points"][1]), not e.get("outside"))
                    for e in item["elements"]
                )
            )
        else:
            shape = parse_shape(item, where)
        confidence = item.get("confidence")
        return replace(
            shape,
            label=str(item["label"]),
            score=None if confidence is None else min(max(float(confidence), 0.0), 1.0),
            group=int(item.get("group_id") or 0),
            attributes={str(a["name"]): a["value"] for a in item.get("attributes") or ()},
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise FrameError(f"{where} is none: {type(error).__name__}: {error}") from error
    except (BadRequest, ModelError) as error:
        raise FrameError(str(error)) from error


def _is_matching(reply: Any, count0: int, count1: int) -> bool:
    if not isinstance(reply, list) or len(reply) != count0 or not all(type(v) is int for v in reply):
        return False
    partners = [v for v in reply if v >= 0]
    return all(v < count1 for v in partners) and len(set(partners)) == len(partners)


def _parsed(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except ValueError as error:
        raise FrameError(f"the function's reply is no JSON: {error}") from error


def _error_text(reply: Any) -> str:
    try:
        content = orjson.loads(reply.content)
    except ValueError:
        content = None
    text = content.get("error") if isinstance(content, dict) else None
    return str(text or " ".join(reply.text.split()))[:300]
