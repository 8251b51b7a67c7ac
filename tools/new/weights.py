"""What a weight file says about its model: task, classes, joints."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import StartupError, describe
from common.networks.formats.metadata import TASKS
from common.networks.formats.signature import Hints

SUFFIXES = (".onnx", ".xml", ".pt")


@dataclass(frozen=True, slots=True)
class Facts:
    """What a weight file says about its model."""

    files: tuple[Path, ...]
    """All that belong to the model; the first is the one to open."""
    task: str
    """detect, segment, pose, obb or classify."""
    names: tuple[str, ...] | None
    """Of the classes; None when the file has none."""
    classes: int | None
    """How many; None when the outputs don't tell either."""
    size_hw: tuple[int, int] | None
    """Height and width of the input in pixels, for the summary."""
    joints: int | None = None
    """How many a pose has."""
    joint_names: tuple[str, ...] | None = None
    """As the file has them."""
    layout: str = ""
    """As `common.networks.formats` names it; empty for .pt files."""
    ultralytics: bool = False
    """Whether Ultralytics' exporter wrote the file."""


def read_weights(path: Path, hints: Hints, image_size: str | None) -> Facts:
    """Opens a weight file and reads what it says about its model.

    Args:
        path: An .onnx, .xml or .pt file, or the folder of an OpenVINO model.
        hints: What the command line says about the model.
        image_size: Side of the input in pixels, for files with a free input size; None for their default.

    Returns:
        What the file says.

    Raises:
        StartupError: The file can't be served; the message says what to do about it.
    """
    if not path.exists():
        raise StartupError(f"WEIGHTS: there is no {path}")
    if path.is_file() and path.suffix not in SUFFIXES:
        raise StartupError(f"WEIGHTS: expected a file {', '.join(SUFFIXES)}, got {describe(path.name)}")
    return _read_pt(path, hints) if path.suffix == ".pt" else _read_exported(path, hints, image_size)


def _read_exported(path: Path, hints: Hints, image_size: str | None) -> Facts:
    from common.networks.exported.model import ExportedModel, model_file

    file = model_file(path)
    engine = "openvino" if file.suffix == ".xml" else "onnxruntime"
    model = ExportedModel(file, engine=engine, hints=hints, image_size=image_size)
    if file.suffix == ".xml":
        beside = [file.with_suffix(".bin"), file.with_name("metadata.yaml")]
    else:
        beside = [file.with_name(file.name + ".data")]  # weights of over 2 GB are in a separate file
    layout, dimensions, metadata = model.layout, model.dimensions, model.metadata
    return Facts(
        files=(file, *(other for other in beside if other.is_file())),
        task=layout.task,
        names=model.names,
        classes=dimensions.classes,
        size_hw=model.size_hw,
        joints=dimensions.joints[0] if dimensions.joints else None,
        joint_names=metadata.joint_names,
        layout=layout.name,
        ultralytics=metadata.task is not None,
    )


def _read_pt(path: Path, hints: Hints) -> Facts:
    if hints.layout is not None:
        raise StartupError("LAYOUT: for exported files; the package ultralytics knows what a .pt file gives")
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
        task=task,
        names=names,
        classes=len(names),
        size_hw=None,
        joints=int(shape[0]) if task == "pose" and shape else None,
        joint_names=tuple(next(iter(joint_names.values()))) if joint_names else None,
        ultralytics=True,
    )
