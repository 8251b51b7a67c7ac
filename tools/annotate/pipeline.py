"""Pictures in, results out: a thread feeds, each worker has a thread, and the caller's thread takes what is done."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from tools.annotate.predictor import FrameInput, FrameResult
from tools.annotate.workers import Worker

T = TypeVar("T")
_FEW_SECONDS = 0.2


def run(
    blocks: Iterable[Sequence[FrameInput] | FrameResult],
    workers: Sequence[Worker],
    stop: threading.Event,
    consume: Callable[[FrameResult], None],
) -> None:
    """Gives blocks to workers as they come free, and each result to `consume`, in this thread, as it comes.

    blocks: an result among them is of a picture that nobody needs to look at. No more than a few blocks are taken
    ahead, so memory does not grow with their number. Raises what any of the parties raises, after all have ended.
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
    threads[0].join()  # it has told the workers to end, so it ends as well
    while not done.empty():  # and may have put something after the last of them
        result = done.get()
        if result is not None and not problems:
            consume(result)
    if problems:
        raise problems[0]


def _put(target: queue.Queue[T], item: T, ends: Sequence[threading.Event]) -> bool:
    """Whether the item found a place before one of the ends came."""
    while not any(end.is_set() for end in ends):
        try:
            target.put(item, timeout=_FEW_SECONDS)
            return True
        except queue.Full:
            continue
    return False


def _taken(source: queue.Queue[Sequence[FrameInput] | None], over: threading.Event) -> Iterator[Sequence[FrameInput]]:
    while not over.is_set():
        try:
            block = source.get(timeout=_FEW_SECONDS)
        except queue.Empty:
            continue
        if block is None:
            return
        yield block
