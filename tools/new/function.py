"""The files of a new function, written into a folder: for a weight file, or from the template of a kind."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.cvat.labels import parse_labels
from tools.collection import COLLECTION
from tools.new.document import Document
from tools.new.weights import Facts

TEMPLATES = Path(__file__).with_name("templates")
_MAIN = COLLECTION / "opencv" / "grabcut" / "main.py"
_PACKAGED = COLLECTION / "pytorch" / "ultralytics" / "yolo"
_HANDLER = (
    'from common.networks.exported.handler import ExportedDetector as ModelHandler\n\n__all__ = ["ModelHandler"]\n'
)
_REQUIREMENTS = "pip install --no-cache-dir --no-deps -r /opt/nuclio/requirements.txt"
_WHAT = {
    "detect": "boxes",
    "segment": "masks",
    "pose": "skeletons",
    "obb": "rotated boxes",
    "classify": "tags",
}


@dataclass(frozen=True)
class Plan:
    """A function to make."""

    name: str
    kind: str
    labels: Sequence[Mapping[str, Any]] = ()
    """Of a detector, as JSON values."""
    options: Mapping[str, str] = field(default_factory=dict)
    """For the environment in function.yaml; they take precedence over the usual ones."""
    facts: Facts | None = None
    """What the weight file says; None for a template."""


def write_function(folder: Path, plan: Plan) -> None:
    """Writes all files of a function.

    Args:
        folder: An empty folder.
        plan: The function to make.
    """
    if plan.facts is None:
        _write_template(folder, plan)
    else:
        _write_for_weights(folder, plan, plan.facts)
    shutil.copyfile(_MAIN, folder / "main.py")
    if plan.labels:
        raw = parse_labels(json.dumps(plan.labels)).to_raw()
        (folder / "labels.json").write_text(json.dumps(raw, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_for_weights(folder: Path, plan: Plan, facts: Facts) -> None:
    for file in facts.files:
        shutil.copyfile(file, folder / file.name)
    packaged = facts.files[0].suffix == ".pt"
    environment = {"THRESHOLD": "0.35"}
    if facts.task == "classify":
        environment |= {"THRESHOLD": "0.25", "TOP": "5"}
    else:
        environment |= {"MAX_DET": "300"} | ({"JOINT_THRESHOLD": "0.5"} if facts.task == "pose" else {})
    environment |= {**plan.options, "DEVICE": "cpu"} | ({} if packaged else {"ENGINE": "auto"})
    document = Document(
        name=plan.name,
        title=plan.name.replace("-", " ").capitalize(),
        kind=plan.kind,
        description=f"Finds {_kinds(plan.labels)} as {_WHAT[facts.task]} ({facts.files[0].name})",
        image=f"cvat.custom.{plan.name}",
        base_image="cvat.pytorch.base" if packaged else "cvat.onnx.base",
        labels=plan.labels,
        environment=environment,
        build_steps=(_REQUIREMENTS,) if packaged else (),
        remarks={"- name: MAX_DET": "All options: README.md"} if facts.task != "classify" else {},
        event_timeout="60s" if packaged else "30s",
        readiness_seconds=180 if packaged else 120,
    )
    (folder / "function.yaml").write_text(document.text(), encoding="utf-8")
    if packaged:
        for name in ("model_handler.py", "requirements.txt"):
            shutil.copyfile(_PACKAGED / name, folder / name)
    else:
        (folder / "model_handler.py").write_text(_HANDLER, encoding="utf-8")
    (folder / "weights.yaml").write_text(_catalog(facts.files), encoding="utf-8")
    (folder / "README.md").write_text(_readme(plan, facts, document), encoding="utf-8")


def _catalog(files: Sequence[Path]) -> str:
    lines = ["default: own", "variants:", "  own:", "    files:"]
    for file in files:
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        lines += [f"      - path: {json.dumps(file.name)}", f"        sha256: {digest}"]
    return "\n".join([*lines, f"    entry: {json.dumps(files[0].name)}", ""])


def _readme(plan: Plan, facts: Facts, document: Document) -> str:
    licence = (
        "Ultralytics claims AGPL-3.0 for its package and for every model trained with it, exported files included: serve this "
        "one only where that licence, or one that you have bought, allows it."
        if facts.ultralytics
        else "Unknown: the file doesn't say."
    )
    options = "\n".join(f"| `{name}` | {value} |" for name, value in document.environment.items())
    where = (
        "`serverless/pytorch/ultralytics/yolo/README.md`"
        if facts.files[0].suffix == ".pt"
        else "`serverless/onnx/yolo/README.md`"
    )
    return f"""# {document.title}

