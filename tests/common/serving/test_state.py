import hashlib
import random
import string
import time
import tracemalloc
import zlib
from typing import Any

import msgpack
import pybase64
import pytest

from common.errors import BadRequest, ModelError, Unavailable
from common.serving.state import VERSION, States, decode_state, encode_state

VALUE = {"box": [1, 2.5, -3, None], "pixels": bytes(range(256)), "text": "ä", "deep": [[[{"a": True}]]], "big": 2**63}


def made(function: str, raw: bytes, version: int = VERSION) -> str:
    """A state with a digest that fits, as a caller who knows this code could make of any bytes."""
    payload = pybase64.urlsafe_b64encode(raw).decode()
    digest = hashlib.blake2b(f"{function}.{version}.{payload}".encode(), digest_size=12).hexdigest()
    return f"{function}.{version}.{digest}.{payload}"


class TestRoundTrip:
    @pytest.mark.parametrize(
        "value",
        [VALUE, None, [], {}, 0, "", b"", 1.5, [1, [2, [3]]], {1: "a", 2.5: "b", b"c": "d"}, "\U0001f600" * 100],
        ids=lambda value: repr(value)[:20],
    )
    def test_gives_the_value(self, value: Any) -> None:
        assert decode_state("f", encode_state("f", value), "states[0]") == value

    def test_tuples_become_lists(self) -> None:
        assert decode_state("f", encode_state("f", (1, (2,))), "states[0]") == [1, [2]]

    def test_is_text_for_json_and_urls_and_small(self) -> None:
        state = encode_state("opencv-opticalflow", {"points": list(range(500)) * 4})
        assert set(state) <= set(string.ascii_letters + string.digits + "-_=.")
        assert len(state) < 4000

    @pytest.mark.parametrize("function", ["onnx-owner-model", "name.with.dots", "Ünï"])
    def test_of_a_function_of_any_name(self, function: str) -> None:
        assert decode_state(function, encode_state(function, VALUE), "states[0]") == VALUE

    @pytest.mark.parametrize("value", [object(), [1, {2, 3}], 2**64, {"a": 1j}])
    def test_of_what_is_no_plain_value_is_our_error(self, value: Any) -> None:
        with pytest.raises(ModelError, match="the state of an object can't be kept as it is"):
            encode_state("f", value)


