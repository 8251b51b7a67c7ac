"""A checkpoint of YOLOv5 or YOLOv7 as an ONNX file, as their own exporters would write it, without torch and their code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import StartupError, describe
from tools.checkpoints.blocks import PARTS
from tools.checkpoints.errors import BadCheckpoint
from tools.checkpoints.graph import Graph, Value
from tools.checkpoints.identify import WRAPPERS, Family, identified, network_of
from tools.checkpoints.names import not_allowed
from tools.checkpoints.network import KNOWN, Network, check_names
from tools.checkpoints.standins import Instance

_DETECTOR_SIDE, _CLASSIFIER_SIDE = 640, 224
_LARGEST_SIDE = 4096


@dataclass(frozen=True, slots=True)
class Converted:
    """What was converted."""

    task: str
    """detect, segment or classify."""
    names: tuple[str, ...]
    """Of the classes by index."""
    size_hw: tuple[int, int]
    """Height and width of the input, pixels."""
    what: str
    """YOLOv5 or YOLOv7."""
    layout: str
    """The outputs' layout, as `common.networks.formats` names it."""
    licence: str
    """That the package's authors claim for its weights."""


def to_onnx(path: Path, target: Path, size_hw: tuple[int, int] | None = None) -> Converted:
    """Converts a checkpoint.

    Args:
        path: The checkpoint.
        target: The ONNX file to write.
        size_hw: Height and width of the input in pixels; None for the size that it was trained with, or 640.

    Returns:
        What it was.

    Raises:
        StartupError: The file is something else, damaged, or has modules that are not known here.
    """
    with identified(path) as (found, content):
        if found.family is not Family.YOLO:
            raise found.refusal(path)
        model = network_of(content.value)
        assert model is not None
        try:
            check_names(not_allowed(content, KNOWN | WRAPPERS))
            network = Network.read(model)
            size = _size(network, content.value, size_hw)
            return _write(network, target, size)
        except (StartupError, BadCheckpoint) as error:
            raise StartupError(f"{path}: {error}") from error


def _write(network: Network, target: Path, size_hw: tuple[int, int]) -> Converted:
    family = "YOLOv7" if network.yolov7 else "YOLOv5"
    layout = family.lower()
    licence = "GPL-3.0" if network.yolov7 else "AGPL-3.0"
    image = Value("images", (1, 3, *size_hw))
    graph = Graph(PARTS)
    outputs = network.write(graph, image)
    metadata = {
        "description": f"{family} {network.task}",
        "license": licence,
        "names": repr(dict(enumerate(network.names))),
        "stride": str(network.stride),
        "imgsz": repr(list(size_hw)),
        "output_layout": layout,
    }
    if network.task == "classify":
        metadata["task"] = network.task
    graph.save(target, image, outputs, metadata, family)
    return Converted(network.task, network.names, size_hw, family, layout, licence)


def _size(network: Network, checkpoint: Any, wanted_hw: tuple[int, int] | None) -> tuple[int, int]:
    stride = network.stride
    if wanted_hw is not None:
        if not all(0 < side <= _LARGEST_SIDE and side % stride == 0 for side in wanted_hw):
            raise StartupError(f"IMAGE_SIZE: expected multiples of {stride}, got {describe(list(wanted_hw))}")
        return wanted_hw
    usual = _CLASSIFIER_SIDE if network.task == "classify" else _DETECTOR_SIDE
    side = min(_trained_side(checkpoint) or usual, _LARGEST_SIDE)
    side = max(-(-side // stride) * stride, stride)
    return side, side


def _trained_side(checkpoint: Any) -> int | None:
    options = checkpoint.get("opt") if isinstance(checkpoint, dict) else None
    if isinstance(options, Instance):
        options = options.attributes
    if not isinstance(options, dict):
        return None
    for key in ("imgsz", "img_size"):
        value = options.get(key)
        value = value[-1] if isinstance(value, list) and value else value
        if type(value) is int and value > 0:
            return value
    return None
