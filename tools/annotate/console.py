"""Messages to the user, and Ctrl-C."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm


def say(text: str) -> None:
    """Writes a line to standard error, above the progress bar.

    Args:
        text: without a newline at its end.
    """
    tqdm.write(text, file=sys.stderr)


def count(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun, such as "1 frame" and "2 frames".

    Args:
        number: how many.
        noun: in the singular.
        plural: when it is more than the noun with an s.
    """
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


@contextmanager
def stop_on_signal() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C or SIGTERM sets; the second one ends the program at once."""
    stop = threading.Event()

    def on_signal(number: int, frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        say("Finishing the frames in progress; press Ctrl-C again to stop now.")

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
