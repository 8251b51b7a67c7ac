"""Top-down pose networks: a file or a folder of ViTPose, with the detector that finds the boxes for it (DETECTOR)."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from common.errors import StartupError, describe
from common.networks.huggingface.folder import CONFIG, PREPROCESSING
from tools.new.facts import UNKNOWN_LICENCE, Facts, Given
from tools.new.readers.exported import ULTRALYTICS_LICENCE, beside
from tools.new.readers.reader import Reader

_OPTIONS = ("IMAGE_SIZE", "COLOR", "MEAN", "STD", "CODEC", "DETECTOR_CLASSES")
_PERSON = ("person",)


def _recognises(given: Given) -> bool:
    return given.kind == "detector" and "DETECTOR" in given.settings


def _read(given: Given, workshop: Path) -> Facts:
    given.refuse("RESIZE", reason="for a detector alone; a pose network sees boxes in its input's proportions")
    task = given.settings.get("TASK", "pose")
    StartupError.check(task == "pose", "TASK", "pose, which is what a network behind a DETECTOR is for", task)
    detector = Path(given.settings["DETECTOR"]).expanduser()
    for name, path in (("WEIGHTS", given.path), ("DETECTOR", detector)):
        if not path.exists():
            raise StartupError(f"{name}: there is no {given.settings[name]}")
    (parts := workshop / "models").mkdir()
    if (given.path / CONFIG).is_file():
        return _of_a_folder(given, detector, parts)
    return _of_a_file(given, detector, parts)


def _of_a_file(given: Given, detector: Path, parts: Path) -> Facts:
    from common.networks.exported.model import model_file
    from common.networks.formats.image_input import read_size
    from common.networks.normalisation import Normalisation
    from common.networks.patches import PatchNetwork
    from common.networks.top_down.network import ExportedPose

    settings = given.settings
    file = model_file(given.path)
    network = PatchNetwork(
        file,
        engine=_engine(file),
        size_hw=read_size(settings.get("IMAGE_SIZE"), stride=1),
        normalisation=Normalisation.read(settings.get("COLOR", "rgb"), settings.get("MEAN"), settings.get("STD")),
    )
    pose = ExportedPose(network, codec=settings.get("CODEC", "auto"))
    if (detector / CONFIG).is_file():
        raise StartupError(
            f"DETECTOR: {detector} is a folder of the Hugging Face hub, which needs torch: in front of an exported pose network "
            "expected an .onnx or .xml file"
        )
    copied = _copied(file, "pose", parts)
    others, licence = _exported_detector(given, detector, parts)
    return Facts(
        files=(*copied, *others),
        below=parts,
        like="onnx/open-mmlab/pose",
        entry=copied[0].name,
        options=_options(given),
        licence=licence,
        task="pose",
        names=None if "LABELS" in settings else _PERSON,
        size_hw=network.size_hw,
        joints=pose.joints,
        layout="rows of scores (SimCC)" if pose.codec == "simcc" else f"heat maps, {pose.codec}",
    )


def _of_a_folder(given: Given, detector: Path, parts: Path) -> Facts:
    from common.networks.huggingface.architectures import POSE
    from common.networks.huggingface.folder import ModelFolder

    given.refuse(
        "IMAGE_SIZE", "COLOR", "MEAN", "STD", "CODEC", reason="for exported files only; the folder's settings say this"
    )
    folder = ModelFolder.open(given.path)
    if folder.architecture != POSE:
        raise StartupError(
            f"WEIGHTS: {given.weights}: expected a model of {POSE} with a DETECTOR in front of it, got "
            f"{describe(folder.architecture)}"
        )
    files = _copied_folder(folder, parts / "pose")
    if (detector / CONFIG).is_file():
        given.refuse("LAYOUT", reason="for an exported detector")
        others, licence = _copied_folder(_object_detection(detector), parts / "detector"), UNKNOWN_LICENCE
    else:
        others, licence = _exported_detector(given, detector, parts)
    joints = folder.config.get("id2label") or {}
    return Facts(
        files=(*files, *others),
        below=parts,
        like="pytorch/huggingface/pose",
        entry="",
        options=_options(given),
        task="pose",
        names=None if "LABELS" in given.settings else _PERSON,
        joints=len(joints) or None,
        joint_names=folder.names,
        licence=licence,
    )


def _options(given: Given) -> dict[str, str]:
    options = {name: given.settings[name] for name in _OPTIONS if name in given.settings}
    return options | ({"DETECTOR_LAYOUT": given.settings["LAYOUT"]} if "LAYOUT" in given.settings else {})


def _engine(file: Path) -> str:
    return "openvino" if file.suffix == ".xml" else "onnxruntime"


def _exported_detector(given: Given, detector: Path, parts: Path) -> tuple[list[Path], str]:
    """The files of an exported detector in the workshop, and the licence. Raises StartupError for any other file."""
    from common.networks.exported.model import model_file
    from common.networks.top_down.handler import open_detector

    try:
        file = model_file(detector)
        model = open_detector(file, layout=given.settings.get("LAYOUT", "auto"), engine=_engine(file))
    except StartupError as error:
        raise StartupError(f"DETECTOR: {error}") from error
    return _copied(file, "detector", parts), ULTRALYTICS_LICENCE if model.metadata.task else UNKNOWN_LICENCE


def _copied(file: Path, role: str, parts: Path) -> list[Path]:
    """A model's files in the workshop under the name of its role; those that belong to it keep theirs."""
    made = [parts / f"{role}{file.suffix}"]
    shutil.copyfile(file, made[0])
    for other in beside(file):
        target = parts / (f"{role}.bin" if other.suffix == ".bin" else other.name)
        if role == "pose" and other.suffix not in (".bin", ".data"):
            continue  # how a detector beside it would take an image
        if target.exists():
            raise StartupError(
                f"DETECTOR: both models have a file {other.name}: rename one, with the model that names it"
            )
        shutil.copyfile(other, target)
        made.append(target)
    return made


def _copied_folder(folder: Any, target: Path) -> list[Path]:
    """The files of a folder of the Hugging Face hub in the workshop."""
    from common.networks.huggingface.folder import INDEX

    target.mkdir()
    names = [CONFIG, *PREPROCESSING, *([INDEX] if len(folder.files) > 1 else []), *(file.name for file in folder.files)]
    made = [target / name for name in names if (folder.path / name).is_file()]
    for file in made:
        shutil.copyfile(folder.path / file.name, file)
    return made


def _object_detection(path: Path) -> Any:
    from common.networks.huggingface.folder import ModelFolder
    from common.networks.huggingface.network import checked_architecture

    try:
        folder = ModelFolder.open(path)
        checked_architecture(folder, "detect")
    except StartupError as error:
        raise StartupError(f"DETECTOR: {error}") from error
    return folder


READER = Reader(
    "a top-down pose network with DETECTOR=detector.onnx (.onnx, OpenVINO's .xml, or a folder of ViTPose)",
    ("detector",),
    _recognises,
    _read,
)
