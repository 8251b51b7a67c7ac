"""Keys that name content: the same parts give the same key, on every machine."""

from __future__ import annotations

import hashlib


def content_key(*parts: str | bytes) -> str:
    """A key for all of `parts`, hexadecimal; other parts have another one."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()
