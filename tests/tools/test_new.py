"""`make new`: functions from weight files and from templates, and what is refused without a trace."""

from __future__ import annotations

import base64
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
import yaml

from common.config import FunctionConfig
from common.cvat.skeleton import COCO_EDGES, COCO_JOINTS
from common.errors import StartupError
from tests.common.networks.onnx_files import constant_model
from tests.linked_environment import linked_environment
from tools.check import check_function
from tools.collection import COLLECTION, ROOT
from tools.new.__main__ import make
from tools.new.document import Document, scalar
from tools.new.labels import make_labels, read_edges, read_joints
from tools.sample import differences
from tools.wrapper import LoadedFunction

MODELS = ROOT / "tests" / "models"
PHOTO = ROOT / "tools" / "demo" / "cat_mug.jpg"
ODD_NAMES = ["cat", 'dog\'s "bone"', "a: b, #c", "Löwe", "x y"]


def detector(path: Path, names: list[str] | None = None, **more: Any) -> Path:
    table = np.zeros((1, 4 + len(names or "ab"), 84), np.float32)
    table[0, :5, 7] = [32, 32, 20, 16, 0.9]
    metadata = {"names": str(dict(enumerate(names))), "task": "detect", "end2end": False} if names else {}
    return constant_model(path, {"output0": table}, metadata=metadata | more)


