"""A real HTTP server that answers like the Hugging Face hub: its API, and the files of models at a commit."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit


class HubServer:
    """The models of a folder: each folder in it is a repository, organisation/name."""

    def __init__(self, root: Path):
        self.commit = "0123456789abcdef0123456789abcdef01234567"
        self.card: dict[str, Any] = {"license": "apache-2.0"}
        self.gated = False
        """Whether nothing is given to anybody."""
        self.asked: list[str] = []
        """The paths of all requests."""
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                path = unquote(urlsplit(self.path).path)
                if outer.gated:
                    self.send_error(401)
                elif path.startswith("/api/models/"):
                    name, _, revision = path.removeprefix("/api/models/").partition("/revision/")
                    self.give(
                        json.dumps(outer.describe(root / name)).encode() if outer.has(root, name, revision) else None
                    )
                else:
                    name, _, rest = path[1:].partition("/resolve/")
                    revision, _, file = rest.partition("/")
                    found = outer.has(root, name, revision) and (root / name / file).is_file()
                    self.give((root / name / file).read_bytes() if found else None)

            def give(self, content: bytes | None) -> None:
                if content is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.httpd.server_port}"

    def has(self, root: Path, name: str, revision: str) -> bool:
        return (root / name).is_dir() and revision in ("main", "refs/pr/1", self.commit)

    def describe(self, folder: Path) -> dict[str, Any]:
        siblings = []
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            content = path.read_bytes()
            entry: dict[str, Any] = {"rfilename": str(path.relative_to(folder)), "size": len(content)}
            entry["blobId"] = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
            if path.suffix in (".safetensors", ".bin"):
                entry["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
            siblings.append(entry)
        return {"id": folder.name, "sha": self.commit, "siblings": siblings, "cardData": self.card, "gated": False}


@contextlib.contextmanager
def hub_server(root: Path) -> Iterator[HubServer]:
    """A server that runs meanwhile."""
    running = HubServer(root)
    thread = threading.Thread(target=running.httpd.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield running
    finally:
        running.httpd.shutdown()
        running.httpd.server_close()
        thread.join()
