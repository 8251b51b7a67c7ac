"""The HTTP servers of tools.serve: the text in the status line, and small replies that are sent at once."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tools.serve.http_server import HttpServer, listen, reason_phrase


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"error": "image: expected base64, got a list"}', "image: expected base64, got a list"),
        (b'{"error": "first\\r\\nX-Injected: 1\\n\\u0000 line\\ttwo"}', "first X-Injected: 1 line two"),
        ('{"error": "Größe: 5 € \U0001f600"}'.encode(), "Größe: 5 ? ?"),
        (b"plain text\nof two lines", "plain text of two lines"),
        (b'{"no": "error"}', ""),
        (b'{"error": {"code": 3}}', ""),
        (b"[1, 2]", ""),
        (b"", ""),
        (b"\xff\xfe", "??"),
    ],
)
def test_the_reason_is_one_line_of_latin_1(body: bytes, reason: str) -> None:
    assert reason_phrase(body) == reason


def test_a_long_reason_is_cut() -> None:
    reason = reason_phrase(json.dumps({"error": "x" * 199 + "yz"}).encode())
    assert reason == "x" * 197 + "..."
    assert reason_phrase(b"x" * 10_000_000).endswith("x...")


def test_accepted_connections_send_at_once_and_name_the_reason() -> None:
    async def answer(request: Request) -> Response:
        return Response(b"{}", 418, {"reason-phrase": "no caf\xe9 here", "X-Other": "1"})

    async def run() -> tuple[list[int], http.client.HTTPResponse, dict[str, str]]:
        server = HttpServer(Starlette(routes=[Route("/", answer)]))
        listener = listen("127.0.0.1", 0, 0, "the test", "--port")
        running = asyncio.create_task(server.serve(sockets=[listener]))
        client = http.client.HTTPConnection(*listener.getsockname(), timeout=10)

        def ask() -> http.client.HTTPResponse:
            client.request("GET", "/")
            return client.getresponse()

        try:
            response = await asyncio.to_thread(ask)
            sockets = [connection.transport.get_extra_info("socket") for connection in server.server_state.connections]
            options = [each.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for each in sockets]
            return options, response, dict(response.headers)
        finally:
            client.close()
            server.should_exit = True
            await running

    options, response, headers = asyncio.run(run())
    assert (len(options), all(options)) == (1, True)
    assert (response.status, response.reason) == (418, "no café here")
    assert "reason-phrase" not in headers
    assert headers["x-other"] == "1"
