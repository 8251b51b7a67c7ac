"""What the run of a script makes of interruptions and of a disk that fails."""

from __future__ import annotations

import os
import signal
import tempfile
from types import SimpleNamespace

import pytest

from deploy import preflight, run
from deploy.commands import Commands
from deploy.console import Console
from deploy.options import Options


@pytest.fixture(autouse=True)
def handlers():
    """Restores the handlers of this process."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("action", ["--list", "--remove"])
def test_an_interruption_of_what_deploys_nothing(monkeypatch, capsys, action):
    monkeypatch.setattr(preflight, "find_tools", lambda *_: os.kill(os.getpid(), signal.SIGINT))
    assert run.main("cpu", [action, "onnx/yolo/shapes"]) == 130
    assert capsys.readouterr().err == "deploy_cpu.sh: interrupted\n"


def test_an_interruption_of_the_summary(tmp_path):
    """It would be reported as one of the deployment, and then be ignored."""
    console = Console("deploy_cpu.sh")
    session = run._Session(Options("cpu"), console, Commands(console, tmp_path))
    assert session._deploy_all(SimpleNamespace(options=Options("cpu"), console=console, functions=[])) == []
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    assert session.interrupted == "interrupted after the deployment; --list shows what is deployed"


def test_no_temporary_folder(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    assert run.main("cpu", ["--list"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("deploy_cpu.sh: ")
    assert "No such file or directory" in said
