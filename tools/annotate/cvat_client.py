"""A client of a CVAT server, on the session of CVAT's own SDK: tasks, frames and annotations.

Annotations are sent and received as JSON, not as the SDK's models, which check every number of every mask in Python and
take longer than the model that finds the mask.
"""

from __future__ import annotations

import io
import logging
import threading
import time
import zipfile
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any
from urllib.parse import urlencode, urlsplit

import orjson
import urllib3
from cvat_sdk import Client
from cvat_sdk.api_client.exceptions import ApiException
from cvat_sdk.api_client.model_utils import to_json
from cvat_sdk.core.client import AccessTokenCredentials, Config, PasswordCredentials
from cvat_sdk.core.helpers import make_request_headers

from tools.annotate.errors import CannotRun, FrameError
from tools.annotate.image_files import ImageFile
from tools.annotate.label_mapping import TaskLabel
from tools.workers.retries import pauses_s

DOWNLOADS = 3  # at a time; with the upload, the four connections that the SDK keeps
CHUNKS_AHEAD = 3
_STOP_INTERVAL_S = 0.2  # between two looks at whether the run is to stop
_TRIES = 5
_TRIES_AFTER_500 = 3  # the server's own code has failed, and may again
_FIRST_PAUSE_S = 0.5  # doubled after each try
_LONGEST_PAUSE_S = 10.0  # that the server can ask for with Retry-After
_TIMEOUT = urllib3.Timeout(connect=15, read=300)
_REDIRECTS_ONLY = urllib3.Retry(total=None, redirect=3, connect=0, read=0, status=0, other=0)
_TEMPORARY = (429, 500, 502, 503, 504)  # statuses after which the same request may succeed


class Refused(Exception):
    """The server has refused a request."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status
        """The HTTP status."""


class Unanswered(Exception):
    """It is not known whether the server has carried out a request: no answer, or a server error."""

    def __init__(self, message: str, status: int = 0, retry_after_s: float = 0.0):
        super().__init__(message)
        self.status = status
        """The HTTP status, 0 when there was no answer."""
        self.retry_after_s = retry_after_s
        """How long the server asks to wait, in seconds."""


Annotations = dict[str, list[dict[str, Any]]]
"""Annotations as in the server's JSON: tags, shapes and tracks."""


@dataclass(frozen=True)
class Task:
    """What is needed of a task to annotate it."""

    id: int
    name: str
    project_id: int | None
    names: Sequence[str]
    """The file name of each frame."""
    deleted: frozenset[int]
    """The frames that were deleted."""
    chunk_size: int | None
    """The number of frames in a chunk; None when the frames can't be had in chunks (videos)."""
    labels: Sequence[TaskLabel]