def left_over(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def run(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tools.new", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("file", ["detect.onnx", "detect_e2e.onnx", "detect.xml", "segment_e2e.onnx"])
def test_a_function_from_a_file_in_seconds(tmp_path: Path, file: str) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = run(f"WEIGHTS={MODELS / file}", "NAME=my-detector", f"OUT={tmp_path / 'my-detector'}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    # Ten seconds on two cores; as time of processors, which a busy machine does not lengthen.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 15
    made = tmp_path / "my-detector"
    raw = json.loads((made / "labels.json").read_text())
    kind = "mask" if file.startswith("segment") else "rectangle"
    assert [(label["name"], label["type"]) for label in raw] == [(n, kind) for n in ("circle", "square", "triangle")]
    assert json.dumps(raw) in done.stdout
    assert (ROOT / "out/new/my-detector.png").is_file() and "out/new/my-detector.png" in done.stdout
    assert check_function(made) == []
    assert "AGPL-3.0" in (made / "README.md").read_text()
    assert differences(made) == []
    # And it answers.
    body = {"image": base64.b64encode(PHOTO.read_bytes()).decode(), "threshold": 0.05}
    reply = LoadedFunction(made, unique=True)(body)
    assert reply.status == 200 and isinstance(reply.json(), list)


def test_all_that_belongs_to_an_openvino_file_comes_along(tmp_path: Path) -> None:
    made = make({"WEIGHTS": str(MODELS / "detect.xml"), "NAME": "vino", "OUT": str(tmp_path / "vino")}).directory
    assert {"detect.xml", "detect.bin", "metadata.yaml"} <= set(left_over(made))
    assert "DEVICE" not in FunctionConfig.load(made).environment  # OpenVINO's files run on a CPU alone
    (made / "detect.bin").write_bytes(b"changed")
    with pytest.raises(StartupError, match=r"have changed: detect\.bin"):
        LoadedFunction(made, unique=True)


def test_weights_in_a_file_of_their_own_come_along(tmp_path: Path) -> None:
    """As the hub has them (model.onnx_data), and as torch writes them (model.onnx.data)."""
    for number, name in enumerate(("m.onnx_data", "m.onnx.data")):
        (folder := tmp_path / str(number)).mkdir()
        network = onnx.load(MODELS / "detect.onnx")
        onnx.save(network, folder / "m.onnx", save_as_external_data=True, location=name, size_threshold=1024)
        given = {"WEIGHTS": str(folder / "m.onnx"), "NAME": f"apart-{number}", "OUT": str(folder / "made")}
        made = make(given).directory
        assert {"m.onnx", name} <= set(left_over(made))
        body = {"image": base64.b64encode(PHOTO.read_bytes()).decode(), "threshold": 0.05}
        assert LoadedFunction(made, unique=True)(body).status == 200


def test_weights_in_another_folder_are_named(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    network = onnx.load(MODELS / "detect.onnx")
    onnx.save(network, tmp_path / "m.onnx", save_as_external_data=True, location="parts/m.data", size_threshold=1024)
    with pytest.raises(StartupError, match=r"its weights are in parts/m\.data: save the model again"):
        make({"WEIGHTS": str(tmp_path / "m.onnx"), "NAME": "apart", "OUT": str(tmp_path / "made")})


def test_odd_names_survive(tmp_path: Path) -> None:
    model = detector(tmp_path / "m.onnx", ODD_NAMES)
    made = make({"WEIGHTS": str(model), "NAME": "odd", "OUT": str(tmp_path / "odd")})
    assert list(FunctionConfig.load(made.directory).labels) == ODD_NAMES
    assert made.shapes == 1


def test_names_where_the_file_has_none(tmp_path: Path) -> None:
    model = detector(tmp_path / "m.onnx")
    given = {"WEIGHTS": str(model), "NAME": "nameless", "OUT": str(tmp_path / "nameless")}
    with pytest.raises(StartupError, match="LABELS: the file has no names for its 2 classes"):
        make(given)
    with pytest.raises(StartupError, match="LABELS: the model has 2 classes, got 3 names"):
        make(given | {"LABELS": "a,b,c"})
    assert left_over(tmp_path) == ["m.onnx"]
    made = make(given | {"LABELS": "cat, dog"})
    assert list(FunctionConfig.load(made.directory).labels) == ["cat", "dog"]


def test_other_names_than_the_files(tmp_path: Path) -> None:
    model = detector(tmp_path / "m.onnx", ["cat", "dog"])
    names = tmp_path / "data.yaml"
    names.write_text("names:\n  1: Hund\n  0: Katze\n", encoding="utf-8")
    given = {"WEIGHTS": str(model), "NAME": "de", "OUT": str(tmp_path / "de"), "LABELS": str(names)}
    config = FunctionConfig.load(make(given).directory)
    assert list(config.labels) == ["Katze", "Hund"] and config.environment["LABELS_BY"] == "id"


def test_names_by_ids_that_have_gaps(tmp_path: Path) -> None:
    model = detector(tmp_path / "m.onnx", ["a", "b", "c", "d"])
    (tmp_path / "coco.json").write_text('{"categories": [{"id": 3, "name": "dog"}, {"id": 1, "name": "cat"}]}')
    given = {
        "WEIGHTS": str(model),
        "NAME": "some",
        "LABELS": str(tmp_path / "coco.json"),
        "OUT": str(tmp_path / "some"),
    }
    made = make(given)
    labels = FunctionConfig.load(made.directory).labels
    assert {label.id: label.name for label in labels.values()} == {1: "cat", 3: "dog"}
    assert made.shapes == 0  # the class that the model finds is 0, which has no name


def test_a_pose(tmp_path: Path) -> None:
    table = np.zeros((1, 5 + 51, 84), np.float32)
    table[0, :5, 7] = [32, 32, 20, 16, 0.9]
    table[0, 7::3, 7] = 0.9
    metadata = {"names": "['person']", "task": "pose", "kpt_shape": "[17, 3]", "end2end": False}
    model = constant_model(tmp_path / "m.onnx", {"o": table}, metadata=metadata)
    made = make({"WEIGHTS": str(model), "NAME": "people", "OUT": str(tmp_path / "people")})
    (label,) = FunctionConfig.load(made.directory).labels.values()
    assert [part.name for part in label.sublabels] == list(COCO_JOINTS)
    assert label.svg.count("<line") == len(COCO_EDGES)
    assert made.shapes == 1


def test_what_the_file_does_not_say_can_be_said(tmp_path: Path) -> None:
    table = np.zeros((1, 300, 6), np.float32)
    table[0, 0] = [0.1, 0.2, 0.5, 0.6, 0.9, 1]
    model = constant_model(tmp_path / "m.onnx", {"o": table})
    given = {"WEIGHTS": str(model), "NAME": "rows", "OUT": str(tmp_path / "rows"), "LABELS": "a,b"}
    with pytest.raises(StartupError, match="fit the layouts end2end or rtdetr"):
        make(given)
    made = make(given | {"LAYOUT": "end2end"})
    assert FunctionConfig.load(made.directory).environment["LAYOUT"] == "end2end"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"NAME": "Big_Name"}, "NAME: expected lower-case letters, digits and dashes"),
        ({"NAME": ""}, "such as my-detector; got nothing"),
        ({"NAME": "opencv-grabcut"}, "serverless/opencv/grabcut is already called opencv-grabcut"),
        ({"OUT": "."}, "OUT: .* exists already"),
        ({"OUT": "", "REPO": "."}, "REPO: .* exists already"),
        ({"REPO": "fresh"}, "OUT: not with REPO"),
        ({"WEIGHTS": "/nowhere/best.onnx"}, "WEIGHTS: there is no /nowhere/best.onnx"),
        ({"WEIGHTS": "models/typo.onnx"}, "WEIGHTS: there is no models/typo.onnx"),
        (
            {"WEIGHTS": "photo.jpg"},
            r"WEIGHTS: expected .*\.onnx, OpenVINO's \.xml .*; got the text 'photo\.jpg': a text file",
        ),
        ({"WEIGHTS": "text.onnx"}, r"text\.onnx: this is a text file"),
        (
            {"WEIGHTS": "unknown.onnx"},
            r"fit none of the layouts .*a handler of its own \(make new NAME=<name> KIND=detector",
        ),
        ({"WEIGHTS": "unknown.onnx", "TASK": "segment"}, "fit none of the layouts known here with TASK=segment. Seen"),
        ({"WEIGHTS": "text.pt"}, r"text\.pt: this is a text file"),
        ({"WEIGHTS": "alone.xml"}, r"alone\.xml: alone\.bin, which holds the weights, is missing"),
        ({"WEIGHTS": "good.onnx", "LABELS": "names.txt"}, "LABELS: no such file: names.txt"),
        ({"WEIGHTS": "good.onnx", "LABELS": "photo.txt"}, r"LABELS: photo\.txt: line 1 is not UTF-8"),
        ({"WEIGHTS": "good.onnx", "JOINTS": "a,b"}, "JOINTS: for a pose model; the task of this one is detect"),
        ({"WEIGHTS": "good.onnx", "OUT": "good.onnx/fresh"}, "OUT: good.onnx/fresh can't be made: .*exists"),
        ({"TASK": "pose", "IMAGE": "photo.jpg"}, "TASK, IMAGE: for a weight file"),
        ({"WEIGHTS": "good.onnx", "KIND": "tracker"}, "expected a network like OpenCV's VitTrack"),
        ({"WEIGHTS": "good.onnx", "TASK": "boxes"}, "TASK: expected one of"),
        ({"WEIGHTS": "good.onnx", "IMAGE": "/nowhere.jpg"}, "IMAGE: /nowhere.jpg: No such file"),
        ({"WEIGHTS": "good.onnx", "IMAGE_SIZE": "96"}, "input is fixed to 64x64"),
        ({"KIND": "painter"}, "KIND: expected one of detector, interactor, tracker, reid"),
    ],
)
def test_refuses_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], message: str
) -> None:
    detector(tmp_path / "good.onnx", ["a", "b"])
    constant_model(tmp_path / "unknown.onnx", {"o": np.zeros((1, 33, 77), np.float32)})
    for name in ("photo.jpg", "text.onnx", "text.pt"):
        (tmp_path / name).write_text("no model")
    (tmp_path / "alone.xml").write_text("<net/>")
    (tmp_path / "photo.txt").write_bytes(b"\xff\xd8\xff")
    (tmp_path / "empty").mkdir()
    before = left_over(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StartupError, match=message):
        make({"NAME": "fresh", "OUT": str(tmp_path / "empty/deep/er/still/fresh")} | settings)
    assert left_over(tmp_path) == before


