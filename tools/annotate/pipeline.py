"""Runs workers side by side: one thread reads frames, each worker has a thread, and the caller's takes the results."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from tools.annotate.predictor import FrameInput, FrameResult
from tools.annotate.workers import Worker

T = TypeVar("T")
_POLL_SECONDS = 0.2


def run(
    blocks: Iterable[Sequence[FrameInput] | FrameResult],
    workers: Sequence[Worker],
    stop: threading.Event,
    consume: Callable[[FrameResult], None],
) -> None:
    """Gives blocks to the workers as they become free, and returns when all results are consumed.

    Only a few blocks are read ahead, so that memory does not grow with their number. An error in any of the threads is
    raised here after all threads have ended.

    Args:
        blocks: frames to annotate, and results of frames that could not be read.
        workers: annotate them.
        stop: when it is set, blocks in progress are finished and no more are started.
        consume: is called with each result as it arrives, in this thread.
    """
    waiting: queue.Queue[Sequence[FrameInput] | None] = queue.Queue(maxsize=2 * len(workers))
    done: queue.Queue[FrameResult | None] = queue.Queue(maxsize=1024)
    problems: list[BaseException] = []
    over = threading.Event()

    def fail(error: BaseException) -> None:
        problems.append(error)
        over.set()

    def feed() -> None:
        try:
            for block in blocks:
                ends = over, stop
                placed = _put(done, block, ends) if isinstance(block, FrameResult) else _put(waiting, block, ends)
                if not placed or stop.is_set():
                    break
        except BaseException as error:
            fail(error)
        for _ in workers:
            _put(waiting, None, (over,))

    def work(worker: Worker) -> None:
        try:
            for block in _taken(waiting, over):
                if not stop.is_set():
                    for result in worker.predict(block):
                        done.put(result)
        except BaseException as error:
            fail(error)
        finally:
            done.put(None)

    threads = [threading.Thread(target=feed, name="feed", daemon=True)]
    threads += [threading.Thread(target=work, args=(worker,), name="work", daemon=True) for worker in workers]
    for thread in threads:
        thread.start()
    running = len(workers)
    while running:
        result = done.get()
        if result is None:
            running -= 1
        elif not problems:
            try:
                consume(result)
            except BaseException as error:
                fail(error)
    threads[0].join()  # it has told the workers to end, and ends itself
    while not done.empty():  # it may have added results after the last worker's
        result = done.get()
        if result is not None and not problems:
            consume(result)
    if problems:
        raise problems[0]


def _put(target: queue.Queue[T], item: T, ends: Sequence[threading.Event]) -> bool:
    """Whether the item could be put before one of the ends was set."""
    while not any(end.is_set() for end in ends):
        try:
            target.put(item, timeout=_POLL_SECONDS)
            return True
        except queue.Full:
            continue
    return False


def _taken(source: queue.Queue[Sequence[FrameInput] | None], over: threading.Event) -> Iterator[Sequence[FrameInput]]:
    while not over.is_set():
        try:
            block = source.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            continue
        if block is None:
            return
        yield block
