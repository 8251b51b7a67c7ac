"""Choices that a function's workers make once for all of them, such as the faster engine.

Workers start at the same time. If each measured, they would disturb each other, take longer, and could come to different
results. So the first one measures while the others wait; a file in the temporary folder, which is theirs alone, holds what it
chose. `common.serving.choose` chooses when an image is built, so that the function starts seconds sooner; on a machine with
another processor the workers choose again.
"""

from __future__ import annotations

import contextlib
import contextvars
import fcntl
import importlib.metadata
import json
import logging
import os
import platform
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from common.networks.fingerprint import content_key

FILE_NAME = "choices.json"
"""In a function's directory: what was chosen when its image was built."""
_LIBRARIES = ("onnxruntime", "openvino")
_LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class _Sharing:
    workers: int = 1
    beforehand: dict[str, str] = field(default_factory=dict)  # question -> answer
    made: dict[str, str] = field(default_factory=dict)


_SHARING: contextvars.ContextVar[_Sharing | None] = contextvars.ContextVar("sharing", default=None)


@contextlib.contextmanager
def shared_choices(workers: int, directory: Path | None = None) -> Iterator[dict[str, str]]:
    """Within this context, the workers of one parent process share their choices.

    Args:
        workers: How many there are; one alone shares nothing.
        directory: The function's, which may hold choices that were made beforehand.

    Yields:
        What this process chooses, by question; filled within the context.
    """
    sharing = _Sharing(workers, _made_beforehand(directory) if directory else {})
    token = _SHARING.set(sharing)
    try:
        yield sharing.made
    finally:
        _SHARING.reset(token)


@contextlib.contextmanager
def shared_choice(question: str, answers: Sequence[str]) -> Iterator[Choice]:
    """One choice; another worker that comes to the same question waits until this block has ended.

    Args:
        question: What is chosen, and for what: the same text in each worker.
        answers: The valid answers.
    """
    sharing = _SHARING.get() or _Sharing()
    beforehand = sharing.beforehand.get(question)
    if beforehand in answers:
        yield Choice(question, sharing, answers, made=beforehand)
        return
    if sharing.workers < 2:
        yield Choice(question, sharing, answers)
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
        yield Choice(question, sharing, answers)
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield Choice(question, sharing, answers, file=file)
    finally:
        os.close(file)  # which also unlocks it


class Choice:
    """A choice that may have been made already."""

    def __init__(
        self,
        question: str,
        sharing: _Sharing,
        answers: Sequence[str],
        *,
        made: str | None = None,
        file: int | None = None,
    ):
        self._question, self._sharing, self._file = question, sharing, file
        text = os.pread(file, 100, 0).decode(errors="replace") if file is not None else made
        self.made: str | None = text if text in answers else None
        """What was chosen, beforehand or by another worker; None when this one is the first."""

    def make(self, answer: str) -> None:
        """Records the choice for the other workers.

        Args:
            answer: What was chosen.
        """
        self._sharing.made[self._question] = answer
        if self._file is not None:
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, answer.encode(), 0)


def write_choices(directory: Path, choices: Mapping[str, str]) -> None:
    """Writes what was chosen on this machine into a function's directory, for the workers that will start from it.

    Args:
        directory: The function's.
        choices: What was chosen, by question.
    """
    content = {"machine": _machine(), "choices": dict(choices)}
    (directory / FILE_NAME).write_text(json.dumps(content, indent=2) + "\n")


def _made_beforehand(directory: Path) -> dict[str, str]:
    try:
        content = json.loads((directory / FILE_NAME).read_text())
        return dict(content["choices"]) if content["machine"] == _machine() else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _machine() -> str:
    """What a measurement depends on: the processor and the libraries."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    found = {
        each.metadata["Name"].lower(): each.version
        for each in importlib.metadata.distributions()
        if each.metadata["Name"]
    }
    versions = [f"{name} {found[name]}" for name in _LIBRARIES if name in found]
    return "; ".join([platform.machine(), model or platform.processor(), *versions])