def test_pt_files_that_are_told_something_else(tmp_path: Path) -> None:
    given = {"WEIGHTS": str(MODELS / "detect.pt"), "NAME": "other", "OUT": str(tmp_path / "other")}
    with pytest.raises(StartupError, match="TASK: the file's task is detect, got the text 'pose'"):
        make(given | {"TASK": "pose"})
    with pytest.raises(StartupError, match="LAYOUT: for exported files"):
        make(given | {"LAYOUT": "yolov8"})


def test_an_error_of_the_check_leaves_nothing(tmp_path: Path) -> None:
    # A label that CVAT can't have: the name of a joint with a quotation mark breaks the skeleton's picture.
    table = np.zeros((1, 5 + 6, 84), np.float32)
    metadata = {
        "names": "['p']",
        "task": "pose",
        "kpt_shape": "[2, 3]",
        "kpt_names": "{0: ['a\"b', 'c']}",
        "end2end": False,
    }
    model = constant_model(tmp_path / "m.onnx", {"o": table}, metadata=metadata)
    given = {"WEIGHTS": str(model), "NAME": "people", "OUT": str(tmp_path / "people")}
    with pytest.raises(StartupError, match="the joint name 'a\"b'"):
        make(given)
    assert left_over(tmp_path) == ["m.onnx"]
    made = make(given | {"JOINTS": "head,tail", "EDGES": "head-tail"})
    (label,) = FunctionConfig.load(made.directory).labels.values()
    assert [part.name for part in label.sublabels] == ["head", "tail"] and label.svg.count("<line") == 1


