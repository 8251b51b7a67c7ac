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

from common.config import KindName, read_yaml
from common.cvat.labels import parse_labels
from tools.collection import COLLECTION
from tools.new.document import TEMPLATES, Document, fill, kinds, read_template
from tools.new.facts import Facts

_MAIN = COLLECTION / "opencv" / "grabcut" / "main.py"
_WHAT = {"detect": "boxes", "segment": "masks", "pose": "skeletons", "obb": "rotated boxes", "classify": "tags"}
# Options of the collection's functions that a new one doesn't take: it has one variant, and its layout's own overlap.
_OF_THE_COLLECTION = ("VARIANT", "MODEL_PATH", "IOU", "LABELS_BY")


@dataclass(frozen=True)
class Plan:
    """A function to make."""

    name: str
    kind: KindName
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
        (folder / facts.place(file)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, folder / facts.place(file))
    like = COLLECTION / facts.like
    spec = read_yaml(like / "function.yaml")["spec"]
    trigger = next(iter(spec["triggers"].values()))
    document = Document(
        name=plan.name,
        kind=plan.kind,
        description=f"{_purpose(plan, facts)} ({facts.title})",
        base_image=facts.base_image or spec["build"]["baseImage"],
        options_remark="All options: README.md",
        labels=plan.labels,
        environment=_environment(spec, facts, plan.options),
        own_packages=(like / "requirements.txt").is_file(),
        fetched=bool(facts.fetched),
        event_timeout=spec["eventTimeout"],
        readiness_seconds=spec["readinessTimeoutSeconds"],
        workers=trigger["numWorkers"],
        worker_wait_ms=trigger["workerAvailabilityTimeoutMilliseconds"],
    )
    (folder / "function.yaml").write_text(document.text(), encoding="utf-8")
    for file in like.glob("*.py"):
        if file.name != "main.py":
            shutil.copyfile(file, folder / file.name)
    if document.own_packages:
        shutil.copyfile(like / "requirements.txt", folder / "requirements.txt")
    (folder / "weights.yaml").write_text(_catalog(facts), encoding="utf-8")
    (folder / "README.md").write_text(_readme(plan, facts, document), encoding="utf-8")


def _environment(spec: Mapping[str, Any], facts: Facts, chosen: Mapping[str, str]) -> dict[str, str]:
    """The options of a new function: those of the one it is like, changed and completed by its own."""
    given = {**facts.options, **chosen}
    usual = {entry["name"]: str(entry["value"]) for entry in spec.get("env", ())}
    last = {name: usual.pop(name) for name in ("DEVICE", "ENGINE") if name in usual}
    if facts.files and facts.files[0].suffix == ".xml":
        last.pop("DEVICE", None)  # OpenVINO's files run on a CPU alone; without the option deploy_gpu.sh knows it
    kept = {name: value for name, value in usual.items() if name not in _OF_THE_COLLECTION}
    return {**kept, **given, **{name: given.get(name, value) for name, value in last.items()}}


def _purpose(plan: Plan, facts: Facts) -> str:
    return kinds()[plan.kind].get("purpose") or f"Finds {_kinds(plan.labels)} as {_WHAT[facts.task]}"


def _catalog(facts: Facts) -> str:
    lines = ["default: own", "variants:", "  own:", "    files:"]
    for file in facts.files:
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        lines += [f"      - path: {json.dumps(facts.place(file).as_posix())}", f"        sha256: {digest}"]
    for fetched in facts.fetched:
        known = {"url": fetched.url, "sha256": fetched.sha256, "size": fetched.size}
        lines.append(f"      - path: {json.dumps(fetched.path)}")
        lines += [f"        {key}: {value}" for key, value in known.items() if value is not None]
    entry = facts.files[0].name if facts.entry is None else facts.entry
    return "\n".join([*lines, f"    entry: {json.dumps(entry)}", ""])


def _readme(plan: Plan, facts: Facts, document: Document) -> str:
    model = [f"layout {facts.layout}" if facts.layout else "", f"task {facts.task}" if facts.task else ""]
    what = ", ".join(part for part in model if part)
    values = {
        "title": document.title,
        "description": document.description,
        "weights": f"`{facts.title}`{f', {what}' if what else ''}; "
        + ("fetched when the image is built" if facts.fetched else "in this directory")
        + (f". {facts.note}" if facts.note else ""),
        "licence": facts.licence,
        "labels": read_template("README.labels.md").strip() if plan.labels else "",
        "options": "\n".join(f"| `{name}` | {value} |" for name, value in document.environment.items()),
        "like": f"serverless/{facts.like}",
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
