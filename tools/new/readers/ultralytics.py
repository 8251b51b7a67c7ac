"""Ultralytics' own model files, read with their package."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from common.errors import StartupError, describe
from common.networks.formats.metadata import TASKS
from tools.new.facts import Facts, Given
from tools.new.readers.exported import ULTRALYTICS_LICENCE
from tools.new.readers.reader import Reader


def _recognises(given: Given) -> bool:
    return given.kind == "detector" and given.path.suffix == ".pt" and given.path.is_file()


def _read(given: Given, workshop: Path) -> Facts:
    given.refuse("LAYOUT", reason="for exported files; the package ultralytics knows what a .pt file gives")
    given.refuse("DETECTOR", reason="for a pose network that needs one")
    path, hints = given.path, given.hints
    os.environ.setdefault("YOLO_OFFLINE", "true")
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")  # nothing is installed while something runs
    try:
        from ultralytics import YOLO
    except ImportError as error:
        raise StartupError(
            f"{path}: .pt files are read with the package ultralytics (AGPL-3.0), which is not installed here: "
            "pip install ultralytics, or export the model where it is: yolo export model=best.pt format=onnx"
        ) from error
    try:
        model: Any = YOLO(str(path))
        names = tuple(str(name) for _, name in sorted(model.names.items()))
        task = str(model.task)
    except Exception as error:  # a file of another kind fails in many ways
        first, *_ = str(error).splitlines() or [type(error).__name__]
        raise StartupError(
            f"{path}: not a model of Ultralytics: {first.removeprefix('ERROR ❌️ ')[:300]}; a .pt file of another package "
            "(YOLOv7, YOLOR, YOLOv5's own) has to be exported to ONNX with that package"
        ) from error
    if task not in TASKS:
        raise StartupError(f"{path}: the model's task is {task}; served here: {', '.join(TASKS)}")
    if hints.task not in (None, task):
        raise StartupError(f"TASK: the file's task is {task}, got {describe(hints.task)}")
    shape = getattr(model.model, "kpt_shape", None)
    joint_names = getattr(model.model, "kpt_names", None) or {}
    return Facts(
        files=(path,),
        like="pytorch/ultralytics/yolo",
        options={name: given.settings[name] for name in ("IMAGE_SIZE",) if name in given.settings},
        licence=ULTRALYTICS_LICENCE,
        task=task,
        names=names,
        classes=len(names),
        joints=int(shape[0]) if task == "pose" and shape else None,
        joint_names=tuple(next(iter(joint_names.values()))) if joint_names else None,
    )


READER = Reader("Ultralytics' .pt (needs the package ultralytics, AGPL-3.0)", ("detector",), _recognises, _read)
