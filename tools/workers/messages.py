"""Messages to and from a worker process: a JSON header and a body of bytes, each with its length in front."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Mapping
from typing import Any

_LENGTHS = struct.Struct(">IQ")


def pack(header: Mapping[str, Any], body: bytes = b"") -> bytes:
    """A message as it is sent.

    Args:
        header: values that JSON can carry.
        body: any bytes.
    """
    text = json.dumps(header).encode()
    return _LENGTHS.pack(len(text), len(body)) + text + body


def receive(connection: socket.socket) -> tuple[dict[str, Any], bytes]:
    """The next message.

    Args:
        connection: a blocking socket.

    Returns:
        The header and the body.

    Raises:
        EOFError: The other side has closed the connection.
    """
    header_length, body_length = _LENGTHS.unpack(_receive_exactly(connection, _LENGTHS.size))
    return json.loads(_receive_exactly(connection, header_length)), _receive_exactly(connection, body_length)


async def receive_async(reader: asyncio.StreamReader) -> tuple[dict[str, Any], bytes]:
    """The next message, as `receive`.

    Args:
        reader: what comes from the other side.

    Returns:
        The header and the body.

    Raises:
        asyncio.IncompleteReadError: The other side has closed the connection.
    """
    header_length, body_length = _LENGTHS.unpack(await reader.readexactly(_LENGTHS.size))
    return json.loads(await reader.readexactly(header_length)), await reader.readexactly(body_length)


def _receive_exactly(connection: socket.socket, length: int) -> bytes:
    buffer = bytearray(length)
    view = memoryview(buffer)
    while view:
        count = connection.recv_into(view)
        if not count:
            raise EOFError
        view = view[count:]
    return bytes(buffer)
