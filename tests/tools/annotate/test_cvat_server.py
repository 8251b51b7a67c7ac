"""The stand-in for CVAT's server refuses what the server refuses, and what it would lose without a word."""

from __future__ import annotations

import json
from typing import Any

import pytest
import urllib3
from cvat_sdk import Client, models
from cvat_sdk.api_client.exceptions import ApiException
from cvat_sdk.core.client import AccessTokenCredentials, PasswordCredentials

from tests.tools.annotate.conftest import frames, labels
from tests.tools.annotate.cvat_server import PASSWORD, TOKEN, USER, CvatServer, Task


@pytest.fixture
def task(server: CvatServer) -> Task:
    return server.add_task(labels(), frames(4), deleted=frozenset({3}))


@pytest.fixture
def client(server: CvatServer) -> Client:
    made = Client(server.url, check_server_version=True)
    made.login(AccessTokenCredentials(TOKEN))
    return made


def label(task: Task, name: str) -> dict[str, Any]:
    return next(found for found in task.labels.values() if found["name"] == name)


def shape(task: Task, name: str = "box", **more: Any) -> dict[str, Any]:
    kind = label(task, name)["type"]
    return {"type": kind, "label_id": label(task, name)["id"], "frame": 0, "points": [1, 2, 3, 4], **more}


def post(server: CvatServer, task: Task, data: Any, action: str = "create") -> tuple[int, Any]:
    reply = urllib3.request(
        "PATCH",
        f"{server.url}/api/tasks/{task.id}/annotations?action={action}",
        body=json.dumps(data).encode(),
        headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"},
    )
    return reply.status, reply.json()


def attribute(task: Task, name: str, value: str) -> list[dict[str, Any]]:
    spec = next(a for a in label(task, "box")["attributes"] if a["name"] == name)
    return [{"spec_id": spec["id"], "value": value}]


CASES: dict[str, Any] = {
    "label of nobody": lambda t: shape(t, label_id=99999),
    "no label": lambda t: {k: v for k, v in shape(t).items() if k != "label_id"},
    "frame after the last": lambda t: shape(t, frame=4),
    "frame taken out": lambda t: shape(t, frame=3),
    "frame before the first": lambda t: shape(t, frame=-1),
    "type of another label": lambda t: shape(t, type="polygon", points=[1, 2, 3, 4, 5, 6]),
    "type of none": lambda t: shape(t, type="circle"),
    "too few numbers": lambda t: shape(t, points=[1, 2, 3]),
    "odd numbers": lambda t: shape(t, "outline", points=[1, 2, 3, 4, 5, 6, 7]),
    "no number": lambda t: shape(t, points=[1, 2, 3, "4"]),
    "turned too far": lambda t: shape(t, rotation=361),
    "score of more than one": lambda t: shape(t, score=1.5),
    "unknown field": lambda t: shape(t, confidence=0.5),
    "runs that don't fill the box": lambda t: shape(t, "region", points=[0, 3, 1, 1, 2, 2]),
    "mask outside the image": lambda t: shape(t, "region", points=[0, 4, 89, 59, 90, 60]),
    "empty mask": lambda t: shape(t, "region", points=[4, 1, 1, 2, 2]),
    "attribute of another label": lambda t: shape(t, "turned", attributes=attribute(t, "wide", "true")),
    "value that is not allowed": lambda t: shape(t, attributes=attribute(t, "side", "middle")),
    "number off its step": lambda t: shape(t, attributes=attribute(t, "width", "3")),
    "skeleton without joints": lambda t: shape(t, "figure", points=[], elements=[]),
}


@pytest.mark.parametrize("name", CASES)
def test_refused(server: CvatServer, task: Task, name: str) -> None:
    status, reply = post(server, task, {"shapes": [shape(task), CASES[name](task)]})
    assert status == 400, reply
    assert task.annotations["shapes"] == []


def test_taken(server: CvatServer, task: Task) -> None:
    good = shape(task, attributes=attribute(task, "width", "15"), rotation=12.5, group=None, source="auto")
    status, reply = post(server, task, {"tags": [], "shapes": [good, good], "tracks": []})
    assert status == 200
    assert len({s["id"] for s in reply["shapes"]}) == 2
    status, reply = post(server, task, {"shapes": [reply["shapes"][0]]}, action="delete")
    assert status == 200
    assert len(task.annotations["shapes"]) == 1
    assert post(server, task, {}, action="add")[0] == 400


def test_the_client_library_reads_all_of_it(server: CvatServer, client: Client, task: Task) -> None:
    post(server, task, {"shapes": [shape(task)], "tags": [{"frame": 1, "label_id": label(task, "scene")["id"]}]})
    found = client.tasks.retrieve(task.id)
    assert (found.size, found.data_chunk_size) == (4, 10)
    assert [frame.name for frame in found.get_frames_info()] == [f"frame_{i:03d}.png" for i in range(4)]
    assert found.get_meta().deleted_frames == [3]
    assert [label.name for label in found.get_labels()] == [label["name"] for label in labels()]
    annotations = found.get_annotations()
    assert isinstance(annotations, models.LabeledData)
    # Attributes that nobody gave have their defaults.
    assert {a.value for a in annotations.shapes[0].attributes} == {"left", "false", "0", ""}
    assert annotations.tags[0].attributes[0].value == "sunny"
    found.remove_annotations()
    assert task.annotations == {"tags": [], "shapes": [], "tracks": []}
    assert found.get_frame(2, quality="original").read() == task.frames[2].read()
    assert len(found.get_jobs()) == 1


def test_lists_come_in_pages(server: CvatServer, client: Client) -> None:
    task = server.add_task([{"name": f"label {i}"} for i in range(230)], frames(1))
    assert len(client.tasks.retrieve(task.id).get_labels()) == 230


def test_only_with_a_key(server: CvatServer, task: Task) -> None:
    client = Client(server.url, check_server_version=False)
    with pytest.raises(ApiException, match="401"):
        client.tasks.retrieve(task.id)
    with pytest.raises(ApiException, match="Unable to log in"):
        client.login(PasswordCredentials(USER, "wrong"))
    client.login(PasswordCredentials(USER, PASSWORD))
    assert client.tasks.retrieve(task.id).id == task.id
    client.tasks.retrieve(task.id).remove_annotations()
    client.api_client.configuration.api_key["csrfHeaderAuth"] = "forged"
    with pytest.raises(ApiException, match="403"):
        client.tasks.retrieve(task.id).remove_annotations()
    with pytest.raises(ApiException, match="404"):
        client.tasks.retrieve(12345)
