"""Recorded replies: what is near enough, what is not, and the command that compares and records."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from common.errors import StartupError
from tools.collection import COLLECTION, ROOT
from tools.new.sample import PHOTOGRAPH, write_sample
from tools.sample import _difference, differences, record

RECTANGLE = {"label": "cat", "confidence": "0.9000", "points": [1.0, 2.0, 3.0, 4.0]}


@pytest.fixture
def function(tmp_path: Path) -> Path:
    directory = tmp_path / "opticalflow"
    shutil.copytree(COLLECTION / "opencv" / "opticalflow", directory)
    write_sample(directory, "tracker", PHOTOGRAPH, {"MAX_POINTS": "50"})
    record(directory)
    return directory


@pytest.mark.parametrize(
    "got",
    [
        [RECTANGLE],
        [{**RECTANGLE, "confidence": "0.9199"}],
        [{**RECTANGLE, "points": [1.9, 2.0, 3.0, 4.0]}],
    ],
)
def test_last_digits_are_no_difference(got: Any) -> None:
    assert _difference([RECTANGLE], got, "reply") == ""


@pytest.mark.parametrize(
    ("got", "message"),
    [
        ([], "reply: expected 1 items, got 0"),
        ([{**RECTANGLE, "label": "dog"}], 'reply[0].label: expected "cat", got "dog"'),
        ([{**RECTANGLE, "confidence": "0.8700"}], 'reply[0].confidence: expected "0.9000", got "0.8700"'),
        ([{**RECTANGLE, "points": [1.0, 2.0, 3.0, 5.5]}], "reply[0].points[3]: expected 4.0, got 5.5"),
        ([{**RECTANGLE, "points": [1, 2.0, 3.0, 5]}], "reply[0].points[3]: expected 4.0, got 5"),
        ([{"label": "cat"}], "reply[0]: expected the keys label, confidence, points, got label"),
        ({"shapes": []}, 'reply: expected [{"label"'),
    ],
)
def test_differences_say_where_and_what(got: Any, message: str) -> None:
    assert _difference([RECTANGLE], got, "reply").startswith(message)


def test_a_request_without_an_expected_reply_is_said(function: Path) -> None:
    path = function / "sample" / "replies.json"
    path.write_text(json.dumps(json.loads(path.read_text())[:1]))
    assert differences(function) == ["2 requests, but 1 expected replies: record them again with --record"]


@pytest.mark.parametrize(("changed", "differs"), [(2, False), (3, True)])
def test_a_mask_may_differ_in_two_pixels_of_a_hundred(changed: int, differs: bool) -> None:
    got = {"mask": [1] * changed + [0] * (100 - changed)}
    assert bool(_difference({"mask": [0] * 100}, got, "reply")) == differs


def test_states_are_handed_on_and_not_compared(function: Path) -> None:
    replies = json.loads((function / "sample/replies.json").read_text())
    assert [reply["states"] for reply in replies] == ["...", "..."]
    # The same picture again.
    assert replies[1]["shapes"][0]["points"] == pytest.approx(replies[0]["shapes"][0]["points"], abs=0.1)
    assert differences(function) == []


def test_a_refused_request_says_why(function: Path) -> None:
    path = function / "sample/requests.json"
    sample = json.loads(path.read_text())
    sample["requests"][1]["states"] = ["nonsense"]
    path.write_text(json.dumps(sample))
    with pytest.raises(StartupError, match=r"sample request 2 got status 400: states\[0\]"):
        differences(function)


def test_the_command_compares_and_records(function: Path) -> None:
    path = function / "sample/replies.json"
    good = path.read_text()
    path.write_text(good.replace("308.0", "318.0"))

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tools.sample", *arguments, str(function)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    compared = run()
    assert compared.returncode == 1
    assert "reply 1.shapes[0].points[2]: expected 318.0, got 308.0" in compared.stdout
    assert run("--record").returncode == 0
    assert path.read_text() == good
    assert run().returncode == 0
