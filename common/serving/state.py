"""Tracker states as text: what a handler keeps of an object, on its way through CVAT and the browser.

The text is `<function>.<version>.<digest>.<payload>`. The payload is msgpack, deflated, in URL-safe base64; the digest
detects a state that was cut, changed or made by another function. It is no signature: CVAT signs states itself, and a payload of
plain values can do no harm. With a store, the large pieces of a state stay there, each under a random key that the payload
names, so that the browser carries a few bytes and any replica can continue.
"""

from __future__ import annotations

import hashlib
import secrets
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import msgpack
import pybase64

from common.errors import BadRequest, Gone, ModelError, Unavailable, describe
from common.serving.store import Store, StoreDown

VERSION = 2
EXPIRY = 8 * 3600.0  # seconds after its last use in which a state can be used again; CVAT's signature is valid as long
_LARGEST = 32 * 2**20  # bytes, inflated
_PIECE = 512  # bytes; smaller ones stay in the payload
_MOST_PIECES = 256  # in one state
_PIECE_CODE = 1  # among msgpack's types that are free for applications
_KEY, _CHECK = 16, 12  # bytes
_GET_DEADLINE = 5.0  # seconds; without its pieces a state is lost
_PUT_DEADLINE = 2.0  # with a store that is slower, the whole state travels
T = TypeVar("T")


class StoredPiece(bytes):
    """Bytes that are in the store already: when they are part of the next state, they need not be sent there again."""

    key: bytes


class States:
    """The states of one function's objects.

    Args:
        function: The function's name.
        store: Where large pieces stay, or None.
    """

    def __init__(self, function: str, store: Store | None = None):
        self._function, self._store = function, store

    def encode(self, values: Sequence[Any]) -> list[str]:
        """Values as states. Large bytes go to the store; when it is down, they travel in the state.

        Args:
            values: For each object plain values: None, bool, int, float, str, bytes, and lists and dicts of them.

        Raises:
            ModelError: A value is something else.
        """
        new: dict[bytes, bytes] = {}

        def refer(piece: bytes) -> Any:
            if len(piece) < _PIECE:
                return bytes(piece)
            key = piece.key if isinstance(piece, StoredPiece) else secrets.token_bytes(_KEY)
            if not isinstance(piece, StoredPiece):
                new[key] = piece
            return msgpack.ExtType(_PIECE_CODE, key + _check(piece))

        if self._store is not None:
            referring = [_replaced(value, bytes, refer) for value in values]
            try:
                self._store.put(
                    {self._name(key): piece for key, piece in new.items()}, expiry=EXPIRY, deadline=_PUT_DEADLINE
                )
                return [encode_state(self._function, value) for value in referring]
            except StoreDown:
                pass
        return [encode_state(self._function, _replaced(value, bytes, bytes)) for value in values]

    def decode(self, states: Sequence[Any], fields: Sequence[str]) -> list[Any]:
        """The inverse of `encode`.

        Args:
            states: What the caller sent, of any type.
            fields: For each the field it came in, for messages.

        Raises:
            BadRequest: This function did not make a state.
            Gone: Its pieces in the store have expired.
            Unavailable: Its pieces can't be reached at the moment.
        """
        values = [decode_state(self._function, state, field) for state, field in zip(states, fields, strict=True)]
        wanted: dict[bytes, tuple[bytes, str]] = {}
        for value, field in zip(values, fields, strict=True):
            try:
                references = list(_references(value))
            except RecursionError:
                references = []
            if len(references) > _MOST_PIECES or not all(_is_whole(reference) for reference in references):
                raise BadRequest(f"{field}: expected a state that {self._function} returned, got one it did not make")
            wanted |= {reference.data: (reference.data[:_KEY], field) for reference in references}
        if not wanted:
            return values
        pieces = self._fetch(wanted)
        return [_replaced(value, msgpack.ExtType, lambda reference: pieces[reference.data]) for value in values]

    def _fetch(self, wanted: dict[bytes, tuple[bytes, str]]) -> dict[bytes, StoredPiece]:
        """Reference -> its piece, for references with their keys and the fields they are in."""
        if self._store is None:
            field = next(iter(wanted.values()))[1]
            raise Unavailable(f"{field}: the state is in a store, and this function has none configured")
        try:
            keys = [self._name(key) for key, _ in wanted.values()]
            found = self._store.get(keys, expiry=EXPIRY, deadline=_GET_DEADLINE)
        except StoreDown as error:
            raise Unavailable(f"states: {error}") from error
        pieces = {}
        for (reference, (key, field)), data in zip(wanted.items(), found, strict=True):
            if data is None:
                raise Gone(f"{field}: the state has expired; start again with the object's shape")
            if _check(data) != reference[_KEY:]:
                raise BadRequest(f"{field}: the state was changed in the store (its digest does not fit)")
            pieces[reference] = StoredPiece(data)
            pieces[reference].key = key
        return pieces

    def _name(self, key: bytes) -> str:
        return f"tracker-state:{self._function}:{key.hex()}"


