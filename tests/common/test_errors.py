import math
import random
from typing import Any

import numpy as np
import pytest

from common.errors import (
    MISSING,
    BadRequest,
    FunctionError,
    Gone,
    ModelError,
    NothingInside,
    StartupError,
    Unavailable,
    describe,
    listed,
)


def test_a_check_names_the_field_what_was_expected_and_what_came() -> None:
    StartupError.check([0], "threads", "a whole number", None)
    with pytest.raises(BadRequest, match=r"^points\[0\]: expected a number, got the text 'x'$"):
        BadRequest.check(False, "points[0]", "a number", "x")
    with pytest.raises(Gone, match=r"^state: expected a state, got nothing$"):
        Gone.check("", "state", "a state", MISSING)


def test_a_list_of_names_is_cut() -> None:
    names = ["a", "b", "c"]
    assert [listed(names, most) for most in (3, 2, 1)] == ["a, b, c", "a, b and 1 more", "a and 2 more"]
    assert listed([], 4) == "none"


class TestDescribe:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (None, "null"),
            (True, "true"),
            (False, "false"),
            (0, "0"),
            (-12, "-12"),
            (0.1, "0.1"),
            (math.nan, "nan"),
            (-math.inf, "-inf"),
            (2**64, "18446744073709551616"),
            (2**200, "a whole number of 201 bits"),
            pytest.param(10**10_000, "a whole number of 33220 bits", id="too long to print"),
            ("", "the text ''"),
            ("a'b", 'the text "a\'b"'),
            ("line\nbreak", "the text 'line\\nbreak'"),
            ("\ud800", "the text '\\ud800'"),
            ("x" * 40, f"the text '{'x' * 40}'"),
            ("x" * 41, "a text of 41 characters"),
            ("\0" * 40, "a text of 40 characters"),
            (b"123", "3 bytes"),
            (memoryview(b"1234"), "4 bytes"),
            ([], "[]"),
            ((1, 2.5), "[1, 2.5]"),
            (["a", None, True, {}], "['a', null, true, {}]"),
            ([1, 2, 3, 4, 5], "a list of 5 items"),
            ([1.0000000000000002] * 4, "[1.0000000000000002, 1.0000000000000002, 1.0000000000000002, 1.0000000000000002]"),
            ([[1, 2], {"a": 1}, []], "[[...], {...}, []]"),
            (["x" * 1000], "[a text of 1000 characters]"),
            (["x" * 40], f"['{'x' * 40}']"),
            (["x" * 36] * 2, f"['{'x' * 36}', '{'x' * 36}']"),
            (["x" * 37] * 2, "a list of 2 items"),
            ({}, "an object of 0 fields"),
            ({"a": 1}, "an object of 1 field"),
            (MISSING, "nothing"),
            (np.float32(0.5), "0.5"),
            (np.int64(7), "7"),
            (np.bool_(True), "true"),
            (np.zeros((2, 2)), "a value of type ndarray"),
            (object(), "a value of type object"),
        ],
    )  # fmt: skip
    def test_says_what_it_is(self, value: Any, text: str) -> None:
        assert describe(value) == text

    def test_of_a_list_in_itself_ends(self) -> None:
        endless: list[Any] = []
        endless.append(endless)
        assert describe(endless) == "[[...]]"

    def test_is_short_and_printable_for_anything(self) -> None:
        rng = random.Random(1)

        def value(depth: int) -> Any:
            if depth == 0 or rng.random() < 0.3:
                return rng.choice(
                    [rng.random() * 10 ** rng.randrange(-300, 300), "é\0\U000e0001" * rng.randrange(20), None]
                )
            return [value(depth - 1) for _ in range(rng.randrange(6))]

        for _ in range(2000):
            text = describe(value(4))
            assert len(text) <= 90
            assert text.isprintable()


class TestErrors:
    def test_a_long_message_is_cut(self) -> None:
        assert str(BadRequest("x" * 500)) == "x" * 500
        cut = str(BadRequest("x" * 1_000_000))
        assert len(cut) == 500
        assert cut.endswith("x...")

    def test_field(self) -> None:
        assert str(BadRequest.field("threshold", "a number", "a")) == "threshold: expected a number, got the text 'a'"

    def test_statuses(self) -> None:
        assert BadRequest("").status == 400
        assert {error("").status for error in (FunctionError, ModelError, NothingInside, StartupError)} == {500}
        assert (Gone("").status, Unavailable("").status) == (410, 503)
        assert isinstance(Gone(""), BadRequest)
