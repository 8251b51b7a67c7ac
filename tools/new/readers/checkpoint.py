"""Checkpoints as they were trained: YOLOv5's and YOLOv7's own become ONNX files, others are refused with what they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from common.errors import StartupError, describe
from common.networks.formats.image_input import read_size
from tools.checkpoints.convert import to_onnx
from tools.checkpoints.identify import SUFFIXES, Family, identify
from tools.new.facts import Facts, Given
from tools.new.readers.exported import read_exported
from tools.new.readers.reader import Reader

_LICENCES = {
    "AGPL-3.0": "Ultralytics claims AGPL-3.0 for YOLOv5 and for every model trained with it, exported files included: serve this "
    "one only where that licence, or one that you have bought, allows it.",
    "GPL-3.0": "YOLOv7 is published under GPL-3.0, which its authors apply to its weights as well: pass this one on only where "
    "that licence allows it.",
}


def _recognises(given: Given) -> bool:
    path = given.path
    if given.kind != "detector" or path.suffix.lower() not in SUFFIXES or not path.is_file():
        return False
    try:
        return identify(path).family in (Family.YOLO, Family.OTHER)
    except StartupError:
        return True


def _read(given: Given, workshop: Path) -> Facts:
    given.refuse("DETECTOR", reason="for top-down pose networks only")
    given.refuse("LAYOUT", reason="for exported files only; the outputs of YOLOv5's and YOLOv7's checkpoints are known")
    target = workshop / f"{given.path.stem}.onnx"
    converted = to_onnx(given.path, target, read_size(given.settings.get("IMAGE_SIZE")))
    if given.hints.task not in (None, converted.task):
        raise StartupError(f"TASK: the file's task is {converted.task}, got {describe(given.hints.task)}")
    facts = read_exported(target, given)
    note = f"Converted from {given.path.name}, a checkpoint of {converted.what}, without running its code"
    return replace(facts, options={}, licence=_LICENCES[converted.licence]).noted(note)


READER = Reader("YOLOv5's or YOLOv7's own .pt", ("detector",), _recognises, _read)
