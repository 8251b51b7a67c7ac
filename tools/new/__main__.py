"""`python -m tools.new NAME=my-detector WEIGHTS=best.onnx`; the arguments are those of `make new`."""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage

from common.cvat.skeleton import skeleton_edges
from common.errors import FunctionError, StartupError, describe
from common.networks.formats.layout import Hints
from common.vision.image import decode_image
from tools import collection
from tools.check import has_errors, inspect_function
from tools.check.report import Printer, wants_colour
from tools.draw import overlay
from tools.new.function import KINDS, Plan, write_function
from tools.new.labels import make_labels, read_edges, read_joints, read_names
from tools.new.weights import Facts, read_weights
from tools.wrapper import LoadedFunction

CUSTOM = collection.COLLECTION / "custom"
PICTURES = collection.ROOT / "out" / "new"
SAMPLE = Path(__file__).parent.parent / "demo" / "cat_mug.jpg"
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_LONGEST_NAME = 56
_USAGE = """usage: make new NAME=<name> [WEIGHTS=<file>] [...], or python -m tools.new NAME=... [...]

  NAME=my-detector         the function's name: lower-case letters, digits, dashes
  WEIGHTS=best.onnx        a model: .onnx, an OpenVINO .xml or its folder, .pt (needs the package ultralytics, AGPL-3.0)
  TASK=segment             detect, segment, pose, obb or classify, where the file doesn't say
  LABELS=cat,dog           class names, or a file of them (names.txt, data.yaml), where the file has none
  JOINTS=nose,tail         names of a pose's joints, or their number, where the file doesn't say
  EDGES=1-2,2-3            pairs of joints that a line joins, by number or by name
  LAYOUT=yolov5            what the file's outputs are, where that can't be found
  IMAGE_SIZE=640           for files of free input size
  IMAGE=photo.jpg          the picture to try the function with
  OUT=path                 where to make the directory; default: serverless/custom/<name>
  KIND=tracker             without WEIGHTS: a commented template of a detector, interactor, tracker or reid
"""
_OF_WEIGHTS = ("TASK", "JOINTS", "EDGES", "LAYOUT", "IMAGE_SIZE", "IMAGE")
_KEYS = ("NAME", "WEIGHTS", "KIND", "LABELS", "OUT", *_OF_WEIGHTS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Makes the function that the command line describes; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.new", usage=_USAGE, add_help=True)
    parser.add_argument("settings", nargs="*", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    begin = time.monotonic()
    try:
        settings = _settings(given.settings)
        made = make(settings)
    except FunctionError as error:
        print(f"make new: {error}", file=sys.stderr)
        return 1
    _report(made, time.monotonic() - begin)
    return 0


@dataclass(frozen=True, slots=True)
class Made:
    """What was made. directory: of the function. picture: of the sample, None where none was drawn. shapes: found in it."""

    directory: Path
    plan: Plan
    picture: Path | None = None
    shapes: int = 0
    milliseconds: float = 0.0


def make(settings: dict[str, str]) -> Made:
    """Makes a function from settings by the names of `_KEYS`. It is checked and tried before it gets its place: after an
    error there is nothing of it. Raises StartupError that says what is wrong."""
    name, target = _place(settings)
    plan = _plan(name, settings)
    missing = [parent for parent in target.parents if not parent.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        workshop = Path(tempfile.mkdtemp(prefix=".new-", dir=target.parent))
    except OSError as error:
        raise StartupError(f"OUT: {_shown(target)} can't be made: {error.filename}: {error.strerror}") from error
    try:
        draft = workshop / target.name
        draft.mkdir()
        write_function(draft, plan)
        _check(draft, target)
        picture, shapes, milliseconds = None, 0, 0.0
        if plan.facts is not None:
            picture, shapes, milliseconds = _try(draft, plan, Path(settings.get("IMAGE") or SAMPLE))
        shutil.rmtree(draft / "__pycache__", ignore_errors=True)
        try:
            draft.rename(target)
        except OSError as error:
            raise StartupError(f"OUT: {target} can't be made: {error.strerror}") from error
        return Made(target, plan, picture, shapes, milliseconds)
    finally:
        shutil.rmtree(workshop, ignore_errors=True)
        for parent in missing if not target.exists() else ():
            with contextlib.suppress(OSError):  # something else is in it by now
                parent.rmdir()


def _settings(arguments: Sequence[str]) -> dict[str, str]:
    settings = {}
    for argument in arguments:
        key, separator, value = argument.partition("=")
        if not separator or key.upper() not in _KEYS:
            raise StartupError(f"{argument!r}: expected NAME=value with one of {', '.join(_KEYS)}")
        if value.strip():
            settings[key.upper()] = value.strip()
        elif key.upper() == "WEIGHTS":
            raise StartupError("WEIGHTS: expected a file, got nothing; leave it out for a template")
    return settings


def _place(settings: dict[str, str]) -> tuple[str, Path]:
    name = settings.get("NAME", "")
    if not _NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
        raise StartupError(
            f"NAME: expected lower-case letters, digits and dashes, at most {_LONGEST_NAME}, such as my-detector; "
            f"got {describe(name) if name else 'nothing'}"
        )
    target = Path(settings.get("OUT") or CUSTOM / name).resolve()
    if target.exists():
        raise StartupError(f"OUT: {_shown(target)} is there already: take another NAME or OUT, or delete it first")
    for directory in collection.function_directories():
        text = (directory / "function.yaml").read_text(encoding="utf-8")
        if re.search(rf"^  name: [\"']?{re.escape(name)}[\"']?\s*$", text, re.MULTILINE):
            raise StartupError(f"NAME: {_shown(directory)} is already called {name}: two functions can't share a name")
    return name, target


def _plan(name: str, settings: dict[str, str]) -> Plan:
    if "WEIGHTS" not in settings:
        kind = settings.get("KIND", "detector")
        if kind not in KINDS:
            raise StartupError(f"KIND: expected one of {', '.join(KINDS)}, got {describe(kind)}")
        if useless := [key for key in _OF_WEIGHTS if key in settings]:
            raise StartupError(f"{', '.join(useless)}: for a weight file; a template takes NAME, KIND, LABELS and OUT")
        labels = read_names(settings["LABELS"]) if "LABELS" in settings else ["bright area"]
        return Plan(name, kind, make_labels(labels, "detect") if kind == "detector" else ())
    if settings.get("KIND", "detector") != "detector":
        raise StartupError("KIND: a function for a weight file is a detector; leave out WEIGHTS for a template")
    own_names = read_names(settings["LABELS"]) if "LABELS" in settings else None
    joints = settings.get("JOINTS", "")
    hints = Hints(
        layout=settings.get("LAYOUT"),
        task=settings.get("TASK"),
        classes=len(own_names) if own_names else None,
        joints=(int(joints) if joints.isdecimal() else len(joints.split(","))) if joints else None,
    )
    facts = read_weights(Path(settings["WEIGHTS"]).expanduser(), hints, settings.get("IMAGE_SIZE"))
    options: dict[str, str] = {key: settings[key] for key in ("LAYOUT", "TASK", "IMAGE_SIZE") if key in settings}
    if own_names is not None and facts.names is not None:
        options["LABELS_BY"] = "id"  # the labels are other names for the model's classes
    return Plan(name, "detector", _labels(facts, own_names, settings), options, facts)


def _labels(facts: Facts, own_names: list[str] | None, settings: dict[str, str]) -> list[dict[str, Any]]:
    names = own_names or facts.names
    if names is None:
        count = f"{facts.classes} " if facts.classes else ""
        raise StartupError(
            f"LABELS: the file has no names for its {count}classes: give them in the model's order, LABELS=cat,dog or a file of "
            "them, LABELS=names.txt or LABELS=data.yaml"
        )
    if facts.classes is not None and len(names) != facts.classes:
        raise StartupError(f"LABELS: the model has {facts.classes} classes, got {len(names)} names")
    if facts.task != "pose":
        if useless := [key for key in ("JOINTS", "EDGES") if key in settings]:
            raise StartupError(f"{', '.join(useless)}: for a pose model; the task of this one is {facts.task}")
        return make_labels(names, facts.task)
    joints = read_joints(settings.get("JOINTS", ""), facts.joints, facts.joint_names)
    return make_labels(names, facts.task, joints, read_edges(settings.get("EDGES", ""), joints))


def _check(draft: Path, target: Path) -> None:
    report = inspect_function(draft)
    if not report.findings:
        return
    Printer(sys.stdout, colour=wants_colour(sys.stdout, dict(os.environ))).write(report)
    if has_errors(report.findings):
        raise StartupError(f"{_shown(target)} was not made: the check above found errors")


def _try(draft: Path, plan: Plan, sample: Path) -> tuple[Path, int, float]:
    """Asks the function about a picture, and draws the answer; (where, how many shapes, milliseconds)."""
    try:
        content = sample.read_bytes()
    except OSError as error:
        raise StartupError(f"IMAGE: {sample}: {error.strerror}") from error
    image = decode_image(content, "IMAGE")
    # The check has started it as it is; which engine is faster need not be measured again.
    engine = "openvino" if any(file.suffix == ".xml" for file in draft.iterdir()) else "onnxruntime"
    with _variable("ENGINE", engine):
        function = LoadedFunction(draft, unique=True, logger=_Quiet())
    body = {"image": base64.b64encode(content).decode()}
    begin = time.perf_counter()
    reply = function(body)
    milliseconds = (time.perf_counter() - begin) * 1000
    if reply.status != 200:
        raise StartupError(
            f"the function answers the picture {sample.name} with {reply.status}: {reply.json().get('error')}"
        )
    shapes = reply.json()
    PICTURES.mkdir(parents=True, exist_ok=True)
    picture = PICTURES / f"{plan.name}.png"
    drawn: np.ndarray[Any, Any] = overlay(image, shapes, _edges(plan))
    PillowImage.fromarray(drawn).save(picture)
    return picture, len(shapes), milliseconds


class _Quiet:
    """A logger as Nuclio's, for a function whose errors come back in its replies."""

    def __getattr__(self, level: str) -> Callable[..., None]:
        return lambda *arguments, **facts: None


@contextlib.contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _edges(plan: Plan) -> dict[str, list[tuple[str, str]]]:
    edges: dict[str, list[tuple[str, str]]] = {}
    for label in plan.labels:
        joints = [part["name"] for part in label.get("sublabels", ())]
        edges[label["name"]] = [(joints[a], joints[b]) for a, b in skeleton_edges(label.get("svg", ""))]
    return edges


def _report(made: Made, seconds: float) -> None:
    facts, place = made.plan.facts, _shown(made.directory)
    if facts is not None:
        size = f", input {facts.size_hw[1]} x {facts.size_hw[0]}" if facts.size_hw else ""
        layout = f", layout {facts.layout}" if facts.layout else ""
        print(f"{facts.files[0].name}: task {facts.task}, {len(made.plan.labels)} classes{layout}{size}")
    print(f"Made {place} in {seconds:.1f} s; tools.check found nothing that fails.")
    if made.picture is not None:
        found = "nothing found at this threshold" if made.shapes == 0 else f"{made.shapes} found"
        print(f"Tried it: {found} in {made.milliseconds:.0f} ms; drawn in {_shown(made.picture)}")
    if made.plan.labels:
        print(
            f"\nThe labels for CVAT, also in {place}/labels.json; paste them into the Raw tab of the label constructor:\n"
        )
        print(json.dumps(json.loads((made.directory / "labels.json").read_text(encoding="utf-8")), ensure_ascii=False))
    print(f"\nNext:  make serve FUNCTIONS={place}\n       ./deploy_cpu.sh {place}")
    if facts is None:
        print(f"       edit {place}/model_handler.py, then: make check FUNCTION={place}")


def _shown(path: Path) -> str:
    for base in (Path.cwd(), collection.ROOT):
        if path.is_relative_to(base):
            return str(path.relative_to(base))
    return str(path)


if __name__ == "__main__":
    sys.exit(main())
