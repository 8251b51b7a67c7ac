"""The memory that worker processes hold, and the limit of a container that follows from it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from tools import quantities

_MI = 2**20
_PROCESSOR = 100 * _MI  # Nuclio's processor, which runs the workers; it holds each request and reply once more
_HEADROOM = 1.5
_STEP = 512 * _MI


@dataclass(frozen=True)
class Held:
    """What a process holds in memory, with the libraries and files that it has mapped; 0 where the system does not say."""

    now: int
    """Bytes at the moment."""
    most: int
    """The most since it was started."""


def held(process_id: int) -> Held:
    """The memory of a process, which only Linux tells.

    Args:
        process_id: of the process.
    """
    try:
        lines = Path(f"/proc/{process_id}/status").read_text().splitlines()
    except OSError:
        return Held(0, 0)
    values = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    now, most = (int((values.get(name) or ["0"])[0]) * 1024 for name in ("VmRSS", "VmHWM"))
    return Held(now, most)


def container_bytes(workers: int, each: int) -> int:
    """What a function's container holds: its workers and Nuclio's processor.

    Args:
        workers: How many there are.
        each: Bytes of one.
    """
    return workers * each + _PROCESSOR


def suggested_limit(workers: int, most: int) -> str:
    """The memory limit for a function: half as much again as its container has held, in steps of 512Mi.

    Args:
        workers: How many processes answer its requests.
        most: Bytes that one of them held at most.
    """
    return quantities.memory(math.ceil(_HEADROOM * container_bytes(workers, most) / _STEP) * _STEP)
