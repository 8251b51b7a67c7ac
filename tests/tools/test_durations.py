"""tools.durations reads what Go's time.ParseDuration reads: the values here are those of Go 1.26."""

from __future__ import annotations

import re

import pytest

from tools import durations

LONGEST = 2**63 - 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("-0", 0),
        ("30s", 30_000_000_000),
        ("+30s", 30_000_000_000),
        ("-1m", -60_000_000_000),
        (".5s", 500_000_000),
        ("1.s", 1_000_000_000),
        ("1h2m3.5s", 3_723_500_000_000),
        ("3.5s1h2m", 3_723_500_000_000),  # in any order
        ("1s1s", 2_000_000_000),
        ("100us", 100_000),
        ("100µs", 100_000),  # U+00B5
        ("100μs", 100_000),  # U+03BC
        ("1.9ns", 1),
        ("0.9999999999999999999999s", 1_000_000_000),
        ("0.3333333333333333333h", 1_200_000_000_000),
        ("9007199254740993ns", 9007199254740993),  # no float holds it
        (f"{LONGEST}ns", LONGEST),
        (f"-{LONGEST + 1}ns", -LONGEST - 1),
        ("2562047h47m16.854775807s", LONGEST),
    ],
)
def test_what_go_reads(text: str, expected: int) -> None:
    assert durations.nanoseconds(text) == expected
    assert durations.seconds(text) == expected / 1e9


@pytest.mark.parametrize(
    "text",
    ["", "+", "-", "00", "30", ".", "s", ".s", "-.s", "1d", "1S", "1s x", " 1s", "1s ", "1e3s", "--1s", "1s-1s",
     "1..s", "1.2.3s", "30 s", "\N{FULLWIDTH DIGIT ONE}s", "1s\n"],
)  # fmt: skip
def test_what_go_refuses(text: str) -> None:
    with pytest.raises(ValueError, match=f"expected a duration such as 30s or 1m30s, got {re.escape(repr(text))}"):
        durations.nanoseconds(text)


@pytest.mark.parametrize(
    "text", [f"{LONGEST + 1}ns", "-9223372036854775809ns", "2562047h47m16.854775808s", "300000000h"]
)
def test_what_an_int64_of_nanoseconds_does_not_hold(text: str) -> None:
    with pytest.raises(ValueError, match="at most 292 years"):
        durations.seconds(text)