@pytest.mark.parametrize("kind", ["detector", "interactor", "tracker", "reid"])
def test_templates_keep_every_rule_as_they_are(tmp_path: Path, kind: str) -> None:
    made = make({"NAME": f"my-{kind}", "KIND": kind, "OUT": str(tmp_path / f"my-{kind}")}).directory
    assert check_function(made, run=False) == []
    ruff = ["ruff", "check", "--config", str(ROOT / "pyproject.toml"), "--config", "lint.per-file-ignores={}"]
    ruff += ["--ignore", "D105,D107,D100,D103", str(made)]
    subprocess.run([sys.executable, "-m", *ruff], check=True)
    config = FunctionConfig.load(made)
    assert (config.name, config.kind) == (f"my-{kind}", kind)
    text = (made / "function.yaml").read_text()
    assert text.count("# ") >= 5 and "# Each worker is a process" in text
    assert (made / "main.py").read_bytes() == (COLLECTION / "opencv/grabcut/main.py").read_bytes()
    assert {path.name for path in made.iterdir()} >= {"README.md", "model_handler.py", "test_function.py"}


@pytest.mark.parametrize(
    ("kind", "statement", "broken"),
    [
        (
            "detector",
            "box = (left, top, left + width, top + height)",
            "box = (left, top, left + width, top + height + 2)",
        ),
        ("interactor", "found &= ~outside", "found |= outside"),
        ("tracker", "box = [x0 + int(x), ", "box = [x0 + int(x) + 2, "),
        ("reid", "rows.append(np.sqrt(counts / counts.sum()))", "rows.append(np.full(512, 1 - len(rows)))"),
    ],
)
def test_the_test_beside_a_function_sees_when_its_replies_change(
    tmp_path: Path, kind: str, statement: str, broken: str
) -> None:
    made = make({"NAME": f"my-{kind}", "KIND": kind, "OUT": str(tmp_path / f"my-{kind}")}).directory
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(made)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    handler = made / "model_handler.py"
    assert statement in handler.read_text()
    handler.write_text(handler.read_text().replace(statement, broken))
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "reply" in done.stdout and ": expected" in done.stdout


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A repository made around a function for a weight file, and variables that give it this environment's packages."""
    folder = tmp_path_factory.mktemp("repository")
    done = run("NAME=drawn", f"WEIGHTS={MODELS / 'segment_e2e.onnx'}", f"REPO={folder / 'drawn-shapes'}")
    assert done.returncode == 0, done.stderr
    return folder / "drawn-shapes", linked_environment(folder / "environment")


def make_in(repository: tuple[Path, dict[str, str]], *arguments: str) -> str:
    folder, environment = repository
    done = subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_repository_around_a_function_passes_its_own_tests(repository) -> None:
    assert "2 passed" in make_in(repository, "test", "ARGS=-n0 -rA")
    assert "no findings" in make_in(repository, "check", "FUNCTION=serverless/custom/drawn")
    make_in(repository, "lint")


def test_a_repository_around_a_function_serves_it(repository) -> None:
    folder, environment = repository
    command = ["make", "--no-print-directory", "serve", "PORT=0"]
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as server:
        try:
            assert server.stdout is not None
            address = next(
                match[1] for line in server.stdout if (match := re.search(r"^drawn .*ready +(http\S+)", line))
            )
            body = {"image": base64.b64encode(PHOTO.read_bytes()).decode(), "threshold": 0.05}
            reply = httpx.post(address, json=body, timeout=30, trust_env=False)
            assert reply.status_code == 200 and isinstance(reply.json(), list)
        finally:
            os.killpg(server.pid, signal.SIGINT)
            server.communicate(timeout=30)


def test_what_is_in_a_repository_around_a_function(repository) -> None:
    folder, _ = repository
    assert {path.name for path in folder.iterdir() if not path.name.endswith("_cache")} == {
        *("common", "tools", "serverless", "deploy", "tests", "docs"),
        *(
            "annotate",
            "deploy_cpu.sh",
            "deploy_gpu.sh",
            "compose.yaml",
            "Makefile",
            "README.md",
            "LICENSE",
            "pyproject.toml",
        ),
        *(".github", ".git", ".gitignore"),
    }
    assert [path.parent.name for path in folder.rglob("function.yaml")] == ["drawn"]
    assert {path.name for path in (folder / "serverless").iterdir() if path.is_dir()} - {"__pycache__"} == {
        "onnx",
        "custom",
    }
    assert (folder / "deploy/ci/release_functions").read_text().splitlines()[-1] == "custom"
    for text in (path.read_text() for path in folder.rglob("*.*") if path.suffix in (".md", ".yml", ".toml")):
        assert "{{" not in text.replace("${{", "")
    # Whatever its Makefile and README name is there.
    for path in re.findall(r"(?<![\w./])(?:deploy|docs|serverless|tools)/[\w./-]+", (folder / "README.md").read_text()):
        assert (folder / path).exists(), path
    workflows = [yaml.safe_load(path.read_text()) for path in (folder / ".github/workflows").iterdir()]
    steps = [step.get("run", "") for flow in workflows for job in flow["jobs"].values() for step in job["steps"]]
    for path in re.findall(r"(?<![\w/])(?:\./)?(deploy[\w/]*\.sh)", "\n".join(steps)):
        assert (folder / path).is_file(), path
    for module in re.findall(r"python3 -m (deploy[\w.]*)", "\n".join(steps)):
        assert (folder / f"{module.replace('.', '/')}.py").is_file(), module
    targets = set(re.findall(r"(?m)^([a-z-]+):", (folder / "Makefile").read_text()))
    assert set(re.findall(r"make ([a-z]+)", (folder / "README.md").read_text() + "\n".join(steps))) <= targets


