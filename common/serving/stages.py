"""How long each stage of a request took, for the log and the `Server-Timing` header of the reply."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stages:
    """Times of named stages of a request, and facts about it, for the log."""

    def __init__(self) -> None:
        self.milliseconds: dict[str, float] = {}
        """Stage -> time, in the order in which they began."""
        self.facts: dict[str, str | int | float] = {}
        """Logged beside the times, such as the number of shapes."""

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Adds the time spent inside to a stage.

        Args:
            name: The stage's.
        """
        begin = time.perf_counter()
        self.milliseconds.setdefault(name, 0.0)
        try:
            yield
        finally:
            self.milliseconds[name] += (time.perf_counter() - begin) * 1000

    def server_timing(self) -> str:
        """The stages as the value of an HTTP `Server-Timing` header (W3C): `decode;dur=3.1, inference;dur=20`."""
        return ", ".join(f"{name};dur={ms:.2f}" for name, ms in self.milliseconds.items())
