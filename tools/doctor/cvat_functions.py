"""CVAT's own list of functions: what its users see."""

from __future__ import annotations

from collections.abc import Iterable

import httpx

from tools.doctor.report import Finding

_TIMEOUT_S = 60


def listed(url: str, token: str) -> tuple[set[str] | None, list[Finding]]:
    """The ids of the functions that CVAT lists, None when it lists none, and why."""
    address = f"{url.rstrip('/')}/api/lambda/functions"
    token = token.strip()
    try:
        reply = _get(address, f"Token {token}" if token else "")
        if reply.status_code == 401 and token:
            reply = _get(address, f"Bearer {token}")  # a personal access token
    except httpx.HTTPError as error:
        return None, [_error(f"{url} can't be reached: {error}", "is it the address that a browser opens CVAT at?")]
    if reply.status_code in (401, 403):
        what = f"CVAT refuses {'the token' if token else 'to answer without a token'} ({reply.status_code})"
        return None, [_error(what, "make one in CVAT's profile page, and give it with --token or CVAT_TOKEN")]
    if reply.status_code == 404:
        return None, [
            _error(
                "CVAT has no AI tools: it was started without serverless functions",
                "set CVAT_SERVERLESS=1 for cvat_server and start it again; docs/deploy.md shows how",
            )
        ]
    if reply.status_code != 200:
        return None, [
            _error(
                f"CVAT can't list functions: {reply.status_code} {reply.text[:200]}",
                "does cvat_server reach the dashboard at CVAT_NUCLIO_HOST (default nuclio), port CVAT_NUCLIO_PORT (8070)? "
                "docker logs cvat_server says more",
            )
        ]
    try:
        return {str(function["id"]) for function in reply.json()}, []
    except (ValueError, TypeError, KeyError):
        return None, [_error(f"{address} answers something else than a list of functions", "is it CVAT's address?")]


def _get(address: str, authorization: str) -> httpx.Response:
    headers = {"Accept": "application/vnd.cvat+json"} | ({"Authorization": authorization} if authorization else {})
    return httpx.get(address, headers=headers, timeout=_TIMEOUT_S, follow_redirects=True)


def compare(in_nuclio: Iterable[str], in_cvat: set[str]) -> list[Finding]:
    """What the one has and the other has not."""
    known = set(in_nuclio)
    found = []
    for name in sorted(known - in_cvat):
        found.append(
            Finding(
                "error",
                name,
                "Nuclio has it, CVAT does not list it",
                "does CVAT ask this Nuclio (CVAT_NUCLIO_HOST), and is the function's type one of CVAT's?",
            )
        )
    for name in sorted(in_cvat - known):
        found.append(
            Finding(
                "warning", name, "CVAT lists it, this Nuclio has it not", "CVAT asks another Nuclio: CVAT_NUCLIO_HOST"
            )
        )
    return found


def _error(what: str, remedy: str) -> Finding:
    return Finding("error", "CVAT", what, remedy)
