"""`python -m tools.new NAME=my-detector WEIGHTS=best.onnx`; the arguments are those of `make new`."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image as PillowImage

from common.config import KINDS, FunctionConfig
from common.cvat.reply import read_detector_reply
from common.errors import FunctionError, StartupError, describe, listed
from common.networks.formats.coco import NO_CATEGORY
from common.vision.image import decode_image
from tools import collection
from tools.check import has_errors, inspect_function
from tools.check.report import Printer, wants_colour
from tools.collection import shown
from tools.draw import overlay
from tools.memory.measure import measure
from tools.new.class_lists.class_list import ClassList
from tools.new.class_lists.reading import read_class_list
from tools.new.facts import Facts, Given
from tools.new.function import Plan, set_memory_limit, write_function
from tools.new.labels import make_labels, read_edges, read_joints
from tools.new.readers import read_model
from tools.new.repository import write_repository
from tools.new.sample import PHOTOGRAPH, write_sample
from tools.sample import record
from tools.workers.memory import suggested_limit

CUSTOM = collection.COLLECTION / "custom"
PICTURES = collection.ROOT / "out" / "new"
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_LONGEST_NAME = 56
_MEGAPIXELS = 24.0  # of the image with which a function's memory is measured
_USAGE = """make new NAME=<name> [WEIGHTS=<file>] [...], or python -m tools.new NAME=... [...]

  NAME=my-detector         the function's name: lower-case letters, digits, dashes
  WEIGHTS=best.onnx        a model: .onnx, an OpenVINO .xml or its folder, .torchscript, the .pt of
                           Ultralytics, YOLOv5 or YOLOv7
  WEIGHTS=org/name[@rev]   a model of transformers on the Hugging Face hub, or a folder with its config.json and model.safetensors
  TASK=segment             detect, segment, pose, obb or classify, where the file doesn't say
  LABELS=cat,dog           class names, or a file of them (classes.txt, data.yaml, JSON, ...), where the file has none
  JOINTS=nose,tail         names of a pose's joints, or their number, where the file doesn't say
  EDGES=1-2,2-3            pairs of joints that a line joins, by number or by name
  LAYOUT=yolov5            what the file's outputs are, where that can't be found
  IMAGE_SIZE=640           for files of free input size; a number, or height x width: 256x128
  COLOR=bgr                rgb or bgr: the order in which the network takes the channels, where the file doesn't say
  MEAN=0,0,0 STD=1,1,1     what is subtracted from each channel, 0 to 255, and what it is divided by, in that order
  RESIZE=stretch           center, corner or stretch: where the image lies in the network's input
  AS_IS=1                  run Ultralytics' .pt with their package (torch, AGPL-3.0), not exported to ONNX
  DETECTOR=detector.onnx   the detector in front of a top-down pose network; DETECTOR_CLASSES=cat,dog: which of its classes
  CODEC=udp                msra, dark, udp or simcc: how a pose network's outputs are decoded, where that can't be found
  OUTPUT=descriptors       with KIND=reid, the output that describes a picture, where there are several
  IMAGE=photo.jpg          the picture to try the function with
  OUT=path                 where to make the directory; default: serverless/custom/<name>
  REPO=path                make a repository around the function instead: with what it needs, tests, CI and releases
  KIND=tracker             without WEIGHTS: a commented template of a detector, interactor, tracker or reid;
                           with: a function for a network with the inputs and outputs of OpenCV's VitTrack; KIND=reid:
                           for one that describes pictures, a file or a folder of the Hugging Face hub
"""
_OF_SOME = ("OUTPUT", "DETECTOR", "DETECTOR_CLASSES", "CODEC")  # poses and reid
_OF_WEIGHTS = (
    "TASK",
    "JOINTS",
    "EDGES",
    "LAYOUT",
    "IMAGE_SIZE",
    "COLOR",
    "MEAN",
    "STD",
    "RESIZE",
    *_OF_SOME,
    "IMAGE",
    "AS_IS",
)
_KEYS = ("NAME", "WEIGHTS", "KIND", "LABELS", "OUT", "REPO", *_OF_WEIGHTS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Makes the function that the command line describes.

    Args:
        arguments: The command line, without the program's name; None for that of the process.

    Returns:
        The exit status.
    """
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
    """What was made."""

    directory: Path
    """Of the function."""
    plan: Plan
    shapes: int
    """How many a detector found in the sample picture."""
    drawing: Path | None
    """The picture with these shapes; None for other kinds."""
    repository: Path | None = None
    """The repository around the function, where one was asked for."""
    untried: str = ""
    """Why the function was not tried here; "" when it was."""


