"""Predictors for functions behind one or several addresses, under Nuclio or any other server."""

from __future__ import annotations

import io
import itertools
import random
import time
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import orjson
from PIL import Image as PillowImage
from PIL import UnidentifiedImageError

from common.cvat.conform import conform, conform_geometry
from common.cvat.reply import read_detector_reply, read_reid_reply
from common.cvat.request import detector_body, reid_body
from tools.annotate.annotation_encoder import AnnotationEncoder
from tools.annotate.errors import CannotRun, FrameError
from tools.annotate.function import Function
from tools.annotate.predictor import FrameInput, FrameResult, result_or_error
from tools.workers.retries import pauses_s


class RemoteDetector:
    """A detector at one or several addresses."""

    def __init__(self, function: Function, encoder: AnnotationEncoder):
        """Sends nothing.

        Args:
            function: where it is, and its threshold.
            encoder: what its shapes become.
        """
        self._function, self._client, self._encoder = function, _FunctionClient(function), encoder

    def predict(self, block: Sequence[FrameInput]) -> list[FrameResult]:
        """See `Predictor.predict`."""
        return [result_or_error(self._annotate, frame) for frame in block]

    def _annotate(self, frame: FrameInput) -> FrameResult:
        width, height = _size_wh(frame.data)
        shapes = read_detector_reply(self._client.call(detector_body(frame.data, self._function.threshold)))
        if self._function.labels is not None:
            shapes = conform(shapes, self._function.labels, (height, width))
        else:
            shapes = [conform_geometry(shape, (height, width), f"shape {i}") for i, shape in enumerate(shapes)]
        return FrameResult(frame.frame, self._encoder(frame.frame, shapes), size_wh=(width, height))


class RemoteReid:
    """A reid function at one or several addresses."""

    def __init__(self, function: Function):
        """Sends nothing.

        Args:
            function: where it is, and its limits.
        """
        self._client, self._limits = _FunctionClient(function), (function.threshold, function.max_distance)

    def predict(self, block: Sequence[FrameInput]) -> list[FrameResult]:
        """See `Predictor.predict`."""

        def match(first: FrameInput, second: FrameInput) -> FrameResult:
            reply = self._client.call(reid_body(first.data, second.data, first.boxes, second.boxes, *self._limits))
            return FrameResult(first.frame, partners=read_reid_reply(reply, len(first.boxes), len(second.boxes)))

        return [result_or_error(match, first, second) for first, second in itertools.pairwise(block)]


class _FunctionClient:
    """Calls a function at one of its addresses after the other."""

    _TRIES = 6
    _FIRST_PAUSE_S = 0.25  # doubled after each try
    _TEMPORARY = (429, 502, 503, 504)  # no free worker, restarting, or a proxy that can't reach it

    def __init__(self, function: Function):
        self._urls = itertools.cycle(random.sample(function.urls, len(function.urls)))
        self._client = httpx.Client(timeout=httpx.Timeout(function.timeout_s, connect=15))

    def call(self, body: Mapping[str, Any]) -> bytes:
        """Sends a request; returns the reply's JSON.

        Raises:
            FrameError: when the answer is an error.
            CannotRun: when there is no answer.
        """
        content = orjson.dumps(body)
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
                return reply.content
            problem = FrameError(f"{url}: the function answers {reply.status_code}: {_error_text(reply)}")
            if reply.status_code not in self._TEMPORARY:
                break
        assert problem is not None
        raise problem


def _size_wh(data: bytes) -> tuple[int, int]:
    try:
        with PillowImage.open(io.BytesIO(data)) as image:
            width, height = image.size
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            return (height, width) if turned else (width, height)
    except Exception as error:  # Pillow raises many things for a file that is not an image
        # Its message for that names the object that holds the bytes. ImportError: the package ultralytics replaces Pillow's
        # open by one that asks for another package at this point.
        reason = "not an image file" if isinstance(error, (UnidentifiedImageError, ImportError)) else error
        raise FrameError(f"the image can't be opened: {reason}") from error


def _error_text(reply: httpx.Response) -> str:
    try:
        content = orjson.loads(reply.content)
    except ValueError:
        content = None
    text = content.get("error") if isinstance(content, dict) else None
    return str(text or " ".join(reply.text.split()))[:300]
