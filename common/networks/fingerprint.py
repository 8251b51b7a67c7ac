"""Keys made from content: the same parts give the same key on every machine."""

from __future__ import annotations

import hashlib


def content_key(*parts: str | bytes) -> str:
    """A key for some content.

    Args:
        parts: The content; the same bytes divided into other parts have another key.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()
