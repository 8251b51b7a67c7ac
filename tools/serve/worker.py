"""A worker process: one copy of a function, answering one request at a time over the socket it was given.

`python -m tools.serve.worker DIRECTORY SOCKET_FD WORKER_ID`; started by `tools.serve.pool`, ends when the server is gone.
The function finds its function.yaml where a container has it, in /opt/nuclio: see `tools.workers.function_yaml`.
"""

from __future__ import annotations

import logging
import socket
import sys
from pathlib import Path
from typing import Any

import nuclio_sdk

from common.errors import StartupError
from tools.workers import function_yaml, messages
from tools.wrapper import LoadedFunction, Reply


def main() -> None:
    """Loads the function, says whether that went well, and answers requests until the server is gone."""
    directory, descriptor, worker_id = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    connection = socket.socket(fileno=descriptor)
    function_yaml.provide(Path(directory))
    logger = nuclio_sdk.Logger(logging.INFO)
    logger.set_handler("default", sys.stderr, _LineFormatter())
    try:
        function = LoadedFunction(directory, logger=logger, worker_id=worker_id)
    except BaseException as error:
        permanent = isinstance(error, StartupError)
        text = str(error) if permanent else f"{type(error).__name__}: {str(error)[:2000]}"
        connection.sendall(messages.pack({"ready": False, "error": text, "permanent": permanent}))
        if permanent:
            sys.exit(1)
        raise
    connection.sendall(messages.pack({"ready": True}))
    while True:
        try:
            header, body = messages.receive(connection)
        except EOFError:
            return
        reply = _answer(function, header, body)
        answer = {"status": reply.status, "content_type": reply.content_type, "headers": dict(reply.headers)}
        connection.sendall(messages.pack(answer, reply.body))


def _answer(function: LoadedFunction, header: dict[str, Any], body: bytes) -> Reply:
    try:
        return function(body, **header)
    except Exception as error:
        # A handler's own exception: the wrapper answers it with 500 and lives on.
        function.context.logger.error_with("Exception caught in handler", err=str(error)[:500])
        logging.getLogger("tools.serve").exception("Exception caught in handler")
        return Reply.error(500, f"the handler raised {type(error).__name__}; its log says why")


class _LineFormatter(logging.Formatter):
    """A log record as one line: level, message and the values beside it."""

    def format(self, record: logging.LogRecord) -> str:
        values = getattr(record, "with", None) or {}
        trace = values.pop("trace", None) if isinstance(values, dict) else None
        text = " ".join(f"{key}={value}" for key, value in values.items())
        line = f"{record.levelname.lower()}: {record.getMessage()} {text}".rstrip()
        return f"{line}\n{trace.rstrip()}" if trace else line


if __name__ == "__main__":
    main()
