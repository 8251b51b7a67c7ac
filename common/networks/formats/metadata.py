"""What an exporter wrote into a model file about the model: texts that hold Python literals."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from common.errors import StartupError, describe

DETECTION_OUTPUT = "DetectionOutput"
"""The key under which an engine gives the attributes of that operation of OpenVINO's."""
TASKS = ("detect", "segment", "pose", "obb", "classify")


@dataclass(frozen=True, slots=True)
class DetectionOutput:
    """OpenVINO's operation of that name, which is a model's last."""

    classes: int
    """One more than the highest class index of an object."""
    background_first: bool
    """Whether class 0 is the background."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """What is known of the model; None, or empty, where the file doesn't say."""

    names: tuple[str, ...] | None = None
    """The names of the classes by index."""
    task: str | None = None
    """One of TASKS, or another of Ultralytics'."""
    head: str | None = None
    """The class of the network's last module."""
    end2end: bool | None = None
    """Whether the network itself gives final detections."""
    nms: bool = False
    """Whether the exporter added a suppression of overlapping boxes."""
    size_hw: tuple[int, int] | None = None
    """Height and width of the input, pixels."""
    channels: int = 3
    """Channels of the input."""
    joints: tuple[int, int] | None = None
    """(How many joints, values of each) of a pose: 2 for x, y; 3 with visibility."""
    joint_names: tuple[str, ...] | None = None
    """The names of the first class's joints."""
    layout: str | None = None
    """The name of the outputs' layout, in files that `tools.checkpoints` wrote."""
    detection_output: DetectionOutput | None = None
    """The operation that the model ends in, where OpenVINO finds it there."""

    @classmethod
    def read(cls, texts: Mapping[str, str]) -> Metadata:
        """Reads what an exporter wrote; entries that can't be understood are ignored, except the names.

        Args:
            texts: The file's metadata by key; the values are Python literals.

        Raises:
            StartupError: The class names can't be understood.
        """
        arguments = _literal(texts.get("args"))
        size, joints = _literal(texts.get("imgsz")), _literal(texts.get("kpt_shape"))
        end2end, channels = _literal(texts.get("end2end")), _literal(texts.get("channels"))
        if isinstance(size, int):
            size = [size, size]
        return cls(
            names=_names(texts.get("names")),
            task=texts.get("task") or None,
            head=texts.get("head") or None,
            end2end=end2end if isinstance(end2end, bool) else None,
            nms=isinstance(arguments, dict) and bool(arguments.get("nms")),
            size_hw=(size[0], size[1]) if _is_pair(size) else None,
            channels=channels if isinstance(channels, int) else 3,
            joints=(joints[0], joints[1]) if _is_pair(joints) else None,
            joint_names=_joint_names(_literal(texts.get("kpt_names"))),
            layout=texts.get("output_layout") or None,
            detection_output=_detection_output(_literal(texts.get(DETECTION_OUTPUT))),
        )


def class_names(names: tuple[str, ...]) -> list[str]:
    """Label names for classes: one line, at most 64 characters, none empty, all different.

    Args:
        names: Of the classes, by index.
    """
    cleaned: list[str] = []
    for index, name in enumerate(names):
        text = " ".join(str(name).split())[:64].strip() or f"class {index}"
        unique, number = text, 2
        while unique in cleaned:
            suffix = f" {number}"
            unique, number = text[: 64 - len(suffix)] + suffix, number + 1
        cleaned.append(unique)
    return cleaned


def _names(text: str | None) -> tuple[str, ...] | None:
    if not text:
        return None
    value = _literal(text)
    if isinstance(value, dict):
        by_index = {int(key): name for key, name in value.items() if str(key).isdecimal()}
        value = [by_index[i] for i in sorted(by_index)] if set(by_index) == set(range(len(value))) else None
    if not isinstance(value, (list, tuple)) or not value:
        raise StartupError(f"the model's metadata: names: expected a list of class names, got {describe(text)}")
    return tuple(str(name) for name in value)


def _detection_output(value: Any) -> DetectionOutput | None:
    if not isinstance(value, dict) or not isinstance(value.get("num_classes"), int):
        return None
    classes, background = value["num_classes"], value.get("background_label_id")
    if background == 0 and value.get("decrease_label_id"):  # all indices less one: the background has none
        return DetectionOutput(classes - 1, background_first=False)
    if background == classes - 1 > 0:
        return DetectionOutput(classes - 1, background_first=False)
    return DetectionOutput(classes, background_first=background == 0)


def _joint_names(value: Any) -> tuple[str, ...] | None:
    if isinstance(value, dict) and value:
        value = next(iter(value.values()))
    if isinstance(value, (list, tuple)) and value and all(isinstance(name, str) for name in value):
        return tuple(value)
    return None


def _literal(text: str | None) -> Any:
    try:
        return ast.literal_eval(text.strip()) if text else None
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _is_pair(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2 and all(isinstance(v, int) and v > 0 for v in value)
