import subprocess
import sys

import psutil
import pytest

from tools.workers.process import exit_words, kill_group


def test_kills_what_the_process_has_started_too() -> None:
    code = "import subprocess, time; print(subprocess.Popen(['sleep', '600']).pid, flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout
        child = psutil.Process(int(process.stdout.readline()))
        kill_group(process.pid)
        assert exit_words(process.wait(10)) == "signal SIGKILL"
        psutil.wait_procs([child], timeout=10)
        assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    kill_group(process.pid)  # gone: no error


@pytest.mark.parametrize(
    ("status", "words"), [(3, "exit status 3"), (-11, "signal SIGSEGV"), (None, "it closed its connection")]
)
def test_exit_words(status: int | None, words: str) -> None:
    assert exit_words(status) == words
