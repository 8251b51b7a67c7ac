"""The end of a worker process: together with what it has started, and in words."""

from __future__ import annotations

import contextlib
import os
import signal


def kill_group(process_id: int) -> None:
    """Kills a process that leads a group of its own, and all that it has started; one that is gone already is no error.

    Args:
        process_id: of the process, which was started with `start_new_session=True` or has called `os.setsid`. What it
            has started may outlive it, and is killed all the same.
    """
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process_id, signal.SIGKILL)


def exit_words(status: int | None) -> str:
    """How a process ended, such as "exit status 3" or "signal SIGKILL".

    Args:
        status: its return code as Python gives it, negative for a signal; None when it has not ended.
    """
    if status is None:
        return "it closed its connection"
    if status < 0:
        with contextlib.suppress(ValueError):
            return f"signal {signal.Signals(-status).name}"
    return f"exit status {status}"
