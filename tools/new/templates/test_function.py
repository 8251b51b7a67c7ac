"""The replies to the requests of the folder `sample`, through the function's own main.py."""

from pathlib import Path

from tools.sample import differences


def test_the_replies_are_the_expected_ones() -> None:
    """After an intended change record them again: python -m tools.sample --record DIRECTORY."""
    assert differences(Path(__file__).parent) == []