def encode_state(function: str, value: Any) -> str:
    """Values as the state of an object.

    Args:
        function: The function's name.
        value: Plain values, also bytes.

    Raises:
        ModelError: It is something else.
    """
    try:
        raw = msgpack.packb(value, use_bin_type=True)
    except (TypeError, ValueError, OverflowError) as error:
        raise ModelError(f"the state of an object can't be kept as it is: {error}") from error
    payload = pybase64.urlsafe_b64encode(zlib.compress(raw, 1)).decode()
    return f"{function}.{VERSION}.{_digest(function, payload)}.{payload}"


def decode_state(function: str, state: Any, field: str) -> Any:
    """The inverse of `encode_state`.

    Args:
        function: The function's name.
        state: What the caller sent, of any type.
        field: The field it came in, for the message.

    Raises:
        BadRequest: The function did not make this state.
    """
    if not isinstance(state, str):
        raise BadRequest.field(field, f"a state that {function} returned", state)
    parts = state.rsplit(".", 3)  # the name may have dots, the rest has none
    if len(parts) != 4 or parts[0] != function:
        raise BadRequest(f"{field}: expected a state that {function} returned, got one it did not make")
    if parts[1] != str(VERSION):
        raise BadRequest(f"{field}: expected a state of version {VERSION}, got version {describe(parts[1])}")
    if parts[2] != _digest(function, parts[3]):
        raise BadRequest(f"{field}: the state was changed or cut on its way (its digest does not fit)")
    try:
        inflater = zlib.decompressobj()
        raw = inflater.decompress(pybase64.urlsafe_b64decode(parts[3]), _LARGEST)
        if not inflater.eof:
            raise ValueError("cut or too large")
        return msgpack.unpackb(raw, raw=False, strict_map_key=False)
    except (ValueError, TypeError, zlib.error, msgpack.UnpackException, RecursionError) as error:
        raise BadRequest(f"{field}: the state can't be read: {error}") from error


def _replaced(value: Any, kind: type[T], change: Callable[[T], Any]) -> Any:
    """Plain values with those of one type in them replaced by what `change` makes of them."""
    if isinstance(value, kind):
        return change(value)
    if isinstance(value, (list, tuple)):
        return [_replaced(each, kind, change) for each in value]
    if isinstance(value, dict):
        return {key: _replaced(each, kind, change) for key, each in value.items()}
    return value


def _references(value: Any) -> Iterator[msgpack.ExtType]:
    if isinstance(value, msgpack.ExtType):
        yield value
    elif isinstance(value, (list, dict)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _references(each)


def _is_whole(reference: msgpack.ExtType) -> bool:
    return reference.code == _PIECE_CODE and len(reference.data) == _KEY + _CHECK


def _check(piece: bytes) -> bytes:
    return hashlib.blake2b(piece, digest_size=_CHECK).digest()


def _digest(function: str, payload: str) -> str:
    text = f"{function}.{VERSION}.{payload}".encode("utf-8", "replace")
    return hashlib.blake2b(text, digest_size=12).hexdigest()
