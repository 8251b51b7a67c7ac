"""Predictors for functions behind one or several addresses, under Nuclio or any other server."""

from __future__ import annotations

import io
import itertools
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import httpx
import numpy as np
import orjson
import pybase64
from PIL import Image as PillowImage

from common.cvat.conform import conform, conform_geometry
from common.cvat.labels import Labels
from common.cvat.request import parse_shape
from common.errors import BadRequest, ModelError
from common.shapes import Joint, Shape, Skeleton, Tag
from common.vision.mask import flat_to_mask
from tools.annotate.annotation_encoder import AnnotationEncoder
from tools.annotate.errors import CannotRun, FrameError
from tools.annotate.predictor import FrameInput, FrameResult, Predictor, result_of
from tools.workers.retries import pauses_s


@dataclass(frozen=True)
class RemoteDetector:
    """How to reach a detector at one or several addresses."""

    overlap: ClassVar[int] = 0

    urls: Sequence[str]
    threshold: float | None
    """None for the function's own."""
    encoder: AnnotationEncoder
    labels: Labels | None
    """The function's; None when they are not known."""
    timeout_s: float
    """For one frame."""

    def open(self, library: str = "") -> Predictor:
        """See `PredictorSpec.open`; what the model runs in is the server's choice."""
        return _RemoteDetector(self)


class _RemoteDetector:
    def __init__(self, spec: RemoteDetector):
        self._spec, self._client = spec, _FunctionClient(spec.urls, spec.timeout_s)

    def predict(self, block: Sequence[FrameInput]) -> list[FrameResult]:
        return [result_of(self._one, frame) for frame in block]

    def _one(self, frame: FrameInput) -> FrameResult:
        width, height = _size_wh(frame.data)
        reply = self._client.call(image=pybase64.b64encode_as_string(frame.data), threshold=self._spec.threshold)
        if not isinstance(reply, list):
            raise FrameError("the reply is not a list of annotations; is the function a detector?")
        shapes = [_shape_of(item, i) for i, item in enumerate(reply)]
        if self._spec.labels is not None:
            shapes = conform(shapes, self._spec.labels, (height, width))
        else:
            shapes = [conform_geometry(shape, (height, width), f"shape {i}") for i, shape in enumerate(shapes)]
        return FrameResult(frame.frame, self._spec.encoder(frame.frame, shapes), size_wh=(width, height))

    def close(self) -> None:
        self._client.close()


@dataclass(frozen=True)
class RemoteReid:
    """How to reach a reid function at one or several addresses."""

    overlap: ClassVar[int] = 1

    urls: Sequence[str]
    threshold: float | None
    """The largest distance of appearance; None for the function's own."""
    max_distance: float | None
    """In pixels; None for the function's own."""
    timeout_s: float
    """For one pair of frames."""

    def open(self, library: str = "") -> Predictor:
        """See `PredictorSpec.open`; what the model runs in is the server's choice."""
        return _RemoteReid(self)


class _RemoteReid:
    def __init__(self, spec: RemoteReid):
        self._spec, self._client = spec, _FunctionClient(spec.urls, spec.timeout_s)

    def predict(self, block: Sequence[FrameInput]) -> list[FrameResult]:
        def match(first: FrameInput, second: FrameInput) -> FrameResult:
            reply = self._client.call(
                image0=pybase64.b64encode_as_string(first.data),
                image1=pybase64.b64encode_as_string(second.data),
                boxes0=list(first.boxes),
                boxes1=list(second.boxes),
                threshold=self._spec.threshold,
                max_distance=self._spec.max_distance,
            )
            if not _is_matching(reply, len(first.boxes), len(second.boxes)):
                raise FrameError("the reply is not a list with a partner for each box; is the function for reid?")
            return FrameResult(first.frame, partners=reply)

        return [result_of(partial(match, second=second), first) for first, second in itertools.pairwise(block)]

    def close(self) -> None:
        self._client.close()


class _FunctionClient:
    """Calls a function at one of its addresses after the other."""

    _TRIES = 6
    _FIRST_PAUSE_S = 0.25  # doubled after each try
    _TEMPORARY = (429, 502, 503, 504)  # no free worker, restarting, or a proxy that can't reach it

    def __init__(self, urls: Sequence[str], timeout_s: float):
        self._urls = itertools.cycle(random.sample(list(urls), len(urls)))
        self._client = httpx.Client(timeout=httpx.Timeout(timeout_s, connect=15))

    def call(self, **fields: object) -> Any:
        """Sends the fields that are not None; returns the parsed reply.

        Raises:
            FrameError: when the answer is an error.
            CannotRun: when there is no answer.
        """
        content = orjson.dumps({name: value for name, value in fields.items() if value is not None})
        problem: Exception | None = None
        for pause in (0.0, *itertools.islice(pauses_s(self._FIRST_PAUSE_S), self._TRIES - 1)):
            time.sleep(pause)
            url = next(self._urls)
            try:
                reply = self._client.post(url, content=content, headers={"Content-Type": "application/json"})
            except httpx.ReadTimeout as error:
                raise FrameError(f"{url}: no answer within {self._client.timeout.read:g} s") from error
            except httpx.TransportError as error:
                problem = CannotRun(f"{url}: no function answers: {type(error).__name__}: {error}")
                continue
            if reply.status_code == 200:
                return _parsed(reply.content)
            problem = FrameError(f"{url}: the function answers {reply.status_code}: {_error_text(reply)}")
            if reply.status_code not in self._TEMPORARY:
                break
        assert problem is not None
        raise problem

    def close(self) -> None:
        self._client.close()


def _size_wh(data: bytes) -> tuple[int, int]:
    try:
        with PillowImage.open(io.BytesIO(data)) as image:
            width, height = image.size
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            return (height, width) if turned else (width, height)
    except Exception as error:  # Pillow raises many things for what is no image
        raise FrameError(f"the image can't be opened: {error}") from error


def _shape_of(item: Any, i: int) -> Shape:
    """An annotation of a detector's reply as a shape. Raises FrameError."""
    where = f"annotation {i} in the reply"
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
        raise FrameError(f"{where} is invalid: {type(error).__name__}: {error}") from error
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
        raise FrameError(f"the reply is not JSON: {error}") from error


def _error_text(reply: httpx.Response) -> str:
    try:
        content = orjson.loads(reply.content)
    except ValueError:
        content = None
    text = content.get("error") if isinstance(content, dict) else None
    return str(text or " ".join(reply.text.split()))[:300]
