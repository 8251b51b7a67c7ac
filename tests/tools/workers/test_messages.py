import asyncio
import socket

import pytest

from tools.workers import messages


def test_header_and_body_come_back_as_they_were_sent() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(messages.pack({"path": "/ä"}, b"\0\1") + messages.pack({}))
        assert messages.receive(theirs) == ({"path": "/ä"}, b"\0\1")
        assert messages.receive(theirs) == ({}, b"")
        ours.close()
        with pytest.raises(EOFError):
            messages.receive(theirs)


def test_a_message_that_breaks_off_is_none() -> None:
    async def read() -> tuple[dict, bytes]:
        reader = asyncio.StreamReader()
        reader.feed_data(messages.pack({"a": 1}, b"body") + messages.pack({}, b"lost")[:-1])
        reader.feed_eof()
        first = await messages.receive_async(reader)
        with pytest.raises(asyncio.IncompleteReadError):
            await messages.receive_async(reader)
        return first

    assert asyncio.run(read()) == ({"a": 1}, b"body")