def test_the_default_place(monkeypatch: pytest.MonkeyPatch) -> None:
    place = COLLECTION / "custom" / "made-by-a-test"
    assert not place.exists()
    try:
        done = run("NAME=made-by-a-test", "KIND=reid")
        assert done.returncode == 0, done.stderr
        assert (place / "function.yaml").is_file() and "serverless/custom/made-by-a-test" in done.stdout
        again = run("NAME=made-by-a-test", "KIND=reid")
        assert again.returncode == 1 and "exists already" in again.stderr and "Traceback" not in again.stderr
    finally:
        shutil.rmtree(place, ignore_errors=True)
        if place.parent.is_dir() and not any(place.parent.iterdir()):
            place.parent.rmdir()


def test_the_command_line_says_what_is_wrong() -> None:
    for arguments, message in (
        (["best.onnx"], "'best.onnx': expected NAME=value"),
        (["COLOUR=red"], "expected NAME=value with one of"),
        (["NAME=a", "WEIGHTS="], "WEIGHTS: expected a file, got nothing"),
    ):
        done = run(*arguments)
        assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr
    assert run("--help").stdout.startswith("usage: make new NAME=<name>")


def test_one_class_is_counted_in_the_singular(tmp_path: Path) -> None:
    done = run(f"WEIGHTS={MODELS / 'pose.onnx'}", "NAME=one", f"OUT={tmp_path / 'one'}")
    assert "pose.onnx: task pose, 1 class, layout yolov8" in done.stdout


def test_joints_and_edges_as_people_write_them() -> None:
    assert read_joints("", 17, None) == list(COCO_JOINTS)
    assert read_joints("", 2, ("a", "b")) == ["a", "b"]
    assert read_joints("", 2, None) == read_joints("2", None, None) == ["joint 1", "joint 2"]
    assert read_joints("head, tail", None, None) == ["head", "tail"]
    for text, count in (("a,b,c", 2), ("", None), ("3", 2)):
        with pytest.raises(StartupError, match="JOINTS"):
            read_joints(text, count, None)
    joints = ["left-hand", "left", "hand"]
    assert read_edges("1-2, 2-3", joints) == [(0, 1), (1, 2)]
    assert read_edges("left-hand-hand,left-hand", joints) == [(0, 2), (1, 2)]
    assert read_edges("", joints) == [] and read_edges("", COCO_JOINTS) == list(COCO_EDGES)
    for text in ("1-4", "1", "a-b", "0-1", "1-1"):
        with pytest.raises(StartupError, match="EDGES"):
            read_edges(text, joints)


@pytest.mark.parametrize(
    "text",
    ["cpu", "0.35", "true", "No", "", "a: b", "it's", '"', "#x", "- a", "YOLO (.pt)", "1e3", "ß", "null", "a #b"],
)
def test_scalars_are_read_back_as_written(text: str) -> None:
    assert yaml.safe_load(f"value: {scalar(text)}") == {"value": text}


def test_the_document_is_what_it_says() -> None:
    labels = make_labels(ODD_NAMES, "pose", ["a", "b"], [(0, 1)])
    document = Document("n-1", "detector", "It's 'so'", "cvat.onnx.base", "Note", labels, {"IOU": "0.7"})
    assert document.text().count("# ") == 2 and "  # Note\n  env:\n" in document.text()  # "# 32 MB" is the other
    content = yaml.safe_load(document.text())
    assert json.loads(content["metadata"]["annotations"]["spec"]) == labels
    assert content["metadata"]["annotations"]["name"] == "N 1" and content["spec"]["description"] == "It's 'so'"
    assert content["spec"]["env"] == [{"name": "IOU", "value": "0.7"}]
