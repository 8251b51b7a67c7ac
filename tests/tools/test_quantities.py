"""tools.quantities reads what Kubernetes' resource.ParseQuantity reads."""

from __future__ import annotations

from fractions import Fraction

import pytest

from tools import quantities


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("2", 2),
        ("500m", Fraction(1, 2)),
        ("1.5", Fraction(3, 2)),
        (".5", Fraction(1, 2)),
        ("5.", 5),
        ("+1", 1),
        ("-1Ki", -1024),
        ("512Mi", 512 * 2**20),
        ("1.5Gi", 1536 * 2**20),
        ("2G", 2 * 10**9),
        ("1k", 1000),
        ("2e9", 2 * 10**9),
        ("2E3", 2000),
        ("2E", 2 * 10**18),
        ("1Ei", 2**60),
        ("100n", Fraction(1, 10**7)),
        ("1e-3", Fraction(1, 1000)),
    ],
)
def test_what_kubernetes_reads(text: str, expected: Fraction) -> None:
    assert quantities.parse(text) == expected


@pytest.mark.parametrize(
    "text", ["", "Gi", "4GB", "4 Gi", "1K", "1gi", "1ee3", "--1", "1e", "0x10", "1e400000000", "1Gii"]
)
def test_what_kubernetes_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="expected a quantity such as 2Gi"):
        quantities.parse(text)


@pytest.mark.parametrize("text", ["2Gi", "1536Mi", "3Ki", "1025", "0"])
def test_bytes_as_a_quantity_and_back(text: str) -> None:
    assert quantities.memory(int(quantities.parse(text))) == text
