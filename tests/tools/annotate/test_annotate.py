"""Whole runs of the program against the stand-in for CVAT's server."""

from __future__ import annotations

import json
import logging
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import orjson
import pytest
from cvat_sdk.masks import decode_mask
from PIL import Image
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.scenes import BLUE, GREEN, RED, png, scene
from tests.tools.annotate.conftest import (
    FUNCTIONS,
    SIZE_HW,
    Endpoint,
    box_of,
    by_label,
    content,
    frames,
    labels,
    picture_of,
)  # fmt: skip
from tests.tools.annotate.cvat_server import PASSWORD, TOKEN, USER, CvatServer, Task
from tools.annotate.__main__ import main
from tools.annotate.cvat_client import CvatClient
from tools.annotate.journal import Journal
from tools.annotate.workers import ThreadWorker
from tools.collection import ROOT

Annotate = Callable[..., int]
BAD_PICTURE = png(scene([(box_of(0), RED)], SIZE_HW, corner=BLUE))  # the function raises
DEADLY_PICTURE = png(scene([(box_of(0), RED)], SIZE_HW, corner=GREEN))  # its process dies


def check_boxes(task: Task, expected: list[int]) -> None:
    """One box on each of these frames, where the picture's red box is, and nothing on others."""
    boxes = by_label(task).get("box", [])
    assert [b["frame"] for b in boxes] == expected
    assert [tuple(b["points"]) for b in boxes] == [box_of(f) for f in expected]


def test_every_type_of_annotation_arrives(
    server: CvatServer, annotate: Annotate, capsys: pytest.CaptureFixture
) -> None:
    task = server.add_task(labels(), frames(23), chunk_size=5, deleted=frozenset({3, 22}))
    assert annotate("--task", task.id, "--threshold", 0.1, "--option", "note=by hand", "--chunk", 8) == 0
    kept = [i for i in range(22) if i != 3]
    check_boxes(task, kept)
    shapes = by_label(task)
    assert {label: len(found) for label, found in shapes.items()} == dict.fromkeys(
        ["box", "turned", "disc", "outline", "line", "dots", "region", "block", "figure"], 21
    )
    assert len(by_label(task, "tags")["scene"]) == 21
    assert {s["source"] for found in shapes.values() for s in found} == {"auto"}
    assert {s["rotation"] for s in shapes["turned"]} == {30.25}
    names = {a["id"]: a["name"] for label in task.labels.values() for a in label["attributes"]}
    values = [{names[a["spec_id"]]: a["value"] for a in box["attributes"]} for box in shapes["box"]]
    assert values[5] == {"side": "left", "wide": "false", "width": "30", "note": "by hand"}
    for mask in shapes["region"]:
        left, top, right, bottom = box_of(mask["frame"])
        expected = np.zeros(SIZE_HW, bool)
        expected[top:bottom, left:right] = True
        expected[top + 2 : bottom - 2, left + 2 : right - 2] = False
        np.testing.assert_array_equal(decode_mask(mask["points"], image_width=90, image_height=60), expected)
    assert server.requests.count(f"PATCH /api/tasks/{task.id}/annotations/") == 3
    # A chunk of frames is one download.
    assert server.requests.count(f"GET /api/tasks/{task.id}/data/") == 5
    said = capsys.readouterr().err
    assert "21 of 21 frames annotated; this run added 189 shapes and 21 tags." in said
    assert re.search(r"box +-> box \(rectangle\), attributes side, wide, width, note", said)


def test_ranges_of_frames_and_threshold(server: CvatServer, annotate: Annotate) -> None:
    task = server.add_task(labels(), frames(20), chunk_size=5)
    assert annotate("--task", task.id, "--threshold", 0.85, "--frames", "1-3,7,18-") == 0
    check_boxes(task, [1, 2, 3, 7, 18, 19])
    assert by_label(task).keys() == {"box"}
    assert server.requests.count(f"GET /api/tasks/{task.id}/data/") == 3
    assert annotate("--task", task.id, "--frames", "5-20", "--clear-existing") == 2


def test_frames_of_a_video_come_one_by_one(server: CvatServer, annotate: Annotate) -> None:
    task = server.add_task(labels(), frames(7), kind="video")
    assert annotate("--task", task.id, "--threshold", 0.85) == 0
    check_boxes(task, list(range(7)))


