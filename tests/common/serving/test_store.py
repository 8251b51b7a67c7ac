"""The store's client against a real Redis, one that is gone, and one that never answers."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from common.errors import StartupError
from common.serving import store as store_module
from common.serving.store import Store, StoreDown
from tests.ports import free_port
from tests.redis_server import RedisServer, redis_server, silent_server


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


def test_values_come_back_and_absent_ones_are_none(server: RedisServer) -> None:
    store = Store("127.0.0.1", server.port)
    large = bytes(range(256)) * 40_000
    store.put({"a": b"1", "large": large}, expiry=60, deadline=5)
    assert store.get(["large", "nothing", "a"], expiry=60, deadline=5) == [large, None, b"1"]
    assert store.get([], expiry=60, deadline=5) == []


def test_reading_lengthens_a_life_and_nothing_lives_for_ever(server: RedisServer) -> None:
    store = Store("127.0.0.1", server.port)
    store.put({"short": b"x"}, expiry=30, deadline=5)
    assert 0 < server.client.ttl("short") <= 30
    store.get(["short"], expiry=600, deadline=5)
    assert 590 < server.client.ttl("short") <= 600
    store.put({"gone": b"x"}, expiry=1, deadline=5)
    time.sleep(1.1)
    assert store.get(["gone"], expiry=60, deadline=5) == [None]


def test_later_is_written_in_the_background(server: RedisServer) -> None:
    store = Store("127.0.0.1", server.port)
    store.put_later({"later": b"x" * 1_000_000}, expiry=60)
    assert store.drain(5)
    assert server.client.strlen("later") == 1_000_000


def test_a_password_is_used(server: RedisServer) -> None:
    server.client.config_set("requirepass", "secret")
    try:
        server.client.auth("secret")
        Store("127.0.0.1", server.port, "secret").put({"k": b"v"}, expiry=9, deadline=5)
        with pytest.raises(StoreDown, match=r"NOAUTH|Authentication"):
            Store("127.0.0.1", server.port).put({"k": b"v"}, expiry=9, deadline=5)
    finally:
        server.client.config_set("requirepass", "")


def test_a_store_that_is_down_is_not_asked_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_FIRST_PAUSE", 0.3)
    with redis_server() as server:
        store = Store("127.0.0.1", server.port)
        store.put({"k": b"v"}, expiry=9, deadline=5)
        server.stop()
        with pytest.raises(StoreDown, match="can't be used"):
            store.get(["k"], expiry=9, deadline=5)
        with pytest.raises(StoreDown, match="is not asked at the moment"):
            store.get(["k"], expiry=9, deadline=5)
        time.sleep(0.35)
        with pytest.raises(StoreDown, match="can't be used"):  # asked again, in vain
            store.get(["k"], expiry=9, deadline=5)


def test_after_the_pause_a_store_that_is_back_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_FIRST_PAUSE", 0.2)
    port = free_port()
    store = Store("127.0.0.1", port)
    with redis_server(port) as server:
        store.put({"k": b"v"}, expiry=9, deadline=5)
        server.stop()
        with pytest.raises(StoreDown):
            store.get(["k"], expiry=9, deadline=5)
    with redis_server(port):
        time.sleep(0.25)
        store.put({"k": b"w"}, expiry=9, deadline=5)
        assert store.get(["k"], expiry=9, deadline=5) == [b"w"]


def test_a_store_that_never_answers_costs_the_deadline_once() -> None:
    with silent_server() as port:
        store = Store("127.0.0.1", port)
        begin = time.monotonic()
        with pytest.raises(StoreDown, match=r"no answer in 0\.2 s"):
            store.get(["k"], expiry=9, deadline=0.2)
        assert time.monotonic() - begin < 0.6
        begin = time.monotonic()
        for _ in range(100):
            with pytest.raises(StoreDown, match="is not asked at the moment"):
                store.get(["k"], expiry=9, deadline=0.2)
            store.put_later({"k": b"v"}, expiry=9)
        assert time.monotonic() - begin < 0.2
        assert store.drain(2)


def test_a_name_that_does_not_resolve_is_a_store_that_is_down() -> None:
    with pytest.raises(StoreDown):
        Store("no-such-host.invalid").put({"k": b"v"}, expiry=9, deadline=0.5)


def test_no_address_no_store() -> None:
    assert Store.at(None, 6666, None) is None
    assert Store.at("", 6666, None) is None
    assert Store.at("localhost", 6666, None) is not None
    with pytest.raises(StartupError, match="CVAT_FUNCTIONS_REDIS_PORT: expected a port"):
        Store.at("localhost", 70000, None)


def test_a_full_store_is_read_but_not_written_to(server: RedisServer) -> None:
    store = Store("127.0.0.1", server.port)
    store.put({"kept": b"v"}, expiry=60, deadline=5)
    server.client.config_set("maxmemory", "1mb")
    try:
        with pytest.raises(StoreDown, match="maxmemory") as refused:
            store.put({"more": b"x" * 2_000_000}, expiry=60, deadline=5)
        assert "xxx" not in str(refused.value), "no data in a message"
        with pytest.raises(StoreDown, match="is not asked at the moment"):
            store.put({"more": b"x"}, expiry=60, deadline=5)
        assert store.get(["kept"], expiry=60, deadline=5) == [b"v"]
    finally:
        server.client.config_set("maxmemory", "0")


def test_a_copy_that_can_only_be_read_is_read(server: RedisServer) -> None:
    Store("127.0.0.1", server.port).put({"kept": b"v"}, expiry=60, deadline=5)
    with redis_server() as copy:
        copy.client.replicaof("127.0.0.1", server.port)
        for _ in range(500):
            if copy.client.get("kept"):
                break
            time.sleep(0.02)
        store = Store("127.0.0.1", copy.port)
        assert store.get(["kept"], expiry=60, deadline=5) == [b"v"]
        with pytest.raises(StoreDown, match="read only"):
            store.put({"k": b"v"}, expiry=60, deadline=5)
        assert store.get(["kept"], expiry=60, deadline=5) == [b"v"]


def test_a_store_that_started_again_between_two_calls_is_used_at_once() -> None:
    port = free_port()
    store = Store("127.0.0.1", port)
    with redis_server(port):
        store.put({"k": b"v"}, expiry=9, deadline=5)
    with redis_server(port):
        assert store.get(["k"], expiry=9, deadline=5) == [None]


def test_a_frozen_store_costs_the_deadline_and_is_used_again_when_it_wakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_FIRST_PAUSE", 0.1)
    with redis_server() as server:
        store = Store("127.0.0.1", server.port)
        store.put({"k": b"v"}, expiry=9, deadline=5)
        server.process.send_signal(signal.SIGSTOP)
        try:
            begin = time.monotonic()
            with pytest.raises(StoreDown, match="no answer"):
                store.get(["k"], expiry=9, deadline=0.2)
            assert time.monotonic() - begin < 1
        finally:
            server.process.send_signal(signal.SIGCONT)
        time.sleep(0.15)
        assert store.get(["k"], expiry=9, deadline=5) == [b"v"]


def test_the_first_call_waits_for_no_import() -> None:
    """In a process of its own: the client's library takes longer to import than a click may wait for the store."""
    code = """
import sys
from common.serving.store import Store
assert "redis" not in sys.modules
Store("127.0.0.1", 1)
assert "redis" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_why_it_cannot_be_used_stands_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    store = Store("127.0.0.1", free_port())
    for _ in range(3):
        with pytest.raises(StoreDown):
            store.get(["k"], expiry=9, deadline=1)
    (message,) = caplog.messages
    assert "can't be used" in message and "refused" in message