def make(settings: dict[str, str]) -> Made:
    """Makes a function. It is checked and tried before it is put in its place: an error leaves nothing behind.

    Args:
        settings: What the command line says, by the names of its usage: NAME, WEIGHTS, ...

    Returns:
        What was made.

    Raises:
        StartupError: A setting is wrong, or the function fails its check or the sample.
    """
    name, target = _place(settings)
    with tempfile.TemporaryDirectory(prefix="make-new-") as workshop:
        return _make(_plan(name, settings, Path(workshop)), target, settings)


def _make(plan: Plan, target: Path, settings: dict[str, str]) -> Made:
    """Writes a function beside its place, checks and tries it, and puts it there."""
    name = plan.name
    missing = [parent for parent in target.parents if not parent.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        workshop = Path(tempfile.mkdtemp(prefix=".new-", dir=target.parent))
    except OSError as error:
        raise StartupError(f"OUT: {shown(target)} can't be made: {error.filename}: {error.strerror}") from error
    try:
        draft = workshop / target.name
        place = Path("serverless", "custom", name) if "REPO" in settings else Path()
        (draft / place).mkdir(parents=True)
        write_function(draft / place, plan)
        _check(draft / place, target / place, run=not _lacking(plan))
        lacking = _lacking(plan)
        if plan.facts is not None and not lacking:
            _limit_memory(draft / place)
        picture = Path(settings.get("IMAGE") or PHOTOGRAPH).expanduser()
        shapes, drawing = (0, None) if lacking else _try(draft / place, plan, picture)
        if "REPO" in settings:
            write_repository(draft, name)
        for cache in draft.rglob("__pycache__"):
            shutil.rmtree(cache, ignore_errors=True)
        try:
            draft.rename(target)
        except OSError as error:
            raise StartupError(f"OUT: {target} can't be made: {error.strerror}") from error
        return Made(target / place, plan, shapes, drawing, target if "REPO" in settings else None, lacking)
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
    if settings.get("OUT") and "REPO" in settings:
        raise StartupError("OUT: not with REPO, which has a place for the function: serverless/custom")
    key = "REPO" if "REPO" in settings else "OUT"
    target = Path(settings.get(key) or CUSTOM / name).expanduser().resolve()
    if target.exists():
        raise StartupError(f"{key}: {shown(target)} exists already: choose another NAME or {key}, or delete it first")
    for directory in collection.function_directories():
        text = (directory / "function.yaml").read_text(encoding="utf-8")
        if re.search(rf"^  name: [\"']?{re.escape(name)}[\"']?\s*$", text, re.MULTILINE):
            raise StartupError(
                f"NAME: {shown(directory)} is already called {name}: two functions can't have the same name"
            )
    return name, target


def _plan(name: str, settings: dict[str, str], workshop: Path) -> Plan:
    kind = settings.get("KIND", "detector")
    if kind not in KINDS:
        raise StartupError(f"KIND: expected one of {', '.join(KINDS)}, got {describe(kind)}")
    own = read_class_list(settings["LABELS"]) if "LABELS" in settings else None
    given = Given(settings.get("WEIGHTS", ""), kind, own.names if own and own.in_order else None, settings)
    if "WEIGHTS" not in settings:
        given.refuse(*_OF_WEIGHTS, reason="for a weight file; a template takes NAME, KIND, LABELS, OUT and REPO")
        labels = own.for_model(None) if own else {0: "bright area"}
        return Plan(name, kind, make_labels(labels, "detect") if kind == "detector" else ())
    facts = read_model(given, workshop)
    if kind != "detector":
        given.refuse("LABELS", "TASK", "JOINTS", "EDGES", reason=f"for a detector, got KIND={kind}")
        return Plan(name, kind, facts=facts)
    # Labels that are other names for the model's classes.
    options = {"LABELS_BY": "id"} if own is not None and facts.names is not None else {}
    return Plan(name, kind, _labels(facts, own, settings), options, facts)


def _labels(facts: Facts, own: ClassList | None, settings: dict[str, str]) -> list[dict[str, Any]]:
    if own is None and facts.names is None:
        count = f"{facts.classes} " if facts.classes else ""
        raise StartupError(
            f"LABELS: the file has no names for its {count}classes: give them in the model's order, LABELS=cat,dog or a file of "
            "them, LABELS=names.txt or LABELS=data.yaml"
        )
    classes = len(facts.names) if facts.names is not None and facts.classes is None else facts.classes
    first = facts.first_class
    # COCO's numbers have gaps.
    own_names = {i: name for i, name in enumerate(facts.names or (), first) if name != NO_CATEGORY}
    names = own_names if own is None else own.for_model(classes, first)
    if facts.task != "pose":
        if useless := [key for key in ("JOINTS", "EDGES") if key in settings]:
            raise StartupError(f"{', '.join(useless)}: for a pose model; the task of this one is {facts.task}")
        return make_labels(names, facts.task)
    joints = read_joints(settings.get("JOINTS", ""), facts.joints, facts.joint_names)
    return make_labels(names, facts.task, joints, read_edges(settings.get("EDGES", ""), joints))


def _lacking(plan: Plan) -> str:
    """What keeps the function from being tried here, "" for nothing."""
    if plan.facts is None:
        return ""
    if missing := collection.missing_packages(collection.COLLECTION / plan.facts.like):
        files = collection.requirement_files(collection.COLLECTION / plan.facts.like)
        install = " ".join(f"-r {shown(file)}" for file in files)
        return f"packages are missing here: {listed(missing, 4)}; pip install --no-deps {install}"
    return "its weights are fetched when the image is built" if plan.facts.fetched else ""


def _check(draft: Path, target: Path, *, run: bool) -> None:
    report = inspect_function(draft, run=run)
    if not report.findings:
        return
    Printer(sys.stdout, colour=wants_colour(sys.stdout, dict(os.environ))).write(report)
    if has_errors(report.findings):
        raise StartupError(f"{shown(target)} was not made: the check above found errors")


def _limit_memory(draft: Path) -> None:
    most = measure(draft, {}, _MEGAPIXELS).most_large
    if most:  # elsewhere than on Linux the usual limit stays
        set_memory_limit(draft, suggested_limit(FunctionConfig.load(draft).workers, most))


def _try(draft: Path, plan: Plan, picture: Path) -> tuple[int, Path | None]:
    """Writes the function's sample and its test, and draws a detector's reply; returns the number of its shapes."""
    environment = {}
    if plan.facts is not None and plan.facts.files[0].suffix in (".onnx", ".xml"):
        # The one that its file names, so that the replies are the same everywhere.
        environment["ENGINE"] = "openvino" if plan.facts.files[0].suffix == ".xml" else "onnxruntime"
    write_sample(draft, plan.kind, picture, environment)
    reply, *_ = record(draft)
    if plan.kind != "detector":
        return 0, None
    PICTURES.mkdir(parents=True, exist_ok=True)
    drawing = PICTURES / f"{plan.name}.png"
    shapes, labels = read_detector_reply(reply), FunctionConfig.load(draft).labels.values()
    PillowImage.fromarray(overlay(decode_image(picture.read_bytes(), "IMAGE"), shapes, labels)).save(drawing)
    return len(shapes), drawing


def _report(made: Made, seconds: float) -> None:
    facts, place = made.plan.facts, shown(made.directory)
    if facts is not None:
        classes = _count(len(made.plan.labels), "class", "es") if made.plan.labels else ""
        size = _input_size(*facts.size_hw) if facts.size_hw else ""
        task, layout = (
            f"{word} {text}" if text else "" for word, text in (("task", facts.task), ("layout", facts.layout))
        )
        said = ", ".join(text for text in (task, classes, layout, size) if text) or made.plan.kind
        print(f"{facts.title}: {said}; runs like serverless/{facts.like}")
        if facts.note:
            print(f"{facts.note}.")
    print(f"Made {place} in {seconds:.1f} s; tools.check found nothing that fails.")
    if made.untried:
        print(f"It was not tried: {made.untried}.")
    if made.drawing is not None:
        found = _count(made.shapes, "shape") if made.shapes else "nothing at this threshold"
        print(f"In the sample picture it finds {found}; drawn in {shown(made.drawing)}")
    if made.plan.labels:
        print(
            f"\nThe labels for CVAT, also in {place}/labels.json; paste them into the Raw tab of the label constructor:\n"
        )
        print(json.dumps(json.loads((made.directory / "labels.json").read_text(encoding="utf-8")), ensure_ascii=False))
    if not made.untried:
        print(f"\nIts test: {place}/test_function.py, with the requests and replies of {place}/sample")
    if made.repository is not None:
        print(f"\nNext:  cd {shown(made.repository)}, then: make test, make serve; README.md says the rest")
        return
    print(f"\nNext:  make serve FUNCTIONS={place}\n       ./deploy_cpu.sh {place}")
    if facts is None:
        print(f"       edit {place}/model_handler.py, then: make check FUNCTION={place}")


def _input_size(height: int, width: int) -> str:
    """In the order of IMAGE_SIZE, which is not the one that pictures are given in."""
    return f"input {height} x {width}" + (" (height x width)" if height != width else "")


def _count(number: int, one: str, ending: str = "s") -> str:
    return f"{number} {one}{'' if number == 1 else ending}"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