{document.description}.

- **Weights**: `{facts.files[0].name}`, {f"layout {facts.layout}, " if facts.layout else ""}task {facts.task}; in this directory.
- **Licence of the weights**: {licence}
- **Labels**: `labels.json` is for CVAT: paste it into the Raw tab of the label constructor of a project or task.

| option | here |
|---|---|
{options}

All options: {where} of the collection.
"""


def _kinds(labels: Sequence[Mapping[str, Any]]) -> str:
    names = [str(label["name"]) for label in labels]
    text = ", ".join(names) if len(names) <= 4 else f"{', '.join(names[:3])} and {len(names) - 3} more kinds"
    return text.replace("'", "’")


def _write_template(folder: Path, plan: Plan) -> None:
    shutil.copyfile(TEMPLATES / f"{plan.kind}.py", folder / "model_handler.py")
    extra: dict[str, dict[str, str]] = {
        "detector": {},
        "interactor": {
            "version": "2",
            "min_pos_points": "0",
            "min_neg_points": "0",
            "startswith_box": "true",
            "startswith_box_optional": "true",
            "help_message": "Click on the object, or draw a box around it.",
        },
        "tracker": {"supported_shape_types": "rectangle"},
        "reid": {},
    }
    options: dict[str, dict[str, str]] = {
        "detector": {"THRESHOLD": "0.5", "BRIGHTNESS": "0.6"},
        "interactor": {"TOLERANCE": "20"},
        "tracker": {"SEARCH": "2.0"},
        "reid": {"THRESHOLD": "0.5", "MAX_DISTANCE": "500", "BINS": "8"},
    }
    document = Document(
        name=plan.name,
        title=plan.name.replace("-", " ").capitalize(),
        kind=plan.kind,
        description=f"A {plan.kind} made from the template: say here what it does",
        image=f"cvat.custom.{plan.name}",
        base_image="cvat.opencv.base",
        labels=plan.labels,
        annotations=extra[plan.kind],
        environment=options[plan.kind],
        remarks={
            "name: " + plan.name: "The id that CVAT knows the function by: lower-case letters, digits, dashes.",
            "spec: |": "The labels: what the handler's shapes are called, and of which type they are.",
            "startswith_box:": 'CVAT takes any text here for true, "false" too: leave the line out when it is not.',
            "supported_shape_types:": "Any of rectangle, polygon, polyline, points, ellipse, mask.",
            "eventTimeout:": "A worker that takes longer is killed and loads its model again; CVAT itself waits 120 s.",
            "env:": "Options, and what they are unless someone sets them: the keyword arguments of ModelHandler in capitals.",
            "baseImage:": "Or cvat.onnx.base (ONNX Runtime, OpenVINO), cvat.pytorch.base (torch, transformers). Further packages:\n"
            "a requirements.txt in this directory, installed by directives.postCopy as the collection's functions do.",
            "numWorkers:": "Each worker is a process with a model of its own.",
        },
    )
    (folder / "function.yaml").write_text(document.text(), encoding="utf-8")
    (folder / "README.md").write_text(_template_readme(document), encoding="utf-8")


def _template_readme(document: Document) -> str:
    options = "\n".join(f"| `{name}` | {value} | |" for name, value in document.environment.items())
    return f"""# {document.title}

What it does, in one sentence.

- **Source**: where code and model come from.
- **Licence**: of the code, and of the weights.

| option | default | meaning |
|---|---|---|
{options}

**Speed**: measured on what, with which picture.
"""
