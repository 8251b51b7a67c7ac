"""Waits for containers that were started a moment ago: Nuclio looks at their health every 30 s, Docker every second."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from deploy.host.containers import Container, DockerHost

WAIT_S = 45
"""Nuclio's interval, and its time for a round of checks."""
_READINESS_S = 120  # Nuclio's readinessTimeoutSeconds where function.yaml sets none
_STEP_S = 1.0

Answers = tuple[DockerHost, dict[str, Any]]
"""What Docker and the dashboard said: containers, and functions by name."""


def settled(
    answers: Answers, ask: Callable[[], Answers], namespace: str, wait_s: float, progress: Callable[[str], None]
) -> Answers:
    """What Docker and the dashboard say once nothing is about to change by itself, or the time is over.

    Args:
        answers: What they said.
        ask: Asks them again.
        namespace: Of the functions in Nuclio.
        wait_s: The longest time to wait, in seconds.
        progress: Is called with what is waited for, in words.
    """
    end = time.monotonic() + wait_s
    while (waiting := _unsettled(*answers, namespace)) and time.monotonic() < end:
        progress(f"waiting for {', '.join(waiting)}")
        time.sleep(_STEP_S)
        answers = ask()
    return answers


def is_loading(container: Container, spec: Mapping[str, Any]) -> bool:
    """Whether a container that is not healthy was started so recently that its model may still be loading.

    Args:
        container: The container.
        spec: `spec` of its function.
    """
    is_ready = container.health is None or container.health.status == "healthy"
    return not is_ready and seconds_since_start(container) < float(spec.get("readinessTimeoutSeconds") or _READINESS_S)


def seconds_since_start(container: Container) -> float:
    """The age of a container's last start.

    Args:
        container: The container.
    """
    try:
        began = datetime.fromisoformat(container.started_at)
    except ValueError:
        return float("inf")
    return (datetime.now(UTC) - began).total_seconds()


def _unsettled(docker: DockerHost, functions: Mapping[str, Any], namespace: str) -> list[str]:
    waiting = []
    for name, described in sorted(functions.items()):
        container = docker.of_function(name, namespace)
        state = (described.get("status") or {}).get("state")
        if container is None or container.status != "running" or state not in ("ready", "unhealthy"):
            continue
        is_ready = container.health is None or container.health.status == "healthy"
        if is_loading(container, described.get("spec") or {}) or (is_ready and state == "unhealthy"):
            waiting.append(name)
    return waiting
