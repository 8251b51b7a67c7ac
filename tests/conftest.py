"""What all tests share: an environment that is the same for each of them."""

import os
from collections.abc import Iterator

import pytest

_SET_BY_PEOPLE = ("MAX_IMAGE_PIXELS", "THREADS", "THRESHOLD", "MAX_DISTANCE", "POLYGON_TOLERANCE")


@pytest.fixture(autouse=True)
def _own_environment() -> Iterator[None]:
    """No option of a function is set from outside, and what a function sets for its process ends with the test."""
    before = dict(os.environ)
    for name in _SET_BY_PEOPLE:
        os.environ.pop(name, None)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)
