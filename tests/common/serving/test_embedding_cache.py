"""Embeddings in files: what is kept, what goes first, who waits for whom, and what a store adds."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from common.errors import StartupError
from common.networks.fingerprint import content_key
from common.serving.embedding_cache import EmbeddingCache, directory_for, pack, unpack
from common.serving.store import Store
from tests.redis_server import RedisServer, redis_server, silent_server

MB = 1_000_000


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


def key(name: str) -> str:
    return content_key("test", name)


def arrays(value: int, megabytes: float = 0.001) -> dict[str, np.ndarray]:
    return {"map": np.full((2, int(megabytes * MB / 4)), value, np.float16), "size": np.array([value, 7], np.int64)}


def test_arrays_survive_packing_and_are_safetensors() -> None:
    given = {
        "half": np.random.default_rng(0).standard_normal((1, 3, 5)).astype(np.float16),
        "single": np.arange(6, dtype=np.float32).reshape(2, 3)[:, ::-1],  # not contiguous
        "whole": np.array([2**40], np.int64),
        "bytes": np.zeros((0, 4), np.uint8),
    }
    data = pack(given)
    for found in (unpack(data), safetensors.numpy.load(data)):
        assert found.keys() == given.keys()
        for name, array in given.items():
            assert found[name].dtype == array.dtype
            np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize(
    "damage",
    [lambda d: d[:-1], lambda d: d[:20], lambda d: b"", lambda d: b"\xff" * 8 + d, lambda d: d[:8] + b"[" * 80],
)
def test_damaged_data_is_refused(damage: object) -> None:
    with pytest.raises(ValueError, match="not arrays"):
        unpack(damage(pack(arrays(1))))  # type: ignore[operator]


def test_keys_tell_parts_apart() -> None:
    assert content_key("ab", b"c") != content_key("a", b"bc")
    assert content_key("model 1", b"image") != content_key("model 2", b"image")
    assert content_key("m", b"image") == content_key("m", b"image")


def test_what_is_made_is_made_once(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path, 10 * MB)
    first, source = cache.get_or_make(key("a"), lambda: arrays(1))
    assert source == "made"
    second, source = EmbeddingCache(tmp_path, 10 * MB).get_or_make(key("a"), lambda: pytest.fail("made again"))
    assert source == "cache"
    np.testing.assert_array_equal(first["map"], second["map"])
    assert second["size"].tolist() == [1, 7]
    assert cache.get(key("b")) is None


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path, int(3.5 * 1.1 * MB))
    for i in range(3):
        cache.put(key(str(i)), arrays(i, 1.1))
        time.sleep(0.02)
    assert cache.get(key("0")) is not None  # used now
    time.sleep(0.02)
    cache.put(key("3"), arrays(3, 1.1))
    assert [i for i in range(4) if cache.get(key(str(i))) is not None] == [0, 2, 3]
    assert cache.size() <= 3.5 * 1.1 * MB


def test_the_limit_holds_for_many_and_for_one(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path, 8 * MB)
    for i in range(50):
        cache.put(key(f"large {i}"), arrays(i, 1.2))
        assert cache.size() <= 8 * MB
    for i in range(200):
        cache.put(key(f"small {i}"), arrays(i, 0.1))
    assert cache.size() <= 8 * MB + 64 * 0.11 * MB
    cache.put(key("too large"), arrays(1, 9))
    assert cache.get(key("too large")) is None
    assert cache.size() > 7 * MB  # and threw nothing out


def test_an_array_read_before_it_is_thrown_out_stays_whole(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path, 3 * MB)
    cache.put(key("a"), arrays(5, 1.2))
    held = cache.get(key("a"))
    for i in range(4):
        cache.put(key(str(i)), arrays(i, 1.2))
    assert cache.get(key("a")) is None
    assert held is not None
    assert (held["map"] == 5).all()


def test_a_damaged_file_is_as_good_as_none(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path, 10 * MB)
    cache.put(key("a"), arrays(1))
    (file,) = tmp_path.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:100])
    found, source = cache.get_or_make(key("a"), lambda: arrays(2))
    assert (source, int(found["size"][0])) == ("made", 2)
    file.write_bytes(b"")
    assert cache.get(key("a")) is None


def test_a_half_written_file_of_a_dead_worker_goes_some_day(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path, 10 * MB)
    old, new = tmp_path / "dead.part", tmp_path / "busy.part"
    for part in (old, new):
        part.write_bytes(b"x" * 100)
    os.utime(old, (1, 1))
    cache.put(key("a"), arrays(1, 1.2))
    assert not old.exists()
    assert new.exists()


def test_threads_that_want_the_same_wait_for_one(tmp_path: Path) -> None:
    cache, made, sources = EmbeddingCache(tmp_path, 10 * MB), [], []

    def make() -> dict[str, np.ndarray]:
        made.append(1)
        time.sleep(0.2)
        return arrays(1)

    threads = [threading.Thread(target=lambda: sources.append(cache.get_or_make(key("a"), make)[1])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert sorted(sources) == ["cache"] * 7 + ["made"]


WORKER = """
import sys, time
import numpy as np
from common.networks.fingerprint import content_key
from common.serving.embedding_cache import EmbeddingCache
def make():
    time.sleep(0.5)
    return {"map": np.ones(1000, np.float16)}
