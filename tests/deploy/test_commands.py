"""Ending a command."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

from tests.deploy.host import REPOSITORY

# In a process of its own: a signal that is not caught there ends nothing else.
INTERRUPTED = """
import os, signal, subprocess, threading
from deploy.commands import end
signal.signal(signal.SIGINT, signal.default_int_handler)
words = ["sh", "-c", "trap '' TERM; echo ready; sleep 20 & wait; sleep 20"]
process = subprocess.Popen(words, stdout=subprocess.PIPE, start_new_session=True)
process.stdout.readline()
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    end(process)
except KeyboardInterrupt:
    print("interrupted", process.poll())
"""


def test_a_second_ctrl_c_ends_by_force():
    """A command that does not heed SIGTERM would otherwise go on by itself, as in a session of its own."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED], cwd=REPOSITORY, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stdout == f"interrupted {-signal.SIGKILL}\n", done.stderr
    assert time.monotonic() - began < 5  # what the command would be given without it
