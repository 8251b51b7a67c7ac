"""Large pieces of tracker states in a store: what travels, what stays, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator

import msgpack
import pytest

from common.errors import BadRequest, Gone, Unavailable
from common.serving.state import EXPIRY, States, decode_state, encode_state
from common.serving.store import Store
from tests.ports import free_port
from tests.redis_server import RedisServer, redis_server

LARGE, OTHER, SMALL = bytes(range(256)) * 400, b"other" * 9000, b"small"


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


def states(server: RedisServer, function: str = "f") -> States:
    return States(function, Store("127.0.0.1", server.port))


def test_large_pieces_stay_and_small_ones_travel(server: RedisServer) -> None:
    value = {"first": [LARGE, SMALL], "recent": [[OTHER, 1], None], "seen": 3}
    one, two = states(server).encode([value, {"small": SMALL}])
    assert len(one) < 400
    assert decode_state("f", two, "states[0]") == {"small": SMALL}, "a small state needs no store"
    assert len(server.client.keys()) == 2
    assert states(server).decode([one, two], ["states[0]", "states[1]"]) == [value, {"small": SMALL}]


def test_keys_are_random_and_live_eight_hours(server: RedisServer) -> None:
    for _ in range(2):
        states(server).encode([[LARGE]])
    keys = server.client.keys()
    assert len(set(keys)) == 2, "the same piece twice has two keys: nobody can guess one"
    assert all(key.startswith(b"tracker-state:f:") and len(key) == len("tracker-state:f:") + 32 for key in keys)
    assert all(EXPIRY - 10 < server.client.ttl(key) <= 8 * 3600 for key in keys)


def test_a_piece_that_goes_on_to_the_next_state_is_not_sent_again_and_lives_on(server: RedisServer) -> None:
    (text,) = states(server).encode([{"first": LARGE, "recent": []}])
    (key,) = server.client.keys()
    server.client.expire(key, 60)
    (value,) = states(server).decode([text], ["states[0]"])
    assert server.client.ttl(key) > EXPIRY - 10
    (text,) = states(server).encode([{**value, "recent": [OTHER]}])
    assert len(server.client.keys()) == 2
    assert states(server).decode([text], ["states[0]"]) == [{"first": LARGE, "recent": [OTHER]}]


def test_an_expired_state_is_gone_and_named(server: RedisServer) -> None:
    texts = states(server).encode([[LARGE], [OTHER]])
    for key in server.client.scan_iter():
        if server.client.get(key) == OTHER:
            server.client.delete(key)
    with pytest.raises(Gone, match=r"^states\[5\]: the state has expired; start again with the object's shape$"):
        states(server).decode(texts, ["states[4]", "states[5]"])
    assert Gone.status == 410


def test_a_piece_that_was_changed_in_the_store_is_refused(server: RedisServer) -> None:
    (text,) = states(server).encode([[LARGE]])
    (key,) = server.client.keys()
    server.client.set(key, LARGE[:-1] + b"!")
    with pytest.raises(BadRequest, match=r"^states\[0\]: the state was changed in the store"):
        states(server).decode([text], ["states[0]"])


def test_another_function_does_not_find_the_pieces(server: RedisServer) -> None:
    (text,) = states(server).encode([[LARGE]])
    with pytest.raises(BadRequest, match="expected a state that g returned"):
        states(server, "g").decode([text], ["states[0]"])
    forged = encode_state("g", decode_state("f", text, "states[0]"))
    with pytest.raises(Gone):
        states(server, "g").decode([forged], ["states[0]"])


def test_more_pieces_than_any_state_has_are_refused_unasked(server: RedisServer) -> None:
    many = encode_state("f", [msgpack.ExtType(1, i.to_bytes(28, "big")) for i in range(300)])
    with pytest.raises(BadRequest, match=r"^states\[0\]: expected a state that f returned"):
        states(server).decode([many], ["states[0]"])


def test_when_the_store_is_down_new_states_travel_whole_and_old_ones_are_out_of_reach(server: RedisServer) -> None:
    ours = states(server)
    (stored,) = ours.encode([[LARGE]])
    (value,) = ours.decode([stored], ["states[0]"])
    server.stop()
    (text,) = ours.encode([[*value, OTHER]])
    assert States("f").decode([text], ["states[0]"]) == [[LARGE, OTHER]]
    with pytest.raises(Unavailable, match=r"can't be used|is not asked at the moment"):
        states(server).decode([stored], ["states[0]"])
    assert Unavailable.status == 503


def test_a_store_that_was_never_there_is_no_obstacle() -> None:
    ours = States("f", Store("127.0.0.1", free_port()))
    texts = ours.encode([[LARGE]])
    assert ours.decode(texts, ["states[0]"]) == [[LARGE]]