print("ready", flush=True)
sys.stdin.readline()
print(EmbeddingCache(sys.argv[1], 10**7).get_or_make(content_key("a"), make)[1])
"""


def test_processes_that_want_the_same_wait_for_one(tmp_path: Path) -> None:
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    sources = sorted(worker.communicate("go\n", timeout=30)[0].strip() for worker in workers)
    assert sources == ["cache", "cache", "made"]


def test_who_fails_fails_alone(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path, 10 * MB)

    def fail() -> dict[str, np.ndarray]:
        raise ValueError("no image")

    with pytest.raises(ValueError, match="no image"):
        cache.get_or_make(key("a"), fail)
    assert cache.get_or_make(key("a"), lambda: arrays(1))[1] == "made"


def test_replicas_share_through_the_store(tmp_path: Path, server: RedisServer) -> None:
    one = EmbeddingCache(tmp_path / "one", 10 * MB, Store("127.0.0.1", server.port))
    other = EmbeddingCache(tmp_path / "other", 10 * MB, Store("127.0.0.1", server.port))
    assert one.get_or_make(key("shared"), lambda: arrays(3, 1))[1] == "made"
    assert one._store is not None and one._store.drain(5)
    found, source = other.get_or_make(key("shared"), lambda: pytest.fail("encoded again"))
    assert source == "store"
    assert (found["map"] == 3).all()
    assert other.get_or_make(key("shared"), lambda: pytest.fail("encoded again"))[1] == "cache"
    (name,) = (k for k in server.client.scan_iter() if key("shared").encode() in k)
    assert 0 < server.client.ttl(name) <= 3600


DAMAGES = {
    "nonsense": lambda data: b"nonsense",
    "nothing": lambda data: b"",
    "one bit": lambda data: data[:-500] + bytes([data[-500] ^ 1]) + data[-499:],
    "cut": lambda data: data[:-1],
    "arrays without their digest": lambda data: pack({"other": np.zeros(3, np.uint8)}),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_data_in_the_store_is_not_taken_and_put_right(tmp_path: Path, server: RedisServer, damage: str) -> None:
    store = Store("127.0.0.1", server.port)
    name = key(damage)
    one = EmbeddingCache(tmp_path / "one", 10 * MB, store)
    one.get_or_make(name, lambda: arrays(1))
    assert store.drain(5)
    whole = server.client.get(f"embedding:{name}")
    server.client.set(f"embedding:{name}", DAMAGES[damage](whole))
    other = EmbeddingCache(tmp_path / "other", 10 * MB, store)
    assert other.get_or_make(name, lambda: arrays(1))[1] == "made"
    assert store.drain(5)
    assert server.client.get(f"embedding:{name}") == whole


def test_on_a_disk_smaller_than_the_limit_the_oldest_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = EmbeddingCache(tmp_path, 1000 * MB)
    replace = os.replace

    def full(source: str, target: Path) -> None:
        if cache.size() > 3.5 * 1.1 * MB:  # the file to be replaced is counted
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr("common.serving.embedding_cache.os.replace", full)
    for i in range(6):
        cache.put(key(str(i)), arrays(i, 1.1))
        time.sleep(0.02)
    assert [i for i in range(6) if cache.get(key(str(i))) is not None] == [3, 4, 5]
    assert not list(tmp_path.glob("*.part"))


def test_a_store_that_never_answers_costs_its_deadline_once(tmp_path: Path) -> None:
    with silent_server() as port:
        cache = EmbeddingCache(tmp_path, 10 * MB, Store("127.0.0.1", port))
        begin = time.monotonic()
        assert cache.get_or_make(key("a"), lambda: arrays(1))[1] == "made"
        assert time.monotonic() - begin < 1
        begin = time.monotonic()
        for i in range(20):
            assert cache.get_or_make(key(str(i)), lambda: arrays(1))[1] == "made"
        assert time.monotonic() - begin < 1


def test_a_folder_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StartupError, match="EMBEDDING_CACHE_DIR"):
        EmbeddingCache(tmp_path / "file" / "folder", MB)


def test_a_folder_that_somebody_clears_away_is_made_again(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path / "cache", 10 * MB)
    shutil.rmtree(tmp_path / "cache")
    assert cache.get(key("a")) is None
    assert cache.get_or_make(key("a"), lambda: arrays(1))[1] == "made"
    assert cache.get_or_make(key("a"), lambda: pytest.fail("made again"))[1] == "cache"


def test_each_function_has_a_folder_of_its_own(tmp_path: Path) -> None:
    assert directory_for("a", str(tmp_path)) != directory_for("b", str(tmp_path))
    assert directory_for("a", str(tmp_path)).parent == tmp_path
