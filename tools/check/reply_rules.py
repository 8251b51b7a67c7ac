"""A function's reply, as strictly as CVAT and its browser take it. Made for any tool that has a reply in hand."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from common.config import FunctionConfig
from tools.check.detector_rules import check_detector_reply
from tools.check.findings import Finding, Findings
from tools.check.interactor_rules import check_interactor_reply
from tools.check.reid_rules import check_reid_reply
from tools.check.tracker_rules import check_tracker_reply
from tools.wrapper import Reply

_LARGEST_REFUSAL = 4096
_UNREADABLE = object()
_TRACEBACK = re.compile(r"Traceback \(most recent call last\)|File \"[^\"]+\", line \d+")


def check_reply(
    reply: Reply, config: FunctionConfig, request: Mapping[str, Any], *, file: str = "reply"
) -> list[Finding]:
    """What is wrong with the reply to a request that is as CVAT sends it; [] for a strictly valid one.

    reply: as the client gets it. config: the function's, for its kind, labels and shape types.
    request: the body that was sent, of which the images' sizes and the lengths of its lists are used.
    file: what the findings name as the place to look at.
    """
    findings = Findings(file)
    if not 200 <= reply.status < 300:
        findings.error(
            "reply.status",
            "status",
            expected="200",
            got=f"{reply.status}: {_excerpt(reply.body)}",
            why="CVAT ends the run and shows the user the status alone",
        )
        _check_no_traceback(reply, findings)
        return list(findings)
    content = _parse(reply, findings)
    if content is not _UNREADABLE:
        _CHECKS[config.kind](content, config, request, findings)
    return list(findings)


def check_refusal(reply: Reply, *, file: str = "reply") -> list[Finding]:
    """What is wrong with the reply to a request that can't be served: it must be a 4xx with `{"error": text}`."""
    findings = Findings(file)
    if not 400 <= reply.status < 500:
        good = 200 <= reply.status < 300
        findings.error(
            "refusal.status",
            "status",
            expected="a status from 400 to 499",
            got=f"{reply.status}: {_excerpt(reply.body)}",
            why="a wrong request looks like one without a result"
            if good
            else "the caller's mistake looks like a failure of the function, and monitoring and retries act on that",
        )
    _check_no_traceback(reply, findings)
    if not 400 <= reply.status < 500:
        return list(findings)
    try:
        content = json.loads(reply.body)
    except (ValueError, UnicodeDecodeError):
        content = None
    if not isinstance(content, dict) or not isinstance(content.get("error"), str) or not content["error"].strip():
        findings.error(
            "refusal.form",
            "reply",
            expected='JSON {"error": "what is wrong"}',
            got=_excerpt(reply.body),
            why="a caller can't tell what to change",
        )
    if len(reply.body) > _LARGEST_REFUSAL:
        findings.error(
            "refusal.form",
            "reply",
            expected=f"at most {_LARGEST_REFUSAL} bytes",
            got=f"{len(reply.body)} bytes",
            why="the message holds the request, or a part of its image",
        )
    return list(findings)


def _parse(reply: Reply, findings: Findings) -> Any:
    """The JSON value of a reply, or _UNREADABLE, with what is wrong with the text as such."""
    odd: list[str] = []

    def note(name: str) -> float:
        odd.append(name)
        return math.nan

    try:
        content = json.loads(reply.body.decode(), parse_constant=note)
    except (ValueError, UnicodeDecodeError) as error:
        python = reply.body.lstrip(b"[( ").startswith((b"{'", b"'"))
        hint = "; it looks like Python's own text of a value: use json.dumps" if python else ""
        findings.error(
            "reply.json",
            "reply",
            expected="JSON",
            got=f"{_excerpt(reply.body)} ({error}{hint})",
            why="CVAT can't read it, and the whole run ends",
        )
        return _UNREADABLE
    if odd:
        findings.error(
            "reply.json",
            "reply",
            expected="finite numbers",
            got=", ".join(sorted(set(odd))),
            why="that is not JSON: the browser can't read it",
        )
    if reply.content_type.partition(";")[0].strip().lower() != "application/json":
        findings.warn(
            "reply.content-type",
            "Content-Type",
            expected="application/json",
            got=reply.content_type or "nothing",
            why="CVAT reads the body all the same; other clients take it for text",
        )
    return content


def _check_no_traceback(reply: Reply, findings: Findings) -> None:
    text = reply.body.decode("utf-8", "replace")
    if match := _TRACEBACK.search(text):
        last = text.strip().splitlines()[-1][:160]
        findings.error(
            "reply.traceback",
            "reply",
            expected="a message for the caller",
            got=f"{match.group()} ... {last}",
            why="a traceback shows the caller the inside of the container and says nothing of use; it belongs in the log",
        )


_CHECKS: dict[str, Callable[[Any, FunctionConfig, Mapping[str, Any], Findings], None]] = {
    "detector": check_detector_reply,
    "interactor": check_interactor_reply,
    "tracker": check_tracker_reply,
    "reid": check_reid_reply,
}


def _excerpt(body: bytes) -> str:
    text = " ".join(body[:200].decode("utf-8", "replace").split())
    return f"{text[:120]}..." if len(text) > 120 or len(body) > 200 else text or "nothing"
