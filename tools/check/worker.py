"""The process in which a function is tried: `python -P -m tools.check.worker DIRECTORY MODULE FUNCTION SOCKET_FD`.

Takes the steps of Nuclio's wrapper one by one, as `tools.check.run` asks for them, and reports what each did.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import logging
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nuclio_sdk

from tools.workers import function_yaml, messages
from tools.wrapper import LoadedFunction

# Libraries that take seconds or hundreds of megabytes to import.
_HEAVY = (
    "cv2", "detectron2", "diffusers", "jax", "keras", "mmcv", "mmdet", "mmengine", "onnxruntime", "openvino", "paddle",
    "rapidocr", "sklearn", "tensorflow", "timm", "torch", "torchvision", "transformers", "ultralytics",
)  # fmt: skip
# What all functions of this collection read, whatever their handler.
_COMMON_OPTIONS = ("MAX_IMAGE_PIXELS", "MODEL_PATH", "OFFLINE", "THREADS", "VARIANT")
_LONGEST_TEXT = 2000


def main() -> None:
    """Loads the function of the command line and answers the messages on its connection until that is closed."""
    directory, module_name, function_name = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    connection = socket.socket(fileno=int(sys.argv[4]))
    worker = _Worker(directory, module_name, function_name)
    steps: dict[str, Callable[[dict[str, Any], bytes], tuple[dict[str, Any], bytes]]] = {
        "import": worker.load_module,
        "start": worker.start,
        "call": worker.call,
    }
    while True:
        try:
            header, body = messages.receive(connection)
        except EOFError:
            return
        answer, reply = steps[header["step"]](header, body)
        connection.sendall(messages.pack(answer, reply))


class _Worker:
    def __init__(self, directory: Path, module_name: str, function_name: str):
        self._directory, self._module_name, self._function_name = directory, module_name, function_name
        self._log = _Log()
        self._returned = ""
        self._function: LoadedFunction

    def load_module(self, header: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
        """Imports the handler's module; says how long that took and which heavy libraries came with it."""
        self._forget_own_modules()
        function_yaml.provide(self._directory)
        sys.path.insert(0, str(self._directory))
        begin = time.perf_counter()
        try:
            module = importlib.import_module(self._module_name)
            handler = getattr(module, self._function_name)
        except BaseException as error:
            return self._problem(error), b""
        seconds = time.perf_counter() - begin
        owner = sys.modules.get(getattr(handler, "__module__", None) or "")
        setattr(module, self._function_name, self._recorded(handler))
        answer = {
            "seconds": seconds,
            "heavy": [name for name in _HEAVY if name in sys.modules],
            "init_context": hasattr(module, "init_context"),
            "init_context_found": hasattr(owner, "init_context"),
        }
        return answer, b""

    def start(self, header: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
        """Calls `init_context`."""
        logger = nuclio_sdk.Logger(logging.DEBUG)
        logger.set_handler("default", self._log, nuclio_sdk.logger.JSONFormatter())
        begin = time.perf_counter()
        try:
            self._function = LoadedFunction(self._directory, logger=logger)
        except BaseException as error:
            return self._problem(error), b""
        answer = {"seconds": time.perf_counter() - begin, "options": self._options(), **self._log.facts(b"")}
        return answer, b""

    def call(self, header: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
        """Answers one request as the wrapper does: an exception of any kind becomes 500 with its traceback."""
        self._log.clear()
        self._returned = ""
        begin = time.perf_counter()
        try:
            reply = self._function(body, header["content_type"])
            status, content_type, text = reply.status, reply.content_type, reply.body
        except BaseException as error:
            status, content_type = 500, "text/plain"
            text = f'Exception caught in handler - "{error}": {traceback.format_exc()}'.encode()
            self._returned = f"raised {type(error).__name__}"
        answer = {
            "status": status,
            "content_type": content_type,
            "returned": self._returned,
            "seconds": time.perf_counter() - begin,
            **self._log.facts(body),
        }
        return answer, text

    def _options(self) -> list[str]:
        """The variables that a function of this collection reads; [] for one of another make."""
        if "common.serving.kinds" not in sys.modules:
            return []
        from common.networks.loader import load_handler_class
        from common.serving import kinds, options

        function = getattr(self._function.context.user_data, "function", None)
        if not isinstance(function, kinds.Kind):
            return []
        targets = (type(function), load_handler_class(self._directory))
        return [name.upper() for target in targets for name in options.names(target)] + list(_COMMON_OPTIONS)

    def _recorded(self, handler: Callable[..., Any]) -> Callable[..., Any]:
        """The handler, with a record of what it returned, which the reply no longer shows."""

        def note(output: Any) -> Any:
            inner = output.body if isinstance(output, nuclio_sdk.Response) else output
            self._returned = type(inner).__name__
            if inner is not output:
                self._returned = f"Response with a {self._returned}"
            return output

        @functools.wraps(handler)
        def recorded(context: Any, event: Any) -> Any:
            output = handler(context, event)
            if not inspect.iscoroutine(output):
                return note(output)

            async def finished() -> Any:
                return note(await output)

            return finished()

        return recorded

    def _forget_own_modules(self) -> None:
        """Makes a function's own `common` or `tools` take precedence over this project's, which is imported already."""
        for name in ("common", "tools"):
            if (self._directory / name).is_dir() or (self._directory / f"{name}.py").is_file():
                for loaded in [key for key in sys.modules if key == name or key.startswith(f"{name}.")]:
                    del sys.modules[loaded]

    def _problem(self, error: BaseException) -> dict[str, Any]:
        """What an exception says, and where in the function's own files it came from."""
        place = ""
        for frame in traceback.extract_tb(error.__traceback__):
            path = Path(frame.filename)
            if path.is_relative_to(self._directory):
                place = f"{path.relative_to(self._directory)}:{frame.lineno}"
        traceback.print_exception(error)
        return {
            "problem": {
                "type": type(error).__name__,
                "bases": [base.__name__ for base in type(error).__mro__],
                "message": " ".join(str(error).split())[:_LONGEST_TEXT],
                "place": place,
                "module": getattr(error, "name", None) or "",
                "file": str(getattr(error, "filename", None) or ""),
            }
        }


class _Log:
    """Where the function's logger writes: the records of the request in progress."""

    def __init__(self) -> None:
        self._records: list[str] = []

    def clear(self) -> None:
        self._records.clear()

    def facts(self, body: bytes) -> dict[str, Any]:
        """The largest record in bytes, and whether a record has a part of an image of the request."""
        text = "".join(self._records)
        return {
            "largest_record": max((len(record.encode()) for record in self._records), default=0),
            "image_in_log": any(part in text for part in _image_parts(body)),
        }

    def write(self, text: str) -> None:
        if text != "\n":
            self._records.append(text)
            sys.stderr.write(text[:_LONGEST_TEXT] + "\n")

    def flush(self) -> None:
        sys.stderr.flush()


def _image_parts(body: bytes) -> list[str]:
    """A part of each image of a request, which identifies it."""
    try:
        request = json.loads(body)
    except ValueError:
        return []
    images = [request.get(name) for name in ("image", "image0", "image1")] if isinstance(request, dict) else []
    return [image[100:160] for image in images if isinstance(image, str) and len(image) > 200]


if __name__ == "__main__":
    main()
