"""tools.weights as a command, against a real HTTP server that cuts the connection."""

from __future__ import annotations

import hashlib
import os
import pty
import re
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.networks.weights import WeightFile
from tests.file_server import CONTENT, CUT, FileServer, file_server
from tools.collection import ROOT
from tools.weights.fetching import Sizes

DIGEST = hashlib.sha256(CONTENT).hexdigest()
FUNCTION = 'metadata: {{name: {name}, annotations: {{type: detector, spec: "[]"}}}}\nspec: {{env: [{{name: VARIANT, value: small}}]}}\n'


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as running:
        yield running


def function(folder: Path, name: str, url: str, more: str = "") -> Path:
    directory = folder / name
    directory.mkdir()
    (directory / "function.yaml").write_text(FUNCTION.format(name=name))
    variants = "".join(
        f"  {variant}: {{files: [{{path: {variant}.bin, url: '{url}'{more}}}]}}\n" for variant in ("large", "small")
    )
    (directory / "weights.yaml").write_text(f"default: large\nvariants:\n{variants}")
    return directory


def run(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tools.weights", *map(str, arguments)]
    environment = {**os.environ, **variables}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)


def test_fetches_what_is_missing_and_says_how_much_it_is(tmp_path: Path, server: FileServer) -> None:
    one, two = (function(tmp_path, name, server.url) for name in ("one", "two"))
    listed = run(one, two, "--list")
    assert listed.returncode == 0
    assert listed.stdout.splitlines()[:3] == [
        "FUNCTION  WEIGHTS  TO DOWNLOAD",
        "one       small    3.1 MB",
        "two       small    3.1 MB",
    ]
    assert server.asked == []
    fetched = run(one, two)
    assert fetched.returncode == 0, fetched.stderr
    assert fetched.stdout.count(DIGEST) == 2
    for directory in (one, two):
        assert (directory / "weights/small/small.bin").read_bytes() == CONTENT
    again = run(one, two)
    assert (again.returncode, again.stdout) == (0, "No weights are missing.\n")
    assert server.asked == [None, None]


def test_goes_on_where_it_broke_off(tmp_path: Path, server: FileServer) -> None:
    server.content = CONTENT * 3
    server.cuts = 3
    directory = function(tmp_path, "one", server.url)
    broken = run(directory)
    assert broken.returncode == 1
    assert "broke off after 3.0 MB" in broken.stderr
    assert "run the command again to resume" in broken.stderr
    assert "Not fetched: one; see above." in broken.stderr
    server.asked.clear()
    assert run(directory).returncode == 0
    assert server.asked == [f"bytes={3 * CUT}-"]
    assert (directory / "weights/small/small.bin").read_bytes() == server.content


def test_one_that_fails_does_not_stop_the_others(tmp_path: Path, server: FileServer) -> None:
    wrong = function(tmp_path, "wrong", server.url, f", sha256: '{'0' * 64}'")
    good = function(tmp_path, "good", server.url)
    ended = run(wrong, good)
    assert ended.returncode == 1
    assert f"expected SHA-256 {'0' * 64}, got {DIGEST}" in ended.stderr
    assert "Not fetched: wrong; see above." in ended.stderr
    assert not list((wrong / "weights").rglob("*.bin"))
    assert (good / "weights/small/small.bin").is_file()


def test_a_variant_by_argument_or_by_the_variable_that_make_sets(tmp_path: Path, server: FileServer) -> None:
    directory = function(tmp_path, "one", server.url)
    assert run(directory, VARIANT="large").returncode == 0
    assert (directory / "weights/large/large.bin").is_file()
    unknown = run(directory, "--variant", "huge")
    assert unknown.returncode == 1
    assert "one: VARIANT: expected one of large, small, got the text 'huge'" in unknown.stderr


def test_offline_asks_and_fetches_nothing(tmp_path: Path, server: FileServer) -> None:
    directory = function(tmp_path, "one", server.url, ", size: 5200000")
    ended = run(directory, OFFLINE="1")
    assert ended.returncode == 1
    assert "one       small    5.2 MB" in ended.stdout
    assert "Nothing is fetched: OFFLINE is set." in ended.stderr
    assert server.asked == []


def test_a_terminal_shows_a_bar(tmp_path: Path, server: FileServer) -> None:
    directory = function(tmp_path, "one", server.url)
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    command = [sys.executable, "-m", "tools.weights", str(directory)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 65536):
                shown += piece
        except OSError:  # the other end is closed
            pass
        assert process.wait(30) == 0
    os.close(ours)
    assert re.search(r"small\.bin: 100%.* 3\.07M/3\.07M", shown.decode())


def test_sizes_that_nobody_knows_hold_nothing_up(tmp_path: Path) -> None:
    files = [WeightFile("a", "http://127.0.0.1:1/a"), WeightFile("b", "http://127.0.0.1:1/b", size=2_000_000)]
    begin = time.monotonic()
    sizes = Sizes(files)
    assert time.monotonic() - begin < 1
    sizes.wait(5)
    assert sizes.words(files[:1]) == "size unknown"
    assert sizes.words(files) == "2.0 MB and more"
