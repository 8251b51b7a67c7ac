"""Refuses requests that were meant for another function, which arrive after a restart of Docker.

Nuclio's dashboard keeps the address of each function's container. Docker gives out addresses anew when it restarts, and a
request then reaches whatever function has the address now: without this check it would answer with its own results.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.errors import Misdirected
from common.serving.headers import header

_HEADER = "x-nuclio-target"  # set by the dashboard, by nuctl and on Kubernetes by ingresses, not by direct calls
_LONGEST_NAMES = 150


def own_name(name: str, environment: Mapping[str, str]) -> str:
    """The name that Nuclio knows this function by.

    Args:
        name: `metadata.name` of the function.yaml in the image, which may have been deployed under another name.
        environment: Nuclio sets NUCLIO_FUNCTION_NAME.
    """
    return environment.get("NUCLIO_FUNCTION_NAME") or name


def check_target(headers: Mapping[Any, Any] | None, name: str) -> None:
    """Checks that a request is meant for this function.

    Args:
        headers: Of the request. X-Nuclio-Target has the name of the function that the request is for, or several names separated by
            commas: the two functions of a canary deployment. Without it the request is for any function.
        name: This function's, from `own_name`.

    Raises:
        Misdirected: The request is meant for another function.
    """
    targets = [target for part in header(headers, _HEADER).split(",") if (target := part.strip())]
    if targets and name not in targets:
        meant = " or ".join(targets)
        meant = meant if len(meant) <= _LONGEST_NAMES else meant[: _LONGEST_NAMES - 3] + "..."
        raise Misdirected(
            f"this is {name}, and the request is for {meant}: Nuclio's dashboard has an old address of it. "
            "Docker gives containers new addresses when it restarts. To correct them, run ./deploy_cpu.sh --no-build on the "
            "host: it deploys again what Nuclio has, on a CPU or GPU"
        )
