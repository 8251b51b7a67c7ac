"""A CVAT server, through the session of CVAT's own SDK: tasks, frames and annotations.

Annotations go and come as JSON text and plain objects: the SDK's models check every number of every mask in Python,
which takes longer than finding the mask.
"""

from __future__ import annotations

import io
import logging
import random
import threading
import time
import zipfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import Any
from urllib.parse import urlencode

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

DOWNLOADS = 3  # side by side; with the upload the four connections that the SDK keeps
CHUNKS_AHEAD = 3
_TRIES = 5
_FIRST_PAUSE = 0.5  # seconds, doubled after each try
_TIMEOUT = urllib3.Timeout(connect=15, read=300)
_REDIRECTS_ONLY = urllib3.Retry(total=None, redirect=3, connect=0, read=0, status=0, other=0)
_PASSING = (429, 500, 502, 503, 504)  # statuses that may be others a moment later


class Refused(Exception):
    """The server took a request and answered that it is wrong. status: its HTTP status."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


class Unanswered(Exception):
    """Nobody knows whether the server did what it was asked to: no answer, or an error of its own."""


@dataclass(frozen=True)
class Task:
    """A task with what is needed to annotate it.

    names: the file name of each frame. deleted: frames that were taken out. chunk_size: frames of a chunk, or None
    when its frames can't be had in chunks (videos).
    """

    id: int
    name: str
    project_id: int | None
    names: Sequence[str]
    deleted: frozenset[int]
    chunk_size: int | None
    labels: Sequence[TaskLabel]


class CvatClient:
    """A session. token: a personal access token; user: (name, password) instead of it."""

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
        self.url = url.rstrip("/")
        try:
            self._client = Client(url, logger=log, config=Config(verify_ssl=not insecure), check_server_version=False)
            self._client.login(AccessTokenCredentials(token) if token else PasswordCredentials(*(user or ("", ""))))
        except ApiException as error:
            raise CannotRun(f"{url}: no entry: {_reason(error)}; check --token or --user") from error
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            raise CannotRun(f"{url}: no CVAT server answers: {_short(error)}") from error
        if organization is not None:
            self._client.organization_slug = organization

    def close(self) -> None:
        self._client.close()

    def task(self, identifier: int) -> Task:
        """Raises CannotRun when there is none, or it has no pictures."""
        try:
            found = self._client.tasks.retrieve(identifier)
            if not found.size or found.dimension != "2d":
                raise CannotRun(f"task {identifier} has no pictures")
            meta = found.get_meta()
            labels = to_json(found.get_labels())
        except ApiException as error:
            raise CannotRun(f"task {identifier}: {_reason(error)}") from error
        except urllib3.exceptions.HTTPError as error:
            raise CannotRun(f"{self.url}: no CVAT server answers: {_short(error)}") from error
        images = found.data_original_chunk_type == "imageset"
        names = [frame.name for frame in meta.frames]
        if len(names) != found.size:  # a video has one name for all of its frames
            names = [f"{names[0] if names else found.name} frame {i}" for i in range(found.size)]
        return Task(
            id=identifier,
            name=found.name,
            project_id=found.project_id,
            names=names,
            deleted=frozenset(meta.deleted_frames),
            chunk_size=found.data_chunk_size if images else None,
            labels=[TaskLabel.from_server(label) for label in labels],
        )

    def tasks_of_project(self, identifier: int) -> list[int]:
        try:
            return sorted(task.id for task in self._client.projects.retrieve(identifier).get_tasks())
        except ApiException as error:
            raise CannotRun(f"project {identifier}: {_reason(error)}") from error
        except urllib3.exceptions.HTTPError as error:
            raise CannotRun(f"{self.url}: no CVAT server answers: {_short(error)}") from error

    # Frames.

    def pictures(self, task: Task, frames: Sequence[int], stop: threading.Event) -> Iterator[ImageFile]:
        """The frames in order, a few chunks read ahead; one that can't be had comes with its error.

        Raises CannotRun when the server is gone.
        """
        size = task.chunk_size or 1
        groups = [(number, list(group)) for number, group in groupby(frames, lambda frame: frame // size)]

        def fetch(number: int, wanted: list[int]) -> Callable[[], Iterator[ImageFile]]:
            # The parts of a chunk are unpacked where they are used, one at a time.
            if task.chunk_size is None:
                picture = self._frame(task, wanted[0])
                return lambda: iter([picture])
            try:
                data = self._data(task, "chunk", number)
                archive = zipfile.ZipFile(io.BytesIO(data))
                members = archive.infolist()
                if wanted[-1] - number * size >= len(members):
                    raise FrameError(f"the chunk has only {len(members)} frames")
            except (FrameError, zipfile.BadZipFile):  # then one by one, to find out which are bad
                return lambda: (self._frame(task, frame) for frame in wanted)
            return lambda: (self._unpacked(task, archive, members, frame) for frame in wanted)

        ahead = CHUNKS_AHEAD if task.chunk_size else 4 * DOWNLOADS
        with ThreadPoolExecutor(DOWNLOADS, "download") as pool:
            coming: deque[Future[Callable[[], Iterator[ImageFile]]]] = deque()
            rest = iter(groups)
            try:
                while not stop.is_set():
                    while len(coming) <= ahead and (group := next(rest, None)) is not None:
                        coming.append(pool.submit(fetch, *group))
                    if not coming:
                        return
                    yield from coming.popleft().result()()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _unpacked(self, task: Task, archive: zipfile.ZipFile, members: list[zipfile.ZipInfo], frame: int) -> ImageFile:
        try:
            return ImageFile(frame, task.names[frame], archive.read(members[frame % (task.chunk_size or 1)]))
        except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError) as error:
            return ImageFile(frame, task.names[frame], None, f"damaged in its chunk: {error}")

    def _frame(self, task: Task, frame: int) -> ImageFile:
        try:
            return ImageFile(frame, task.names[frame], self._data(task, "frame", frame))
        except FrameError as error:
            return ImageFile(frame, task.names[frame], None, str(error))

    def _data(self, task: Task, kind: str, number: int) -> bytes:
        query = {"type": kind, "number": number, "quality": "original"}
        try:
            return self._patiently("GET", f"/api/tasks/{task.id}/data/", query)
        except Refused as error:
            if error.status in (401, 403):
                raise CannotRun(f"task {task.id}: the server answers {error}") from error
            raise FrameError(f"the server answers {error}") from error

    # Annotations.

    def annotations(self, task: Task) -> dict[str, list[dict[str, Any]]]:
        """All annotations of a task: tags, shapes and tracks. Raises CannotRun."""
        try:
            content = orjson.loads(self._patiently("GET", f"/api/tasks/{task.id}/annotations/"))
        except Refused as error:
            raise CannotRun(f"the annotations of task {task.id} can't be read: {error}") from error
        return {kind: content.get(kind) or [] for kind in ("tags", "shapes", "tracks")}

    def clear(self, task: Task) -> None:
        """Removes all annotations of a task. Raises CannotRun."""
        try:
            self._patiently("DELETE", f"/api/tasks/{task.id}/annotations/")
        except Refused as error:
            raise CannotRun(f"the annotations of task {task.id} can't be removed: {error}") from error

    def create(self, task: Task, payload: bytes) -> None:
        """Adds annotations, once. payload: JSON text. Raises Refused or Unanswered."""
        self._once("PATCH", f"/api/tasks/{task.id}/annotations/", {"action": "create"}, payload)

    def delete(self, task: Task, payload: bytes) -> None:
        """Removes annotations by their ids; doing it twice is no harm. Raises Refused or CannotRun."""
        self._patiently("PATCH", f"/api/tasks/{task.id}/annotations/", {"action": "delete"}, payload)

    def replace(self, task: Task, payload: bytes) -> None:
        """Puts annotations in the place of all there are; doing it twice is no harm. Raises Refused or CannotRun."""
        self._patiently("PUT", f"/api/tasks/{task.id}/annotations/", {}, payload)

    def _patiently(
        self, method: str, path: str, query: dict[str, Any] | None = None, body: bytes | None = None
    ) -> bytes:
        """A request that can be repeated, repeated until it is answered. Raises Refused, or CannotRun when it never is."""
        for attempt in range(_TRIES):
            try:
                return self._once(method, path, query or {}, body)
            except Unanswered as error:
                last = error
            if attempt + 1 < _TRIES:
                time.sleep(_FIRST_PAUSE * 2**attempt * random.uniform(1, 1.2))  # noqa: S311 - not a secret
        if isinstance(last.__cause__, Refused):
            raise last.__cause__
        raise CannotRun(f"{self.url}: {last}") from last

    def _once(self, method: str, path: str, query: dict[str, Any], body: bytes | None) -> bytes:
        headers = {**make_request_headers(self._client.api_client), "Content-Type": "application/json"}
        url = f"{self._client.api_map.host}{path}" + (f"?{urlencode(query)}" if query else "")
        pool = self._client.api_client.rest_client.pool_manager
        try:
            response = pool.request(method, url, body=body, headers=headers, timeout=_TIMEOUT, retries=_REDIRECTS_ONLY)
        except urllib3.exceptions.HTTPError as error:
            raise Unanswered(_short(error)) from error
        if response.status in _PASSING:
            refused = Refused(response.status, f"{response.status} {response.reason}")
            raise Unanswered(str(refused)) from refused
        if not 200 <= response.status <= 299:
            text = response.data.decode("utf-8", "replace")
            raise Refused(response.status, f"{response.status} {response.reason}: {text[:300]}")
        return bytes(response.data)


def _reason(error: ApiException) -> str:
    return f"{error.status} {error.reason}" if error.status else str(error.reason)


def _short(error: BaseException) -> str:
    reason = getattr(error, "reason", None) or error
    return f"{type(reason).__name__}: {str(reason)[:200]}"
