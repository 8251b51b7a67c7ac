"""What all tests share: an environment that is the same for each of them, and a share of the machine for each worker."""

import logging
import os
import signal
from collections.abc import Iterator

import pytest

from common.networks.runtime import available_cores, limit_threads

_MOST_WORKERS = 8  # each imports torch and takes up to 1.5 GB
_SET_BY_PEOPLE = ("MAX_IMAGE_PIXELS", "THREADS", "THRESHOLD", "MAX_DISTANCE", "POLYGON_TOLERANCE")

# A shell that starts the tests in the background makes them ignore Ctrl-C, and with them all programs that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# `make test ARGS=...` hands its variables on; the makes that tests run are not part of it, but use its environment (VENV).
for name in ("MAKEFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "MFLAGS", "ARGS"):
    os.environ.pop(name, None)

# Workers of pytest-xdist share the cores; libraries read this when they are imported.
if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
    limit_threads(int(workers))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """What `-n auto` means: a worker for each core."""
    return max(1, min(int(available_cores()), _MOST_WORKERS))


@pytest.fixture(autouse=True)
def _own_environment() -> Iterator[None]:
    """No option of a function is set from outside, and what a function sets for its process ends with the test."""
    before = dict(os.environ)
    ours = logging.getLogger("common")
    handlers, level = ours.handlers, ours.level
    for name in _SET_BY_PEOPLE:
        os.environ.pop(name, None)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)
    ours.handlers = handlers
    ours.setLevel(level)
