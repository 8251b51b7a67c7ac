"""A choice that the first of a function's workers makes for all of them, such as the faster engine.

Workers start at the same time. If each measured, they would disturb each other, take longer, and could come to different
results. So the first one measures while the others wait, in a file of the temporary folder that is theirs alone.
"""

from __future__ import annotations

import contextlib
import contextvars
import fcntl
import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from common.networks.fingerprint import content_key

_ACTIVE: contextvars.ContextVar[bool] = contextvars.ContextVar("shared_choices", default=False)
_LOG = logging.getLogger(__name__)


@contextlib.contextmanager
def shared_choices(workers: int) -> Iterator[None]:
    """While this is open, the workers of one parent process share their choices.

    Args:
        workers: How many there are; one alone shares nothing.
    """
    token = _ACTIVE.set(workers > 1)
    try:
        yield
    finally:
        _ACTIVE.reset(token)


@contextlib.contextmanager
def shared_choice(question: str, answers: Sequence[str]) -> Iterator[Choice]:
    """One choice; another worker that comes to the same question waits until this block has ended.

    Args:
        question: What is chosen, and for what: the same text in each worker.
        answers: The valid answers.
    """
    if not _ACTIVE.get():
        yield Choice(None, answers)
        return
    key = content_key(question, str(os.getppid()))[:32]
    folder = Path(tempfile.gettempdir()) / f"cvat-functions-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.is_symlink() or folder.stat().st_uid != os.getuid():
            raise OSError(f"{folder} belongs to another user")
        file = os.open(folder / key, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:  # a read-only file system: each worker decides for itself
        _LOG.info("Each worker chooses for itself: %s", error)
        yield Choice(None, answers)
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield Choice(file, answers)
    finally:
        os.close(file)  # which also unlocks it


class Choice:
    """A choice that other workers may have made.

    Args:
        file: The open file that holds it; None when it is not shared.
        answers: The valid answers.
    """

    def __init__(self, file: int | None, answers: Sequence[str]):
        self._file = file
        text = os.pread(file, 100, 0).decode(errors="replace") if file is not None else ""
        self.made: str | None = text if text in answers else None
        """What another worker has chosen; None when this one is the first."""

    def make(self, answer: str) -> None:
        """Tells the others.

        Args:
            answer: What was chosen.
        """
        if self._file is not None:
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, answer.encode(), 0)
