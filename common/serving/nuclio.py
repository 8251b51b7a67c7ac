"""Between Nuclio's Python wrapper and a function: what every main.py calls.

Every request ends in a reply: 200 with CVAT's JSON, 4xx with `{"error": ...}` for the caller's fault, among them 421 for
a request that is meant for another function, 500 with `{"error": ...}` for ours. Tracebacks go to the log, never to the caller; images go to neither.
"""

from __future__ import annotations

import json
import os
import re
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from common.config import FunctionConfig
from common.cvat.request import read_body
from common.errors import BadRequest, FunctionError
from common.networks.runtime import threads_per_worker
from common.networks.shared_choice import shared_choices
from common.serving import kinds, log
from common.serving.compression import gzipped
from common.serving.stages import Stages
from common.serving.target import check_target, own_name
from common.vision.image import max_pixels

# In characters; Nuclio's log pipe blocks forever on records over some 200 kB.
_LONGEST_MESSAGE = 500
_LONGEST_TRACE = 8000


class _Logger(Protocol):
    """What is used of `nuclio_sdk.Logger`: a record is a message with values beside it."""

    def info(self, message: str) -> None: ...

    def warn(self, message: str) -> None: ...

    def error(self, message: str) -> None: ...

    def info_with(self, message: str, **values: object) -> None: ...

    def warn_with(self, message: str, **values: object) -> None: ...

    def error_with(self, message: str, **values: object) -> None: ...


class Event(Protocol):
    """What is used of `nuclio_sdk.Event`, a request."""

    body: Any
    """A parsed JSON value when the content type is exactly application/json, else the bytes."""
    headers: Mapping[Any, Any] | None


class Response(Protocol):
    """What is used of `nuclio_sdk.Response`."""

    body: str | bytes
    headers: dict[str, str]
    content_type: str
    status_code: int


class Context(Protocol):
    """What is used of `nuclio_sdk.Context`: one for each worker."""

    logger: _Logger
    user_data: Any
    """An object whose attributes are the function's to set."""
    Response: Any
    """The class of the replies."""


def start(context: Context, main_file: str) -> None:
    """Loads the function into `context.user_data`; for `init_context`.

    Args:
        context: Nuclio's, one for each worker.
        main_file: The path of the function's main.py.

    Raises:
        Exception: Whatever made it fail, after logging it: Nuclio then ends the container, and the restart policy decides.
    """
    begin = time.perf_counter()
    log.forward(context.logger)
    try:
        config = FunctionConfig.load(Path(main_file).parent)
        max_pixels()  # a wrong limit is found now, not with the first image
        with shared_choices(config.workers, config.directory):
            context.user_data.function = kinds.load(config)
        context.user_data.name = own_name(config.name, os.environ)
    except Exception as error:
        # The wrapper prints the traceback.
        context.logger.error_with("The function can't start", error=_message(error))
        raise
    context.logger.info_with(
        "The function is ready",
        function=config.name,
        kind=config.kind,
        seconds=round(time.perf_counter() - begin, 2),
        threads=threads_per_worker(config.workers),
        workers=config.workers,
    )


def answer(context: Context, event: Event) -> Response:
    """The reply to a request; for `handler`.

    Args:
        context: The one that `start` was given.
        event: The request.
    """
    stages = Stages()
    status, level, problem = 200, "info_with", {}
    try:
        check_target(event.headers, context.user_data.name)
        text = context.user_data.function.answer(read_body(event.body), stages)
    except BadRequest as error:
        status, level, problem = error.status, "warn_with", {"error": str(error)}
    except FunctionError as error:
        status, level = error.status, "error_with"
        problem = {"error": f"{context.user_data.name} failed: {error}", "trace": _trace(error)}
    except Exception as error:
        status, level = 500, "error_with"
        # The class says enough for a report to the administrator; the message may hold anything and stays in the log.
        problem = {
            "error": f"{context.user_data.name} failed with {type(error).__name__}; its log says why",
            "cause": _message(error),
            "trace": _trace(error),
        }
    if problem:
        text = json.dumps({"error": problem["error"]})
    with stages.measure("compress"):
        small = gzipped(text, event.headers)
    if small is None:
        del stages.milliseconds["compress"]
    times = {f"{name}_ms": round(ms, 1) for name, ms in stages.milliseconds.items()}
    getattr(context.logger, level)(
        "Answered" if status == 200 else "Refused" if status < 500 else "Failed",
        status=status,
        **times,
        **stages.facts,
        reply_bytes=len(text) if text.isascii() else len(text.encode()),
        **({} if small is None else {"gzip_bytes": len(small)}),
        **problem,
    )
    headers = {"Server-Timing": stages.server_timing()} if stages.milliseconds else {}
    if small is not None:
        headers |= {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
    body = text if small is None else small
    response: Response = context.Response(
        body=body, headers=headers, content_type="application/json", status_code=status
    )
    return response


def _message(error: BaseException) -> str:
    # A library may put into its message what it was given. Long text without a space is data, an image in base64 perhaps.
    text = re.sub(r"\S{200,}", lambda word: f"<{len(word[0])} characters>", str(error))
    return f"{type(error).__name__}: {text[:_LONGEST_MESSAGE]}"


def _trace(error: BaseException) -> str:
    """The traceback of an error and of those that led to it, oldest first, with their messages as `_message` gives them."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    text = "\n".join("".join(traceback.format_tb(e.__traceback__)) + _message(e) for e in reversed(chain))
    return text if len(text) <= _LONGEST_TRACE else f"...{text[-_LONGEST_TRACE:]}"
