"""Workers that look at blocks of pictures, one block at a time each: a process with a model, or a thread with an address."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any, Protocol

from common.errors import FunctionError
from common.networks.engine import choices
from tools.annotate.engines import FrameInput, FrameResult, Predictor, PredictorSpec
from tools.annotate.errors import CannotRun

_START_SECONDS = 600.0  # a large model from a slow disk
_STARTS_WITHOUT_ANSWER = 3
_CONTEXT = multiprocessing.get_context("spawn")  # no threads, locks or sessions come along


class Worker(Protocol):
    """library: what the model runs in, if that was left to the function to choose; "" otherwise."""

    library: str

    def run(self, block: Sequence[FrameInput]) -> list[FrameResult]:
        """As `Predictor.run`. Raises CannotRun when this worker is of no more use."""
        ...

    def close(self) -> None: ...


class ThreadWorker:
    """An engine in the thread that calls it."""

    def __init__(self, recipe: PredictorSpec):
        with choices() as taken:
            self._engine = recipe()
        self.library = taken[-1] if taken else ""

    def run(self, block: Sequence[FrameInput]) -> list[FrameResult]:
        return self._engine.run(block)

    def close(self) -> None:
        self._engine.close()


class ProcessWorker:
    """An engine in a process of its own; when that dies, the picture it died of is to blame and another one starts.

    timeout_s: for one picture; after that the process is killed.
    """

    def __init__(self, recipe: PredictorSpec, timeout_s: float):
        self.library = ""
        self._recipe, self._timeout_s = recipe, timeout_s
        self._answers, self._fruitless_starts = 0, 0
        self._start()

    def agree(self, library: str) -> None:
        """Makes sure that the model runs in this library, now and after each new start. Raises CannotRun."""
        self._recipe = self._recipe.with_library(library)
        if self.library != library:
            self.library = library
            self.close()
            self._start()
            self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Raises CannotRun when the function can't start."""
        try:
            if not self._connection.poll(_START_SECONDS):
                raise CannotRun(f"the function was not ready within {_START_SECONDS:g} s")
            problem, library = self._connection.recv()
            self.library = library or self.library
        except (EOFError, OSError) as error:
            raise CannotRun(f"the function's process died while it started ({self._exit_words()})") from error
        if problem:
            raise CannotRun(problem)

    def run(self, block: Sequence[FrameInput]) -> list[FrameResult]:
        begin = time.monotonic()
        try:
            self._connection.send(block)
            if not self._connection.poll(self._timeout_s * len(block)):
                raise TimeoutError
            outcomes: list[FrameResult] = self._connection.recv()
            self._answers += 1
            return outcomes
        except TimeoutError:
            problem = f"no answer within {time.monotonic() - begin:.0f} s"
        except (EOFError, OSError):
            problem = f"the function's process died ({self._exit_words()})"
        self._restart()
        size = 1 + self._recipe.overlap
        if len(block) <= size:
            return [FrameResult(block[0].frame, error=problem)]
        # One of several: alone, only the one to blame fails.
        parts = [block[i : i + size] for i in range(len(block) - self._recipe.overlap)]
        return [outcome for part in parts for outcome in self.run(part)]

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._connection.close()  # ends the process: nothing more can come
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _start(self) -> None:
        ours, theirs = _CONTEXT.Pipe()
        self._connection: Any = ours
        self._process = _CONTEXT.Process(target=_serve, args=(theirs, self._recipe), daemon=True)
        self._process.start()
        theirs.close()
        self._answers = 0

    def _restart(self) -> None:
        self._fruitless_starts = 0 if self._answers else self._fruitless_starts + 1
        if self._fruitless_starts >= _STARTS_WITHOUT_ANSWER:
            self.close()
            raise CannotRun(f"the function's process died {self._fruitless_starts} times without an answer")
        self._process.kill()
        self.close()
        self._start()
        self.wait_until_ready()

    def _exit_words(self) -> str:
        self._process.join(2)
        code = self._process.exitcode
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                return f"{signal.Signals(-code).name}"
        return f"exit status {code}"


def start_processes(recipe: PredictorSpec, count: int, timeout_s: float) -> list[ProcessWorker]:
    """Starts processes side by side and waits until all are ready. Raises CannotRun; then none is left.

    Left to themselves they may take different libraries for their models, whose results differ in the last digits: then
    all do as the first one.
    """
    workers: list[ProcessWorker] = []
    try:
        for _ in range(count):
            workers.append(ProcessWorker(recipe, timeout_s))
        for worker in workers:
            worker.wait_until_ready()
        for worker in workers:
            worker.agree(workers[0].library)
    except BaseException:
        for worker in workers:
            worker.close()
        raise
    return workers


def _serve(connection: Connection[Any, Any], recipe: PredictorSpec) -> None:
    """In the worker's process: makes the engine, says so, and answers blocks until the other end is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's: what has begun is finished
    try:
        with choices() as taken:
            engine: Predictor = recipe()
    except Exception as error:
        known = isinstance(error, (FunctionError, CannotRun))
        problem = str(error) if known else f"the function can't start: {type(error).__name__}: {error}"
        connection.send((problem, ""))
        return
    with contextlib.suppress(EOFError, OSError):
        connection.send(("", taken[-1] if taken else ""))
        while True:
            connection.send(engine.run(connection.recv()))
