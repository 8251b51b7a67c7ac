"""The worker processes of one function: started, given one request at a time, stopped, and started again when they die."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.config import FunctionConfig, http_trigger, read_yaml
from common.errors import StartupError, describe
from common.networks.runtime import threads_per_worker
from tools import durations
from tools.workers import messages
from tools.workers.environment import worker_environment
from tools.workers.process import exit_words, kill_group
from tools.workers.retries import pauses_s
from tools.wrapper import Reply

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0  # between a worker's death and its next start
_STARTS_BEFORE_GIVING_UP = 4  # as with the restart policy of the collection's function.yaml: one start and three more
_STOP_SECONDS = 5.0


@dataclass(frozen=True)
class Limits:
    """What a function.yaml says about requests, with Nuclio's defaults."""

    workers: int = 1
    """Worker processes of the HTTP trigger."""
    body_bytes: int = 4 * 2**20
    """The largest body of a request."""
    worker_wait_s: float = 10.0
    """How long a request waits for a free worker."""
    event_timeout_s: float | None = None
    """How long a worker may take for a request; None for no limit."""

    @classmethod
    def load(cls, directory: Path) -> Limits:
        """Reads them from a directory's function.yaml.

        Args:
            directory: the function's.

        Raises:
            StartupError: Nuclio would refuse a value; names it.
        """
        path = directory / "function.yaml"
        spec = read_yaml(path).get("spec") or {}
        trigger = http_trigger(spec)
        attributes = trigger.get("attributes") or {}
        return cls(
            workers=_count(trigger, "numWorkers", path) or _count(trigger, "maxWorkers", path) or cls.workers,
            body_bytes=_count(attributes, "maxRequestBodySize", path) or cls.body_bytes,
            worker_wait_s=(_count(trigger, "workerAvailabilityTimeoutMilliseconds", path) or 10000) / 1000,
            event_timeout_s=_event_timeout_s(spec, path),
        )


def _count(values: Mapping[str, Any], name: str, path: Path) -> int | None:
    value = values.get(name)
    if value is None or value == "":
        return None
    if not str(value).isdecimal():
        raise StartupError(f"{path}: {name} of the http trigger: expected a whole number, got {describe(value)}")
    return int(value)


def _event_timeout_s(spec: Mapping[str, Any], path: Path) -> float | None:
    value = spec.get("eventTimeout")
    if value is None or value == "":
        return None
    try:
        seconds = durations.seconds(str(value))
    except ValueError as error:
        raise StartupError(f"{path}: spec.eventTimeout: {error}") from error
    if seconds <= 0:
        raise StartupError(f"{path}: spec.eventTimeout: expected a time of more than 0, got {value!r}")
    return seconds


