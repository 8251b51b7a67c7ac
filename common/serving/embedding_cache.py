"""Embeddings of images, by content: made once, then read by all workers of a container and, with a store, by replicas.

Nuclio runs every worker as a process, so what workers share can't live in the memory of one of them. It lives in files of one
directory, which the system keeps in memory while there is room: a worker maps a file instead of reading it, the least recently
used files are removed first, and a file lock for each key lets one worker encode an image while the others wait for the
result. Files are in the safetensors format.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import logging
import mmap
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.errors import StartupError
from common.serving.store import Store, StoreDown

Arrays = dict[str, NDArray[np.generic]]

_TYPES = {"F16": np.float16, "F32": np.float32, "I64": np.int64, "U8": np.uint8}
_NAMES = {np.dtype(kind): name for name, kind in _TYPES.items()}
_LOCKS = 64  # files; two keys that share one sometimes wait for each other
_LARGE = 2**20  # bytes; after a file of this size, the directory's size is checked
_LOOK_EVERY = 64  # or after so many smaller files
_FULL = (errno.ENOSPC, errno.EDQUOT)
_DIGEST_SIZE = 32  # bytes before an embedding in the store
_STORE_EXPIRY = 3600.0  # seconds after the last use
_STORE_DEADLINE = 0.3  # seconds: a replica that has to encode after all has lost no more than this
_LOG = logging.getLogger(__name__)


def pack(arrays: Mapping[str, NDArray[np.generic]]) -> bytes:
    """Arrays as the bytes of a safetensors file.

    Args:
        arrays: Name -> array of float16, float32, int64 or uint8.
    """
    header, offset = {}, 0
    for name, array in arrays.items():
        end = offset + array.nbytes
        header[name] = {"dtype": _NAMES[array.dtype], "shape": list(array.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return b"".join(
        [len(text).to_bytes(8, "little"), text, *(np.ascontiguousarray(a).tobytes() for a in arrays.values())]
    )


def unpack(data: bytes | bytearray | memoryview | mmap.mmap) -> Arrays:
    """The inverse of `pack`, without copying: the arrays are views of `data`.

    Args:
        data: The bytes of a safetensors file.

    Raises:
        ValueError: They are something else.
    """
    view = memoryview(data)
    try:
        length = int.from_bytes(view[:8], "little")
        header = json.loads(bytes(view[8 : 8 + length]))
        arrays: Arrays = {}
        for name, entry in header.items():
            begin, end = (8 + length + offset for offset in entry["data_offsets"])
            if not 8 + length <= begin <= end <= len(view):
                raise ValueError("cut")
            arrays[name] = np.frombuffer(view[begin:end], _TYPES[entry["dtype"]]).reshape(entry["shape"])
        return arrays
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"not arrays: {error}") from error


class EmbeddingCache:
    """Arrays in the files of a directory, and a copy of the large ones in a store if there is one.

    Args:
        directory: Where the files are; created when it does not exist.
        limit: Bytes that all files may have together.
        store: Shared with replicas, or None.

    Raises:
        StartupError: The directory can't be written to.
    """

    def __init__(self, directory: str | Path, limit: int, store: Store | None = None):
        self._directory, self._limit, self._store = Path(directory), limit, store
        self._puts = 0
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._directory.stat().st_uid != os.getuid():
                raise PermissionError(f"{self._directory} belongs to another user")
            with tempfile.TemporaryFile(dir=self._directory):
                pass
        except OSError as error:
            raise StartupError(
                f"{self._directory}: embeddings can't be kept there: {error}; set EMBEDDING_CACHE_DIR to a folder "
                "that can be written to, or EMBEDDING_CACHE_MB to 0 to do without"
            ) from error

    def get(self, key: str) -> Arrays | None:
        """The arrays under a key in this container's files.

        Args:
            key: Hexadecimal, from the content.

        Returns:
            The arrays, which must not be written to, or None.
        """
        path = self._path(key)
        try:
            with path.open("rb") as file:
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            os.utime(path)
            return unpack(data)
        except (OSError, ValueError):  # missing, removed meanwhile, empty or damaged
            return None

    def put(self, key: str, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Keeps arrays in this container's files; on a full disk it keeps nothing and raises nothing.

        Args:
            key: Hexadecimal, from the content.
            arrays: Name -> array of float16, float32, int64 or uint8.
        """
        self._write(key, pack(arrays))

    def get_or_make(
        self, key: str, make: Callable[[], Mapping[str, NDArray[np.generic]]]
    ) -> tuple[Mapping[str, NDArray[np.generic]], str]:
        """The arrays under a key, made when they are not kept anywhere yet.

        Calls for the same key at the same time make them once, in threads and processes alike.

        Args:
            key: Hexadecimal, from the content.
            make: Makes the arrays. What it raises reaches the caller that passed it.

        Returns:
            The arrays, and where they came from: "cache", "store" or "made".
        """
        if (found := self.get(key)) is not None:
            return found, "cache"
        with self._alone(key):
            if (found := self.get(key)) is not None:
                return found, "cache"
            if (stored := self._from_store(key)) is not None:
                self._write(key, stored[0])
                return stored[1], "store"
            made = make()
            data = pack(made)
            self._write(key, data)
        if self._store is not None:
            self._store.put_later({_store_key(key): _digest(data) + data}, expiry=_STORE_EXPIRY)
        return made, "made"

    def size(self) -> int:
        """Bytes of all files."""
        return sum(size for _, size, _ in self._files())

    def _from_store(self, key: str) -> tuple[memoryview, Arrays] | None:
        """The bytes of `pack` under a key of the store, and their arrays."""
        if self._store is None:
            return None
        try:
            (stored,) = self._store.get([_store_key(key)], expiry=_STORE_EXPIRY, deadline=_STORE_DEADLINE)
        except StoreDown:
            return None
        if stored is None:
            return None
        digest, data = stored[:_DIGEST_SIZE], memoryview(bytearray(stored))[_DIGEST_SIZE:]
        if _digest(data) != digest:
            _LOG.warning("An embedding in the store is damaged, and is made again")
            return None
        return data, unpack(data)

    def _path(self, key: str) -> Path:
        return self._directory / f"{key}.safetensors"

    def _write(self, key: str, data: bytes | memoryview) -> None:
        if len(data) > self._limit:
            return
        try:
            try:
                self._replace(key, data)
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                self._evict(room=len(data))  # the disk is smaller than the limit
                self._replace(key, data)
            self._puts += 1
            if len(data) >= _LARGE or self._puts % _LOOK_EVERY == 0:
                self._evict()
        except OSError:
            pass

    def _replace(self, key: str, data: bytes | memoryview) -> None:
        handle, temporary = tempfile.mkstemp(suffix=".part", dir=self._directory)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            os.replace(temporary, self._path(key))
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
            raise

    def _evict(self, room: int = 0) -> None:
        """Throws out the least recently used files beyond the limit, and of `room` bytes at least."""
        files = sorted(self._files())
        excess = max(sum(size for _, size, _ in files) - self._limit, room)
        abandoned = time.time() - 3600  # the half-written file of a worker that was killed
        for used, size, path in files:
            if excess > 0 or (path.suffix == ".part" and used < abandoned):
                path.unlink(missing_ok=True)
                excess -= size

    def _files(self) -> Iterator[tuple[float, int, Path]]:
        with os.scandir(self._directory) as entries:
            for entry in entries:
                if entry.name.endswith((".safetensors", ".part")):
                    try:
                        status = entry.stat()
                    except FileNotFoundError:  # another worker was faster
                        continue
                    yield status.st_mtime, status.st_size, Path(entry.path)

    @contextmanager
    def _alone(self, key: str) -> Iterator[None]:
        """While it is held, no other process in the container works on that key. The lock of a worker that dies is released."""
        with ExitStack() as held:
            # Whoever clears away old temporary files may take the folder along: then there is nothing to wait for.
            with suppress(OSError):
                self._directory.mkdir(mode=0o700, exist_ok=True)
                lock = held.enter_context((self._directory / f"{int(key[:8], 16) % _LOCKS:02d}.lock").open("w"))
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def directory_for(function: str, parent: str | None) -> Path:
    """Where the workers of a function keep their embeddings.

    Args:
        function: The function's name.
        parent: A directory, or None for the system's temporary one.

    Returns:
        A directory of this user below it.

    Raises:
        StartupError: The system has no temporary directory.
    """
    try:
        return Path(parent or tempfile.gettempdir()) / f"embeddings-{os.getuid()}-{function}"
    except OSError as error:
        raise StartupError(
            f"there is no folder for temporary files: {error}; set EMBEDDING_CACHE_DIR, or EMBEDDING_CACHE_MB to 0"
        ) from error


def _digest(data: bytes | memoryview) -> bytes:
    return hashlib.sha256(data).digest()


def _store_key(key: str) -> str:
    return f"embedding:{key}"
