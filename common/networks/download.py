"""Downloads a file over https, completely and checked or not at all; an interrupted download is resumed.

The part received so far is beside the file in `.NAME.part`; `.NAME.part.json` has its address and the server's name for
that version of it (ETag). The next try requests the rest of the same version (Range, If-Range); a server that has another
version by then sends the whole file.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import http.client
import io
import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from common.errors import StartupError, describe

Progress = Callable[[int, int | None], None]
"""Called with the number of bytes received so far and of the whole file; None where the server does not say."""

_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_HUB = "huggingface.co"
_TIMEOUT_S = 60.0  # without a byte
_SIZE_TIMEOUT_S = 5.0
_CHUNK = 1 << 20
_TRIES = 3  # in a row, as long as each brings something
_ALGORITHMS = {64: "sha256", 96: "sha384"}  # by the number of hexadecimal digits


def digest_of(file: io.FileIO | io.BufferedReader, like: str | None = None) -> str:
    """The digest of a file's content.

    Args:
        file: Opened for reading, in bytes, at its beginning.
        like: A digest with which it will be compared: SHA-256 or SHA-384, in hexadecimal digits; None for SHA-256.

    Returns:
        Hexadecimal digits.
    """
    return hashlib.file_digest(file, _ALGORITHMS[len(like or "0" * 64)]).hexdigest()


def download(url: str, path: Path, digest: str | None = None, progress: Progress | None = None) -> str:
    """Fetches a file, or the rest of it.

    Args:
        url: The address of the file; https, or http on this machine.
        path: Where to save it; its folder is created.
        digest: The expected SHA-256 or SHA-384, in hexadecimal digits; None when it is not known.
        progress: Called for each chunk.

    Returns:
        The file's SHA-256.

    Raises:
        StartupError: The server does not give it, the connection broke off (the part received is kept for the next time),
            another process is fetching it, or the file received has another digest (then nothing is kept).
    """
    check_url(url, str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    with _opened_part(path) as part:
        resumed = part.fetch(url, checked=digest is not None, progress=progress)
        if resumed and digest is not None and part.digest(digest) != digest:
            # The first part may be of another version.
            part.clear()
            part.fetch(url, checked=True, progress=progress)
        if digest is not None and (other := part.digest(digest)) != digest:
            part.clear()
            name = _ALGORITHMS[len(digest)].upper().replace("SHA", "SHA-")
            raise StartupError(
                f"{url}: expected {name} {digest}, got {other}: not used; the file was changed or replaced"
            )
        found = part.digest()
        part.finish(path)
    return found


def ask_size(url: str) -> int | None:
    """Asks a server how many bytes a file has.

    Args:
        url: As for `download`.

    Returns:
        The number, or None when the server can't be reached within seconds or does not say.
    """
    try:
        request = _request(url, {}, "HEAD")
        with urllib.request.build_opener(_OnlySafeRedirects).open(request, timeout=_SIZE_TIMEOUT_S) as response:
            return int(response.headers["Content-Length"])
    except (OSError, http.client.HTTPException, StartupError, TypeError, ValueError):
        return None


def read_small(url: str, most: int) -> bytes:
    """The content of a small file, or a server's answer.

    Args:
        url: As for `download`.
        most: The most bytes that are read.

    Raises:
        StartupError: The server can't be reached or does not give it, or it is larger.
    """
    check_url(url, url)
    try:
        with urllib.request.build_opener(_OnlySafeRedirects).open(_request(url, {}), timeout=_TIMEOUT_S) as response:
            content: bytes = response.read(most + 1)
    except urllib.error.HTTPError as error:
        raise StartupError(f"{url}: the server answers {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise StartupError(f"{url}: can't be fetched: {getattr(error, 'reason', error)}") from error
    if len(content) > most:
        raise StartupError(f"{url}: expected {most / 1e6:.0f} MB at most, got more")
    return content


def check_url(url: Any, where: str) -> None:
    """Raises StartupError for an address that weights must not be fetched from.

    Args:
        url: The address.
        where: What the message calls it.
    """
    parts = urlsplit(url) if isinstance(url, str) else None
    if parts is None or not parts.hostname:
        raise StartupError(f"{where}: expected an address that begins with https://, got {describe(url)}")
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise StartupError(f"{where}: expected https, got {parts.scheme}: weights are only fetched over https")


class _OnlySafeRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        check_url(newurl, f"{req.full_url} leads to")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _request(url: str, headers: dict[str, str], method: str = "GET") -> urllib.request.Request:
    request = urllib.request.Request(  # noqa: S310 - checked by check_url
        url, headers={"User-Agent": "cvat-functions", **headers}, method=method
    )
    token = os.environ.get("HF_TOKEN", "").strip()
    if token and urlsplit(url).hostname == _HUB:
        # Not sent on to where the hub redirects to.
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    return request


class _BrokeOff(Exception):
    """The connection ended before the file did."""


class _Part:
    """The part of a file received so far, and which version of it that is."""

    def __init__(self, file: io.FileIO, path: Path):
        self._file, self._path = file, path
        self._version_path = path.with_name(f"{path.name}.json")

    @property
    def size(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    def fetch(self, url: str, *, checked: bool, progress: Progress | None) -> bool:
        """Fetches what is missing; returns whether a part of the file was there before this call."""
        resumed = self.size > 0
        for attempt in range(1, _TRIES + 1):
            before = self.size
            try:
                self._receive(url, checked, progress)
                return resumed
            except urllib.error.HTTPError as error:
                if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and before:
                    self.clear()
                    continue
                hint = "; it is gated: accept its terms and set HF_TOKEN" if error.code in (401, 403) else ""
                raise StartupError(f"{url}: the server answers {error.code} {error.reason}{hint}") from error
            except (OSError, http.client.HTTPException, _BrokeOff) as error:
                if self.size == 0:
                    raise StartupError(f"{url}: can't be fetched: {getattr(error, 'reason', error)}") from error
                if attempt == _TRIES or self.size == before:
                    raise StartupError(
                        f"{url}: broke off after {self.size / 1e6:.1f} MB ({error}); they are kept: run the command again to resume"
                    ) from error
        raise StartupError(f"{url}: the server refuses to give the rest of the file")

    def digest(self, like: str | None = None) -> str:
        self._file.seek(0)
        return digest_of(self._file, like)

    def clear(self) -> None:
        self._file.truncate(0)
        self._version_path.unlink(missing_ok=True)

    def finish(self, path: Path) -> None:
        self._path.chmod(0o644)
        self._path.replace(path)
        self._version_path.unlink(missing_ok=True)

    def _receive(self, url: str, checked: bool, progress: Progress | None) -> None:
        have, version = self.size, self._version_of(url)
        headers = {}
        # Without a version, only the digest can show that both parts belong together.
        if have and (version or (version is not None and checked)):
            headers = {"Range": f"bytes={have}-"} | ({"If-Range": version} if version else {})
        request = _request(url, headers)
        with urllib.request.build_opener(_OnlySafeRedirects).open(request, timeout=_TIMEOUT_S) as response:
            if response.status != http.HTTPStatus.PARTIAL_CONTENT:
                have = 0
            elif not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                self.clear()
                raise _BrokeOff(f"the server sent {response.headers.get('Content-Range')}, not from byte {have} on")
            self._file.truncate(have)
            self._version_path.write_text(json.dumps({"url": url, "version": _version(response.headers)}))
            length = response.headers.get("Content-Length")
            total = None if length is None else have + int(length)
            while chunk := response.read1(_CHUNK):
                if self._file.write(chunk) != len(chunk):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                have += len(chunk)
                if progress is not None:
                    progress(have, total)
            if total is not None and have != total:
                raise _BrokeOff(f"{total / 1e6:.1f} MB were announced")

    def _version_of(self, url: str) -> str | None:
        """The server's name for the version of the part, "" when it gave none, None when the part is of another address."""
        try:
            noted = json.loads(self._version_path.read_text())
            return str(noted["version"]) if noted["url"] == url else None
        except (OSError, ValueError, KeyError, TypeError):
            return None


def _version(headers: Any) -> str:
    # A weak ETag means "equivalent", which is not enough to join two parts.
    etag = headers.get("ETag", "")
    return etag if etag.startswith('"') else headers.get("Last-Modified", "")


@contextlib.contextmanager
def _opened_part(path: Path) -> Iterator[_Part]:
    """The part of a file, locked against other processes; removed at the end when it is empty."""
    part_path = path.with_name(f".{path.name}.part")
    with part_path.open("a+b", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StartupError(f"{path}: another process is fetching this file") from error
        except OSError:  # a file system without locks
            pass
        if not _is_at(file, part_path):  # the other process was just done with it
            raise StartupError(f"{path}: another process has fetched this file")
        part = _Part(file, part_path)
        try:
            yield part
        finally:
            if part.size == 0:
                part.clear()
                part_path.unlink(missing_ok=True)


def _is_at(file: io.FileIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