class Pool:
    """The workers of the function in a directory."""

    def __init__(self, directory: Path, settings: Mapping[str, str], workers: int | None = None):
        """Reads the function.yaml; starts nothing yet.

        Args:
            directory: the function's.
            settings: variables of the workers, which take precedence over those of the function.yaml.
            workers: how many processes share the machine's cores; None as the function.yaml says.

        Raises:
            StartupError: The function.yaml or THREADS is wrong.
        """
        self.config = FunctionConfig.load(directory)
        self.limits = Limits.load(directory)
        self.error = ""
        count = workers or self.limits.workers
        settings = {**self.config.environment, **settings}
        if not settings.get("THREADS", "").strip():
            # A worker knows the number of workers in function.yaml only, not how many share the machine here.
            settings["THREADS"] = str(threads_per_worker(count))
        self.environment = worker_environment(
            self.config, settings, instance="tools.serve", import_path=[self.config.directory]
        )
        self._workers = [_Worker(self, i) for i in range(count)]
        self._idle: asyncio.Queue[_Worker] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._ready = asyncio.Event()

    @property
    def state(self) -> str:
        """Nuclio's word for it: ready, building (starting for the first time), unhealthy or error."""
        if any(worker.ready for worker in self._workers):
            return "ready"
        if all(worker.failed for worker in self._workers):
            return "error"
        return "unhealthy" if self._ready.is_set() else "building"

    def start(self) -> None:
        """Starts the workers; returns at once."""
        self._tasks = [asyncio.create_task(worker.keep_alive()) for worker in self._workers]

    async def wait_until_started(self) -> None:
        """Waits until a worker is ready or all have given up."""
        while self.state == "building":
            await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """Ends all workers; none is left when this returns."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(worker.end() for worker in self._workers))

    async def invoke(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """Hands a request to the next free worker.

        Args:
            method: of the HTTP request.
            path: as the handler sees it.
            headers: by name in lower case.
            body: as it came.

        Returns:
            The worker's reply, or the error that Nuclio would give.
        """
        name = self.config.name
        if self.state == "error":
            return Reply.error(503, f"{name} could not start: {self.error}")
        try:
            worker = await asyncio.wait_for(self._take(), self.limits.worker_wait_s)
        except TimeoutError:
            return Reply.error(503, f"{name}: no worker was free within {self.limits.worker_wait_s:g} s")
        # A client that goes away must not take the worker with it: the request is finished in any case.
        return await asyncio.shield(asyncio.create_task(self._serve(worker, method, path, headers, body)))

    async def _take(self) -> _Worker:
        while True:
            worker = await self._idle.get()
            worker.queued = False
            if worker.ready:
                return worker

    def _give_back(self, worker: _Worker) -> None:
        # One that died while it was idle still has its place, and must not get a second: it takes one request at a time.
        if not worker.queued:
            worker.queued = True
            self._idle.put_nowait(worker)

    async def _serve(self, worker: _Worker, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        name = self.config.name
        header = {
            "method": method,
            "path": path,
            "headers": dict(headers),
            "content_type": headers.get("content-type", ""),
        }
        try:
            async with asyncio.timeout(self.limits.event_timeout_s):
                answer, reply_body = await worker.ask(header, body)
        except TimeoutError:
            worker.kill()
            limit = self.limits.event_timeout_s
            return Reply.error(408, f"{name}: no answer within {limit:g} s (eventTimeout); its worker starts again")
        except (OSError, asyncio.IncompleteReadError):
            return Reply.error(502, f"{name}: its worker died during the request and starts again; its log says why")
        self._give_back(worker)
        return Reply(answer["status"], reply_body, answer["content_type"], answer["headers"])

    def worker_is_ready(self, worker: _Worker) -> None:
        """Takes a worker that has started among those that get requests.

        Args:
            worker: one of this pool.
        """
        self._ready.set()
        self._give_back(worker)


class _Worker:
    def __init__(self, pool: Pool, index: int):
        self._pool, self._index = pool, index
        self.process: asyncio.subprocess.Process | None = None
        self.ready = self.failed = self._permanent = False
        self.queued = False  # whether it is in the queue of idle workers; one that has died there is skipped
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter | None = None

    async def keep_alive(self) -> None:
        """Starts the process, and again whenever it ends; gives up when it can't be started several times in a row."""
        starts, pauses = 0, pauses_s(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        while True:
            starts += 1
            problem = await self._start()
            if not problem:
                starts, pauses = 0, pauses_s(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
                self._pool.worker_is_ready(self)
            assert self.process is not None
            status = await self.process.wait()
            self._disconnect()
            self.kill()
            if problem:
                self._pool.error = problem
                self._log(f"can't start: {problem}")
                if starts >= _STARTS_BEFORE_GIVING_UP or self._permanent:
                    self.failed = True
                    return
            else:
                self._log(f"worker process {self.process.pid} ended with {exit_words(status)}; starting it again")
            await asyncio.sleep(next(pauses) if problem else 0)

    async def ask(self, header: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
        assert self._writer is not None
        self._writer.write(messages.pack(header, body))
        await self._writer.drain()
        return await messages.receive_async(self._reader)

    def kill(self) -> None:
        """Ends the process, and what it has started: it leads a group of its own, which may outlive it."""
        self.ready = False
        if self.process is not None:
            kill_group(self.process.pid)

    async def end(self) -> None:
        self._disconnect()
        if self.process is None or self.process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.process.wait(), _STOP_SECONDS)
        self.kill()
        await self.process.wait()
        await asyncio.wait([self._copying], timeout=1)

    async def _start(self) -> str:
        """Starts the process and waits until its function is loaded; returns what went wrong, or nothing."""
        ours, theirs = socket.socketpair()
        # A pipe of our own: asyncio's would have `wait` wait for all that the function has started and that may write to it.
        output, theirs_output = os.pipe()
        directory = self._pool.config.directory
        arguments = (str(directory), str(theirs.fileno()), str(self._index))
        try:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "tools.serve.worker",
                *arguments,
                cwd=directory,
                env=self._pool.environment,
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=theirs_output,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        finally:
            theirs.close()
            os.close(theirs_output)
            self._copying = asyncio.create_task(self._copy_output(output))
        self._reader, self._writer = await asyncio.open_connection(sock=ours, limit=2**20)
        try:
            message, _ = await messages.receive_async(self._reader)
        except (OSError, asyncio.IncompleteReadError):
            return f"the worker process ended with {exit_words(await self.process.wait())} before it was ready"
        if not message["ready"]:
            # A wrong setting stays wrong: another start would fail in the same way.
            self._permanent = bool(message.get("permanent"))
            return str(message["error"])
        self.ready = True
        return ""

    async def _copy_output(self, descriptor: int) -> None:
        """Writes the lines of a pipe to the server's log until nothing can write to it any more."""
        reader = asyncio.StreamReader(limit=2**20)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", buffering=0)
        )
        with contextlib.closing(transport):
            while True:
                try:
                    line = await reader.readline()
                except ValueError:  # a line longer than the buffer: its rest comes next
                    continue
                if not line:
                    return
                self._log(line.decode("utf-8", "replace").rstrip())

    def _disconnect(self) -> None:
        self.ready = False
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _log(self, text: str) -> None:
        moment = time.strftime("%H:%M:%S")
        print(f"{moment} {self._pool.config.name}/{self._index} {text}", file=sys.stderr, flush=True)
