"""The process in which a function is tried, seen from outside."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from typing import IO, Any

from common.config import FunctionConfig
from tools.collection import ROOT
from tools.serve import frames


class WorkerProcess:
    """The worker process of a function, and the questions to it."""

    def __init__(
        self, config: FunctionConfig, module: str, function: str, environment: Mapping[str, str], output: IO[str]
    ):
        self._output = output
        self._connection, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [
                    *(sys.executable, "-P", "-u", "-m", "tools.check.worker"),
                    *(str(config.directory), module, function, str(theirs.fileno())),
                ],
                pass_fds=[theirs.fileno()],
                cwd=config.directory,
                env=_variables(config, environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def ask(self, header: Mapping[str, Any], body: bytes, limit: float) -> tuple[dict[str, Any], bytes]:
        """The answer to a question. Raises TimeoutError, and EOFError or ConnectionError when the process is gone."""
        self._connection.settimeout(limit)
        self._connection.sendall(frames.pack(dict(header), body))
        return frames.receive(self._connection)

    def how_it_ended(self) -> str:
        """The exit status or the signal of a process that is gone."""
        try:
            status = self._process.wait(5)
        except subprocess.TimeoutExpired:
            return "it closed its connection"
        return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"

    def last_words(self) -> str:
        """The end of what the process printed, on one line."""
        self._output.seek(0)
        lines = [line.strip() for line in self._output.read().splitlines() if line.strip()]
        return f"it printed last: {' | '.join(lines[-3:])[-300:]}" if lines else ""

    def end(self) -> None:
        """Ends the process and those that it started."""
        self._connection.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _variables(config: FunctionConfig, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of the worker as Nuclio gives it, with `environment`, the function's own variables.

    The worker puts the function's directory first on the import path, after it has loaded what it needs itself.
    """
    return {
        **os.environ,
        "NUCLIO_FUNCTION_NAME": config.name,
        "NUCLIO_FUNCTION_DESCRIPTION": config.description,
        "NUCLIO_FUNCTION_INSTANCE": "tools.check",
        "PYTHONDONTWRITEBYTECODE": "1",  # the directory stays as it is
        **environment,
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), environment.get("PYTHONPATH", "")))),
    }
