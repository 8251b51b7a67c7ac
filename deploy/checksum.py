"""Checksums of files that are too large for memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import IO

_PIECE_BYTES = 1 << 20


def pieces(file: IO[bytes]) -> Iterator[bytes]:
    """The rest of a file, piece by piece.

    Args:
        file: The file, open for reading.
    """
    return iter(lambda: file.read(_PIECE_BYTES), b"")


def sha256(content: Iterable[bytes]) -> str:
    """The SHA-256 of a content, in hexadecimal digits.

    Args:
        content: Its pieces.
    """
    digest = hashlib.sha256()
    for piece in content:
        digest.update(piece)
    return digest.hexdigest()
