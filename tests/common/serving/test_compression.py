"""gzip for replies: for whom, and of what."""

from __future__ import annotations

import gzip
import json
from typing import Any

import numpy as np
import pybase64
import pytest

from common.serving.compression import gzipped

MASK = json.dumps({"mask": np.tri(400, dtype=int).tolist()})


@pytest.mark.parametrize(
    "accepted",
    ["gzip", "gzip, deflate", "deflate, gzip;q=0.5, br", "GZIP", "*", "br;q=1.0, gzip ; q=0.8", b"gzip"],
)
def test_a_mask_shrinks_to_a_fraction_for_who_accepts_it(accepted: Any) -> None:
    small = gzipped(MASK, {"accept-encoding": accepted})
    assert small is not None
    assert gzip.decompress(small).decode() == MASK
    assert len(small) < len(MASK) / 50


def test_header_names_may_be_bytes() -> None:
    """As Nuclio's wrapper gives them where NUCLIO_PYTHON_DECODE_EVENT_STRINGS is false."""
    assert gzipped(MASK, {b"Accept-Encoding": b"gzip"}) is not None


@pytest.mark.parametrize(
    "headers",
    [
        None, {}, {"Accept": "gzip"}, {"Accept-Encoding": ""}, {"Accept-Encoding": "identity"},
        {"Accept-Encoding": "gzip;q=0"}, {"Accept-Encoding": "gzip;q=0.0, br"}, {"Accept-Encoding": "xgzip"},
    ],
)  # fmt: skip
def test_nobody_else_gets_it(headers: dict[str, str] | None) -> None:
    assert gzipped(MASK, headers) is None


def test_small_replies_and_those_that_do_not_shrink_go_as_they_are() -> None:
    accepts = {"Accept-Encoding": "gzip"}
    assert gzipped(json.dumps([0] * 1000), accepts) is None
    noise = np.random.default_rng(0).bytes(100_000)
    assert gzipped(json.dumps({"blob": pybase64.b64encode_as_string(noise)}), accepts) is None
