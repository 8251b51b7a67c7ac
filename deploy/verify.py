"""A real inference by the routes that CVAT uses: straight to the function's port, and through Nuclio's dashboard."""

from __future__ import annotations

import io
import json
import tarfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.commands import Commands, Interrupted, shortened
from deploy.console import DeploymentError, quoted
from deploy.definition import function_file
from deploy.definition.function_file import at
from deploy.definition.functions import Function
from deploy.host import web
from deploy.host.packages import ROOT
from deploy.nuclio import PROJECT, Nuclio

if TYPE_CHECKING:
    from deploy.preflight import Host

CHECK_FILES = (
    "deploy/check_reply.py",
    "common",
    "serverless/collection.py",
    "tools/__init__.py",
    "tools/check",
    "tools/collection.py",
    "tools/durations.py",
    "tools/quantities.py",
    "tools/workers",
    "tools/wrapper.py",
)
"""All that the check of a reply needs beyond the packages of a base image, below `ROOT`: files, and folders with all in them."""

_SAMPLES = ROOT / "deploy" / "samples"
_BASE_IMAGES = ("cvat.opencv.base:latest", "cvat.onnx.base:latest", "cvat.pytorch.base:latest")
_LIST_TIMEOUT_S = 20
_REPLY_TIMEOUT_S = 130
# Docker publishes a port a moment before the function listens on it.
_REFUSED_FOR_S = 5.0
_POLL_S = 0.25
_SERVER_ERROR = 500
_CANNOT_CHECK = 86
_CHECK_IN_CONTAINER = f"""\
mkdir /tmp/check && cd /tmp/check && tar -x && command -v python >/dev/null || exit {_CANNOT_CHECK}
PYTHONPATH=. PYTHONDONTWRITEBYTECODE=1 exec python deploy/check_reply.py "$@\""""


@dataclass(frozen=True)
class Trial:
    """What trying a function has shown."""

    seconds: float | None
    """How long the first reply took; None when nothing was sent."""
    found: str
    """What the reply holds, such as "3 shapes"; "" when the function was not tried by any route."""


class ReplyError(DeploymentError):
    """A function replied, but CVAT would not accept the reply."""

    def __init__(self, cause: str, remedy: str, findings: list[str]):
        """Stores what is wrong.

        Args:
            cause: What is wrong.
            remedy: What to do.
            findings: A line for each thing that is wrong.
        """
        super().__init__(cause, remedy)
        self.findings = findings


class NoAnswer(DeploymentError):
    """A function was asked and has not answered, or with a status of 500 and above."""


@dataclass(frozen=True)
class _Route:
    """A way to a function."""

    name: str
    """"direct" or "dashboard"."""
    words: str
    """For messages, such as "port 28001"."""
    url: str
    headers: Mapping[str, str]


def try_function(
    function: Function, host: Host, nuclio: Nuclio, commands: Commands, folder: Path, *, user: str
) -> Trial:
    """Looks at a function's state in Nuclio's own list, and sends it a sample by each route that is available from here.

    Args:
        function: A function that Nuclio has just started.
        host: Where the ports and the dashboard are.
        nuclio: The Nuclio that runs it.
        commands: Runs the check of the replies in a container.
        folder: Where the request and the replies are kept.
        user: The user that this container runs as, UID:GID.

    Raises:
        DeploymentError: It is not ready, or refuses the sample.
        NoAnswer: It does not answer, or fails.
        ReplyError: CVAT would not accept its reply.
        Interrupted: The run was interrupted.
    """
    if host.dashboard:
        _check_state(function, host, nuclio, commands)
    sample = sample_of(function)
    if sample is None:
        return Trial(None, f"not tried: there is no sample for a {function.kind}")
    routes = list(_routes(function, host, nuclio))
    replies: dict[str, web.Reply] = {}
    for route in routes:
        reply = _send(route, sample.read_bytes(), commands, _where_its_log_is(function, nuclio))
        if not reply.ok:
            raise _refusal(route, reply, function, nuclio)
        replies[route.name] = reply
    if not replies:
        return Trial(None, "")
    files = _files(function, sample, replies)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    found = _check(function, list(replies), files, commands, user) or _look(replies[routes[0].name], function, nuclio)
    return Trial(replies[routes[0].name].seconds, found)


def sample_of(function: Function) -> Path | None:
    """The request that goes with a function's kind, and with the shapes that a tracker takes.

    Args:
        function: The function.

    Returns:
        A file in deploy/samples; None for a kind without a sample.
    """
    if function.kind != "tracker":
        path = _SAMPLES / f"{function.kind}.json"
        return path if path.is_file() else None
    types = str(at(function.content, "metadata", "annotations", "supported_shape_types") or "")
    if not types.strip():
        return _SAMPLES / "tracker-legacy.json"
    paths = (_SAMPLES / f"tracker-{name.strip()}.json" for name in types.split(","))
    return next((path for path in paths if path.is_file()), None)


def _check_state(function: Function, host: Host, nuclio: Nuclio, commands: Commands) -> None:
    """The state and the port in Nuclio's own list, from which CVAT takes both."""
    headers = {"x-nuclio-project-name": PROJECT, "x-nuclio-function-namespace": nuclio.namespace}
    try:
        reply = web.send(
            f"{host.dashboard}/api/functions/{function.name}",
            timeout_s=_LIST_TIMEOUT_S,
            headers=headers,
            stop=commands.stop,
        )
        content = _json(reply.body)
        problem = "" if reply.ok else f"{reply.status}: {at(content, 'error') or _start(reply.body)}"
        status = at(content, "status")
    except web.NoReply as error:
        problem, status = f"no answer ({error})", None
    if problem:
        remedy = f"does the dashboard at {host.dashboard} belong to this Docker, and to namespace {nuclio.namespace}?"
        raise DeploymentError(f"Nuclio's dashboard does not list it: {problem}", remedy)
    state, port = at(status, "state"), at(status, "httpPort")
    if state != "ready":
        raise DeploymentError(
            f"Nuclio says that its state is {state or 'unknown'}",
            _where_its_log_is(function, nuclio) or "its log may say why",
        )
    if nuclio.platform == "local" and port != function.port:
        again = f"deploy it again; if it stays, nuctl delete function {function.name} --force first"
        raise DeploymentError(f"Nuclio has it on port {port or '?'}, not {function.port}", again)


