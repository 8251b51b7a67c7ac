"""How a network exported by mmdeploy takes an image: from the pipeline.json that `deploy.py --dump-info` writes beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.errors import StartupError
from common.networks.formats.preparation import Color, Placement, Preparation

FILE_NAME = "pipeline.json"
IMAGENET = Preparation(placement=Placement.CORNER, mean=(123.675, 116.28, 103.53), deviation=(58.395, 57.12, 57.375))
"""As most of OpenMMLab's configurations have it."""


def read_pipeline(path: Path) -> Preparation | None:
    """How a network takes an image.

    Args:
        path: Its model file.

    Returns:
        What the pipeline.json beside it says; None without such a file.

    Raises:
        StartupError: The file can't be read, or takes an image in a way that is unknown here.
    """
    beside = path.with_name(FILE_NAME)
    if not beside.is_file():
        return None
    try:
        tasks = json.loads(beside.read_text(encoding="utf-8"))["pipeline"]["tasks"]
        steps = next(task["transforms"] for task in tasks if task.get("module") == "Transform")
        return _preparation(steps)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration, UnicodeDecodeError) as error:
        raise StartupError(
            f"{beside}: not what mmdeploy writes with --dump-info ({type(error).__name__}: {error}); remove the file and set "
            "COLOR, MEAN, STD and RESIZE"
        ) from error


def _preparation(steps: list[Mapping[str, Any]]) -> Preparation:
    placement, padding, color = Placement.STRETCHED, None, None
    for step in steps:
        kind = str(step["type"]).rpartition(".")[2]
        if kind == "Resize":
            placement = Placement.CORNER if step.get("keep_ratio") else Placement.STRETCHED
        elif kind.startswith("TopDown"):
            raise ValueError("it is of a top-down pose network")
        elif kind == "LetterResize":
            placement, padding = Placement.CENTERED, _grey(step.get("pad_val", 0))
        elif kind == "Pad" and color is None:  # what is added after the normalisation is 0
            padding = _grey(step.get("pad_val", 0))
        elif kind == "Normalize":
            color = (not step["to_rgb"], _color(step["mean"]), _color(step["std"]))
    if color is None:
        raise ValueError("there is no Normalize among the transforms")
    bgr, mean, deviation = color
    return Preparation(placement, bgr=bgr, mean=mean, deviation=deviation, padding=padding)


def _grey(value: Any) -> int:
    if isinstance(value, Mapping):
        value = value.get("img", 0)
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    if len(set(values)) != 1 or not 0 <= values[0] <= 255:
        raise ValueError(f"padding of {value} is not a grey from 0 to 255")
    return int(values[0])


def _color(values: Any) -> Color:
    first, second, third = (float(value) for value in values)
    return first, second, third
