"""The machine's share of a function: how many threads a worker may use, and that it keeps memory it will use again."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from common.errors import StartupError

_LIBRARY_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h


def available_cores() -> float:
    """Cores that this process may use: its CPU affinity, and the quota of its container where there is one."""
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            cores = min(cores, int(quota) / int(period))
    except (OSError, ValueError):
        pass
    return cores


def threads_per_worker(workers: int) -> int:
    """Threads for each of `workers` processes: the environment variable THREADS, or an equal share of the cores."""
    text = os.environ.get("THREADS", "").strip()
    if not text:
        return max(1, int(available_cores() / max(workers, 1)))
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise StartupError(f"THREADS: expected a whole number of 1 or more, got {text!r}")


def limit_threads(workers: int) -> int:
    """Tells the libraries that a handler imports later how many threads to use; returns that number."""
    threads = threads_per_worker(workers)
    for variable in _LIBRARY_VARIABLES:
        os.environ.setdefault(variable, str(threads))
    return threads


def keep_freed_memory() -> bool:
    """Tells the C library to keep freed memory for the next arrays; returns whether it could be told (glibc).

    Left to itself it gives arrays of more than 32 MB back at once and gets them anew from the system page by page: for
    a network on a large image, a third of the time. The worker's memory then stays at its highest.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # another C library, another system
        return False
    return all(mallopt(parameter, 2**30) == 1 for parameter in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD))