def _routes(function: Function, host: Host, nuclio: Nuclio) -> list[_Route]:
    kind = {"Content-Type": "application/json"}
    routes = []
    if nuclio.platform == "local":
        url = f"http://{host.docker.address}:{function.port}/"
        routes.append(_Route("direct", f"port {function.port}", url, kind))
    if host.dashboard:
        headers = {
            "x-nuclio-project-name": PROJECT,
            "x-nuclio-function-namespace": nuclio.namespace,
            "x-nuclio-function-name": function.name,
            "x-nuclio-path": "/",
            "x-nuclio-invoke-via": "domain-name",
            "X-Nuclio-Invoke-Timeout": "120s",
            **kind,
        }
        url = f"{host.dashboard}/api/function_invocations"
        routes.append(_Route("dashboard", "through the dashboard", url, headers))
    return routes


def _send(route: _Route, body: bytes, commands: Commands, remedy: str) -> web.Reply:
    deadline = time.monotonic() + _REFUSED_FOR_S
    while True:
        try:
            return web.send(route.url, timeout_s=_REPLY_TIMEOUT_S, body=body, headers=route.headers, stop=commands.stop)
        except web.NoReply as error:
            if not error.refused or time.monotonic() > deadline:
                raise NoAnswer(f"{route.words}: no answer ({error})", remedy) from error
        if commands.stop.wait(_POLL_S):
            raise Interrupted


def _refusal(route: _Route, reply: web.Reply, function: Function, nuclio: Nuclio) -> DeploymentError:
    cause = f"{route.words}: {reply.status}: {_start(reply.body)}"
    if reply.status == 421:
        remedy = (
            "the dashboard has the address of another function under this name; deploy it again, and if it stays, "
            f"nuctl delete function {function.name} --force first"
        )
        return DeploymentError(cause, remedy)
    failure = NoAnswer if reply.status >= _SERVER_ERROR else DeploymentError
    return failure(cause, _where_its_log_is(function, nuclio))


def _files(function: Function, sample: Path, replies: Mapping[str, web.Reply]) -> dict[str, bytes]:
    files = {"request.json": sample.read_bytes(), function_file.NAME: function_file.text_of(function.content).encode()}
    for name, reply in replies.items():
        files[f"{name}.reply"] = reply.body
        files[f"{name}.status"] = f"{reply.status} {reply.seconds:.3f} {reply.content_type}".encode()
    return files


def _check(
    function: Function, routes: list[str], files: Mapping[str, bytes], commands: Commands, user: str
) -> str | None:
    """Checks the replies by the project's own rules (tools/check), in a container: the host's Python may lack the packages.

    Returns:
        What the reply holds; None without an image in which the check runs.

    Raises:
        ReplyError: The reply breaks a rule.
    """
    archive = _archive(files)
    for image in dict.fromkeys((function.image, function.base, *_BASE_IMAGES)):
        if not image or not commands.ask("docker", "image", "inspect", image).ok:
            continue
        run = ("docker", "run", "--rm", "-i", "--network", "none", "--user", user, "--entrypoint", "sh", image)
        done = commands.ask(*run, "-c", _CHECK_IN_CONTAINER, "check", *routes, data=archive)
        if done.status == _CANNOT_CHECK:  # the image of somebody else's function lacks the packages
            continue
        if done.ok:
            return done.output.strip()
        lines = (done.output + done.errors).strip().splitlines() or [f"the check ended with status {done.status}"]
        words = f"CVAT would not accept the reply: {lines[0]}"
        remedy = ""
        if function.directory:
            remedy = (
                f"make check FUNCTION={quoted([str(function.directory)])} shows all that is wrong with the function"
            )
        raise ReplyError(words, remedy, lines)
    return None


def _archive(files: Mapping[str, bytes]) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        for name in CHECK_FILES:
            archive.add(ROOT / name, name, filter=_without_bytecode)
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    return written.getvalue()


def _without_bytecode(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if Path(entry.name).name == "__pycache__":
        return None
    entry.mode = 0o755 if entry.isdir() else 0o644  # for whoever the container runs as
    return entry


def _look(reply: web.Reply, function: Function, nuclio: Nuclio) -> str:
    """What can be said of a reply without the check."""
    if isinstance(_json(reply.body), (dict, list)):
        return "an answer in JSON, not checked"
    raise DeploymentError(f"the reply is not JSON: {_start(reply.body, 200)}", _where_its_log_is(function, nuclio))


def _where_its_log_is(function: Function, nuclio: Nuclio) -> str:
    """On Docker "": the log is saved and its end printed, and the container may soon be that of the old version again."""
    if nuclio.platform == "kube":
        return f"its log: kubectl -n {nuclio.namespace} logs deployment/nuclio-{function.name}"
    return ""


def _json(body: bytes) -> object:
    try:
        content: object = json.loads(body)
    except ValueError:
        return None
    return content


def _start(body: bytes, most: int = 300) -> str:
    return shortened(" ".join(body.decode("utf-8", "replace").split()), most)
