"""The pauses before something is tried again."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator


def pauses_s(first_s: float, longest_s: float = math.inf, spread: float = 0.0) -> Iterator[float]:
    """Seconds to wait before the second try, the third and so on, without end: each pause twice the one before.

    Args:
        first_s: the first pause.
        longest_s: no pause is longer.
        spread: how much longer a pause may be, at random, as a part of it: of many that fail at once, not all come back
            at once.
    """
    pause = first_s
    while True:
        yield min(pause, longest_s) * random.uniform(1, 1 + spread)  # noqa: S311 - not a secret
        pause = min(2 * pause, longest_s)
