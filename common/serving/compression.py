"""Gzip for callers that accept it: masks are written as digits and shrink to a hundredth."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from typing import Any

from common.serving.headers import header

_WORTHWHILE = 16 * 1024  # characters; less goes as it is
_SAMPLE = 8 * 1024
_MOST_LEFT = 0.5  # of a sample: what does not deflate to this, base64 above all, is not worth the time
_LEVEL = 1
_GZIP = 16 + zlib.MAX_WBITS
_ACCEPTED = re.compile(r"(?:^|,)\s*(?:gzip|\*)\s*(?:;\s*q=(?P<q>[0-9.]+)\s*)?(?=,|$)", re.IGNORECASE)


def gzipped(text: str, headers: Mapping[Any, Any] | None) -> bytes | None:
    """A reply's text as gzip, for `Content-Encoding: gzip`.

    Args:
        text: The reply.
        headers: Of the request; only a caller that names gzip in Accept-Encoding gets it.

    Returns:
        The compressed reply, or None when it is better sent as it is.
    """
    if len(text) < _WORTHWHILE or not _accepts_gzip(headers):
        return None
    data = text.encode()
    if len(zlib.compress(data[:_SAMPLE], _LEVEL)) > _MOST_LEFT * _SAMPLE:
        return None
    deflater = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    return deflater.compress(data) + deflater.flush()


def _accepts_gzip(headers: Mapping[Any, Any] | None) -> bool:
    match = _ACCEPTED.search(header(headers, "accept-encoding"))
    return match is not None and (match["q"] or "1").strip("0.") != ""
