"""A function's reply, as strictly as CVAT and its browser take it. Made for any tool that has a reply in hand."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from common.config import FunctionConfig
from tools.check.detector_rules import check_detector_reply
from tools.check.findings import Finding, error, located, warning
from tools.check.interactor_rules import check_interactor_reply
from tools.check.reid_rules import check_reid_reply
from tools.check.tracker_rules import check_tracker_reply
from tools.wrapper import Reply

_LARGEST_REFUSAL = 4096
_TRACEBACK = re.compile(r"Traceback \(most recent call last\)|File \"[^\"]+\", line \d+")
_RULES: dict[str, Callable[[Any, FunctionConfig, Mapping[str, Any]], Iterator[Finding]]] = {
    "detector": check_detector_reply,
    "interactor": check_interactor_reply,
    "tracker": check_tracker_reply,
    "reid": check_reid_reply,
}


def check_reply(
    reply: Reply, config: FunctionConfig, request: Mapping[str, Any], *, file: str = "reply"
) -> list[Finding]:
    """Checks the reply to a request that is as CVAT sends it.

    Args:
        reply: As the client gets it.
        config: The function's, for its kind, labels and shape types.
        request: The body that was sent; the images' sizes and the lengths of its lists are used.
        file: What the findings name as the place to look at.

    Returns:
        What is wrong with the reply; [] for a strictly valid one.
    """
    if 200 <= reply.status < 300:
        return located(_content_problems(reply, config, request), file)
    got, why = f"{reply.status}: {_excerpt(reply.body)}", "CVAT ends the run and shows the user only the status"
    return located([error("reply.status", "status", "200", got, why), *_traceback(reply)], file)


def check_refusal(reply: Reply, *, file: str = "reply") -> list[Finding]:
    """Checks the reply to a request that can't be served: it must be a 4xx with `{"error": text}`.

    Args:
        reply: As the client gets it.
        file: What the findings name as the place to look at.

    Returns:
        What is wrong with the reply; [] for a good refusal.
    """
    return located(_refusal_problems(reply), file)


def _content_problems(reply: Reply, config: FunctionConfig, request: Mapping[str, Any]) -> Iterator[Finding]:
    odd: list[str] = []

    def note(name: str) -> float:
        odd.append(name)
        return math.nan

    try:
        content = json.loads(reply.body.decode(), parse_constant=note)
    except (ValueError, RecursionError) as problem:
        python = reply.body.lstrip(b"[( ").startswith((b"{'", b"'"))
        hint = "; it looks like Python's own text of a value: use json.dumps" if python else ""
        got, why = f"{_excerpt(reply.body)} ({problem}{hint})", "CVAT can't read it, and the whole run ends"
        yield error("reply.json", "reply", "JSON", got, why)
        return
    if odd:
        why = "that is not JSON: the browser can't read it"
        yield error("reply.json", "reply", "finite numbers", ", ".join(sorted(set(odd))), why)
    if reply.content_type.partition(";")[0].strip().lower() != "application/json":
        why = "CVAT reads the body all the same; other clients take it for text"
        got = reply.content_type or "nothing"
        yield warning("reply.content-type", "Content-Type", "application/json", got, why)
    yield from _RULES[config.kind](content, config, request)


def _refusal_problems(reply: Reply) -> Iterator[Finding]:
    refused = 400 <= reply.status < 500
    if not refused:
        why = "the caller's mistake looks like a failure of the function, and monitoring and retries act on that"
        if 200 <= reply.status < 300:
            why = "a wrong request looks like one without a result"
        got = f"{reply.status}: {_excerpt(reply.body)}"
        yield error("refusal.status", "status", "a status from 400 to 499", got, why)
    yield from _traceback(reply)
    try:
        message = json.loads(reply.body)["error"]
    except (ValueError, TypeError, KeyError, RecursionError):
        message = ""
    if refused and not (isinstance(message, str) and message.strip()):
        why = "a caller can't tell what to change"
        yield error("refusal.form", "reply", 'JSON {"error": "what is wrong"}', _excerpt(reply.body), why)
    if refused and len(reply.body) > _LARGEST_REFUSAL:
        why = "the message holds the request, or a part of its image"
        yield error("refusal.form", "reply", f"at most {_LARGEST_REFUSAL} bytes", f"{len(reply.body)} bytes", why)


def _traceback(reply: Reply) -> Iterator[Finding]:
    text = reply.body.decode("utf-8", "replace")
    if match := _TRACEBACK.search(text):
        got = f"{match.group()} ... {text.strip().splitlines()[-1][:160]}"
        why = "a traceback shows the caller the inside of the container and is no help to them; it belongs in the log"
        yield error("reply.traceback", "reply", "a message for the caller", got, why)


def _excerpt(body: bytes) -> str:
    text = " ".join(body[:200].decode("utf-8", "replace").split())
    return f"{text[:120]}..." if len(text) > 120 or len(body) > 200 else text or "nothing"