class TestRefused:
    @pytest.mark.parametrize(
        "kind",
        [string.ascii_lowercase, string.ascii_uppercase, string.digits, "-_=", ".", " \n\t", "\0", "ä漢", "\ud800"],
    )
    def test_changed_in_one_place(self, kind: str) -> None:
        state = encode_state("f", VALUE)
        rng = random.Random(1)
        for place in range(len(state)):
            character = rng.choice(kind)
            if state[place] == character:
                continue
            with pytest.raises(BadRequest, match=r"^states\[2\]: ") as caught:
                decode_state("f", state[:place] + character + state[place + 1 :], "states[2]")
            assert len(str(caught.value)) < 200

    def test_cut_or_grown_anywhere(self) -> None:
        state = encode_state("f", VALUE)
        for length in range(len(state)):
            with pytest.raises(BadRequest, match=r"^states\[0\]: "):
                decode_state("f", state[:length], "states[0]")
        for more in ("A", "=", ".", "\n"):
            with pytest.raises(BadRequest, match=r"^states\[0\]: "):
                decode_state("f", state + more, "states[0]")

    def test_of_another_function(self) -> None:
        with pytest.raises(
            BadRequest, match=r"^states\[0\]: expected a state that mine returned, got one it did not make$"
        ):
            decode_state("mine", encode_state("other", VALUE), "states[0]")
        renamed = encode_state("other", VALUE).replace("other", "mine")
        with pytest.raises(BadRequest, match="was changed or cut on its way"):
            decode_state("mine", renamed, "states[0]")

    def test_of_another_version(self) -> None:
        with pytest.raises(
            BadRequest, match=rf"expected a state of version {VERSION}, got version the text '{VERSION + 1}'$"
        ):
            decode_state("f", made("f", zlib.compress(msgpack.packb(1)), VERSION + 1), "states[0]")

    @pytest.mark.parametrize(
        ("state", "got"),
        [
            (5, "5"),
            ({}, "an object of 0 fields"),
            ([1, 2], "[1, 2]"),
            (True, "true"),
            (b"f.1.a.b", "7 bytes"),
        ],
    )
    def test_that_is_no_text(self, state: Any, got: str) -> None:
        with pytest.raises(BadRequest) as caught:
            decode_state("f", state, "states[0]")
        assert str(caught.value) == f"states[0]: expected a state that f returned, got {got}"

    @pytest.mark.parametrize("state", ["", ".", "...", "f", "f...", f"f.{VERSION}..", "x" * 1_000_000, "." * 1_000_000])
    def test_any_other_text(self, state: str) -> None:
        with pytest.raises(BadRequest, match=r"^states\[0\]: ") as caught:
            decode_state("f", state, "states[0]")
        assert len(str(caught.value)) < 200

    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            b"not deflated",
            zlib.compress(b""),
            zlib.compress(b"\xc1"),  # a code that msgpack never uses
            zlib.compress(msgpack.packb([1, 2, 3])[:-1]),
            zlib.compress(msgpack.packb(1) + b"more"),
            zlib.compress(b"\xdd\xff\xff\xff\xff"),  # a list of four thousand million items
            zlib.compress(b"\xc6\xff\xff\xff\xff"),  # four gigabytes
            zlib.compress(b"\x91" * 100_000),  # lists in lists
            zlib.compress(b"\x81" * 100_000),
            zlib.compress(b"\x81\x90\x01"),  # a list as the name of a field
            zlib.compress(b"\xa2\xff\xff"),  # a text that is no UTF-8
            zlib.compress(msgpack.packb(VALUE))[:-5],
        ],
        ids=lambda raw: raw[:12].hex(),
    )
    def test_made_with_a_digest_that_fits(self, raw: bytes) -> None:
        with pytest.raises(BadRequest, match=r"^states\[0\]: the state can't be read: "):
            decode_state("f", made("f", raw), "states[0]")

    def test_that_inflates_to_gigabytes_takes_little_memory(self) -> None:
        bomb = made("f", zlib.compress(b"\0" * 2**27, 1))
        assert len(bomb) < 1e6
        tracemalloc.start()
        begin = time.process_time()
        with pytest.raises(BadRequest, match="cut or too large"):
            decode_state("f", bomb, "states[0]")
        seconds = time.process_time() - begin
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 100e6
        assert seconds < 2


class TestWithoutAStore:
    def test_several_at_once(self) -> None:
        states = States("f")
        values = [VALUE, [1, b"x" * 10_000], None]
        texts = states.encode(values)
        assert states.decode(texts, ["states[0]", "states[1]", "states[2]"]) == values
        assert (states.encode([]), states.decode([], [])) == ([], [])

    def test_errors_name_the_state(self) -> None:
        states = States("f")
        with pytest.raises(BadRequest, match=r"^states\[7\]: "):
            states.decode([*states.encode([1]), "junk"], ["states[3]", "states[7]"])

    def test_a_reference_to_a_store_is_unavailable_and_any_other_type_refused(self) -> None:
        reference = msgpack.ExtType(1, bytes(28))
        with pytest.raises(
            Unavailable, match=r"^states\[0\]: the state is in a store, and this function has none configured$"
        ):
            States("f").decode([encode_state("f", [reference])], ["states[0]"])
        for other in (msgpack.ExtType(2, bytes(28)), msgpack.ExtType(1, b"short")):
            with pytest.raises(BadRequest, match="got one it did not make"):
                States("f").decode([encode_state("f", [other])], ["states[0]"])
