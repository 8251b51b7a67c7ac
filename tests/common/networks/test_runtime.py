import os
import subprocess
import sys

import pytest

from common.errors import StartupError
from common.networks.runtime import available_cores, limit_threads, threads_per_worker


def test_cores_are_those_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    allowed = os.sched_getaffinity(0)
    assert 0 < available_cores() <= len(allowed)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert available_cores() <= 1
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.mark.parametrize(
    ("cores", "workers", "threads"), [(8, 1, 8), (8, 2, 4), (8, 3, 2), (2, 4, 1), (0.5, 1, 1), (8, 0, 8)]
)
def test_workers_share_the_cores(monkeypatch: pytest.MonkeyPatch, cores: float, workers: int, threads: int) -> None:
    monkeypatch.setattr("common.networks.runtime.available_cores", lambda: cores)
    assert threads_per_worker(workers) == threads


def test_threads_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THREADS", " 3 ")
    assert threads_per_worker(100) == 3


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", "nan"])
def test_threads_that_are_none_are_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("THREADS", text)
    with pytest.raises(StartupError, match=rf"^THREADS: expected a whole number of 1 or more, got '{text}'$"):
        threads_per_worker(1)


def test_libraries_are_told_unless_they_have_been_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THREADS", "3")
    monkeypatch.setenv("MKL_NUM_THREADS", "7")
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
    for name in set(names) - {"MKL_NUM_THREADS"}:
        monkeypatch.delenv(name, raising=False)
    assert limit_threads(2) == 3
    assert [os.environ[name] for name in names] == ["3", "3", "7", "3"]


@pytest.mark.parametrize("threads", ["1", "3"])
def test_opencv_imported_later_obeys(threads: str) -> None:
    program = (
        "from common.networks.runtime import limit_threads; limit_threads(1); import cv2; print(cv2.getNumThreads())"
    )
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_NUM")} | {"THREADS": threads}
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    )
    assert result.stdout.strip() == threads


FAULTS = """
import resource, sys
import numpy as np
from common.networks.runtime import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(16 * 2**20, np.float32)  # 64 MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


def test_freed_memory_is_kept_for_the_next_array() -> None:
    """In processes of their own, for it holds from then on. numpy asks for memory as torch does."""
    found = {
        how: int(subprocess.run([sys.executable, "-c", FAULTS, how], check=True, capture_output=True).stdout)
        for how in ("as it is", "kept")
    }
    assert found["kept"] < 10 < found["as it is"]
