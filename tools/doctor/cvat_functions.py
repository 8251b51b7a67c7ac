"""CVAT's own list of functions: what its users see."""

from __future__ import annotations

from collections.abc import Iterable

import httpx

from tools.doctor.report import Finding

_TIMEOUT_S = 60
_MOST_NAMED = 4
_SET_ADDRESS = "CVAT_NUCLIO_HOST and CVAT_NUCLIO_PORT of cvat_server and cvat_worker_annotation"


def ask_cvat(url: str, token: str) -> set[str] | Finding:
    """The ids of the functions that CVAT lists, or the reason why it does not.

    Args:
        url: CVAT's address.
        token: an access token; "" for none.
    """
    address = f"{url.rstrip('/')}/api/lambda/functions"
    token = token.strip()
    try:
        reply = _get(address, f"Token {token}" if token else "")
        if reply.status_code == 401 and token:
            reply = _get(address, f"Bearer {token}")  # a personal access token
    except httpx.HTTPError as error:
        return _error(f"{url} can't be reached: {error}", "is it the address that a browser opens CVAT at?")
    if reply.status_code in (401, 403):
        what = f"CVAT refuses {'the token' if token else 'to answer without a token'} ({reply.status_code})"
        return _error(what, "make one in CVAT's profile page, and set CVAT_ACCESS_TOKEN to it, or use --token")
    if reply.status_code == 404:
        return _error(
            "CVAT has no AI tools: it was started without serverless functions",
            "set CVAT_SERVERLESS=1 for cvat_server and start it again; docs/deploy.md shows how",
        )
    if reply.status_code != 200:
        return _error(
            f"CVAT can't list functions: {reply.status_code} {reply.text[:200]}",
            "does cvat_server reach the dashboard at CVAT_NUCLIO_HOST (default nuclio), port CVAT_NUCLIO_PORT (8070)? "
            "docker logs cvat_server says more",
        )
    try:
        return {str(function["id"]) for function in reply.json()}
    except (ValueError, TypeError, KeyError):
        return _error(f"{address} does not answer with a list of functions", "is it CVAT's address?")


def _get(address: str, authorization: str) -> httpx.Response:
    headers = {"Accept": "application/vnd.cvat+json"} | ({"Authorization": authorization} if authorization else {})
    return httpx.get(address, headers=headers, timeout=_TIMEOUT_S, follow_redirects=True)


def compare(running: Iterable[str], in_cvat: set[str], dashboard: str) -> list[Finding]:
    """The differences between the functions that run and CVAT's list.

    Args:
        running: their names.
        in_cvat: the ids that CVAT lists.
        dashboard: the address at which the functions were found.
    """
    known = set(running)
    missing, unknown = sorted(known - in_cvat), sorted(in_cvat - known)
    if unknown or (missing and not in_cvat):
        lists = f"{_names(unknown)}, which are not there" if unknown else "no functions"
        what = f"CVAT uses another server than {dashboard}: it lists {lists}"
        return [_error(what, f"set {_SET_ADDRESS} to this one, and start them again")]
    remedy = "is its metadata.annotations.type one of CVAT's kinds?"
    return [Finding("error", name, "CVAT does not list it", remedy) for name in missing]


def _names(names: list[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _error(what: str, remedy: str) -> Finding:
    return Finding("error", "CVAT", what, remedy)
