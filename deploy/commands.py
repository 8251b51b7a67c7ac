"""Runs the programs of the host: docker, nuctl and the like."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Callable

from deploy.console import Console, DeploymentError, quoted

_POLL_S = 0.05
_TIMEOUT_S = 120
_GRACE_S = 5.0
_PIECE_BYTES = 1 << 20
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
NOT_FOUND = 127
_NOT_EXECUTABLE = 126


class Interrupted(Exception):
    """The run was interrupted while a command was under way."""


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    status: int
    """Its exit status; `NOT_FOUND` when there is no such program."""
    output: str = ""
    """Its stdout, for `change` with its stderr, without colour codes."""
    errors: str = ""
    """Its stderr."""

    @property
    def ok(self) -> bool:
        """Whether it succeeded."""
        return self.status == 0

    @property
    def last_words(self) -> str:
        """The last meaningful line of stderr, or of stdout where stderr has none."""
        return last_words(self.errors) or last_words(self.output)


class Commands:
    """Runs commands. Those that change something are only printed in a dry run."""

    def __init__(self, console: Console, scratch: Path):
        """Runs nothing.

        Args:
            console: Where a dry run prints.
            scratch: A folder for this run: the working directory and the temporary folder of the commands, so that
                they leave nothing behind.
        """
        self._console, self.scratch = console, scratch
        self.stop = threading.Event()
        """Set when the run is interrupted: commands under way are ended then."""

    def ask(self, *words: str, timeout_s: float = _TIMEOUT_S, data: bytes | None = None) -> Done:
        """Runs a command that changes nothing; it runs in a dry run as well.

        Args:
            words: The program and its arguments.
            timeout_s: How long it may take, in seconds; then it counts as failed.
            data: Its standard input.
        """
        try:
            done = subprocess.run(
                words,
                input=data if data is not None else b"",
                capture_output=True,
                timeout=timeout_s,
                cwd=self.scratch,
                env=self._environment({}),
                start_new_session=True,  # Ctrl-C reaches this process, which ends its commands in order
            )
        except OSError as error:
            return _not_run(words[0], error)
        except subprocess.TimeoutExpired:
            return Done(1, errors=f"{words[0]} has not answered within {timeout_s:.0f} s")
        return Done(done.returncode, _text(done.stdout), _text(done.stderr))

    def change(
        self,
        *words: str,
        log: Path | None = None,
        data: bytes | Iterable[bytes] | None = None,
        source: str = "",
        environment: Mapping[str, str] | None = None,
        shielded: bool = False,
        show: Callable[[str], None] | None = None,
    ) -> Done:
        """Runs a command that changes something; in a dry run it is printed instead, and counts as done.

        Args:
            words: The program and its arguments.
            log: A file to which its output is appended as it comes.
            data: Its standard input, in pieces where it is too large for memory.
            source: The command that a shell would pipe into it, for a dry run.
            environment: Variables beyond those of this process.
            shielded: Whether an interruption waits for its end, as for the restoration of a function.
            show: Called with each line of its output as it comes.

        Raises:
            Interrupted: The run was interrupted; the command and its children have ended.
        """
        if self._console.dry_run:
            self._console.command(f"{source} | {quoted(words)}" if source else quoted(words))
            return Done(0)
        if self.stop.is_set() and not shielded:
            raise Interrupted
        file = log or self.scratch / f"{threading.get_ident()}.log"
        file.touch()
        start = file.stat().st_size
        lines = _NewLines(file, start, show) if show else None
        with file.open("ab") as output:
            try:
                process = self.start(*words, output=output, data=data, environment=environment)
            except OSError as error:
                return _not_run(words[0], error)
            self.wait(process, shielded=shielded, meanwhile=lines.look if lines else None)
        if lines:
            lines.look(ended=True)
        with file.open("rb") as written:
            written.seek(start)
            return Done(process.returncode, _text(written.read()))

    def start(
        self,
        *words: str,
        output: BinaryIO,
        data: bytes | Iterable[bytes] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Starts a command in a process group of its own.

        Args:
            words: The program and its arguments.
            output: Where its stdout and stderr go.
            data: Its standard input, in pieces where it is too large for memory.
            environment: Variables beyond those of this process.

        Raises:
            FileNotFoundError: There is no such program.
        """
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL if data is None else subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=self.scratch,
            env=self._environment(environment or {}),
            start_new_session=True,
        )
        if data is not None:
            threading.Thread(target=_feed, args=(process, data), daemon=True).start()
        return process

    def stream(self, *words: str) -> Iterator[bytes]:
        """The output of a command, in pieces as it comes: for what is too large for memory.

        Args:
            words: The program and its arguments.

        Raises:
            DeploymentError: There is no such program, or it failed; what has come before is not complete.
            Interrupted: The run was interrupted; the command and its children have ended.
        """
        with (self.scratch / f"{threading.get_ident()}.errors").open("w+b") as errors:
            try:
                process = subprocess.Popen(
                    words,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    cwd=self.scratch,
                    env=self._environment({}),
                    start_new_session=True,
                )
            except FileNotFoundError as error:
                raise DeploymentError(f"{words[0]} is not installed") from error
            try:
                yield from self._pieces(process)
                self.wait(process)
            finally:
                if process.poll() is None:
                    end(process)
            if process.returncode != 0:
                errors.seek(0)
                said = last_words(_text(errors.read())) or f"status {process.returncode}"
                raise DeploymentError(f"{quoted(words[:2])} has failed: {said}")

    def _pieces(self, process: subprocess.Popen[bytes]) -> Iterator[bytes]:
        assert process.stdout is not None
        with process.stdout as output:
            while True:
                is_ready = select.select([output], [], [], _POLL_S)[0]
                if self.stop.is_set():
                    raise Interrupted
                piece = os.read(output.fileno(), _PIECE_BYTES) if is_ready else None
                if piece == b"":
                    return
                if piece:
                    yield piece

    def wait(
        self,
        process: subprocess.Popen[bytes],
        *,
        shielded: bool = False,
        meanwhile: Callable[[], None] | None = None,
    ) -> int:
        """Waits for a command's end.

        Args:
            process: The command.
            shielded: Whether it may go on after an interruption.
            meanwhile: Called several times a second.

        Returns:
            Its exit status.

        Raises:
            Interrupted: The run was interrupted; the command and its children have been ended.
        """
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return process.wait(_POLL_S)
                if self.stop.is_set() and not shielded:
                    raise Interrupted
                if meanwhile:
                    meanwhile()
        except BaseException:
            end(process)
            raise

    def _environment(self, more: Mapping[str, str]) -> dict[str, str]:
        return {**os.environ, "TMPDIR": str(self.scratch), **more}


