"""The pipeline: bounded, in order of nothing but the work, and it ends whatever happens."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from tools.annotate.pipeline import run
from tools.annotate.predictor import FrameInput, FrameResult


class Echo:
    """A worker that takes a moment. before: is called with each job first."""

    library = ""

    def __init__(self, seconds: float = 0.0, before=lambda job: None):
        self._seconds, self._before = seconds, before

    def predict(self, block: Sequence[FrameInput]) -> list[FrameResult]:
        for job in block:
            self._before(job)
        time.sleep(self._seconds)
        return [FrameResult(job.frame) for job in block]

    def close(self) -> None:
        pass


def blocks(count: int, taken: list[int] | None = None) -> Iterator[list[FrameInput]]:
    for i in range(count):
        if taken is not None:
            taken.append(i)
        yield [FrameInput(i, b"")]


def test_everything_arrives_once() -> None:
    found: list[int] = []
    mixed = [*blocks(500), *(FrameResult(1000 + i, error="bad") for i in range(20))]
    run(mixed, [Echo(), Echo(), Echo()], threading.Event(), lambda result: found.append(result.frame))
    assert sorted(found) == [*range(500), *range(1000, 1020)]


def test_no_more_is_taken_than_the_workers_can_hold() -> None:
    """The source may be a terabyte: what is taken but not consumed stays a handful."""
    taken: list[int] = []
    consumed: list[int] = []
    most = 0

    def consume(result: FrameResult) -> None:
        nonlocal most
        consumed.append(result.frame)
        most = max(most, len(taken) - len(consumed))

    run(blocks(300, taken), [Echo(0.002), Echo(0.002)], threading.Event(), consume)
    assert len(consumed) == 300
    assert most <= 4 + 2 + 2 + 2  # waiting, in work, done, and one in each hand


def test_workers_work_side_by_side() -> None:
    begin = time.monotonic()
    run(blocks(20), [Echo(0.05) for _ in range(5)], threading.Event(), lambda result: None)
    assert time.monotonic() - begin < 0.8  # alone it would be a second


def test_stop_finishes_what_is_in_work_and_takes_no_more() -> None:
    stop, found = threading.Event(), []
    taken: list[int] = []

    def consume(result: FrameResult) -> None:
        found.append(result.frame)
        if len(found) == 5:
            stop.set()

    run(blocks(10_000, taken), [Echo(0.001), Echo(0.001)], stop, consume)
    assert 5 <= len(found) <= 12
    assert len(taken) < 30
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("who", ["source", "worker", "consumer"])
def test_an_error_of_anybody_ends_it(who: str) -> None:
    def explode(at: int) -> None:
        if at == 7:
            raise RuntimeError(f"the {who} fails")

    def source() -> Iterator[list[FrameInput]]:
        for block in blocks(10_000):
            if who == "source":
                explode(block[0].frame)
            yield block

    def before(job: FrameInput) -> None:
        if who == "worker":
            explode(job.frame)

    def consume(result: FrameResult) -> None:
        if who == "consumer":
            explode(result.frame)

    threads = threading.active_count()
    with pytest.raises(RuntimeError, match=f"the {who} fails"):
        run(source(), [Echo(before=before), Echo(before=before)], threading.Event(), consume)
    deadline = time.monotonic() + 5
    while threading.active_count() > threads and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == threads


def test_many_pictures_that_could_not_be_had_block_nothing() -> None:
    found = []
    run(
        (FrameResult(i, error="gone") for i in range(5000)),
        [Echo()],
        threading.Event(),
        lambda result: found.append(result.frame),
    )
    assert found == list(range(5000))
