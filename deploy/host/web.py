"""HTTP requests to Nuclio's dashboard and to the functions' ports, never through the environment's proxy."""

from __future__ import annotations

import base64
import contextlib
import http.client
import os
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from deploy.commands import Interrupted

_POLL_S = 0.1


@dataclass(frozen=True)
class Reply:
    """What came back."""

    status: int
    body: bytes
    content_type: str
    """"" when there was no such header."""
    seconds: float
    """From before the connection until all of the body was read."""

    @property
    def ok(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300


class NoReply(Exception):
    """There was no reply; the message says why, such as "connection refused"."""

    def __init__(self, cause: str, *, refused: bool = False):
        """Stores the cause.

        Args:
            cause: Why, in a few words.
            refused: Whether the connection was refused or closed before any reply, as by a port that is not served yet.
        """
        super().__init__(cause)
        self.refused = refused


def send(
    url: str,
    *,
    timeout_s: float,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    stop: threading.Event | None = None,
) -> Reply:
    """Sends a request and waits for its reply: POST with a body, else GET.

    Args:
        url: http:// or https://, with a name and a password where the server wants them.
        timeout_s: How long all of it may take, in seconds.
        body: The body.
        headers: Further headers.
        stop: Set when the run is interrupted.

    Raises:
        NoReply: There was none, or not in time.
        Interrupted: `stop` was set.
    """
    connection = _connection(url, timeout_s)
    answers: list[Reply | BaseException] = []
    exchange = threading.Thread(target=_exchange, args=(connection, url, body, headers or {}, answers), daemon=True)
    deadline = time.monotonic() + timeout_s
    exchange.start()
    while exchange.is_alive() and time.monotonic() < deadline:
        exchange.join(_POLL_S)
        if stop and stop.is_set():
            _cut(connection)
            raise Interrupted
    if not answers:
        _cut(connection)
        raise NoReply(f"nothing within {timeout_s:.0f} s")
    answer = answers[0]
    if isinstance(answer, Reply):
        return answer
    refused = isinstance(answer, ConnectionError)  # http.client.RemoteDisconnected too
    raise NoReply(_words(answer, timeout_s), refused=refused) from answer


def _connection(url: str, timeout_s: float) -> http.client.HTTPConnection:
    try:
        parts = urlsplit(url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        return kind(parts.hostname or "", parts.port, timeout=timeout_s)
    except (ValueError, http.client.InvalidURL) as error:
        raise NoReply(f"{url} is not an address: {error}") from error


def _exchange(
    connection: http.client.HTTPConnection,
    url: str,
    body: bytes | None,
    headers: Mapping[str, str],
    answers: list[Reply | BaseException],
) -> None:
    parts = urlsplit(url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        headers = {"Authorization": f"Basic {base64.b64encode(login).decode()}", **headers}
    begin = time.monotonic()
    try:
        connection.request("GET" if body is None else "POST", path, body, dict(headers))
        response = connection.getresponse()
        content = response.read()
        content_type = response.getheader("Content-Type", "")
        answers.append(Reply(response.status, content, content_type, time.monotonic() - begin))
    except (OSError, ValueError, http.client.HTTPException) as error:
        answers.append(error)
    finally:
        connection.close()


def _cut(connection: http.client.HTTPConnection) -> None:
    """Makes the thread that waits for the reply give up."""
    with contextlib.suppress(OSError, AttributeError):
        connection.sock.shutdown(socket.SHUT_RDWR)


def _words(error: BaseException, timeout_s: float) -> str:
    if isinstance(error, TimeoutError):
        return f"nothing within {timeout_s:.0f} s"
    if isinstance(error, http.client.RemoteDisconnected):
        return "the connection was closed without a reply"
    if isinstance(error, http.client.IncompleteRead):
        return "the connection was closed in the middle of the reply"
    if isinstance(error, OSError) and error.errno and type(error) is not socket.gaierror:
        return os.strerror(error.errno)
    return str(error) or type(error).__name__
