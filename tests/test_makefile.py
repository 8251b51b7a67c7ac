"""The variables of make's command line."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", "--dry-run", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("arguments", [("serve", "FUNCTON=opencv/grabcut"), ("new", "NAME=a", "WEIGHT=best.onnx")])
def test_a_misspelt_variable_is_an_error(arguments: tuple[str, ...]) -> None:
    done = make(*arguments)
    assert done.returncode == 2
    assert f"unknown variable {arguments[-1].partition('=')[0]}; the variables are ARGS " in done.stderr


@pytest.mark.parametrize("target", ["serve", "weights", "check"])
@pytest.mark.parametrize("name", ["FUNCTION", "FUNCTIONS"])
def test_functions_are_named_in_the_singular_or_the_plural(target: str, name: str) -> None:
    done = make(target, f"{name}=opencv/grabcut")
    assert done.returncode == 0, done.stderr
    assert "opencv/grabcut" in done.stdout.splitlines()[-1]
