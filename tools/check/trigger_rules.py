"""How requests reach a function: `spec.triggers` of a function.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.errors import describe
from tools.check.findings import Findings
from tools.check.nuclio_schema import HTTP_ATTRIBUTES, TRIGGER_KINDS, compare
from tools.check.values import CVAT_TIMEOUT, as_text, mapping, nearest

_CUSTOM_BODY_SIZE = 33554432
_DEFAULT_BODY_SIZE = 4 * 2**20
_MOST_WORKERS = 100000


def check_triggers(spec: Mapping[Any, Any], findings: Findings) -> None:
    """All rules on `spec.triggers`."""
    triggers = {str(name): mapping(trigger) for name, trigger in mapping(spec.get("triggers")).items()}
    for name, trigger in triggers.items():
        field, kind = f"spec.triggers.{name}", trigger.get("kind")
        if kind not in TRIGGER_KINDS:
            meant = nearest(as_text(kind), TRIGGER_KINDS)
            findings.error(
                "trigger.kind",
                f"{field}.kind",
                expected="http",
                got="nothing" if kind is None else describe(kind),
                why="Nuclio knows no such trigger, and its processor does not start",
                remedy=f"did you mean {meant}?" if meant else "",
            )
        if trigger.get("name") not in (None, "", name):
            findings.error(
                "trigger.name",
                f"{field}.name",
                expected=f"{name}, or nothing",
                got=describe(trigger["name"]),
                why="Nuclio refuses a trigger whose name is not its key",
            )
        _check_workers(trigger, field, findings)
        _check_batch(mapping(trigger.get("batch")), f"{field}.batch", findings)
    by_http = [name for name, trigger in triggers.items() if trigger.get("kind") == "http"]
    if not by_http:
        findings.warn(
            "trigger.missing",
            "spec.triggers",
            expected="a trigger of kind http",
            got="none",
            why="Nuclio adds one with a single worker that refuses requests over 4 MiB, which is an image of 3 MB",
        )
    if len(by_http) > 1:
        findings.error(
            "trigger.several",
            "spec.triggers",
            expected="one trigger of kind http",
            got=", ".join(by_http),
            why="Nuclio refuses a function with more than one",
        )
    for name in by_http:
        _check_http(triggers[name], f"spec.triggers.{name}", findings)


def _check_workers(trigger: Mapping[Any, Any], field: str, findings: Findings) -> None:
    workers, oldest = trigger.get("numWorkers"), trigger.get("maxWorkers")
    if oldest is not None:
        findings.warn(
            "trigger.max-workers",
            f"{field}.maxWorkers",
            expected=f"numWorkers: {as_text(oldest)}",
            got=f"maxWorkers: {as_text(oldest)}",
            why="deprecated, and gone in Nuclio 1.15, where the function then has one worker",
        )
    if isinstance(workers, int) and not isinstance(workers, bool) and not 1 <= workers <= _MOST_WORKERS:
        findings.error(
            "trigger.workers",
            f"{field}.numWorkers",
            expected=f"1 to {_MOST_WORKERS}",
            got=describe(workers),
            why="it is the number of processes that answer requests",
        )


def _check_batch(batch: Mapping[Any, Any], field: str, findings: Findings) -> None:
    if batch.get("mode") == "enable":
        findings.error(
            "trigger.batch",
            f"{field}.mode",
            expected="disable, or no batch",
            got="enable",
            why="the handler gets a list of events, and a reply after the worker wait reaches CVAT as an empty 200",
        )
    elif batch and not (isinstance(batch.get("batchSize"), int) and batch["batchSize"] > 0):
        findings.error(
            "trigger.batch",
            f"{field}.batchSize",
            expected="1 or more, or no batch at all",
            got=describe(batch.get("batchSize")),
            why="Nuclio refuses the function, even with batching disabled",
        )


def _check_http(trigger: Mapping[Any, Any], field: str, findings: Findings) -> None:
    wait = trigger.get("workerAvailabilityTimeoutMilliseconds")
    if isinstance(wait, int) and not isinstance(wait, bool):
        if wait <= 0:
            findings.warn(
                "trigger.wait",
                f"{field}.workerAvailabilityTimeoutMilliseconds",
                expected="10000",
                got=describe(wait),
                why="a request that finds all workers busy gets 503 at once, and a 503 ends a task run of CVAT",
            )
        elif wait > CVAT_TIMEOUT * 1000:
            findings.warn(
                "trigger.wait",
                f"{field}.workerAvailabilityTimeoutMilliseconds",
                expected=f"milliseconds, at most {CVAT_TIMEOUT * 1000:.0f}",
                got=describe(wait),
                why=f"CVAT gives up after {CVAT_TIMEOUT:.0f} s",
            )
    attributes = mapping(trigger.get("attributes"))
    compare(attributes, HTTP_ATTRIBUTES, f"{field}.attributes", findings)
    size = attributes.get("maxRequestBodySize")
    if size is None or (isinstance(size, int) and not isinstance(size, bool) and size < _CUSTOM_BODY_SIZE):
        limit = size or _DEFAULT_BODY_SIZE  # Nuclio takes 0 for its default
        findings.warn(
            "trigger.body-size",
            f"{field}.attributes.maxRequestBodySize",
            expected=f"{_CUSTOM_BODY_SIZE} (32 MiB), as CVAT's own functions have, or more",
            got="nothing, which is 4 MiB" if size is None else describe(size),
            why=f"Nuclio answers 400 to an image file of over {limit * 3 / 4e6:.1f} MB, as base64 adds a third",
        )
    port = attributes.get("port")
    if port is not None and (isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65535):
        findings.error(
            "trigger.port",
            f"{field}.attributes.port",
            expected="a port as a number, 1 to 65535, or no port",
            got=describe(port),
            why="Nuclio takes no notice of a port that is no number, and Docker refuses one out of range",
        )