class CvatClient:
    """A session with a server."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        user: tuple[str, str] | None = None,
        organization: str | None = None,
        insecure: bool = False,
        log: logging.Logger,
    ):
        """Logs in.

        Args:
            url: the server's address.
            token: a personal access token.
            user: (name, password) instead of a token.
            organization: the slug of the organization that the tasks belong to.
            insecure: don't check the server's certificate.
            log: for the SDK.

        Raises:
            CannotRun: when the server does not answer or refuses the login.
        """
        self.url = url.rstrip("/")
        with self._errors(f"{self.url}: login refused", ": check the name and the password"):
            self._client = Client(url, logger=log, config=Config(verify_ssl=not insecure), check_server_version=False)
            self._client.login(AccessTokenCredentials(token) if token else PasswordCredentials(*(user or ("", ""))))
        if organization is not None:
            self._client.organization_slug = organization

    def close(self) -> None:
        """Logs out."""
        self._client.close()

    def task(self, number: int) -> Task:
        """A task with what is needed to annotate it.

        Args:
            number: its id.

        Raises:
            CannotRun: when there is no such task, or it has no images.
        """
        with self._errors(f"task {number}"):
            found = self._client.tasks.retrieve(number)
            if not found.size or found.dimension != "2d":
                raise CannotRun(f"task {number} has no images")
            meta = found.get_meta()
            labels = to_json(found.get_labels())
        names = [frame.name for frame in meta.frames]
        if len(names) != found.size:  # a video has one name for all of its frames
            names = [f"{names[0] if names else found.name} frame {i}" for i in range(found.size)]
        return Task(
            id=number,
            name=found.name,
            project_id=found.project_id,
            names=names,
            deleted=frozenset(meta.deleted_frames),
            chunk_size=found.data_chunk_size if found.data_original_chunk_type == "imageset" else None,
            labels=[TaskLabel.from_server(label) for label in labels],
        )

    def tasks_of_project(self, number: int) -> list[int]:
        """The ids of a project's tasks, in order.

        Args:
            number: the project's id.

        Raises:
            CannotRun: when there is no such project.
        """
        with self._errors(f"project {number}"):
            return sorted(task.id for task in self._client.projects.retrieve(number).get_tasks())

    def file_stem(self, task: Task) -> str:
        """How the names of files about a task begin, such as "cvat.example.org-task-5".

        Args:
            task: a task of this server.
        """
        parts = urlsplit(self.url if "://" in self.url else f"//{self.url}")
        host = f"{parts.hostname}-{parts.port}" if parts.port else parts.hostname
        return f"{host}-task-{task.id}"

    @contextmanager
    def _errors(self, subject: str, remedy: str = "") -> Iterator[None]:
        """Makes CannotRun of other errors."""
        try:
            yield
        except ApiException as error:
            status = f"{error.status} {error.reason}" if error.status else str(error.reason)
            raise CannotRun(f"{subject}: {status}{remedy or _login_remedy(error.status)}") from error
        except Refused as error:
            raise CannotRun(f"{subject}: {error}{_login_remedy(error.status)}") from error
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            raise CannotRun(f"{self.url}: no CVAT server answers: {_short(error)}") from error

    # Frames.

    def images(
        self, task: Task, frames: Sequence[int], stop: threading.Event, in_order: bool = False
    ) -> Iterator[ImageFile]:
        """Downloads frames, a few chunks ahead; one that can't be downloaded comes with its error.

        Args:
            task: the frames' task.
            frames: their numbers in ascending order.
            stop: ends the iteration when it is set.
            in_order: give the frames in this order; otherwise as they arrive, so that one which is tried again does
                not hold up the others.

        Raises:
            CannotRun: when the server does not answer any more.
        """
        size = task.chunk_size or 1
        # A download is one frame, or (number of a chunk, its wanted frames).
        left = deque((number, list(group)) for number, group in groupby(frames, lambda frame: frame // size))
        ahead = CHUNKS_AHEAD if task.chunk_size else 4 * DOWNLOADS
        with ThreadPoolExecutor(DOWNLOADS, "download") as pool:
            coming: list[Future[Iterator[ImageFile] | list[int]]] = []
            try:
                while not stop.is_set() and (left or coming):
                    while left and len(coming) <= ahead:
                        coming.append(pool.submit(self._download, task, *left.popleft()))
                    done = wait(coming[:1] if in_order else coming, _STOP_INTERVAL_S, FIRST_COMPLETED).done
                    if not done:
                        continue
                    index = next(i for i, future in enumerate(coming) if future in done)
                    content = coming.pop(index).result()
                    if isinstance(content, list):  # a chunk that can't be had: frame by frame, to find the bad ones
                        coming[index:index] = [pool.submit(self._download_frame, task, frame) for frame in content]
                    else:
                        yield from content
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _download(self, task: Task, number: int, wanted: list[int]) -> Iterator[ImageFile] | list[int]:
        """The frames of a chunk, unpacked when they are used; or their numbers when the chunk can't be had."""
        if task.chunk_size is None:
            return self._download_frame(task, wanted[0])
        try:
            archive = zipfile.ZipFile(io.BytesIO(self._data(task, "chunk", number)))
        except (FrameError, zipfile.BadZipFile):
            return wanted
        members = archive.infolist()
        if wanted[-1] - number * task.chunk_size >= len(members):
            return wanted
        return (self._unpacked(task, archive, members, frame) for frame in wanted)

    def _unpacked(self, task: Task, archive: zipfile.ZipFile, members: list[zipfile.ZipInfo], frame: int) -> ImageFile:
        try:
            return ImageFile(frame, task.names[frame], archive.read(members[frame % (task.chunk_size or 1)]))
        except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError) as error:
            return ImageFile(frame, task.names[frame], None, f"damaged in its chunk: {error}")

    def _download_frame(self, task: Task, frame: int) -> Iterator[ImageFile]:
        try:
            image = ImageFile(frame, task.names[frame], self._data(task, "frame", frame))
        except FrameError as error:
            image = ImageFile(frame, task.names[frame], None, str(error))
        return iter([image])

    def _data(self, task: Task, kind: str, number: int) -> bytes:
        query = {"type": kind, "number": number, "quality": "original"}
        try:
            return self._repeat("GET", task, query, what="data")
        except Refused as error:
            if error.status in (401, 403):
                raise CannotRun(f"task {task.id}: the server answers {error}{_login_remedy(error.status)}") from error
            raise FrameError(f"the server answers {error}") from error

    # Annotations.

    def annotations(self, task: Task) -> Annotations:
        """All annotations of a task: its tags, shapes and tracks.

        Args:
            task: the task.

        Raises:
            CannotRun: when the server does not give them.
        """
        with self._errors(f"the annotations of task {task.id} can't be read"):
            content = orjson.loads(self._repeat("GET", task))
        return {kind: content.get(kind) or [] for kind in ("tags", "shapes", "tracks")}

    def create(self, task: Task, annotations: Annotations) -> None:
        """Adds annotations; asks the server only once, as a second request would add them again.

        Args:
            task: the task.
            annotations: new ones; each may be an `orjson.Fragment`.

        Raises:
            Refused: when the server does not take them.
            Unanswered: when it is not known whether it has.
        """
        self._once("PATCH", _path(task), {"action": "create"}, _payload(annotations))

    def delete(self, task: Task, annotations: Annotations) -> None:
        """Removes annotations by their ids; doing it twice does no harm.

        Args:
            task: the task.
            annotations: as the server gives them.

        Raises:
            CannotRun: when the server does not do it.
        """
        with self._errors(f"annotations of task {task.id} can't be removed"):
            self._repeat("PATCH", task, {"action": "delete"}, _payload(annotations))

    def replace(self, task: Task, annotations: Annotations) -> None:
        """Replaces all annotations of a task; doing it twice does no harm.

        Args:
            task: the task.
            annotations: all that the task is to have.

        Raises:
            CannotRun: when the server does not do it.
        """
        with self._errors(f"the annotations of task {task.id} can't be replaced"):
            self._repeat("PUT", task, {}, _payload(annotations))

    def _repeat(
        self,
        method: str,
        task: Task,
        query: Mapping[str, object] | None = None,
        body: bytes | None = None,
        what: str = "annotations",
    ) -> bytes:
        """Sends a request until it is answered. Raises Refused, or CannotRun when there is no answer."""
        pauses = pauses_s(_FIRST_PAUSE_S, spread=0.2)
        for attempt in range(1, _TRIES + 1):
            try:
                return self._once(method, _path(task, what), query or {}, body)
            except Unanswered as error:
                if attempt < (_TRIES_AFTER_500 if error.status == 500 else _TRIES):
                    time.sleep(max(next(pauses), error.retry_after_s))
                elif error.status:
                    raise Refused(error.status, str(error)) from error
                else:
                    raise CannotRun(f"{self.url}: {error}") from error
        raise AssertionError("the last try returns or raises")

    def _once(self, method: str, path: str, query: Mapping[str, object], body: bytes | None) -> bytes:
        headers = {**make_request_headers(self._client.api_client), "Content-Type": "application/json"}
        url = f"{self._client.api_map.host}{path}" + (f"?{urlencode(query)}" if query else "")
        pool = self._client.api_client.rest_client.pool_manager
        try:
            response = pool.request(method, url, body=body, headers=headers, timeout=_TIMEOUT, retries=_REDIRECTS_ONLY)
        except urllib3.exceptions.HTTPError as error:
            raise Unanswered(_short(error)) from error
        status = f"{response.status} {response.reason}"
        if response.status in _TEMPORARY:
            seconds = response.headers.get("Retry-After", "")
            pause = min(float(seconds), _LONGEST_PAUSE_S) if seconds.isdecimal() else 0.0
            raise Unanswered(status, response.status, pause)
        if not 200 <= response.status <= 299:
            text = response.data.decode("utf-8", "replace")
            raise Refused(response.status, f"{status}: {text[:300]}")
        return bytes(response.data)


def _path(task: Task, what: str = "annotations") -> str:
    return f"/api/tasks/{task.id}/{what}/"


def _payload(annotations: Annotations) -> bytes:
    return orjson.dumps({"version": 0, "tags": [], "shapes": [], "tracks": [], **annotations})


def _login_remedy(status: int | None) -> str:
    if status != 401:
        return ""
    return (
        ": set CVAT_ACCESS_TOKEN to a personal access token of this server (made on CVAT's profile page), "
        "or give --user NAME"
    )


def _short(error: BaseException) -> str:
    reason = getattr(error, "reason", None) or error
    return f"{type(reason).__name__}: {str(reason)[:200]}"
