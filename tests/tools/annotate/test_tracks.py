"""Reid functions on a task: boxes to tracks."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from tests.scenes import BLUE, GREEN, RED, png, scene
from tests.tools.annotate.conftest import Endpoint, content, frames
from tests.tools.annotate.cvat_server import CvatServer, Task
from tools.annotate.tracks import join_boxes

Annotate = Callable[..., int]
LABELS = [
    {
        "name": "thing",
        "attributes": [
            {"name": "kind", "input_type": "text", "values": [""], "mutable": False},
            {"name": "pose", "input_type": "text", "values": [""], "mutable": True},
        ],
    }
]
COLOURS = {"red": RED, "green": GREEN, "blue": BLUE}
# Where each object is, by frame; the blue one is away on frame 2, the green one leaves, the last one comes late.
PLACES: dict[str, dict[int, tuple[int, int, int, int]]] = {
    "red": {i: (5 + 4 * i, 5, 20 + 4 * i, 20) for i in range(6)},
    "green": {i: (60 - 3 * i, 30, 75 - 3 * i, 45) for i in range(3)},
    "blue": dict.fromkeys((0, 1, 3, 4, 5), (30, 40, 45, 55)),
}
COUNT = 6


def pictures() -> list[tuple[str, bytes]]:
    return [
        (f"{i}.png", png(scene([(places[i], COLOURS[name]) for name, places in PLACES.items() if i in places])))
        for i in range(COUNT)
    ]


def with_boxes(server: CvatServer, **more: Any) -> Task:
    task = server.add_task(LABELS, more.pop("pictures", pictures()), chunk_size=4, **more)
    (label,) = task.labels.values()
    kind, pose = (a["id"] for a in label["attributes"])
    boxes = [
        {
            "type": "rectangle", "label_id": label["id"], "frame": i, "points": list(map(float, box)), "source": "auto",
            "attributes": [{"spec_id": kind, "value": name}, {"spec_id": pose, "value": f"{name} {i}"}], "z_order": 1,
        }
        for i in range(COUNT) for name, places in PLACES.items() if (box := places.get(i)) and i not in task.deleted
    ]  # fmt: skip
    random.Random(5).shuffle(boxes)
    dot = {"type": "points", "label_id": label["id"], "frame": 1, "points": [3.0, 4.0]}
    track = {
        "label_id": label["id"], "frame": 0,
        "shapes": [{"type": "rectangle", "frame": 0, "points": [1.0, 2.0, 3.0, 4.0], "outside": False, "attributes": []}],
    }  # fmt: skip
    task.annotations = {
        "tags": server._stored([{"label_id": label["id"], "frame": 2}]),
        "shapes": server._stored([*boxes, dot]),
        "tracks": server._stored([track]),
    }
    return task


def tracks_of(task: Task) -> dict[tuple[str, int], list[tuple[int, tuple[float, ...], bool]]]:
    """The new tracks: (value of the first attribute, first frame) -> frame, points and outside of each shape."""
    found = {}
    for track in task.annotations["tracks"]:
        if track["attributes"] and track["attributes"][0]["value"]:
            shapes = [(s["frame"], tuple(s["points"]), s["outside"]) for s in track["shapes"]]
            found[track["attributes"][0]["value"], track["frame"]] = shapes
    return found


def expected(name: str, first: int, last: int, end: int | None) -> list[tuple[int, tuple[float, ...], bool]]:
    shapes = [(i, PLACES[name][i], False) for i in range(first, last + 1)]
    return [*shapes, (end, PLACES[name][last], True)] if end is not None else shapes


ALL = {
    ("red", 0): expected("red", 0, 5, None),
    ("green", 0): expected("green", 0, 2, 3),
    ("blue", 0): expected("blue", 0, 1, 2),
    ("blue", 3): expected("blue", 3, 5, None),
}


def test_boxes_become_tracks_and_the_rest_stays(server: CvatServer, annotate: Annotate, tmp_path: Path) -> None:
    task = with_boxes(server)
    assert annotate("--task", task.id, function="colours") == 0
    assert tracks_of(task) == ALL
    assert [s["type"] for s in task.annotations["shapes"]] == ["points"]
    assert len(task.annotations["tags"]) == 1
    assert len(task.annotations["tracks"]) == 5
    pose = next(a["id"] for a in next(iter(task.labels.values()))["attributes"] if a["mutable"])
    red = next(t for t in task.annotations["tracks"] if "red" in str(t["attributes"]))
    assert [s["attributes"] for s in red["shapes"]] == [[{"spec_id": pose, "value": f"red {i}"}] for i in range(6)]
    assert {s["z_order"] for s in red["shapes"]} == {1}
    assert red["source"] == "auto"
    assert len(list((tmp_path / "journals").glob("*.before.json"))) == 1
    # It is done: there is nothing left to join, and going on changes nothing.
    before = content(task)
    assert annotate("--task", task.id, function="colours") == 2
    assert annotate("--task", task.id, "--resume", function="colours") == 0
    assert content(task) == before


def test_the_same_from_an_endpoint(server: CvatServer, annotate: Annotate, endpoint: Callable[[str], Endpoint]) -> None:
    task = with_boxes(server)
    function = endpoint("colours")
    arguments = ["--endpoint", function.url, "--kind", "reid"]
    assert annotate("--task", task.id, *arguments, function="") == 0
    assert tracks_of(task) == ALL
    assert function.calls == COUNT - 1


def test_limits_of_the_request(server: CvatServer, annotate: Annotate) -> None:
    task = with_boxes(server)
    assert annotate("--task", task.id, "--max-distance", 3.5, function="colours") == 0
    found = tracks_of(task)
    assert found["green", 0] == ALL["green", 0]  # moves by 3 pixels
    assert [key for key in found if key[0] == "red"] == [("red", i) for i in range(6)]  # moves by 4


def test_a_part_of_the_frames_and_frames_that_were_taken_out(server: CvatServer, annotate: Annotate) -> None:
    task = with_boxes(server, deleted=frozenset({1}))
    assert annotate("--task", task.id, "--frames", "0-3", function="colours") == 0
    found = tracks_of(task)
    assert [s[0] for s in found["red", 0]] == [0, 2, 3]
    assert [s[0] for s in found["green", 0]] == [0, 2, 3]
    assert found["green", 0][-1][2] is True
    boxes = [s["frame"] for s in task.annotations["shapes"] if s["type"] == "rectangle"]
    assert sorted(boxes) == [4, 4, 5, 5]


def test_dry_run_changes_nothing(server: CvatServer, annotate: Annotate, capsys: pytest.CaptureFixture) -> None:
    task = with_boxes(server)
    before = content(task)
    assert annotate("--task", task.id, "--dry-run", function="colours") == 0
    assert content(task) == before
    assert "14 boxes in 4 tracks." in capsys.readouterr().err


def test_a_bad_picture_cuts_the_tracks_there(
    server: CvatServer, annotate: Annotate, capsys: pytest.CaptureFixture
) -> None:
    torn = pictures()
    torn[2] = ("2.png", torn[2][1][:50])
    task = with_boxes(server, pictures=pictures())
    task.frames[2] = type(task.frames[2])(*torn[2])
    assert annotate("--task", task.id, "--workers", 1, function="colours") == 1
    found = tracks_of(task)
    assert [(f, outside) for f, _, outside in found["red", 0]] == [(0, False), (1, False), (2, True)]
    assert [(f, outside) for f, _, outside in found["red", 3]] == [(3, False), (4, False), (5, False)]
    said = capsys.readouterr().err
    assert "frame 1 (1.png) and the next: image: the image is damaged" in said
    assert "frame 2 (2.png) and the next: image: the image is damaged" in said


def test_a_picture_that_is_not_to_be_had(
    server: CvatServer, annotate: Annotate, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("tools.annotate.cvat_client._FIRST_PAUSE_S", 0.01)
    task = with_boxes(server, kind="video")

    def refuse(request: Request) -> Response | None:
        return Response("gone", 404) if request.query_params.get("number") == "3" else None

    server.before = refuse
    assert annotate("--task", task.id, function="colours") == 1
    assert [s[0] for s in tracks_of(task)["red", 0]] == [0, 1, 2, 3]
    assert [s[0] for s in tracks_of(task)["red", 4]] == [4, 5]
    assert "frame 2 (0.png frame 2) and the next: frame 3: the server answers 404" in capsys.readouterr().err


def test_somebody_changes_the_boxes_meanwhile(
    server: CvatServer, annotate: Annotate, capsys: pytest.CaptureFixture
) -> None:
    task = with_boxes(server)

    def change(request: Request) -> Response | None:
        if request.query_params.get("type") == "chunk":
            task.annotations["shapes"] = task.annotations["shapes"][:-1]
        return None

    server.before = change
    before = content(task)
    assert annotate("--task", task.id, function="colours") == 2
    assert "were changed during the run" in capsys.readouterr().err
    assert len(content(task)) < len(before)
    assert not [r for r in server.requests if r.startswith("PUT")]


def test_nothing_to_join(server: CvatServer, annotate: Annotate, capsys: pytest.CaptureFixture) -> None:
    task = server.add_task(LABELS, frames(3))
    assert annotate("--task", task.id, function="colours") == 2
    assert "these frames have no boxes" in capsys.readouterr().err


def reference(boxes: dict[int, list[dict]], frame_set: list[int], matching: dict[int, list[int]]) -> list[dict]:
    """The chains of boxes as CVAT's own server makes them, written down from its description: every box of a frame that
    no pair reached begins a path; each pair goes on with the path of its first box; ended paths get an outside shape."""
    path_of: dict[int, int] = {}
    paths: list[list[dict]] = []
    for position, frame in enumerate(frame_set):
        for box in boxes.get(frame, []):
            if box["id"] not in path_of:
                path_of[box["id"]] = len(paths)
                paths.append([box])
        if position + 1 < len(frame_set):
            following = boxes.get(frame_set[position + 1], [])
            for i, j in enumerate(matching.get(frame, [])):
                if j >= 0:
                    path_of[following[j]["id"]] = path_of[boxes[frame][i]["id"]]
                    paths[path_of[following[j]["id"]]].append(following[j])
    return [
        [(b["frame"], b["points"], False) for b in path]
        + ([(path[-1]["frame"] + 1, path[-1]["points"], True)] if path[-1]["frame"] != frame_set[-1] else [])
        for path in paths
    ]


@pytest.mark.parametrize("seed", range(20))
def test_joining_is_that_of_cvat(seed: int) -> None:
    generator = random.Random(seed)
    frame_set = sorted(generator.sample(range(30), 12))
    ids = iter(range(1000))
    boxes = {
        f: [
            {"id": next(ids), "frame": f, "label_id": 1, "type": "rectangle", "points": [generator.random()] * 4}
            for _ in range(generator.randrange(5))
        ]
        for f in frame_set
    }
    matching = {}
    for first, second in itertools.pairwise(frame_set):
        partners = list(range(len(boxes[second]))) + [-1] * len(boxes[first])
        matching[first] = generator.sample(partners, len(boxes[first]))
    tracks = join_boxes({f: b for f, b in boxes.items() if b}, frame_set, matching, frozenset())
    ours = [[(s["frame"], s["points"], s["outside"]) for s in track["shapes"]] for track in tracks]
    assert sorted(map(str, ours)) == sorted(map(str, reference(boxes, frame_set, matching)))
    assert all(track["frame"] == track["shapes"][0]["frame"] for track in tracks)
