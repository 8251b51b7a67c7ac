"""Workers, each annotating one block of frames at a time: a process with a model, or a thread that calls an address."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any, Protocol

from common.errors import FunctionError
from common.networks.engine import choices
from tools.annotate.errors import CannotRun
from tools.annotate.predictor import FrameInput, FrameResult, Predictor
from tools.annotate.predictor_spec import PredictorSpec
from tools.workers.process import exit_words, kill_group

_START_SECONDS = 600.0  # a large model from a slow disk
_MOST_FAILED_STARTS = 3
_CONTEXT = multiprocessing.get_context("spawn")  # no threads, locks or sessions come along


class Worker(Protocol):
    """What annotates blocks of frames, started."""

    library: str
    """What the model runs in, if that was left to the function to choose; "" otherwise."""

    def predict(self, block: Sequence[FrameInput]) -> list[FrameResult]:
        """As `Predictor.predict`.

        Args:
            block: the frames, in order.

        Raises:
            CannotRun: when this worker can't go on.
        """
        ...

    def close(self) -> None:
        """Ends it, and its process."""
        ...


class ThreadWorker:
    """A predictor in the thread that calls it."""

    def __init__(self, spec: PredictorSpec, library: str = ""):
        with choices() as taken:
            self._predictor = spec.open(library)
        self.library = taken[-1] if taken else ""

    def predict(self, block: Sequence[FrameInput]) -> list[FrameResult]:
        """See `Worker.predict`."""
        return self._predictor.predict(block)

    def close(self) -> None:
        """See `Worker.close`."""


class ProcessWorker:
    """A predictor in a process of its own.

    When the process dies or hangs, another one is started, and the frame that was being annotated gets the error.
    """

    def __init__(self, spec: PredictorSpec, timeout_s: float, library: str = ""):
        """Starts the process without waiting for it.

        Args:
            spec: makes the predictor.
            timeout_s: for one frame; then the process is killed.
            library: what the model runs in; "" leaves that to the function.
        """
        self.library = library
        self._spec, self._timeout_s = spec, timeout_s
        self._failed_starts = 0
        self._start()

    def set_library(self, library: str) -> None:
        """Makes sure that the model runs in this library, now and after each restart.

        Args:
            library: as that of another worker.

        Raises:
            CannotRun: when the function can't start with it.
        """
        if self.library != library:
            self.library = library
            self.close()
            self._start()
            self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Waits for the model to be loaded.

        Raises:
            CannotRun: when the function can't start.
        """
        try:
            if not self._connection.poll(_START_SECONDS):
                raise CannotRun(f"the function was not ready within {_START_SECONDS:g} s")
            problem, library = self._connection.recv()
            self.library = library or self.library
        except (EOFError, OSError) as error:
            raise CannotRun(f"the function's process died while it started ({self._exit_reason()})") from error
        if problem:
            raise CannotRun(problem)

    def predict(self, block: Sequence[FrameInput]) -> list[FrameResult]:
        """See `Worker.predict`."""
        begin = time.monotonic()
        try:
            self._connection.send(block)
            if self._connection.poll(self._timeout_s * len(block)):
                results: list[FrameResult] = self._connection.recv()
                self._replies += 1
                return results
            problem = f"no answer within {time.monotonic() - begin:.0f} s"
        except (EOFError, OSError):
            problem = f"the function's process died ({self._exit_reason()})"
        self._restart()
        size = 1 + self._spec.overlap
        if len(block) <= size:
            return [FrameResult(block[0].frame, error=problem)]
        # One of several is the cause: one by one, only that one fails.
        parts = [block[i : i + size] for i in range(len(block) - self._spec.overlap)]
        return [result for part in parts for result in self.predict(part)]

    def close(self) -> None:
        """See `Worker.close`."""
        with contextlib.suppress(OSError):
            self._connection.close()  # the process ends when nothing more can come
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        if self._process.pid is not None:
            kill_group(self._process.pid)

    def _start(self) -> None:
        ours, theirs = _CONTEXT.Pipe()
        self._connection = ours
        self._process = _CONTEXT.Process(target=_serve, args=(theirs, self._spec, self.library), daemon=True)
        self._process.start()
        theirs.close()
        self._replies = 0

    def _restart(self) -> None:
        self._failed_starts = 0 if self._replies else self._failed_starts + 1
        if self._failed_starts >= _MOST_FAILED_STARTS:
            self.close()
            raise CannotRun(f"the function's process died {self._failed_starts} times without an answer")
        self._process.kill()
        self.close()
        self._start()
        self.wait_until_ready()

    def _exit_reason(self) -> str:
        self._process.join(2)
        return exit_words(self._process.exitcode)


def start_processes(spec: PredictorSpec, count: int, timeout_s: float, library: str = "") -> list[ProcessWorker]:
    """Starts processes side by side and waits until all are ready; when one fails, all are ended.

    Left to themselves they may choose different libraries for their models, whose results differ in the last digits:
    then all take that of the first one.

    Args:
        spec: makes the predictor of each.
        count: how many.
        timeout_s: for one frame.
        library: what the model runs in; "" leaves that to the function.

    Raises:
        CannotRun: when the function can't start.
    """
    workers: list[ProcessWorker] = []
    try:
        for _ in range(count):
            workers.append(ProcessWorker(spec, timeout_s, library))
        for worker in workers:
            worker.wait_until_ready()
        for worker in workers:
            worker.set_library(workers[0].library)
    except BaseException:
        for worker in workers:
            worker.close()
        raise
    return workers


class WorkerPool:
    """The workers of a run, started when they are first needed, and again for another predictor."""

    def __init__(self, size: int, timeout_s: float, *, threads: bool):
        """Starts nothing.

        Args:
            size: how many; 0 for one in this process.
            timeout_s: for one frame.
            threads: for functions that run elsewhere: no processes.
        """
        self.size = size
        self._timeout_s, self._threads = timeout_s, threads or not size
        self._started: tuple[PredictorSpec, str] | None = None
        self._workers: Sequence[Worker] = ()

    def start(self, spec: PredictorSpec, library: str = "") -> Sequence[Worker]:
        """The workers, ready.

        Args:
            spec: makes their predictors.
            library: what the model runs in; "" leaves that to the function.

        Raises:
            CannotRun: when the function can't start.
        """
        if (spec, library) != self._started:
            self.close()
            if self._threads:
                self._workers = [ThreadWorker(spec, library) for _ in range(max(self.size, 1))]
            else:
                self._workers = start_processes(spec, self.size, self._timeout_s, library)
            self._started = spec, library
        return self._workers

    def close(self) -> None:
        """Ends all workers."""
        for worker in self._workers:
            worker.close()
        self._workers, self._started = (), None


def _serve(connection: Connection[Any, Any], spec: PredictorSpec, library: str) -> None:
    """In the worker's process: makes the predictor, says so, and answers blocks until the other end is closed."""
    os.setsid()  # a group of its own, so that what the function starts can be ended with it
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's: what has begun is finished
    try:
        with choices() as taken:
            predictor: Predictor = spec.open(library)
    except Exception as error:
        known = isinstance(error, (FunctionError, CannotRun))
        problem = str(error) if known else f"the function can't start: {type(error).__name__}: {error}"
        connection.send((problem, ""))
        return
    with contextlib.suppress(EOFError, OSError):
        connection.send(("", taken[-1] if taken else ""))
        while True:
            connection.send(predictor.predict(connection.recv()))