def test_polygons_instead_of_masks(server: CvatServer, annotate: Annotate, capsys: pytest.CaptureFixture) -> None:
    task = server.add_task([{"name": "region", "type": "polygon"}, {"name": "kasten", "type": "rectangle"}], frames(3))
    assert annotate("--task", task.id) == 2
    said = capsys.readouterr().err
    assert "label 'box': the task has no label 'box'" in said
    assert "label 'region': the function returns a mask, the task's label takes a polygon" in said
    assert annotate("--task", task.id, "--convert-masks", "--allow-unmatched", "--map", "turned=kasten") == 0
    shapes = by_label(task)
    assert {label: len(found) for label, found in shapes.items()} == {"region": 3, "kasten": 3}
    assert {s["type"] for s in shapes["region"]} == {"polygon"}


def test_existing_annotations_stay_or_go(server: CvatServer, annotate: Annotate, tmp_path: Path) -> None:
    task = server.add_task(labels(), frames(6))
    for _ in range(2):
        assert annotate("--task", task.id, "--threshold", 0.85) == 0
    assert len(by_label(task)["box"]) == 12
    assert annotate("--task", task.id, "--threshold", 0.85, "--frames", "0-2", "--clear-existing") == 0
    assert [b["frame"] for b in by_label(task)["box"]] == [0, 1, 2, 3, 3, 4, 4, 5, 5]
    assert annotate("--task", task.id, "--threshold", 0.85, "--clear-existing") == 0
    check_boxes(task, list(range(6)))
    first, second = sorted((tmp_path / "journals").glob("*.removed*.json"), key=lambda path: path.stat().st_mtime)
    assert [len(orjson.loads(path.read_bytes())["shapes"]) for path in (first, second)] == [12, 9]


def test_nothing_is_removed_when_the_function_can_not_start(server: CvatServer, annotate: Annotate) -> None:
    task = server.add_task(labels(), frames(2))
    assert annotate("--task", task.id, "--threshold", 0.85) == 0
    before = content(task)
    assert annotate("--task", task.id, "--clear-existing", "--option", "bogus=1") == 2
    assert content(task) == before


