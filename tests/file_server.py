"""A real HTTP server of one file, which cuts the connection in the middle, changes the file meanwhile, or knows no ranges."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator

CONTENT = bytes(range(256)) * 12_000
CUT = 1_000_000


class FileServer:
    """What a test changes while the server runs."""

    def __init__(self) -> None:
        self.content = CONTENT
        self.validators = {"ETag": '"one"'}
        self.ranges = True
        self.cuts = 0
        """How many replies end after CUT bytes."""
        self.asked: list[str | None] = []
        """The Range of each request."""
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(outer.content)))
                self.end_headers()

            def do_GET(self) -> None:
                wanted, condition = self.headers.get("Range"), self.headers.get("If-Range")
                outer.asked.append(wanted)
                first = 0
                if wanted and outer.ranges and condition in (None, *outer.validators.values()):
                    first = int(wanted.removeprefix("bytes=").removesuffix("-"))
                    if first >= len(outer.content):
                        self.send_error(416)
                        return
                    self.send_response(206)
                    self.send_header("Content-Range", f"bytes {first}-{len(outer.content) - 1}/{len(outer.content)}")
                else:
                    self.send_response(200)
                for name, value in outer.validators.items():
                    self.send_header(name, value)
                rest = outer.content[first:]
                self.send_header("Content-Length", str(len(rest)))
                self.end_headers()
                if outer.cuts:
                    outer.cuts -= 1
                    rest = rest[:CUT]
                self.wfile.write(rest)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.httpd.server_port}/file"


@contextlib.contextmanager
def file_server() -> Iterator[FileServer]:
    """A server that runs meanwhile."""
    running = FileServer()
    thread = threading.Thread(target=running.httpd.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield running
    finally:
        running.httpd.shutdown()
        running.httpd.server_close()
        thread.join()
