"""A stand-in for the part of CVAT's server that `cvat_sdk`, `cvat-cli` and `tools.annotate` use, over real HTTP.

Tasks, projects, labels, frames and chunks, annotations with create, update and delete, native functions and their
queues of requests for agents. Replies have the fields of the published schema (the client library checks their types);
what the server refuses is refused, see `cvat_rules`. The part for agents is not in CVAT's open source: it is built from
what `cvat-cli` sends and expects.

Not in it: permissions and organizations, jobs with several segments, ground truth and honeypots, cloud storage, video
chunks, uploads of data, import and export of datasets.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import secrets
import socket
import threading
import time
import zipfile
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import uvicorn
from cvat_sdk import models
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.tools.annotate.cvat_rules import Refused, Scope, check_annotations, check_schema

VERSION = "2.80.0"
TOKEN, USER, PASSWORD = "a-token-of-the-tests", "annotator", "a-password-of-the-tests"
PAGE = 100
KINDS = ("tags", "shapes", "tracks")


@dataclass(frozen=True)
class StoredFrame:
    """An image file of a task: its bytes, or the path of a file that has them."""

    name: str
    content: bytes | Path

    def read(self) -> bytes:
        return self.content if isinstance(self.content, bytes) else self.content.read_bytes()


@dataclass
class Task:
    id: int
    name: str
    frames: list[StoredFrame]
    sizes: list[tuple[int, int]]
    labels: dict[int, dict[str, Any]]
    chunk_size: int = 10
    deleted: frozenset[int] = frozenset()
    project_id: int | None = None
    kind: str = "imageset"  # or "video"
    annotations: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    updated: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass
class Queued:
    """A request to a native function, waiting for an agent or in its hands."""

    id: str
    category: str
    params: dict[str, Any]
    status: str = "queued"
    agent: str = ""
    result: dict[str, Any] | None = None
    error: str = ""
    progress: float = 0.0
    finished: threading.Event = field(default_factory=threading.Event)


class CvatServer:
    """The server's content; as a context manager also the server, on a free port of this machine.

    before: looks at each request first and may answer it; for tests of failures.
    after_commit: is called with a task after each change of its annotations, before the client has the reply.
    """

    def __init__(self) -> None:
        self.tasks: dict[int, Task] = {}
        self.projects: dict[int, dict[str, Any]] = {}
        self.functions: dict[int, dict[str, Any]] = {}
        self.queues: dict[int, list[Queued]] = {}
        self.requests: list[str] = []
        self.before: Callable[[Request], Response | None] | None = None
        self.after_commit: Callable[[Task], None] | None = None
        self.url = ""
        self._ids = iter(range(1, 10**9))
        self._sessions: dict[str, str] = {}
        self._watchers: list[tuple[int, asyncio.Queue[str]]] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    # What tests fill in.

    def add_task(
        self,
        labels: list[dict[str, Any]],
        frames: Iterable[tuple[str, bytes | Path]],
        project_id: int | None = None,
        **more: Any,
    ) -> Task:
        """labels: as for CVAT's constructor; left empty in a project. frames: name and image file of each."""
        stored = [StoredFrame(name, content) for name, content in frames]
        sizes = []
        for frame in stored:
            with Image.open(io.BytesIO(frame.content) if isinstance(frame.content, bytes) else frame.content) as image:
                sizes.append(image.size)
        made = self.projects[project_id]["labels"] if project_id is not None else self._labels(labels)
        task = Task(next(self._ids), "a task", stored, sizes, made, project_id=project_id, **more)
        if project_id is None:
            for label in made.values():
                label["task_id"] = task.id
        self.tasks[task.id] = task
        return task

    def add_project(self, labels: list[dict[str, Any]]) -> int:
        identifier = next(self._ids)
        made = self._labels(labels)
        for label in made.values():
            label["project_id"] = identifier
        self.projects[identifier] = {"name": "a project", "labels": made}
        return identifier

    def enqueue(self, function_id: int, category: str, params: dict[str, Any]) -> Queued:
        """A request as the UI would make it."""
        queued = Queued(secrets.token_hex(8), category, params)
        self.queues[function_id].append(queued)
        for watched, watcher in self._watchers:
            if watched == function_id and self._loop:
                self._loop.call_soon_threadsafe(watcher.put_nowait, category)
        return queued

    def _labels(self, labels: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
        made: dict[int, dict[str, Any]] = {}
        for label in labels:
            raw = self._label(label, None)
            made[raw["id"]] = raw
        return made

    def _label(self, raw: dict[str, Any], parent: int | None) -> dict[str, Any]:
        label = {
            "id": next(self._ids),
            "name": raw["name"],
            "color": raw.get("color", "#33ddff"),
            "type": raw.get("type", "any"),
            "attributes": [
                {"mutable": False, "default_value": (a["values"] or [""])[0], **a, "id": next(self._ids)}
                for a in raw.get("attributes", [])
            ],
            "has_parent": parent is not None,
            "sublabels": [],
        }
        if parent is not None:
            label["parent_id"] = parent
        label["sublabels"] = [self._label(sublabel, label["id"]) for sublabel in raw.get("sublabels", [])]
        if label["sublabels"]:
            label["svg"] = raw.get("svg", "<svg/>")
        return label

    # The server.

    def __enter__(self) -> CvatServer:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        self._start(listener)
        return self

    def __exit__(self, *_: object) -> None:
        self._uvicorn.should_exit = True
        self._uvicorn.force_exit = True
        self._thread.join(10)

    def _start(self, listener: socket.socket) -> None:
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self._uvicorn = uvicorn.Server(uvicorn.Config(self.app(), log_level="error", lifespan="off"))
        self._thread = threading.Thread(target=lambda: asyncio.run(self._uvicorn.serve([listener])), daemon=True)
        self._thread.start()
        while not self._uvicorn.started:
            time.sleep(0.005)

    def app(self) -> Starlette:
        def route(path: str, answer: Callable[[Request], Any], *methods: str) -> list[Route]:
            async def guarded(request: Request) -> Response:
                self._loop = asyncio.get_running_loop()
                self.requests.append(f"{request.method} {request.url.path}")
                if self.before and (early := self.before(request)):
                    return early
                if (refusal := self._refuse(request)) is not None:
                    return refusal
                try:
                    return await answer(request)
                except Refused as error:
                    return JSONResponse([str(error)], 400)
                except KeyError:
                    return JSONResponse({"detail": "Not found."}, 404)

            # The client library uses both forms.
            return [Route(p, guarded, methods=list(methods) or ["GET"]) for p in (path, path + "/")]

        return Starlette(
            routes=[
                *route("/api/server/about", self._about),
                *route("/api/auth/login", self._login, "POST"),
                *route("/api/auth/logout", self._logout, "POST"),
                *route("/api/users/self", self._self),
                *route("/api/tasks", self._list_tasks),
                *route("/api/tasks/{id:int}", self._task),
                *route("/api/tasks/{id:int}/data/meta", self._meta),
                *route("/api/tasks/{id:int}/data", self._data),
                *route("/api/tasks/{id:int}/annotations", self._annotations, "GET", "PUT", "PATCH", "DELETE"),
                *route("/api/projects/{id:int}", self._project),
                *route("/api/labels", self._list_labels),
                *route("/api/jobs", self._list_jobs),
                *route("/api/functions", self._create_function, "POST"),
                *route("/api/functions/{id:int}", self._function, "GET", "DELETE"),
                *route("/api/functions/queues/function:{id:int}/watch", self._watch),
                *route("/api/functions/queues/function:{id:int}/requests/acquire", self._acquire, "POST"),
                *route("/api/functions/queues/function:{id:int}/requests/{rq}/{verb}", self._report, "POST"),
            ]
        )

    def _refuse(self, request: Request) -> Response | None:
        if request.url.path.rstrip("/") in ("/api/server/about", "/api/auth/login"):
            return None
        if request.headers.get("authorization") == f"Bearer {TOKEN}":
            return None
        session = request.cookies.get("sessionid", "")
        if session not in self._sessions:
            return JSONResponse({"detail": "Authentication credentials were not provided."}, 401)
        if request.method != "GET" and request.headers.get("x-csrftoken") != self._sessions[session]:
            return JSONResponse(
                {"detail": "CSRF Failed: CSRF token from the 'X-Csrftoken' HTTP header incorrect."}, 403
            )
        return None

    async def _about(self, request: Request) -> Response:
        texts = dict.fromkeys(("description", "logo_url", "subtitle"), "")
        return _json({"name": "Computer Vision Annotation Tool", "version": VERSION, **texts})

    async def _login(self, request: Request) -> Response:
        given = await request.json()
        if (given.get("username"), given.get("password")) != (USER, PASSWORD):
            raise Refused("Unable to log in with provided credentials.")
        session, csrf = secrets.token_hex(16), secrets.token_hex(16)
        self._sessions[session] = csrf
        response = _json({"key": secrets.token_hex(20)})
        response.set_cookie("csrftoken", csrf)
        response.set_cookie("sessionid", session, httponly=True)
        return response

    async def _logout(self, request: Request) -> Response:
        self._sessions.pop(request.cookies.get("sessionid", ""), None)
        return _json({"detail": "Successfully logged out."})

    async def _self(self, request: Request) -> Response:
        return _json({"id": 1, "username": USER, "url": f"{self.url}/api/users/1"})

    async def _list_tasks(self, request: Request) -> Response:
        wanted = request.query_params.get("project_id")
        found = [self._raw_task(t) for t in self.tasks.values() if wanted in (None, str(t.project_id))]
        return self._page(request, found)

    async def _task(self, request: Request) -> Response:
        return _json(self._raw_task(self.tasks[request.path_params["id"]]))

    async def _project(self, request: Request) -> Response:
        identifier = request.path_params["id"]
        project = self.projects[identifier]
        now = _text(datetime.now(UTC))
        return _json(
            {
                "id": identifier, "name": project["name"], "url": f"{self.url}/api/projects/{identifier}",
                "tasks": {"count": 0, "url": f"{self.url}/api/tasks?project_id={identifier}"},
                "labels": {"url": f"{self.url}/api/labels?project_id={identifier}"},
                "owner": None, "assignee": None, "bug_tracker": "", "task_subsets": [], "status": "annotation",
                "created_date": now, "updated_date": now, "dimension": "2d", "organization": None,
                "target_storage": None, "source_storage": None, "guide_id": None, "assignee_updated_date": None,
            }
        )  # fmt: skip

    def _raw_task(self, task: Task) -> dict[str, Any]:
        project = self.projects.get(task.project_id) if task.project_id is not None else None
        return {
            "id": task.id, "name": task.name, "url": f"{self.url}/api/tasks/{task.id}", "project_id": task.project_id,
            "project_name": project and project["name"], "mode": "annotation" if task.kind == "imageset" else "interpolation",
            "owner": None, "assignee": None, "bug_tracker": "", "status": "annotation", "subset": "",
            "created_date": _text(task.updated), "updated_date": _text(task.updated), "overlap": 0,
            "segment_size": len(task.frames), "size": len(task.frames), "image_quality": 70, "data": task.id,
            "data_chunk_size": task.chunk_size, "data_compressed_chunk_type": "imageset",
            "data_original_chunk_type": task.kind, "dimension": "2d", "organization": None, "guide_id": None,
            "jobs": {"count": 1, "completed": 0, "validation": 0, "url": f"{self.url}/api/jobs?task_id={task.id}"},
            "labels": {"url": f"{self.url}/api/labels?task_id={task.id}"}, "target_storage": None,
            "source_storage": None, "assignee_updated_date": None, "validation_mode": None,
        }  # fmt: skip

    async def _meta(self, request: Request) -> Response:
        task = self.tasks[request.path_params["id"]]
        frames = [
            {"name": f.name, "width": w, "height": h, "related_files": 0}
            for f, (w, h) in zip(task.frames, task.sizes, strict=True)
        ]
        return _json(
            {
                "chunks_updated_date": _text(task.updated), "chunk_size": task.chunk_size, "size": len(task.frames),
                "image_quality": 70, "start_frame": 0, "stop_frame": len(task.frames) - 1, "frame_filter": "",
                # Of a video the server knows one name and one size.
                "frames": frames if task.kind == "imageset" else frames[:1], "deleted_frames": sorted(task.deleted),
                "included_frames": None, "storage": "local", "storage_method": "cache", "cloud_storage_id": None,
                "chapters": None,
            }
        )  # fmt: skip

    async def _data(self, request: Request) -> Response:
        task = self.tasks[request.path_params["id"]]
        kind, quality = request.query_params.get("type"), request.query_params.get("quality", "compressed")
        try:
            number = int(request.query_params["number"])
        except (KeyError, ValueError):
            raise Refused("number: expected a whole number") from None
        if kind not in ("frame", "chunk") or quality not in ("original", "compressed"):
            raise Refused("type or quality is not one of the choices")
        if kind == "frame":
            if not 0 <= number < len(task.frames):
                raise Refused("The frame number doesn't belong to the task")
            return Response(task.frames[number].read(), media_type="image/jpeg")
        first = number * task.chunk_size
        if task.kind == "video":
            raise Refused("the stand-in has no chunks of videos")
        if not 0 <= first < len(task.frames):
            raise Refused("The chunk number doesn't belong to the task")
        return Response(await asyncio.to_thread(_zip, task, first), media_type="application/zip")

    async def _list_labels(self, request: Request) -> Response:
        query = request.query_params
        if "task_id" in query:
            labels = self.tasks[int(query["task_id"])].labels
        elif "project_id" in query:
            labels = self.projects[int(query["project_id"])]["labels"]
        else:
            raise Refused("expected task_id or project_id")
        return self._page(request, list(labels.values()))

    async def _list_jobs(self, request: Request) -> Response:
        task = self.tasks[int(request.query_params["task_id"])]
        job = {
            "id": task.id * 1000, "url": f"{self.url}/api/jobs/{task.id * 1000}", "task_id": task.id,
            "project_id": task.project_id, "assignee": None, "dimension": "2d", "mode": "annotation", "status": "annotation",
            "stage": "annotation", "state": "new", "frame_count": len(task.frames), "start_frame": 0,
            "stop_frame": len(task.frames) - 1, "type": "annotation", "updated_date": _text(task.updated),
            "issues": {"count": 0, "url": f"{self.url}/api/issues"}, "labels": {"url": f"{self.url}/api/labels"},
        }  # fmt: skip
        return self._page(request, [job])

    def _page(self, request: Request, items: list[dict[str, Any]]) -> Response:
        page = int(request.query_params.get("page", 1))
        size = int(request.query_params.get("page_size", PAGE))
        part = items[(page - 1) * size : page * size]
        if not part and page > 1:
            return JSONResponse({"detail": "Invalid page."}, 404)
        following = f"{self.url}{request.url.path}?page={page + 1}" if page * size < len(items) else None
        return _json({"count": len(items), "next": following, "previous": None, "results": part})

    # Annotations.

    async def _annotations(self, request: Request) -> Response:
        task = self.tasks[request.path_params["id"]]
        if request.method == "GET":
            return _json(_with_defaults(task))
        if request.method == "DELETE":
            self._commit(task, {kind: [] for kind in KINDS})
            return Response(status_code=204)
        action = request.query_params.get("action")
        if request.method == "PATCH" and action not in ("create", "update", "delete"):
            raise Refused("Please specify a correct 'action' for the request")
        given = {"tags": [], "shapes": [], "tracks": []} | _parsed(await request.body())
        check_annotations(given, Scope(task.labels, task.sizes, task.deleted))
        ids = {kind: {item["id"] for item in given[kind] if item.get("id") is not None} for kind in KINDS}
        kept = {
            kind: [] if request.method == "PUT" else [a for a in task.annotations[kind] if a["id"] not in ids[kind]]
            for kind in KINDS
        }
        if request.method == "PATCH" and action == "create":
            kept = task.annotations
        added = {kind: [] for kind in KINDS} if action == "delete" else {k: self._stored(given[k]) for k in KINDS}
        self._commit(task, {kind: [*kept[kind], *added[kind]] for kind in KINDS})
        return _json({"version": 0, **(given if action == "delete" else added)})

    def _stored(self, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        made = []
        for item in items:
            stored = {"group": 0, "source": "manual", "attributes": [], **deepcopy(item), "id": next(self._ids)}
            stored["group"] = stored["group"] or 0
            if "type" in stored:
                stored = _shape_defaults(stored) | {
                    "elements": [_shape_defaults(e) for e in stored.get("elements", [])]
                }
                for element in stored["elements"]:
                    element["id"] = next(self._ids)
            if "shapes" in stored:
                stored["elements"] = []
                stored["shapes"] = [
                    {"id": next(self._ids)} | {k: v for k, v in _shape_defaults(shape).items() if k != "source"}
                    for shape in stored["shapes"]
                ]
            made.append(stored)
        return made

    def _commit(self, task: Task, annotations: dict[str, list[dict[str, Any]]]) -> None:
        task.annotations = annotations
        task.updated = datetime.now(UTC)
        if self.after_commit:
            self.after_commit(task)

    # Native functions and their queues.

    async def _create_function(self, request: Request) -> Response:
        given = _parsed(await request.body())
        kind, provider = given.get("kind"), given.get("provider")
        if provider != "native" or kind not in ("detector", "interactor", "tracker"):
            raise Refused(f"provider {provider!r} or kind {kind!r} is not one of the choices")
        if not isinstance(given.get("name"), str) or not given["name"]:
            raise Refused("name: this field is required")
        function = {"id": next(self._ids), "owner": 1, **given}
        if kind == "detector":
            function["labels_v2"] = [_function_label(label) for label in given.get("labels_v2", [])]
            names = [label["name"] for label in function["labels_v2"]]
            if not names or len(set(names)) != len(names):
                raise Refused("labels_v2: expected labels with names of their own")
        elif kind == "interactor":
            if not isinstance(given.get("min_pos_points"), int):
                raise Refused("min_pos_points: this field is required")
            defaults = {"min_neg_points": -1, "startswith_box": False, "startswith_box_optional": False}
            function = {**defaults, **function}
        else:
            allowed = models.ShapeType.allowed_values[("value",)].values()
            types = given.get("supported_shape_types")
            if not isinstance(types, list) or not types or set(types) - set(allowed):
                raise Refused("supported_shape_types: expected some of the types of shapes")
        self.functions[function["id"]] = function
        self.queues[function["id"]] = []
        return _json(function, 201)

    async def _function(self, request: Request) -> Response:
        identifier = request.path_params["id"]
        if request.method == "DELETE":
            del self.functions[identifier]
            return Response(status_code=204)
        return _json(self.functions[identifier])

    async def _watch(self, request: Request) -> Response:
        identifier = request.path_params["id"]
        _ = self.functions[identifier]
        watcher = identifier, asyncio.Queue[str]()
        self._watchers.append(watcher)

        async def events() -> AsyncIterator[str]:
            yield "retry: 1000\n\n"
            while not self._uvicorn.should_exit:
                with suppress(TimeoutError):
                    category = await asyncio.wait_for(watcher[1].get(), 0.5)
                    yield f"event: newrequest\ndata: {json.dumps({'request_category': category})}\n\n"
                    continue
                yield ":\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    async def _acquire(self, request: Request) -> Response:
        given = _parsed(await request.body())
        identifier = request.path_params["id"]
        _ = self.functions[identifier]
        if not given.get("agent_id") or given.get("request_category") not in ("interactive", "batch"):
            raise Refused("expected agent_id and request_category")
        for queued in self.queues[identifier]:
            if queued.status == "queued" and queued.category == given["request_category"]:
                queued.status, queued.agent = "in progress", given["agent_id"]
                return _json({"ar_assignment": {"ar_id": queued.id, "ar_params": queued.params}})
        return _json({"ar_assignment": None})

    async def _report(self, request: Request) -> Response:
        given = _parsed(await request.body())
        queued = {q.id: q for q in self.queues[request.path_params["id"]]}[request.path_params["rq"]]
        if queued.status != "in progress" or given.pop("agent_id", None) != queued.agent:
            raise Refused("the request is not in the hands of this agent")
        verb = request.path_params["verb"]
        if verb == "update":
            queued.progress = float(given["progress"])
            return _json({})
        if verb == "fail":
            queued.status, queued.error = "failed", given["exc_info"]
        elif verb == "complete":
            self._check_result(queued, given)
            queued.status, queued.result = "finished", given
        else:
            raise KeyError(verb)
        queued.finished.set()
        return _json({})

    def _check_result(self, queued: Queued, result: dict[str, Any]) -> None:
        task = self.tasks[queued.params["task"]]
        if "annotations" in result:
            annotations = result["annotations"]
            check_annotations(annotations, Scope(task.labels, task.sizes, task.deleted))
            if queued.params["type"] == "annotate_task":
                added = {kind: self._stored(annotations.get(kind, [])) for kind in KINDS}
                self._commit(task, {kind: [*task.annotations[kind], *added[kind]] for kind in KINDS})
        for shape in result.get("shapes") or ():
            if shape is not None:
                check_schema(models.ShapeType, shape["type"], "shape")


def _zip(task: Task, first: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for i, frame in enumerate(task.frames[first : first + task.chunk_size]):
            archive.writestr(f"{i:06d}{Path(frame.name).suffix}", frame.read())
    return buffer.getvalue()


def _shape_defaults(shape: dict[str, Any]) -> dict[str, Any]:
    return {
        "occluded": False, "outside": False, "z_order": 0, "rotation": 0.0, "points": [], "attributes": [],
        "source": "manual", **shape,
    }  # fmt: skip


def _with_defaults(task: Task) -> dict[str, Any]:
    """A task's annotations as the server gives them: attributes that nobody set have their defaults."""
    replied: dict[str, Any] = {"version": 0}
    for kind in KINDS:
        replied[kind] = []
        for item in task.annotations[kind]:
            given = {a["spec_id"] for a in item["attributes"]}
            more = [
                {"spec_id": spec["id"], "value": spec["default_value"]}
                for spec in task.labels[item["label_id"]]["attributes"]
                if spec["id"] not in given and not (kind == "tracks" and spec["mutable"])
            ]
            replied[kind].append({**item, "attributes": [*item["attributes"], *more]})
        replied[kind].sort(key=lambda item: item["frame"])
    return replied


def _function_label(label: Mapping[str, Any]) -> dict[str, Any]:
    made = {"name": label["name"], "type": label.get("type", "unknown"), "attributes": label.get("attributes", [])}
    if label.get("sublabels"):
        made["sublabels"] = [_function_label(sublabel) for sublabel in label["sublabels"]]
    return made


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        content = orjson.loads(body)
    except ValueError as error:
        raise Refused(f"JSON parse error - {error}") from error
    if not isinstance(content, dict):
        raise Refused("Invalid data. Expected a dictionary")
    return content


def _json(content: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/vnd.cvat+json")


def _text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def main() -> None:
    """Serves one task with the images of a folder in a process of its own; prints the address and the task's number."""
    parser = argparse.ArgumentParser(prog="python -m tests.tools.annotate.cvat_server")
    parser.add_argument("folder", type=Path)
    parser.add_argument("labels", help="JSON, as for CVAT's constructor")
    parser.add_argument("--chunk-size", type=int, default=36)
    given = parser.parse_args()
    server = CvatServer()
    files = sorted(path for path in given.folder.iterdir() if path.is_file())
    task = server.add_task(json.loads(given.labels), [(p.name, p) for p in files], chunk_size=given.chunk_size)
    with server:
        print(json.dumps({"url": server.url, "task": task.id}), flush=True)
        server._thread.join()


if __name__ == "__main__":
    main()
