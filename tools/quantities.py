"""Quantities as Kubernetes and Nuclio write them, such as `2Gi` of memory or `500m` of a CPU.

Only Python's standard library is needed, of any version from 3.9 on.
"""

from __future__ import annotations

import re
from fractions import Fraction

_QUANTITY = re.compile(r"([+-]?)(\d+\.?\d*|\.\d+)(?:([numkMGTPE]|[KMGTPE]i)?|[eE]([+-]?\d+))")
_FACTORS = {
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 10**3),
    **{unit: Fraction(10 ** (3 * i)) for i, unit in enumerate("kMGTPE", 1)},
    **{f"{unit}i": Fraction(2 ** (10 * i)) for i, unit in enumerate("KMGTPE", 1)},
}
_LARGEST_EXPONENT = 18  # what Kubernetes can hold is below 2**63


def parse(text: str) -> Fraction:
    """The number that a quantity stands for: bytes of memory, or CPUs.

    Args:
        text: The quantity: a number, and a unit of 1000 (k, M, G, T, P, E), of 1024 (Ki, Mi, ...), a part (m, u, n) or a
            power of ten (e3).

    Raises:
        ValueError: Kubernetes can't read the text.
    """
    match = _QUANTITY.fullmatch(text)
    exponent = int(match.group(4) or 0) if match else 0
    if match is None or abs(exponent) > _LARGEST_EXPONENT:
        raise ValueError(f"expected a quantity such as 2Gi, 512Mi or 500m, got {text!r}")
    sign, digits, unit, _ = match.groups()
    number = Fraction(digits.rstrip(".")) * Fraction(10) ** exponent * _FACTORS.get(unit or "", Fraction(1))
    return -number if sign == "-" else number


def memory(count: int) -> str:
    """Bytes as a quantity of memory in the largest unit of 1024 that loses nothing.

    Args:
        count: The bytes, 0 or more.
    """
    for unit in ("Gi", "Mi", "Ki"):
        whole, rest = divmod(count, int(_FACTORS[unit]))
        if whole and not rest:
            return f"{whole}{unit}"
    return str(count)
