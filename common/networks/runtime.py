"""A worker's share of the machine: how many threads it may use, and that it keeps memory it will need again."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from common.errors import StartupError

_LIBRARY_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h


def available_cores() -> float:
    """Cores that this process may use, by its CPU affinity and the quota of its container."""
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            cores = min(cores, int(quota) / int(period))
    except (OSError, ValueError):
        pass
    return cores


def threads_per_worker(workers: int) -> int:
    """Threads for each worker: the environment variable THREADS, or an equal share of the cores.

    Args:
        workers: How many processes share the cores.

    Raises:
        StartupError: THREADS is not a positive whole number.
    """
    text = os.environ.get("THREADS", "").strip()
    if not text:
        return max(1, int(available_cores() / max(workers, 1)))
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise StartupError(f"THREADS: expected a whole number of 1 or more, got {text!r}")


def limit_threads(workers: int) -> int:
    """Limits the threads of libraries that are imported later, by their environment variables.

    Args:
        workers: How many processes share the cores.

    Returns:
        The number of threads, as `threads_per_worker` has it.
    """
    threads = threads_per_worker(workers)
    for variable in _LIBRARY_VARIABLES:
        os.environ.setdefault(variable, str(threads))
    return threads


def keep_freed_memory() -> bool:
    """Makes the C library keep freed memory for the next arrays.

    By default it returns arrays of more than 32 MB to the system at once and gets them again page by page: a third of the
    time of a network on a large image. With this, a worker's memory stays at its peak.

    Returns:
        Whether it worked; it needs glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # another C library, another system
        return False
    return all(mallopt(parameter, 2**30) == 1 for parameter in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD))
