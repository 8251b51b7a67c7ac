"""Tiny networks of Ultralytics' architectures with random weights, exported by Ultralytics' own exporter.

They find nonsense, but plenty of it: enough to compare two decoders of the same file number by number.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import Any

import torch
import yaml

os.environ.setdefault("YOLO_OFFLINE", "true")
os.environ.setdefault("YOLO_AUTOINSTALL", "false")  # nothing is installed while something runs

import ultralytics
from ultralytics import YOLO

_SUFFIX = {"detect": "", "segment": "-seg", "pose": "-pose", "obb": "-obb", "classify": "-cls"}
_CONFIGS = Path(ultralytics.__file__).parent / "cfg/models"


def export(
    folder: Path,
    task: str,
    *,
    family: str = "11",
    size: int = 160,
    names: tuple[str, ...] = ("cat", "dog's", "x y"),
    **how: Any,
) -> Path:
    """Writes a random network to an ONNX file in `folder`; `how` goes to the exporter."""
    model = network(folder, task, family=family, names=names)
    with contextlib.chdir(folder):  # the exporter writes where it is
        made = Path(model.export(format="onnx", imgsz=size, verbose=False, **how)).resolve()
    target = folder / f"{task}-{family}-{'-'.join(str(v) for v in how.values()) or 'raw'}{made.suffix}"
    shutil.move(made, target)
    return target


def network(folder: Path, task: str, *, family: str = "11", names: tuple[str, ...] = ("cat", "dog's", "x y")) -> YOLO:
    """A random network whose scores differ from place to place."""
    config = yaml.safe_load((_CONFIGS / family / f"yolo{family}{_SUFFIX[task]}.yaml").read_text())
    config |= {"nc": len(names), "scales": {"n": [0.33, 0.125, 256]}}
    if task == "pose":
        config["kpt_shape"] = [5, 3]
    path = folder / f"yolo{family}n{_SUFFIX[task]}.yaml"
    path.write_text(yaml.safe_dump(config))
    torch.manual_seed(1)
    model = YOLO(str(path), task=task)
    model.model.names = dict(enumerate(names))
    with torch.no_grad():
        norms = [module for module in model.model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
        for norm in norms:
            norm.momentum = 1.0
        model.model.eval()
        for norm in norms:  # each layer's statistics from images, so that what it gives depends on them
            norm.train()
        coarse = [torch.rand(2, 3, side, side) for side in (5, 20, 80, 160)]
        model.model(
            torch.cat([torch.nn.functional.interpolate(image, (160, 160), mode="bilinear") for image in coarse])
        )
        model.model.eval()
        for branch in ("cv3", "one2one_cv3"):
            for level in getattr(model.model.model[-1], branch, None) or []:
                level[-1].weight.normal_(0, 1.5 / level[-1].in_channels ** 0.5)
                level[-1].bias.fill_(-1.0)
    return model