def test_nothing_is_removed_for_a_function_that_annotates_nothing(
    server: CvatServer, annotate: Annotate, endpoint: Callable[[str], Endpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.annotate.remote_function._FunctionClient._FIRST_PAUSE_S", 0.01)
    task = server.add_task(labels(), frames(2))
    assert annotate("--task", task.id, "--threshold", 0.85) == 0
    before = content(task)
    function = endpoint("everything")
    function.answer = lambda body: (500, b'{"error": "out of memory"}')
    addressed = ["--task", task.id, "--clear-existing", "--threshold", 0.85, "--endpoint", function.url]
    assert annotate(*addressed, function="") == 1
    assert content(task) == before
    function.answer = lambda body: None  # it has recovered: what was to be cleared still is
    assert annotate(*addressed[:2], *addressed[3:], "--resume", function="") == 0
    check_boxes(task, [0, 1])
    function.close()
    before = content(task)
    assert annotate(*addressed, function="") == 2
    assert content(task) == before


def test_what_the_task_has_already_is_said(
    server: CvatServer, annotate: Annotate, capsys: pytest.CaptureFixture
) -> None:
    task = server.add_task(labels(), frames(2))
    assert annotate("--task", task.id, "--threshold", 0.85) == 0
    assert "already" not in capsys.readouterr().err
    assert annotate("--task", task.id, "--threshold", 0.85) == 0
    assert "The task already has 4 annotations, which stay; --clear-existing removes them" in capsys.readouterr().err


def test_the_progress_counts_frames_and_shapes(
    server: CvatServer, annotate: Annotate, capsys: pytest.CaptureFixture
) -> None:
    pictures = frames(12)
    pictures[2] = ("raises.png", BAD_PICTURE)
    task = server.add_task(labels(), pictures)
    assert annotate("--task", task.id, "--threshold", 0.1) == 1
    last = capsys.readouterr().err.split("\r")[-1].splitlines()[0]
    assert re.search(r"12/12 .*frame/s, bad=1, shapes=110\]", last), last


def test_bad_frames_are_listed_and_the_rest_is_done(
    server: CvatServer, annotate: Annotate, capsys: pytest.CaptureFixture
) -> None:
    pictures = frames(12)
    pictures[2] = ("raises.png", BAD_PICTURE)
    pictures[5] = ("kills.png", DEADLY_PICTURE)
    pictures[9] = ("torn.png", pictures[9][1][:60])
    task = server.add_task(labels(), pictures, chunk_size=4)
    assert annotate("--task", task.id, "--threshold", 0.85, "--batch", 4, "--workers", 1) == 1
    check_boxes(task, [0, 1, 3, 4, 6, 7, 8, 10, 11])
    said = capsys.readouterr().err
    assert "9 of 12 frames annotated" in said
    assert "3 frames could not be annotated" in said
    assert "frame 2 (raises.png): ValueError: this picture is not to be had" in said
    assert "frame 5 (kills.png): the function's process died (signal SIGKILL)" in said
    assert "frame 9 (torn.png): image: the image is damaged or truncated" in said


def test_resume_tries_bad_frames_again_and_leaves_the_others(server: CvatServer, annotate: Annotate) -> None:
    pictures = frames(5)
    pictures[2] = ("raises.png", BAD_PICTURE)
    task = server.add_task(labels(), pictures)
    assert annotate("--task", task.id, "--threshold", 0.85) == 1
    task.frames[2] = type(task.frames[2])("mended.png", frames(5)[2][1])
    assert annotate("--task", task.id, "--threshold", 0.85, "--resume") == 0
    check_boxes(task, [0, 1, 2, 3, 4])
    assert annotate("--task", task.id, "--threshold", 0.85, "--resume") == 0
    check_boxes(task, [0, 1, 2, 3, 4])


def test_resume_with_other_settings_is_refused(
    server: CvatServer, annotate: Annotate, capsys: pytest.CaptureFixture
) -> None:
    task = server.add_task(labels(), frames(3))
    assert annotate("--task", task.id, "--threshold", 0.85) == 0
    assert annotate("--task", task.id, "--threshold", 0.5, "--resume") == 2
    assert "threshold: was 0.85, is 0.5" in capsys.readouterr().err
    check_boxes(task, [0, 1, 2])


def test_dry_run_shows_and_changes_nothing(
    server: CvatServer, annotate: Annotate, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    task = server.add_task(labels(), frames(30), chunk_size=10)
    assert annotate("--task", task.id, "--dry-run", "--pictures", 3, "--threshold", 0.85) == 0
    assert task.annotations == {"tags": [], "shapes": [], "tracks": []}
    assert not [r for r in server.requests if r.startswith(("PATCH", "PUT", "DELETE"))]
    pictures = sorted((tmp_path / "journals").rglob("*.jpg"))
    assert [p.stem for p in pictures] == ["frame_005", "frame_015", "frame_025"]
    left, top, right, _ = box_of(15)
    drawn = np.asarray(Image.open(pictures[1])).astype(int)
    original = scene([(box_of(15), RED)], SIZE_HW).astype(int)
    changed = np.abs(drawn - original).max(axis=2) > 60
    assert changed[top : top + 2, left + 5 : right - 5].any(), "the box's outline is drawn"
    assert not changed[50:, :5].any()
    assert "Dry run: nothing was changed." in capsys.readouterr().err


def test_all_tasks_of_a_project_with_one_start_of_the_model(
    server: CvatServer, annotate: Annotate, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    project = server.add_project(labels())
    starts = []
    monkeypatch.setattr("tools.annotate.workers.ThreadWorker", lambda *spec: starts.append(1) or ThreadWorker(*spec))
    tasks = [server.add_task([], frames(3 + i), project_id=project) for i in range(3)]
    other = server.add_task(labels(), frames(2))
    assert annotate("--project", project, "--threshold", 0.85) == 0
    for i, task in enumerate(tasks):
        check_boxes(task, list(range(3 + i)))
    assert other.annotations["shapes"] == []
    assert len(starts) == 1
    assert annotate("--project", project + 1000) == 2
    assert "project" in capsys.readouterr().err


def test_a_function_that_fails_on_every_tenth_frame(
    server: CvatServer, annotate: Annotate, endpoint: Callable[[str], Endpoint], capsys: pytest.CaptureFixture
) -> None:
    pictures = frames(50)
    function = endpoint("everything")
    bad = {picture for i, (_, picture) in enumerate(pictures) if i % 10 == 9}
    function.answer = lambda body: (500, b'{"error": "out of memory"}') if picture_of(body) in bad else None
    task = server.add_task(labels(), pictures, chunk_size=7)
    assert annotate("--task", task.id, "--threshold", 0.85, "--endpoint", function.url, function="") == 1
    check_boxes(task, [i for i in range(50) if i % 10 != 9])
    said = capsys.readouterr().err
    assert "45 of 50 frames annotated" in said
    for i in (9, 19, 29, 39, 49):
        assert f"frame {i} (frame_{i:03d}.png): {function.url}: the function answers 500: out of memory" in said
    assert function.calls == 50


def test_an_endpoint_gives_what_the_same_function_gives_here(
    server: CvatServer, annotate: Annotate, endpoint: Callable[[str], Endpoint]
) -> None:
    task = server.add_task(labels(), frames(6))
    assert annotate("--task", task.id, "--threshold", 0.1) == 0
    here = content(task)
    for arguments in ([], ["--function", FUNCTIONS / "everything"]):
        one, two = endpoint("everything"), endpoint("everything")
        addresses = ["--endpoint", one.url, "--endpoint", two.url, *arguments]
        assert annotate("--task", task.id, "--threshold", 0.1, "--clear-existing", *addresses, function="") == 0
        assert content(task) == here
        assert one.calls + two.calls == 6
        assert one.calls
        assert two.calls


def test_a_busy_endpoint_is_asked_again(
    server: CvatServer, annotate: Annotate, endpoint: Callable[[str], Endpoint]
) -> None:
    function = endpoint("everything")
    function.answer = lambda body: (503, b"no free worker") if function.calls % 3 == 1 else None
    task = server.add_task(labels(), frames(5))
    assert annotate("--task", task.id, "--threshold", 0.85, "--endpoint", function.url, function="") == 0
    check_boxes(task, list(range(5)))
    assert function.calls > 5


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        (b'{"mask": []}', "is the function a detector?"),
        (b"[1]", "annotation 0 in the reply is invalid"),
        (b'[{"label": "box", "type": "rectangle", "points": [1, 2]}]', "expected 4 numbers"),
        (b'[{"label": "house", "type": "rectangle", "points": [1, 2, 3, 4]}]', "returned the label 'house'"),
        (b"<html>", "not JSON"),
    ],
)
def test_replies_that_are_none(
    server: CvatServer, annotate: Annotate, endpoint: Callable[[str], Endpoint], reply: bytes, problem: str,
    capsys: pytest.CaptureFixture,
) -> None:  # fmt: skip
    function = endpoint("everything")
    function.answer = lambda body: (200, reply)
    task = server.add_task(labels(), frames(1))
    assert annotate("--task", task.id, "--endpoint", function.url, function="") == 1
    assert problem in capsys.readouterr().err
    assert task.annotations["shapes"] == []


def test_an_endpoint_that_is_gone_ends_the_run(
    server: CvatServer, annotate: Annotate, endpoint: Callable[[str], Endpoint], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr("tools.annotate.remote_function._FunctionClient._FIRST_PAUSE_S", 0.01)
    function = endpoint("everything")
    function.close()
    task = server.add_task(labels(), frames(3))
    assert annotate("--task", task.id, "--endpoint", function.url, function="") == 2
    assert "no function answers" in capsys.readouterr().err


def test_a_server_that_stumbles(
    server: CvatServer, annotate: Annotate, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Errors that pass are waited out; what a chunk lacks is found frame by frame."""
    monkeypatch.setattr("tools.annotate.cvat_client._FIRST_PAUSE_S", 0.01)
    task = server.add_task(labels(), frames(15), chunk_size=5)
    seen = []

    def stumble(request: Request) -> Response | None:
        query = request.query_params
        seen.append(request.url.path)
        if request.method == "GET" and len(seen) % 4 == 0:
            return Response("overloaded", 503)
        if query.get("type") == "chunk" and query["number"] == "1":
            return Response(b"PK no zip", 200)
        if query.get("type") == "frame" and query["number"] == "7":
            return JSONResponse(["The frame is broken"], 400)
        return None

    server.before = stumble
    assert annotate("--task", task.id, "--threshold", 0.85) == 1
    check_boxes(task, [i for i in range(15) if i != 7])
    said = capsys.readouterr().err
    assert 'frame 7 (frame_007.png): the server answers 400 Bad Request: ["The frame is broken"]' in said


def test_a_frame_whose_annotations_the_server_refuses(
    server: CvatServer, annotate: Annotate, endpoint: Callable[[str], Endpoint], capsys: pytest.CaptureFixture
) -> None:
    pictures = frames(9)
    function = endpoint("everything")
    wrong = json.dumps([{"label": "box", "type": "rectangle", "points": [1, 2, 3, 4], "group_id": 10**30}]).encode()
    function.answer = lambda body: (200, wrong) if picture_of(body) == pictures[4][1] else None
    task = server.add_task(labels(), pictures)

    def refuse(request: Request) -> Response | None:
        return None

    server.before = refuse
    assert annotate("--task", task.id, "--threshold", 0.85, "--endpoint", function.url, function="") == 1
    check_boxes(task, [0, 1, 2, 3, 5, 6, 7, 8])
    assert "frame 4 (frame_004.png)" in capsys.readouterr().err


def test_login_with_a_name_and_no_entry_without(
    server: CvatServer,
    annotate: Annotate,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CVAT_ACCESS_TOKEN", raising=False)
    task = server.add_task(labels(), frames(2))
    common = ["--url", server.url, "--task", str(task.id), "--function", str(FUNCTIONS / "everything")]
    common += ["--journals", str(tmp_path), "--threshold", "0.85", "--workers", "1"]
    assert main([*common, "--user", f"{USER}:{PASSWORD}"]) == 0
    check_boxes(task, [0, 1])
    assert main([*common, "--user", f"{USER}:wrong"]) == 2
    assert "login refused: 400 Bad Request: check the name and the password" in capsys.readouterr().err
    assert main([*common, "--token", "wrong"]) == 2
    assert "401 Unauthorized: set CVAT_ACCESS_TOKEN to a personal access token" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(common)
    assert main([*common[2:], "--token", TOKEN, "--url", "http://127.0.0.1:9"]) == 2
    assert annotate("--task", 4711) == 2


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--function", "nothing"], "nothing: there is no such function"),
        (["--function", str(FUNCTIONS / "flood")], "of kind interactor"),
        (["--function", str(FUNCTIONS / "everything"), "--option", "x"], "expected NAME=VALUE"),
        (["--function", str(FUNCTIONS / "everything"), "--frames", "1-x"], "--frames: expected numbers and ranges"),
        (["--function", str(FUNCTIONS / "everything"), "--option", "fail=perhaps"], "expected true or false"),
        (["--function", str(FUNCTIONS / "colours")], "these frames have no boxes"),
    ],
)
def test_what_can_not_begin_says_why(
    server: CvatServer, annotate: Annotate, arguments: list[str], problem: str, capsys: pytest.CaptureFixture
) -> None:
    task = server.add_task(labels(), frames(2))
    assert annotate("--task", task.id, *arguments, function="") == 2
    assert problem in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argument", "value", "problem"),
    [
        ("--workers", "-1", "expected a whole number of 0 or more, got '-1'"),
        ("--batch", "0", "expected a whole number of 1 or more, got '0'"),
        ("--chunk", "0", "expected a whole number of 1 or more, got '0'"),
        ("--chunk", "ten", "expected a whole number of 1 or more, got 'ten'"),
        ("--pictures", "-1", "expected a whole number of 0 or more, got '-1'"),
        ("--threshold", "7", "expected a number from 0 to 1, got '7'"),
        ("--threshold", "nan", "expected a number from 0 to 1, got 'nan'"),
        ("--timeout", "0", "expected a number of 0.001 or more, got '0'"),
        ("--max-distance", "inf", "expected a number of 0 or more, got 'inf'"),
        ("--endpoint", "gpu1:32001", "expected an address such as http://gpu1:32001, got 'gpu1:32001'"),
    ],
)
def test_arguments_that_are_none(argument: str, value: str, problem: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--task", "1", "--token", TOKEN, "--function", str(FUNCTIONS / "everything"), argument, value])
    assert end.value.code == 2
    assert f"argument {argument}: {problem}" in capsys.readouterr().err


def test_a_frame_that_the_server_fails_on_holds_up_no_others(
    server: CvatServer, annotate: Annotate, capsys: pytest.CaptureFixture
) -> None:
    """An internal error is retried within a few seconds, and the other frames are annotated meanwhile."""
    task = server.add_task(labels(), frames(30), chunk_size=10)

    def fail(request: Request) -> Response | None:
        query = request.query_params
        bad = (query.get("type"), query.get("number")) in (("chunk", "0"), ("frame", "3"))
        return Response("an internal error", 500) if bad else None

    server.before = fail
    cvat = CvatClient(server.url, token=TOKEN, log=logging.getLogger("cvat"))
    loaded = cvat.task(task.id)
    begin = time.monotonic()
    images = list(cvat.images(loaded, range(30), threading.Event()))
    assert time.monotonic() - begin < 8
    assert (images[-1].frame, images[-1].error) == (3, "the server answers 500 Internal Server Error")
    assert sorted(image.frame for image in images if image.data) == [i for i in range(30) if i != 3]
    assert server.requests.count(f"GET /api/tasks/{task.id}/data/") == 2 + 3 + 9 + 3
    ordered = cvat.images(loaded, range(30), threading.Event(), in_order=True)
    assert [image.frame for image in ordered] == list(range(30))
    cvat.close()
    assert annotate("--task", task.id, "--threshold", 0.85) == 1
    said = capsys.readouterr().err
    assert "29 of 30 frames annotated" in said
    assert "1 frame could not be annotated" in said


def test_the_pause_that_the_server_asks_for_is_kept(
    server: CvatServer, annotate: Annotate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.annotate.cvat_client._FIRST_PAUSE_S", 0.01)
    task = server.add_task(labels(), frames(1))
    asked: list[float] = []

    def too_many(request: Request) -> Response | None:
        if request.query_params.get("type") != "chunk":
            return None
        asked.append(time.monotonic())
        return Response("too many requests", 429, {"Retry-After": "1"}) if len(asked) == 1 else None

    server.before = too_many
    assert annotate("--task", task.id, "--threshold", 0.85) == 0
    assert len(asked) == 2
    assert 1.0 <= asked[1] - asked[0] < 3


def test_a_mask_for_a_polygon_label_names_the_option(
    server: CvatServer, annotate: Annotate, endpoint: Callable[[str], Endpoint], capsys: pytest.CaptureFixture
) -> None:
    """Of a function at an address the types of labels are only known from its shapes."""
    function = endpoint("everything")
    function.answer = lambda body: (200, b'[{"label": "region", "type": "mask", "mask": [1, 1, 1, 1, 0, 0, 1, 1]}]')
    task = server.add_task([{"name": "region", "type": "polygon"}], frames(1))
    assert annotate("--task", task.id, "--endpoint", function.url, function="") == 1
    assert "label 'region' as mask, the task's is polygon; --convert-masks stores masks" in capsys.readouterr().err


# The program by its own name, and by make.


def test_the_script_keeps_the_exit_status_and_make_says_it(server: CvatServer, tmp_path: Path) -> None:
    pictures = frames(2)
    pictures[1] = ("raises.png", BAD_PICTURE)
    task = server.add_task(labels(), pictures)
    (tmp_path / "tools").mkdir()  # a folder of this name where one stands is not the project's
    (tmp_path / "tools/__init__.py").write_text("raise RuntimeError('another project')")
    arguments = ["--url", server.url, "--task", str(task.id), "--function", str(FUNCTIONS / "everything")]
    arguments += ["--workers", "0", "--threshold", "0.85", "--journals"]
    environment = {**os.environ, "CVAT_ACCESS_TOKEN": TOKEN, "VENV": sys.prefix}
    done = subprocess.run(
        [ROOT / "annotate", *arguments, "journals"], cwd=tmp_path, env=environment, text=True, capture_output=True
    )
    assert done.returncode == 1, done.stderr
    assert "1 of 2 frames annotated; this run added 1 shape and 1 tag." in done.stderr
    assert "1 frame could not be annotated" in done.stderr
    assert "Exit status" not in done.stderr
    assert list((tmp_path / "journals").iterdir())
    given = " ".join([*arguments, str(tmp_path / "others")])
    done = subprocess.run(
        ["make", "annotate", f"ARGS={given}"], cwd=ROOT, env=environment, text=True, capture_output=True
    )
    assert done.returncode == 2
    assert "Exit status 1; make's own is always 2, ./annotate keeps this one." in done.stderr


# Runs that are interrupted: the program as a process of its own.


def start(server: CvatServer, task: Task, journals: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tools.annotate", "--url", server.url, "--task", str(task.id)]
    command += ["--function", str(FUNCTIONS / "everything"), "--journals", str(journals), "--threshold", "0.1"]
    environment = {**os.environ, "CVAT_ACCESS_TOKEN": TOKEN, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, "--workers", "0", "--chunk", "5", *more], cwd=ROOT, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, said = process.communicate(timeout=120)
    return process.returncode, said


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.002)


def slowly(server: CvatServer, seconds: float) -> None:
    """Makes uploads last, so that something can come between."""

    def wait(task: Task) -> None:
        time.sleep(seconds)

    server.after_commit = wait


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What a task of 40 frames has after a run that nothing disturbed, by the ids of a fresh server."""
    with CvatServer() as server:
        task = server.add_task(labels(), frames(40), chunk_size=8)
        assert finish(start(server, task, tmp_path_factory.mktemp("journals"), "--workers", "1"))[0] == 0
        return content(task)


@pytest.mark.parametrize("workers", ["0", "1"])
def test_killed_at_random_moments_and_resumed(
    server: CvatServer, tmp_path: Path, uninterrupted: list[str], workers: str
) -> None:
    """kill -9 at any time, several times over: in the end exactly what an uninterrupted run gives."""
    task = server.add_task(labels(), frames(40), chunk_size=8)
    slowly(server, 0.03)
    generator = random.Random(workers)
    arguments: list[str] = []
    for _ in range(2):
        server.requests.clear()
        process = start(server, task, tmp_path, "--workers", workers, *arguments)
        wait_for(lambda: any(r.startswith("PATCH") for r in server.requests), process)
        time.sleep(generator.uniform(0, 0.25))
        process.kill()
        process.communicate()
        arguments = ["--resume"]
    status, said = finish(start(server, task, tmp_path, "--resume"))
    assert status == 0, said
    assert content(task) == uninterrupted
    assert not list(tmp_path.glob("*.pending"))


def test_killed_between_the_servers_commit_and_its_answer(
    server: CvatServer, tmp_path: Path, uninterrupted: list[str]
) -> None:
    task = server.add_task(labels(), frames(40), chunk_size=8)
    process = start(server, task, tmp_path)
    commits = []

    def kill(_: Task) -> None:
        commits.append(1)
        if len(commits) == 3:
            process.kill()

    server.after_commit = kill
    process.communicate(timeout=120)
    server.after_commit = None
    assert len(list(tmp_path.glob("*.pending"))) == 1
    status, said = finish(start(server, task, tmp_path, "--resume"))
    assert status == 0, said
    assert "A chunk of 5 frames was being sent" in said
    assert content(task) == uninterrupted


def test_killed_while_the_server_is_still_at_work(server: CvatServer, tmp_path: Path, uninterrupted: list[str]) -> None:
    """The first request is only carried out after the second run has asked for it, and sent it again."""
    task = server.add_task(labels(), frames(40), chunk_size=8)
    process = start(server, task, tmp_path)
    held: list[bytes] = []

    def hold(request: Request) -> Response | None:
        if request.method == "PATCH" and not held:
            held.append(next(tmp_path.glob("*.pending")).read_bytes())
            process.kill()
            return Response("nobody hears this", 500)
        return None

    server.before = hold
    process.communicate(timeout=120)
    server.before = None
    second = start(server, task, tmp_path, "--resume")
    wait_for(lambda: task.annotations["shapes"], second)
    late = orjson.loads(held[0])["annotations"]
    added = {kind: server._stored(late.get(kind, [])) for kind in ("tags", "shapes", "tracks")}
    task.annotations = {kind: [*task.annotations[kind], *added[kind]] for kind in added}
    status, said = finish(second)
    assert status == 0, said
    assert "had arrived twice; removing the second copies" in said
    assert content(task) == uninterrupted


def test_an_answer_that_is_lost_is_no_double(
    server: CvatServer, annotate: Annotate, monkeypatch: pytest.MonkeyPatch, uninterrupted: list[str]
) -> None:
    monkeypatch.setattr("tools.annotate.upload._FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr("tools.annotate.upload._SETTLED_S", 0.0)
    task = server.add_task(labels(), frames(40), chunk_size=8)
    lost = []

    def lose(_: Task) -> None:
        lost.append(1)
        if len(lost) in (2, 5):
            raise RuntimeError("the connection breaks after the commit")

    server.after_commit = lose
    assert annotate("--task", task.id, "--threshold", 0.1, "--chunk", 5) == 0
    assert content(task) == uninterrupted


def test_what_else_came_to_the_task_meanwhile_stays(server: CvatServer, tmp_path: Path) -> None:
    """Equal boxes that were there before, or that a person draws during the run, are not taken for the run's own."""
    task = server.add_task(labels(), frames(20), chunk_size=8)
    label = next(found for found in task.labels.values() if found["name"] == "box")
    drawn = {"type": "rectangle", "label_id": label["id"], "frame": 7, "points": list(box_of(7)), "source": "manual"}
    before = {**drawn, "source": "auto"}
    task.annotations["shapes"] = server._stored([before])
    process = start(server, task, tmp_path)
    commits = []

    def kill(_: Task) -> None:
        commits.append(1)
        if len(commits) == 2:
            process.kill()

    server.after_commit = kill
    process.communicate(timeout=120)
    server.after_commit = None
    task.annotations["shapes"] = [*task.annotations["shapes"], *server._stored([drawn])]
    status, said = finish(start(server, task, tmp_path, "--resume"))
    assert status == 0, said
    boxes = [b for b in by_label(task)["box"] if b["frame"] == 7]
    assert sorted(b["source"] for b in boxes) == ["auto", "auto", "manual"]
    assert len(by_label(task)["box"]) == 22


def test_ctrl_c_keeps_what_is_done(server: CvatServer, tmp_path: Path) -> None:
    count = 400  # more than can be looked at while the first of them are on their way
    task = server.add_task(labels(), frames(count), chunk_size=8)
    process = start(server, task, tmp_path)
    wait_for(lambda: task.annotations["shapes"], process)
    process.send_signal(signal.SIGINT)
    status, said = finish(process)
    assert status == 130
    assert "Finishing the frames in progress; press Ctrl-C again to stop now." in said
    assert "The run was interrupted; --resume continues it." in said
    done = len(by_label(task)["box"])
    assert f"{done} of {count} frames annotated" in said
    assert 0 < done < count
    status, said = finish(start(server, task, tmp_path))
    assert status == 2
    assert f"a run was interrupted here ({done} frames are done): continue it with --resume" in said
    status, said = finish(start(server, task, tmp_path, "--resume"))
    assert status == 0, said
    assert f"{(count - done) * 9} shapes" in said
    check_boxes(task, list(range(count)))
    assert {label: len(found) for label, found in by_label(task).items()} == dict.fromkeys(
        ["box", "turned", "disc", "outline", "line", "dots", "region", "block", "figure"], count
    )


def test_two_runs_over_one_task_do_not_mix(
    server: CvatServer, annotate: Annotate, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    task = server.add_task(labels(), frames(3))
    other = Journal(
        tmp_path / "journals" / f"{server.url.removeprefix('http://').replace(':', '-')}-task-{task.id}.journal"
    )
    assert annotate("--task", task.id) == 2
    assert "another run is using it" in capsys.readouterr().err
    other.close()
    assert annotate("--task", task.id) == 0
