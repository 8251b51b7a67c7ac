"""Ultralytics' own model files: exported to ONNX once, or, with AS_IS, run with their package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from common.errors import StartupError, describe
from common.networks.formats.image_input import read_size
from common.networks.formats.metadata import TASKS
from tools.checkpoints.identify import Family, Identified, identified, network_of
from tools.new.exporters.ultralytics.run import copy_checked, export
from tools.new.facts import Facts, Given
from tools.new.readers.exported import ULTRALYTICS_LICENCE, read_exported
from tools.new.readers.reader import Reader

_SUFFIXES = (".pt", ".pth")
_YES, _NO = ("1", "yes", "true"), ("0", "no", "false")


def _recognises(given: Given) -> bool:
    return given.kind == "detector" and given.path.suffix.lower() in _SUFFIXES and given.path.is_file()


def _read(given: Given, workshop: Path) -> Facts:
    given.refuse("LAYOUT", reason="for exported files only; a .pt file says what its outputs are")
    given.refuse("DETECTOR", reason="for top-down pose networks only")
    as_is = given.settings.get("AS_IS", "0").lower()
    StartupError.check(as_is in (*_YES, *_NO), "AS_IS", "1 or 0", given.settings.get("AS_IS"))
    with identified(given.path) as (found, content):
        if found.family is not Family.ULTRALYTICS:
            raise found.refusal(given.path)
        _check_task(found, given)
        network = network_of(content.value)
        joints = _joints({} if network is None else network.attributes)
    if as_is in _YES:
        copy_checked(given.path, workshop / given.path.name)
        return _packaged(workshop / given.path.name, given, found, *joints)
    picture = [Path(given.settings["IMAGE"]).expanduser()] if "IMAGE" in given.settings else []
    onnx, note = export(given.path, read_size(given.settings.get("IMAGE_SIZE")), picture, workshop)
    return read_exported(onnx, given).noted(note)


def _check_task(found: Identified, given: Given) -> None:
    if found.task not in TASKS:
        raise StartupError(
            f"{given.path}: {found.verdict.what}, whose results are not annotations; served here: {', '.join(TASKS)}"
        )
    if given.hints.task not in (None, found.task):
        raise StartupError(f"TASK: the file's task is {found.task}, got {describe(given.hints.task)}")


def _packaged(
    file: Path, given: Given, found: Identified, joints: int | None, joint_names: tuple[str, ...] | None
) -> Facts:
    """For the function that runs the file itself."""
    return Facts(
        files=(file,),
        like="pytorch/ultralytics/yolo",
        options={name: given.settings[name] for name in ("IMAGE_SIZE",) if name in given.settings},
        licence=ULTRALYTICS_LICENCE,
        task=found.task or "",
        names=found.names,
        classes=len(found.names) if found.names is not None else None,
        joints=joints if found.task == "pose" else None,
        joint_names=joint_names,
    )


def _joints(attributes: Mapping[str, object]) -> tuple[int | None, tuple[str, ...] | None]:
    """How many joints a pose has, and their names, from the attributes of the network."""
    shape, names = attributes.get("kpt_shape"), attributes.get("kpt_names")
    count = shape[0] if isinstance(shape, (list, tuple)) and shape and isinstance(shape[0], int) else None
    first = next(iter(names.values()), None) if isinstance(names, dict) else None
    return count, tuple(map(str, first)) if isinstance(first, (list, tuple)) else None


READER = Reader("Ultralytics' .pt, which their package (AGPL-3.0) exports", ("detector",), _recognises, _read)
