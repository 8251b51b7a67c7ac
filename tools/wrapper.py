"""A function's main.py in this process, called as Nuclio's Python wrapper calls it.

Uses Nuclio's own SDK for context, event and response, and the same order: import the module, `init_context`, `handler`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import importlib
import importlib.util
import inspect
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import nuclio_sdk

from common.config import read_yaml, section


@dataclass(frozen=True, slots=True)
class Reply:
    """What a handler returned, as it is sent to the client."""

    status: int
    """The HTTP status."""
    body: bytes
    """As the client gets it."""
    content_type: str = "application/json"
    """Of the body."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """More headers, by name."""

    @classmethod
    def error(cls, status: int, message: str) -> Reply:
        """An error in the form that all functions of the collection give it.

        Args:
            status: the HTTP status, 400 or more.
            message: what was expected, and what came.
        """
        return cls(status, json.dumps({"error": message}).encode())

    def json(self) -> Any:
        """The parsed body. Raises ValueError when it is not JSON."""
        return json.loads(self.body)


class LoadedFunction:
    """One worker's copy of the function in a directory."""

    def __init__(self, directory: str | Path, *, unique: bool = False, logger: Any = None, worker_id: int = 0):
        """Imports the handler's module and calls its `init_context`; raises what that raises.

        Args:
            directory: the function's.
            unique: whether the module gets a name of its own, so that several functions fit in one process; their
                directories don't go onto the import path then, as they do under Nuclio.
            logger: a nuclio_sdk logger; None for one that writes nothing below warnings.
            worker_id: the number of the worker, from 0.
        """
        directory = Path(directory).resolve()
        path = directory / "function.yaml"
        handler = str(section(read_yaml(path), "spec", path).get("handler", "main:handler"))
        module_name, _, handler_name = handler.partition(":")
        if logger is None:
            logger = nuclio_sdk.Logger(logging.WARNING, name=__name__)
            logger.set_handler("default", sys.stderr, nuclio_sdk.logger.HumanReadableFormatter())
            for output in logging.getLogger(__name__).handlers:
                output.setLevel(logging.WARNING)  # what has values beside its message passes the logger's own level by
        self.context = nuclio_sdk.Context(
            logger,
            nuclio_sdk.Platform("local", namespace="nuclio"),
            worker_id,
            nuclio_sdk.TriggerInfo("http", "myHttpTrigger"),
        )
        module = _import_alone(directory, module_name) if unique else _import(directory, module_name)
        self._handler = getattr(module, handler_name or "handler")
        # As the wrapper does: through the handler's own module, so a decorated handler shows its decorator's.
        module = sys.modules[self._handler.__module__]
        init_context = getattr(module, "init_context", None)
        if init_context is not None:
            _finish(init_context(self.context))

    def __call__(
        self,
        body: Any = b"",
        content_type: str = "application/json",
        path: str = "/",
        *,
        method: str = "POST",
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Answers one request; raises what the handler raises.

        Args:
            body: bytes or text as they came; any other value is sent as JSON.
            content_type: as in the request's header.
            path: as in the request's first line.
            method: of the HTTP request.
            headers: more headers of the request.
        """
        if not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        raw = body.encode() if isinstance(body, str) else body
        event = nuclio_sdk.Event(
            body=_parse(raw, content_type),
            content_type=content_type,
            headers={"Content-Type": content_type, **(headers or {})},
            method=method,
            path=path,
            size=len(raw),
        )
        return _to_reply(_finish(self._handler(self.context, event)))


@contextlib.contextmanager
def variables(settings: Mapping[str, str]) -> Iterator[None]:
    """Environment variables that are set meanwhile, for functions that start meanwhile.

    Args:
        settings: by name.
    """
    before = dict(os.environ)
    os.environ.update(settings)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _parse(raw: bytes, content_type: str) -> Any:
    # The wrapper parses a body of exactly this content type and hands on the bytes of any other, or of broken JSON.
    if content_type == "application/json":
        try:
            return json.loads(raw.decode())
        except (ValueError, RecursionError):
            pass
    return raw


def _to_reply(output: Any) -> Reply:
    # The SDK's own reading of what a handler returned: a Response, a text, a pair of status and body, ...
    wire = nuclio_sdk.Response.from_entrypoint_output(json.dumps, output)
    body = wire["body"]
    return Reply(
        status=int(wire["status_code"]),
        body=base64.b64decode(body) if wire["body_encoding"] == "base64" else body.encode(),
        content_type=wire["content_type"],
        headers={str(key): str(value) for key, value in wire["headers"].items()},
    )


def _import(directory: Path, module_name: str) -> ModuleType:
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))
    return importlib.import_module(module_name)


def _import_alone(directory: Path, module_name: str) -> ModuleType:
    name = "function_" + "_".join([*directory.parts[1:], module_name])
    spec = importlib.util.spec_from_file_location(name, directory / f"{module_name.replace('.', '/')}.py")
    assert spec is not None and spec.loader is not None  # a .py path always has both
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _finish(result: Any) -> Any:
    return asyncio.run(result) if inspect.iscoroutine(result) else result
