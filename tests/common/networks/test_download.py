"""Downloads from a real HTTP server that cuts the connection in the middle, changes the file, or knows no ranges."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.errors import StartupError
from common.networks.download import ask_size, download
from tests.file_server import CONTENT, CUT, FileServer, file_server

DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as running:
        yield running


def begun(server: FileServer, path: Path) -> None:
    """A download that has given up after two pieces and the beginning of a third."""
    server.cuts = 99
    server.content = CONTENT * 2
    with pytest.raises(StartupError, match=r"broke off after 3\.0 MB .*kept: run the command again to resume"):
        download(server.url, path)
    assert server.asked == [None, f"bytes={CUT}-", f"bytes={2 * CUT}-"]
    assert not path.exists()
    assert path.with_name(f".{path.name}.part").stat().st_size == 3 * CUT
    server.cuts = 0
    server.asked.clear()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_cut_connection_is_taken_up_again(server: FileServer, tmp_path: Path) -> None:
    server.cuts = 2
    seen: list[tuple[int, int | None]] = []
    assert download(server.url, tmp_path / "w", DIGEST, lambda have, total: seen.append((have, total))) == DIGEST
    assert server.asked == [None, f"bytes={CUT}-", f"bytes={2 * CUT}-"]
    assert (tmp_path / "w").read_bytes() == CONTENT
    assert names(tmp_path) == ["w"]
    assert (CUT, len(CONTENT)) in seen
    assert seen == sorted(seen)
    assert seen[-1] == (len(CONTENT), len(CONTENT))


def test_the_next_run_fetches_the_rest_alone(server: FileServer, tmp_path: Path) -> None:
    begun(server, tmp_path / "w")
    expected = hashlib.sha256(CONTENT * 2).hexdigest()
    assert download(server.url, tmp_path / "w") == expected
    assert server.asked == [f"bytes={3 * CUT}-"]
    assert (tmp_path / "w").read_bytes() == CONTENT * 2
    assert names(tmp_path) == ["w"]


@pytest.mark.parametrize("validators", [{"ETag": '"two"'}, {"Last-Modified": "Fri, 20 Nov 2026 08:00:00 GMT"}])
def test_a_file_that_has_changed_meanwhile_is_fetched_whole(
    server: FileServer, tmp_path: Path, validators: dict[str, str]
) -> None:
    begun(server, tmp_path / "w")
    server.content, server.validators = b"new" * 2_000_000, validators
    download(server.url, tmp_path / "w")
    assert (tmp_path / "w").read_bytes() == server.content


@pytest.mark.parametrize("validators", [{}, {"ETag": 'W/"weak"'}])
def test_without_a_version_only_a_known_digest_lets_it_go_on(
    server: FileServer, tmp_path: Path, validators: dict[str, str]
) -> None:
    server.validators, server.cuts = validators, 1
    download(server.url, tmp_path / "unknown")
    assert server.asked == [None, None]
    server.asked.clear()
    server.cuts = 1
    assert download(server.url, tmp_path / "known", DIGEST) == DIGEST
    assert server.asked == [None, f"bytes={CUT}-"]


def test_pieces_that_do_not_fit_are_fetched_anew(server: FileServer, tmp_path: Path) -> None:
    server.validators = {}
    server.cuts = 1
    (tmp_path / ".w.part").write_bytes(b"of another version")
    (tmp_path / ".w.part.json").write_text(f'{{"url": "{server.url}", "version": ""}}')
    assert download(server.url, tmp_path / "w", DIGEST) == DIGEST
    assert server.asked[0] == "bytes=18-"
    assert server.asked[-1] is None
    assert (tmp_path / "w").read_bytes() == CONTENT


def test_a_part_of_another_address_is_not_used(server: FileServer, tmp_path: Path) -> None:
    begun(server, tmp_path / "w")
    server.content = CONTENT
    download(f"{server.url}-2", tmp_path / "w", DIGEST)
    assert server.asked == [None]


def test_a_server_without_ranges_sends_the_whole_file(server: FileServer, tmp_path: Path) -> None:
    server.ranges, server.cuts = False, 1
    assert download(server.url, tmp_path / "w", DIGEST) == DIGEST
    assert (tmp_path / "w").read_bytes() == CONTENT


def test_a_part_longer_than_the_file_is_dropped(server: FileServer, tmp_path: Path) -> None:
    begun(server, tmp_path / "w")
    server.content = CONTENT[:1000]
    download(server.url, tmp_path / "w")
    assert (tmp_path / "w").read_bytes() == CONTENT[:1000]


def test_a_wrong_digest_keeps_nothing(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=f"expected SHA-256 0000.*got {DIGEST}"):
        download(server.url, tmp_path / "w", "0" * 64)
    assert names(tmp_path) == []


def test_two_processes_do_not_write_one_file(server: FileServer, tmp_path: Path) -> None:
    code = "import fcntl, sys; f = open(sys.argv[1], 'ab'); fcntl.flock(f, fcntl.LOCK_EX); print('locked', flush=True); input()"
    command = [sys.executable, "-c", code, str(tmp_path / ".w.part")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout and other.stdin
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(StartupError, match="another process is fetching this file"):
            download(server.url, tmp_path / "w")
        other.stdin.close()
    assert download(server.url, tmp_path / "w") == DIGEST


def test_the_size_is_asked_without_fetching(server: FileServer) -> None:
    assert ask_size(server.url) == len(CONTENT)
    assert server.asked == []
    assert ask_size("http://127.0.0.1:1/file") is None
    assert ask_size("http://example.com/file") is None
