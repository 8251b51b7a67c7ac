"""Times of alternatives, taken in turn so that a noisy machine disturbs all alike."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np


def times_ms(alternatives: Mapping[str, Callable[[], Any]], rounds: int = 15, warm_ups: int = 2) -> dict[str, float]:
    """Measures alternatives in turn, so that other work on the machine slows all of them alike.

    Args:
        alternatives: What to call, by name.
        rounds: How many times each is called and measured.
        warm_ups: How many times each is called before.

    Returns:
        The median time of each in milliseconds.
    """
    taken: dict[str, list[float]] = {name: [] for name in alternatives}
    for turn in range(warm_ups + rounds):
        for name, run in alternatives.items():
            begin = time.perf_counter()
            run()
            if turn >= warm_ups:
                taken[name].append((time.perf_counter() - begin) * 1000)
    return {name: float(np.median(values)) for name, values in taken.items()}


def report(title: str, times: Mapping[str, float], base: str, notes: Mapping[str, str] | None = None) -> None:
    """Prints times, each with its ratio to one of them.

    Args:
        title: What was measured.
        times: Milliseconds by name, as `times_ms` returns them.
        base: The name of the time that the others are divided by.
        notes: More about some of them, at the end of their lines.
    """
    print(f"\n{title}")
    width = max(map(len, times))
    for name, ms in times.items():
        note = (notes or {}).get(name, "")
        print(f"  {name:<{width}}  {ms:10.2f} ms  {ms / times[base]:8.3f} x {base}  {note}".rstrip())


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """No log lines between the numbers."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
