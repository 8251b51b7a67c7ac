"""The HTTP side: an application for each function, and the part of Nuclio's dashboard API that CVAT uses."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from common.config import read_yaml
from tools import durations
from tools.serve.http_server import REASON_HEADER, reason_phrase
from tools.serve.pool import Pool
from tools.wrapper import Reply

NAMESPACE, PROJECT = "nuclio", "cvat"
_ANY_METHOD = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


@dataclass(frozen=True)
class Served:
    """A function with its workers and its port."""

    pool: Pool
    """Its workers."""
    port: int
    """Where it answers, as under Nuclio's HTTP trigger."""

    def to_nuclio(self) -> dict[str, Any]:
        """The function as the dashboard describes it."""
        content = read_yaml(self.pool.config.directory / "function.yaml")
        metadata = content.get("metadata") or {}
        labels = {**(metadata.get("labels") or {}), "nuclio.io/project-name": PROJECT}
        url = f"localhost:{self.port}"
        return {
            "metadata": {**metadata, "namespace": NAMESPACE, "labels": labels},
            "spec": {key: value for key, value in (content.get("spec") or {}).items() if key != "build"},
            "status": {
                "state": self.pool.state,
                "httpPort": self.port,
                "message": self.pool.error if self.pool.state == "error" else "",
                "internalInvocationUrls": [url],
                "externalInvocationUrls": [url],
            },
        }


def function_app(served: Served) -> Starlette:
    """Every path and method goes to the function, as under Nuclio's HTTP trigger.

    Args:
        served: the function.
    """

    async def serve(request: Request) -> Response:
        if request.url.path.startswith("/__internal/health"):
            return Response()
        return await _invoke(served, request, request.url.path)

    routes = [Route("/{path:path}", serve, methods=_ANY_METHOD)]
    return Starlette(routes=routes, exception_handlers=_ERRORS)


def dashboard_app(functions: Mapping[str, Served]) -> Starlette:
    """`/api/functions`, `/api/functions/{name}`, `/api/function_invocations`, and a page that lists the functions.

    Args:
        functions: by name.
    """

    def in_scope(request: Request) -> bool:
        project = request.headers.get("x-nuclio-project-name") or PROJECT
        namespace = request.headers.get("x-nuclio-function-namespace") or NAMESPACE
        return project in (PROJECT, "*") and namespace in (NAMESPACE, "*")

    async def list_functions(request: Request) -> Response:
        shown = functions if in_scope(request) else {}
        return JSONResponse({name: served.to_nuclio() for name, served in shown.items()})

    async def get_function(request: Request) -> Response:
        served = functions.get(request.path_params["name"])
        if served is None or not in_scope(request):
            return _error(404, "Function not found")
        return JSONResponse(served.to_nuclio())

    async def invoke(request: Request) -> Response:
        name = request.headers.get("x-nuclio-function-name", "")
        if not name:
            return _error(400, "Function name must be provided")
        timeout = request.headers.get("x-nuclio-invoke-timeout")
        try:
            if timeout:
                durations.seconds(timeout)
        except ValueError:
            return _error(400, "Invalid invoke timeout")
        served = functions.get(name)
        if served is None or not in_scope(request):
            return _error(404, f"Failed to invoke function: Function not found: {name} @ {NAMESPACE}")
        path = "/" + request.headers.get("x-nuclio-path", "").lstrip("/")
        return await _invoke(served, request, path, {"x-nuclio-target": name})

    async def page(request: Request) -> Response:
        return HTMLResponse(_page(functions))

    async def health(request: Request) -> Response:
        states = {name: served.pool.state for name, served in functions.items()}
        well = all(state == "ready" for state in states.values())
        return JSONResponse({"healthy": well, "functions": states}, status_code=200 if well else 503)

    routes = [
        Route("/", page),
        Route("/health", health),
        Route("/api/functions", list_functions),
        Route("/api/functions/", list_functions),
        Route("/api/functions/{name}", get_function),
        Route("/api/function_invocations", invoke, methods=_ANY_METHOD),
        Route("/api/function_invocations/{path:path}", invoke, methods=_ANY_METHOD),
    ]
    return Starlette(routes=routes, exception_handlers=_ERRORS)


async def _invoke(
    served: Served, request: Request, path: str, more_headers: Mapping[str, str] = MappingProxyType({})
) -> Response:
    limit = served.pool.limits.body_bytes
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                return _error(400, f"body: larger than {limit} bytes (maxRequestBodySize in {served.pool.config.name})")
    except ClientDisconnect:
        return Response(status_code=499)
    return _response(await served.pool.invoke(request.method, path, {**request.headers, **more_headers}, bytes(body)))


def _response(reply: Reply) -> Response:
    headers = dict(reply.headers)
    compressed = any(name.lower() == "content-encoding" for name in headers)
    if reply.status >= 400 and not compressed and (reason := reason_phrase(reply.body)):
        headers[REASON_HEADER] = reason
    return Response(reply.body, reply.status, headers, media_type=reply.content_type)


def _error(status: int, message: str) -> Response:
    return _response(Reply.error(status, message))


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _error(error.status_code, error.detail)


async def _failed(request: Request, error: Exception) -> Response:
    # Starlette raises the error again once this is sent: its traceback is in the server's log.
    return _error(500, f"the server failed with {type(error).__name__}; its log says why")


_ERRORS: dict[Any, Any] = {HTTPException: _refused, Exception: _failed}


def _page(functions: Mapping[str, Served]) -> str:
    rows = "".join(
        "<tr>"
        f"<td><b>{html.escape(served.pool.config.annotations.get('name', name))}</b><br><code>{html.escape(name)}</code></td>"
        f"<td>{served.pool.config.kind}</td>"
        f"<td class={served.pool.state}>{served.pool.state}</td>"
        f"<td><code>http://localhost:{served.port}</code></td>"
        f"<td>{html.escape(served.pool.config.description)}</td>"
        "</tr>"
        for name, served in functions.items()
    )
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>CVAT functions</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #222 }}
table {{ border-collapse: collapse; width: 100% }} td, th {{ text-align: left; padding: .5rem; border-bottom: 1px solid #ddd; vertical-align: top }}
.ready {{ color: #176f2c }} .error, .unhealthy {{ color: #b3261e }} .building {{ color: #8a6100 }}
</style>
<h1>CVAT functions</h1>
<p>Point CVAT at this server with <code>CVAT_NUCLIO_HOST</code> and <code>CVAT_NUCLIO_PORT</code>; its AI tools then list these functions.</p>
<table><tr><th>Function<th>Kind<th>State<th>Address<th>What it does</tr>{rows}</table></html>"""