class _NewLines:
    """The lines that are added to a file."""

    def __init__(self, file: Path, start: int, show: Callable[[str], None]):
        self._file, self._position, self._show = file, start, show

    def look(self, *, ended: bool = False) -> None:
        """Hands on the lines that are new; at the end also one without a line feed."""
        with self._file.open("rb") as written:
            written.seek(self._position)
            new = written.read()
        new = new if ended else new[: new.rfind(b"\n") + 1]
        self._position += len(new)
        for line in _text(new).splitlines():
            self._show(line)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a command and its children: first by SIGTERM, then by SIGKILL.

    Args:
        process: The command, the head of its process group.
    """
    try:
        _signal_group(process, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_S)
    finally:  # also after a second Ctrl-C during the wait
        if process.poll() is None:
            _signal_group(process, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE_S)


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def last_words(text: str) -> str:
    """The last meaningful line of a command's output, cut to 300 characters.

    Args:
        text: The output.
    """
    lines = [line.strip() for line in _COLOURS.sub("", text).splitlines()]
    said = [line for line in lines if line and not line.startswith(("...", "Call stack"))]
    return shortened(said[-1], 300) if said else ""


def shortened(text: str, most: int) -> str:
    """A text, cut to a maximal length; what was cut ends in " ...".

    Args:
        text: The text.
        most: The maximal number of characters.
    """
    return text if len(text) <= most else text[: most - 4].rstrip() + " ..."


def _feed(process: subprocess.Popen[bytes], data: bytes | Iterable[bytes]) -> None:
    assert process.stdin is not None
    # It may end before it has read all; its exit status says why.
    with contextlib.suppress(OSError), process.stdin as stdin:
        for piece in [data] if isinstance(data, bytes) else data:
            stdin.write(piece)


def _not_run(program: str, error: OSError) -> Done:
    """The result of a program that is missing, or that this machine can't run."""
    if isinstance(error, FileNotFoundError):
        return Done(NOT_FOUND, errors=f"{program} is not installed")
    return Done(_NOT_EXECUTABLE, errors=f"{program} can't be run: {error.strerror or error}")


def _text(output: bytes) -> str:
    return _COLOURS.sub("", output.decode("utf-8", "replace"))
