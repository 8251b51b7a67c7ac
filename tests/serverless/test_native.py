"""cvat-cli itself, the program, with serverless/native.py and a stand-in for the server: every kind of function."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cvat_sdk.masks import decode_mask

from common.config import FunctionConfig
from tests.scenes import RED, png, red_box, scene
from tests.tools.annotate.cvat_server import PASSWORD, TOKEN, USER, CvatServer, Queued, Task
from tools.collection import ROOT

FUNCTIONS = ROOT / "tests/sample_functions"
SIZE_HW = (60, 90)
BOXES = [(20 + 2 * i, 12, 50 + 2 * i, 42) for i in range(12)]


class Cli:
    """Runs cvat-cli against a server, from another directory than the repository's."""

    def __init__(self, server: CvatServer, folder: Path):
        self._server, self._folder = server, folder
        config = {"XDG_CACHE_HOME": str(folder / "cache"), "XDG_CONFIG_HOME": str(folder / "config")}
        self._environment = {**os.environ, **config, "CVAT_ACCESS_TOKEN": TOKEN}

    def start(self, *arguments: str, auth: str = "") -> subprocess.Popen[str]:
        command = [str(Path(sys.executable).parent / "cvat-cli"), "--server-host", self._server.url]
        command += ["--auth", auth] if auth else []
        return subprocess.Popen(
            [*command, *arguments], cwd=self._folder, env=self._environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def __call__(self, *arguments: str, auth: str = "", fails: bool = False) -> tuple[str, str]:
        process = self.start(*arguments, auth=auth)
        out, log = process.communicate(timeout=120)
        assert (process.returncode != 0) == fails, log
        return out, log


def native(function: str, *parameters: str) -> list[str]:
    given = [f"function=str:{FUNCTIONS / function}", *parameters]
    return ["--function-file", str(ROOT / "serverless/native.py"), *(word for p in given for word in ("-p", p))]


@pytest.fixture(scope="module")
def server() -> Iterator[CvatServer]:
    with CvatServer() as running:
        yield running


@pytest.fixture(scope="module")
def cli(server: CvatServer, tmp_path_factory: pytest.TempPathFactory) -> Cli:
    return Cli(server, tmp_path_factory.mktemp("elsewhere"))


@pytest.fixture
def task(server: CvatServer) -> Task:
    labels = FunctionConfig.load(FUNCTIONS / "everything").labels.to_raw()
    frames = [(f"frame_{i}.png", png(red_box(box, SIZE_HW))) for i, box in enumerate(BOXES)]
    return server.add_task(labels, frames, chunk_size=5, deleted=frozenset({3}))


def by_label(task: Task, kind: str = "shapes") -> dict[str, list[dict]]:
    names = {label["id"]: label["name"] for label in task.labels.values()}
    found: dict[str, list[dict]] = {}
    for annotation in task.annotations[kind]:
        found.setdefault(names[annotation["label_id"]], []).append(annotation)
    return found


def check_everything(task: Task, frames: list[int]) -> None:
    """A task has one of each type on each frame, at the place of the frame's red box."""
    shapes = by_label(task)
    assert len(shapes) == 9
    for found in [*shapes.values(), by_label(task, "tags")["scene"]]:
        assert [a["frame"] for a in found] == frames
        assert {a["source"] for a in found} == {"auto"}
    assert [tuple(a["points"]) for a in shapes["box"]] == [BOXES[i] for i in frames]
    for annotation, i in zip(shapes["region"], frames, strict=True):
        left, top, right, bottom = BOXES[i]
        expected = np.zeros(SIZE_HW, bool)
        expected[top:bottom, left:right] = True
        expected[top + 2 : bottom - 2, left + 2 : right - 2] = False
        np.testing.assert_array_equal(decode_mask(annotation["points"], image_width=90, image_height=60), expected)


def test_auto_annotate_a_task(server: CvatServer, cli: Cli, task: Task) -> None:
    arguments = ["task", "auto-annotate", str(task.id), *native("everything", "note=str:by cli")]
    cli(*arguments, "--conf-threshold", "0.1", auth=f"{USER}:{PASSWORD}")
    check_everything(task, [i for i in range(12) if i != 3])
    specs = {a["id"]: a["name"] for label in task.labels.values() for a in label["attributes"]}
    values = {specs[a["spec_id"]]: a["value"] for a in by_label(task)["box"][0]["attributes"]}
    assert values == {"side": "left", "wide": "false", "width": "30", "note": "by cli"}
    cli(*arguments, "--clear-existing", "--conf-threshold", "0.85")
    assert {label: len(found) for label, found in by_label(task).items()} == {"box": 11}


def test_auto_annotate_with_polygons_instead_of_masks(server: CvatServer, cli: Cli) -> None:
    labels = [{"name": "region", "type": "polygon"}]
    task = server.add_task(labels, [("a.png", png(red_box(BOXES[0], SIZE_HW)))])
    arguments = ["task", "auto-annotate", str(task.id), *native("everything"), "--allow-unmatched-labels"]
    _, log = cli(*arguments, fails=True)
    assert "'region' has type 'mask' in the function, but 'polygon' in the dataset" in log
    cli(*arguments, "--conv-mask-to-poly")
    (polygon,) = task.annotations["shapes"]
    assert polygon["type"] == "polygon"
    left, top, right, bottom = BOXES[0]
    corners = {(left, top), (right, top), (right, bottom), (left, bottom)}
    assert set(zip(polygon["points"][::2], polygon["points"][1::2], strict=True)) == corners


def test_what_can_not_be_loaded_is_said(server: CvatServer, cli: Cli, task: Task) -> None:
    arguments = ["task", "auto-annotate", str(task.id)]
    _, log = cli(*arguments, *native("nothing"), fails=True)
    assert "nothing: there is no such function" in log
    _, log = cli(*arguments, *native("everything", "bogus=int:3"), fails=True)
    assert "unknown option 'bogus'; known options: fail," in log
    _, log = cli(*arguments, *native("colours"), fails=True)
    assert "colours is a reid function, and CVAT's SDK has no interface for those" in log
    for function, kind in (("flood", "an interactor"), ("follow", "a tracker")):
        _, log = cli(*arguments, *native(function), fails=True)
        last = log.strip().splitlines()[-1]
        assert last.startswith("cvat_sdk.auto_annotation.exceptions.BadFunctionError: ")
        assert f"{function} is {kind}, and a task is annotated by detectors only" in last
        assert "cvat-cli function create-native and run-agent" in last
    assert task.annotations == {"tags": [], "shapes": [], "tracks": []}


def create(server: CvatServer, cli: Cli, function: str) -> int:
    out, _ = cli("function", "create-native", f"My {function}", *native(function))
    assert server.functions[int(out)]["name"] == f"My {function}"
    return int(out)


def test_a_detector_behind_an_agent(server: CvatServer, cli: Cli, task: Task) -> None:
    function = create(server, cli, "everything")
    labels = {label["name"]: label for label in server.functions[function]["labels_v2"]}
    assert labels["figure"]["type"] == "skeleton"
    assert [s["name"] for s in labels["figure"]["sublabels"]] == ["head", "left foot", "right foot"]
    mapping = {
        label.name: {
            "name": label.name,
            "attributes": {a.name: a.name for a in label.attributes},
            "sublabels": {s.name: {"name": s.name, "attributes": {}} for s in label.sublabels},
        }
        for label in FunctionConfig.load(FUNCTIONS / "everything").labels.values()
    }
    common = {"task": task.id, "mapping": mapping, "threshold": 0.0, "conv_mask_to_poly": False}
    one = server.enqueue(function, "interactive", {"type": "annotate_frame", "frame": 2, **common})
    whole = server.enqueue(function, "batch", {"type": "annotate_task", **common})
    cli("function", "run-agent", str(function), *native("everything"), "--burst")
    assert (one.status, whole.status) == ("finished", "finished"), one.error + whole.error
    check_everything(task, [i for i in range(12) if i != 3])
    assert len(one.result["annotations"]["shapes"]) == 9
    assert {shape["frame"] for shape in one.result["annotations"]["shapes"]} == {2}


def test_an_interactor_behind_a_waiting_agent(server: CvatServer, cli: Cli, task: Task) -> None:
    function = create(server, cli, "flood")
    assert server.functions[function]["min_pos_points"] == 0
    assert server.functions[function]["startswith_box_optional"] is True
    agent = cli.start("function", "run-agent", str(function), *native("flood"))
    try:
        # The agent waits for events: each request comes while it does.
        for frame, roi in ((0, None), (0, None), (5, None), (5, [10, 0, 80, 50])):
            left, top, right, bottom = BOXES[frame]
            x0, y0, x1, y1 = roi or (0, 0, 90, 60)
            points = [[left + 5 - x0, top + 5 - y0]]
            params = {
                "type": "interact",
                "task": task.id,
                "frame": frame,
                "pos_points": points,
                "neg_points": [],
                "obj_bbox": [],
            }
            queued = server.enqueue(function, "interactive", {**params, **({"roi": roi} if roi else {})})
            wait(queued, agent)
            assert queued.status == "finished", queued.error
            (shape,) = queued.result["shapes"]
            assert shape["type"] == "mask"
            found = decode_mask(shape["points"], image_width=x1 - x0, image_height=y1 - y0)
            expected = np.zeros(SIZE_HW, bool)
            expected[top:bottom, left:right] = True
            np.testing.assert_array_equal(found, expected[y0:y1, x0:x1])
    finally:
        agent.send_signal(signal.SIGINT)
        agent.communicate(timeout=30)


def wait(queued: Queued, agent: subprocess.Popen[str]) -> None:
    if not queued.finished.wait(60):
        agent.kill()
        pytest.fail(agent.communicate()[1])


def test_a_tracker_behind_an_agent(server: CvatServer, cli: Cli) -> None:
    pictures = [red_box(box, SIZE_HW) for box in BOXES[:3]] + [scene([], SIZE_HW)]
    task = server.add_task([{"name": "thing"}], [(f"{i}.png", png(p)) for i, p in enumerate(pictures)])
    function = create(server, cli, "follow")
    assert server.functions[function]["supported_shape_types"] == sorted(
        ["rectangle", "ellipse", "polygon", "polyline", "points", "mask", "cuboid"]
    )
    agent = cli.start("function", "run-agent", str(function), *native("follow"))
    try:
        shapes = [
            {"type": "rectangle", "points": [20.0, 12.0, 50.0, 42.0]},
            {"type": "mask", "points": [1.0, 2.0, 1.0, 20.0, 12.0, 21.0, 13.0]},
        ]
        start = {"type": "init_tracking", "task": task.id, "frame": 0, "shapes": shapes}
        queued = server.enqueue(function, "interactive", start)
        wait(queued, agent)
        assert queued.status == "finished", queued.error
        states = queued.result["states"]
        assert len(set(states)) == 2
        for frame in (1, 2, 3):
            queued = server.enqueue(
                function, "interactive", {"type": "track", "task": task.id, "frame": frame, "states": states}
            )
            wait(queued, agent)
            assert queued.status == "finished", queued.error
            found = queued.result["shapes"]
            if frame == 3:
                assert found == [None, None]
            else:
                d = 2.0 * frame
                assert found[0] == {"type": "rectangle", "points": [20 + d, 12, 50 + d, 42]}
                assert found[1] == {"type": "mask", "points": [1, 2, 1, 20 + d, 12, 21 + d, 13]}
    finally:
        agent.send_signal(signal.SIGINT)
        agent.communicate(timeout=30)


def test_an_agent_reports_a_picture_that_can_not_be_had(server: CvatServer, cli: Cli) -> None:
    bad = scene([(BOXES[0], RED)], SIZE_HW, corner=(0, 0, 255))
    labels = FunctionConfig.load(FUNCTIONS / "everything").labels.to_raw()
    task = server.add_task(labels, [("bad.png", png(bad))])
    function = create(server, cli, "everything")
    queued = server.enqueue(
        function,
        "batch",
        {
            "type": "annotate_frame",
            "task": task.id,
            "frame": 0,
            "mapping": {},
            "threshold": None,
            "conv_mask_to_poly": False,
        },
    )
    cli("function", "run-agent", str(function), *native("everything"), "--burst")
    assert (queued.status, queued.error) == ("failed", "Unknown error")
    assert task.annotations["shapes"] == []
