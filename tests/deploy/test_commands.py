"""Ending a command."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time

import pytest

from deploy.commands import end


def interrupted_end(process):
    # The signal is not sent before `pytest.raises` is there: it would end the tests' own process.
    threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT)).start()
    end(process)


def test_a_second_ctrl_c_ends_by_force():
    """A command that does not heed SIGTERM would otherwise go on by itself, as in a session of its own."""
    words = ["sh", "-c", "trap '' TERM; echo ready; sleep 20 & wait; sleep 20"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    with process.stdout:
        process.stdout.readline()
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            interrupted_end(process)
    assert process.poll() == -signal.SIGKILL
    assert time.monotonic() - began < 5
