"""The files of a new function, written into a folder: for a weight file, or from the template of a kind."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.cvat.labels import parse_labels
from tools.collection import COLLECTION, ROOT
from tools.new.document import TEMPLATES, Document, fill, kinds, read_template
from tools.new.weights import Facts

_MAIN = COLLECTION / "opencv" / "grabcut" / "main.py"
_PACKAGED, _EXPORTED = COLLECTION / "pytorch" / "ultralytics" / "yolo", COLLECTION / "onnx" / "yolo"
_HANDLER = (
    'from common.networks.exported.handler import ExportedDetector as ModelHandler\n\n__all__ = ["ModelHandler"]\n'
)
_WHAT = {"detect": "boxes", "segment": "masks", "pose": "skeletons", "obb": "rotated boxes", "classify": "tags"}


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


def set_memory_limit(folder: Path, limit: str) -> None:
    """Replaces the memory limit in a function's function.yaml.

    Args:
        folder: The function's, with the files that `write_function` wrote.
        limit: The quantity, such as 2Gi.
    """
    path = folder / "function.yaml"
    text, count = re.subn(
        r"(?m)^(  resources:\n    limits:\n      memory: ).*$", rf"\g<1>{limit}", path.read_text("utf-8")
    )
    if count != 1:
        raise ValueError(f"{path}: expected one memory limit, got {count}")
    path.write_text(text, "utf-8")


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
        kind=plan.kind,
        description=f"Finds {_kinds(plan.labels)} as {_WHAT[facts.task]} ({facts.files[0].name})",
        base_image="cvat.pytorch.base" if packaged else "cvat.onnx.base",
        options_remark="All options: README.md",
        labels=plan.labels,
        environment=environment,
        own_packages=packaged,
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
    values = {
        "title": document.title,
        "description": document.description,
        "file": facts.files[0].name,
        "model": f"{f'layout {facts.layout}, ' if facts.layout else ''}task {facts.task}",
        "licence": licence,
        "options": "\n".join(f"| `{name}` | {value} |" for name, value in document.environment.items()),
        "packaged": (_PACKAGED if document.own_packages else _EXPORTED).relative_to(ROOT).as_posix(),
    }
    return fill(read_template("README.weights.md"), values)


def _kinds(labels: Sequence[Mapping[str, Any]]) -> str:
    names = [str(label["name"]) for label in labels]
    text = ", ".join(names) if len(names) <= 4 else f"{', '.join(names[:3])} and {len(names) - 3} more kinds"
    return text.replace("'", "’")


def _write_template(folder: Path, plan: Plan) -> None:
    shutil.copyfile(TEMPLATES / f"{plan.kind}.py", folder / "model_handler.py")
    document = Document(
        name=plan.name,
        kind=plan.kind,
        description=f"Made from the {plan.kind} template: say here what it does",
        base_image="cvat.opencv.base",
        options_remark="Options, and what they are unless someone sets them: the keyword arguments of ModelHandler in capitals.",
        labels=plan.labels,
        environment=kinds()[plan.kind]["options"],
        commented=True,
    )
    (folder / "function.yaml").write_text(document.text(), encoding="utf-8")
    options = "\n".join(f"| `{name}` | {value} | |" for name, value in document.environment.items())
    readme = fill(read_template("README.md"), {"title": document.title, "options": options})
    (folder / "README.md").write_text(readme, encoding="utf-8")
