"""The HTTP servers of this process: one for the dashboard API, one for each function, each on a socket of its own.

An error's text also goes into the reason phrase of the status line, `HTTP/1.1 400 pos_points: expected ...`: CVAT shows its
users the reason phrase of a function's reply and nothing of its body. ASGI has no field for it, so an application sends the
phrase as the header REASON_HEADER, and the protocol here puts it where it belongs.
"""

from __future__ import annotations

import contextlib
import errno
import json
import socket
from collections.abc import Iterator
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from common.errors import StartupError

REASON_HEADER = "reason-phrase"
_LONGEST_REASON = 200  # characters; some proxies refuse a status line of more than a few hundred
_LONGEST_HEAD = 64 * 1024  # bytes of a request's line and headers
_BACKLOG = 128


def reason_phrase(body: bytes) -> str:
    """The text of an error for the status line: one line of printable Latin-1, cut to a length that proxies take.

    Args:
        body: of the reply; the text is its field "error", or the whole body when it is no JSON object with one.

    Returns:
        The text, or "" when the body is empty.
    """
    try:
        content = json.loads(body)
        text = content["error"] if isinstance(content, dict) and isinstance(content.get("error"), str) else ""
    except ValueError:
        text = body[: 4 * _LONGEST_REASON].decode("utf-8", "replace")
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    if len(line) > _LONGEST_REASON:
        line = line[: _LONGEST_REASON - 3] + "..."
    return line.encode("latin-1", "replace").decode("latin-1")


class HttpServer(uvicorn.Server):
    """Serves one ASGI application on sockets that listen already: `serve(sockets=[...])`, until `should_exit` is set."""

    def __init__(self, app: Any):
        """Serves nothing yet.

        Args:
            app: the ASGI application.
        """
        config = uvicorn.Config(
            app, http=_Protocol, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=3
        )
        super().__init__(config)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves signals alone: many servers share this process, and the program stops them all."""
        yield


def listen(host: str, first: int, last: int, purpose: str, option: str) -> socket.socket:
    """A socket that listens on the first free port of a range, so that no other program gets it.

    Args:
        host: address to listen on, IPv4 or IPv6.
        first: the lowest port; 0 for any that is free.
        last: the highest port.
        purpose: what the port is for, for the message.
        option: the command's option that names another port, for the message.

    Raises:
        StartupError: No port is free, or the address is not one of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in range(first, last + 1):
        # With its protocol named: asyncio sends small replies at once (TCP_NODELAY) only where it sees that it is TCP.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(_BACKLOG)  # now: a bound port can still be taken by another program that listens first
        except OSError as error:
            listener.close()
            if error.errno == errno.EADDRINUSE:
                continue
            raise StartupError(f"can't listen on {host}:{port} for {purpose}: {error.strerror}") from error
        return listener
    ports = f"port {first} is" if first == last else f"ports {first} to {last} are"
    raise StartupError(
        f"{ports} in use on {host} (another server, or Nuclio's own dashboard?); {purpose} needs another one: {option} NUMBER"
    )


class _Connection(h11.Connection):
    def send_with_data_passthrough(self, event: h11.Event) -> list[bytes] | None:  # what `send` calls
        if isinstance(event, h11.Response):
            name = REASON_HEADER.encode()
            reasons = [value for header, value in event.headers if header == name]
            if reasons:
                headers = [(header, value) for header, value in event.headers.raw_items() if header.lower() != name]
                status, version = event.status_code, event.http_version
                event = h11.Response(status_code=status, headers=headers, reason=reasons[0], http_version=version)
        return super().send_with_data_passthrough(event)


class _Protocol(H11Protocol):
    def __init__(self, *arguments: Any, **named: Any):
        super().__init__(*arguments, **named)
        self.conn = _Connection(h11.SERVER, _LONGEST_HEAD)
