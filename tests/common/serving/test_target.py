"""Requests that reach another function than they are meant for."""

from __future__ import annotations

from typing import Any

import pytest

from common.errors import Misdirected
from common.serving.target import check_target, own_name


@pytest.mark.parametrize(
    "headers",
    [
        None,
        {},
        {"x-nuclio-function-name": "other"},  # CVAT's word to the dashboard, which hands it on
        {"X-Nuclio-Target": ""},
        {"X-Nuclio-Target": "finder"},
        {"x-nuclio-target": " finder "},
        {"X-NUCLIO-TARGET": "other,finder"},  # a canary deployment
        {"X-Nuclio-Target": "finder, other"},
        {b"X-Nuclio-Target": b"finder"},
    ],
)
def test_what_is_meant_for_this_function(headers: Any) -> None:
    check_target(headers, "finder")


@pytest.mark.parametrize(
    ("headers", "meant"),
    [
        ({"X-Nuclio-Target": "other"}, "other"),
        ({"x-nuclio-target": "other"}, "other"),
        ({"X-NUCLIO-TARGET": "finder-2"}, "finder-2"),  # no prefix of its name, and no part of it
        ({"X-Nuclio-Target": "find"}, "find"),
        ({"X-Nuclio-Target": "other, third"}, "other or third"),
        ({b"X-Nuclio-Target": b"other"}, "other"),
    ],
)
def test_what_is_meant_for_another(headers: Any, meant: str) -> None:
    with pytest.raises(Misdirected) as raised:
        check_target(headers, "finder")
    assert raised.value.status == 421
    assert str(raised.value).startswith(f"this is finder, and the request is for {meant}: ")
    assert "./deploy_cpu.sh --no-build" in str(raised.value)


def test_a_long_header_leaves_a_short_message() -> None:
    with pytest.raises(Misdirected) as raised:
        check_target({"X-Nuclio-Target": "a," * 100_000}, "finder")
    assert len(str(raised.value)) < 500
    assert "..." in str(raised.value)
    assert "./deploy_cpu.sh --no-build" in str(raised.value)


def test_the_name_under_which_nuclio_deployed_it() -> None:
    assert own_name("finder", {}) == own_name("finder", {"NUCLIO_FUNCTION_NAME": ""}) == "finder"
    assert own_name("finder", {"NUCLIO_FUNCTION_NAME": "finder-gpu"}) == "finder-gpu"
