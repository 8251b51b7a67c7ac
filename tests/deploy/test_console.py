"""What is printed where the terminal can't show all characters."""

from __future__ import annotations

import io
import sys

from deploy.console import Console, DeploymentError


def test_a_terminal_without_unicode(monkeypatch):
    """A function's log may hold anything; an exception in the report would keep the old version from coming back."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="latin-1") for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    console = Console("deploy_cpu.sh")
    console.line("größer → 1")
    console.line("größer")
    console.error(DeploymentError("cause →", "remedy →"))
    assert out.buffer.getvalue().decode("latin-1") == "gr\\xf6\\xdfer \\u2192 1\ngrößer\n"
    assert err.buffer.getvalue().decode() == "deploy_cpu.sh: cause \\u2192\n  remedy \\u2192\n"
