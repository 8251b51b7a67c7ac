"""The process in which a function is tried, seen from outside."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Mapping
from typing import IO, Any

from common.config import FunctionConfig
from tools.workers import messages
from tools.workers.environment import worker_environment
from tools.workers.memory import Held, held
from tools.workers.process import exit_words, kill_group


class WorkerProcess:
    """The worker process of a function, and the questions to it.

    Args:
        config: The function.
        module: The handler's module.
        function: The handler's name in it.
        environment: The function's own variables.
        output: A file that takes what the process prints.
    """

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
                env=worker_environment(
                    # The directory stays as it is; the worker puts it first on the import path once it has loaded its own modules.
                    config,
                    {"PYTHONDONTWRITEBYTECODE": "1", **environment},
                    instance="tools.check",
                ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def ask(self, header: Mapping[str, Any], body: bytes, limit: float) -> tuple[dict[str, Any], bytes]:
        """Asks the process something and waits for the answer.

        Args:
            header: The question, as values that JSON can carry.
            body: Bytes that belong to it.
            limit: Seconds to wait.

        Returns:
            The answer's header and body.

        Raises:
            TimeoutError: There was no answer in time.
            EOFError: The process is gone.
            ConnectionError: The process is gone.
        """
        self._connection.settimeout(limit)
        self._connection.sendall(messages.pack(dict(header), body))
        return messages.receive(self._connection)

    def memory(self) -> Held:
        """The memory that the process holds."""
        return held(self._process.pid)

    def how_it_ended(self) -> str:
        """The exit status or the signal of a process that is gone."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        return exit_words(self._process.returncode)

    def last_words(self) -> str:
        """The end of what the process printed, on one line."""
        self._output.seek(0)
        lines = [line.strip() for line in self._output.read().splitlines() if line.strip()]
        return f"it printed last: {' | '.join(lines[-3:])[-300:]}" if lines else ""

    def end(self) -> None:
        """Ends the process and those that it started."""
        self._connection.close()
        kill_group(self._process.pid)
        self._process.wait()
