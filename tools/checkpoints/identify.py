"""What a model file is that was saved with torch, or claims to be, without running anything of it."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any

from common.errors import StartupError, listed
from tools.checkpoints import formats, state_dicts
from tools.checkpoints.archive import Content, is_torchscript, opened
from tools.checkpoints.formats import Verdict
from tools.checkpoints.names import dangerous, not_allowed, not_of_ultralytics
from tools.checkpoints.network import KNOWN, MODELS
from tools.checkpoints.standins import Instance

SUFFIXES = (".pt", ".pth", ".pkl", ".ckpt", ".bin", ".pickle", ".torchscript", ".weights")
_TO_ONNX = "export the model to ONNX with the package that trained it"
_ULTRALYTICS_TASKS = {
    "DetectionModel": "detect",
    "SegmentationModel": "segment",
    "PoseModel": "pose",
    "OBBModel": "obb",
    "ClassificationModel": "classify",
    "RTDETRDetectionModel": "detect",
}

WRAPPERS = frozenset(
    {
        "torch.nn.parallel.data_parallel.DataParallel",
        "torch.nn.parallel.distributed.DistributedDataParallel",
        "models.common.AutoShape",
        "models.common.autoShape",
    }
)
"""Classes of modules around a whole network."""


class Family(Enum):
    """What can be done with a file."""

    YOLO = auto()
    """YOLOv5's or YOLOv7's own checkpoint: `tools.checkpoints.convert` makes an ONNX file of it."""
    ULTRALYTICS = auto()
    """Ultralytics' package exports it; it names nothing but parts of that package and plain data."""
    TORCHSCRIPT = auto()
    """A program that libtorch runs."""
    OTHER = auto()
    """Nothing here reads it; the verdict says what to do."""


@dataclass(frozen=True, slots=True)
class Identified:
    """What a file is."""

    family: Family
    verdict: Verdict
    """In words, and what to do with it."""
    task: str | None = None
    """Of a model of Ultralytics: detect, segment, pose, obb or classify; None when it is another."""
    names: tuple[str, ...] | None = None
    """Of the classes of a model of Ultralytics."""
    version: str = ""
    """Of the package that saved it, where the file says so."""

    def refusal(self, path: Path) -> StartupError:
        """The error for a file that can't be used.

        Args:
            path: The file.
        """
        return StartupError(f"{path}: {self.verdict}")


def identify(path: Path) -> Identified:
    """What a file is.

    Args:
        path: A file of SUFFIXES, or any other.

    Returns:
        What it is; damaged and dangerous files are OTHER.

    Raises:
        StartupError: The file can't be read at all.
    """
    with identified(path) as (found, _):
        return found


@contextmanager
def identified(path: Path) -> Iterator[tuple[Identified, Content]]:
    """What a file is, with its content, open.

    Args:
        path: As of `identify`.

    Raises:
        StartupError: The file can't be read at all.
    """
    try:
        verdict = formats.recognise(path) or _zip_verdict(path)
        if verdict is not None:
            found = Identified(Family.OTHER, verdict)
            if verdict is _TORCHSCRIPT:
                found = Identified(Family.TORCHSCRIPT, verdict)
            yield found, Content()
            return
        with opened(path) as content:
            yield _of_content(content), content
    except OSError as error:
        raise StartupError(f"{path}: can't be read: {error.strerror}") from error


_TORCHSCRIPT = Verdict("a TorchScript program", "name it .torchscript")
_NOT_TORCH = (
    ("model.json", "a TorchScript program of torch 1.0 or 1.1", "save it again with a newer torch"),
    ("metadata.json", "a Keras model", "export the model to ONNX: python -m tf2onnx.convert"),
    ("config.json", "a zip archive with a model's folder", "unpack it and give the folder"),
)


def _zip_verdict(path: Path) -> Verdict | None:
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return None
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, UnicodeError):
        return Verdict(
            f"cut off or damaged: {size:,} bytes that begin a checkpoint, without the table at its end",
            "copy or download it again",
        )
    if is_torchscript(names):
        return _TORCHSCRIPT
    if any(name.endswith("/data.pkl") for name in names):
        return None
    if names and all(name.endswith(".npy") for name in names):
        return Verdict("an archive of numpy arrays (.npz)", _TO_ONNX)
    for entry, what, remedy in _NOT_TORCH:
        if any(name.rpartition("/")[2] == entry for name in names):
            return Verdict(what, remedy)
    return Verdict(f"a zip archive ({listed(names, 3)})", "unpack it and give the model inside")


def _of_content(content: Content) -> Identified:
    model = network_of(content.value)
    kind = str(model.maker) if model is not None else ""
    unknown = not_allowed(content, KNOWN | WRAPPERS)
    if kind.startswith("ultralytics."):
        unknown = not_of_ultralytics(content)
    if harmful := dangerous(unknown):
        return _other(
            f"not safe to open: torch.load would call {listed(harmful, 3)}, which weights never need",
            "don't open it with anything else either, and get the weights from whoever trained them",
        )
    if package := _by_names(content):
        return Identified(Family.OTHER, package)
    if content.problem:
        return _other(
            content.problem.removeprefix("the file is "), "copy or download it again, or save it again with torch.save"
        )
    if model is None:
        verdict = state_dicts.recognise(content.value)
        return Identified(Family.OTHER, verdict) if verdict else _no_weights(content)
    if kind.startswith("ultralytics."):
        return _of_ultralytics(content, model, unknown)
    if kind in MODELS:
        return Identified(Family.YOLO, Verdict("a checkpoint of YOLOv5 or YOLOv7", "convert it to ONNX"))
    return _of_other_class(kind)


def network_of(value: Any) -> Instance | None:
    """The whole network in a checkpoint: its moving average where there is one.

    Args:
        value: Of the checkpoint.

    Returns:
        Its stand-in, None without a network.
    """
    found = value
    if isinstance(value, dict):
        found = next((value[key] for key in ("ema", "model", "net") if isinstance(value.get(key), Instance)), None)
    for _ in range(3):
        if not isinstance(found, Instance) or not isinstance(found.attributes.get("_modules"), dict):
            return None
        if str(found.maker) not in WRAPPERS:
            return found
        modules = found.attributes["_modules"]
        found = modules.get("module") or modules.get("model")
    return None


def _by_names(content: Content) -> Verdict | None:
    packages = {name.module.partition(".")[0] for name in content.names}
    if any(str(name) == "torch.storage._load_from_bytes" for name in content.names):
        return Verdict(
            "saved with pickle instead of torch.save", "save its state_dict() with torch.save, or export it to ONNX"
        )
    if "sklearn" in packages or "joblib" in packages:
        return Verdict("a model of scikit-learn, saved with pickle or joblib", "convert it to ONNX with skl2onnx")
    if "xgboost" in packages or "lightgbm" in packages:
        return Verdict("a model of decision trees", "give a vision model")
    if "fastai" in packages:
        return Verdict(
            "a learner of fastai", "export its model to ONNX where fastai is: torch.onnx.export(learn.model, ...)"
        )
    if "paddle" in packages:
        return Verdict("a model of PaddlePaddle", "export the model to ONNX with paddle2onnx")
    return None


def _of_ultralytics(content: Content, model: Instance, unknown: list[str]) -> Identified:
    if unknown:
        return _other(
            f"a model of Ultralytics with parts that their package doesn't have: {listed(unknown, 3)}",
            "export it to ONNX where their code is: yolo export model=best.pt format=onnx",
        )
    root = content.value if isinstance(content.value, dict) else {}
    names = model.attributes.get("names")
    if isinstance(names, dict):
        names = [names[key] for key in sorted(names)] if all(type(key) is int for key in names) else None
    version = root.get("version")
    return Identified(
        Family.ULTRALYTICS,
        Verdict(f"a model of Ultralytics ({model.maker.name})", "export it: yolo export model=best.pt format=onnx"),
        task=_ULTRALYTICS_TASKS.get(model.maker.name),
        names=tuple(str(name) for name in names) if isinstance(names, list) else None,
        version=version if isinstance(version, str) else "",
    )


def _of_other_class(kind: str) -> Identified:
    if re.match(r"models\.models\.Darknet|models\.Darknet|utils\.layers\.", kind):
        return _other(
            "a checkpoint of YOLOR or of YOLOv4 (Darknet)", "export it to ONNX with ONNX_EXPORT of its repository"
        )
    if kind.startswith("yolov6."):
        return _other("a checkpoint of YOLOv6", "export it with deploy/ONNX/export_onnx.py of YOLOv6")
    if kind.startswith("torchvision."):
        remedy = "save its weights alone, torch.save(model.state_dict(), path), for a function in serverless/pytorch/torchvision"
        return _other(f"a whole network of torchvision ({kind}), saved with its class", remedy)
    return _other(
        f"a whole network, saved with its class {kind}, whose code is not available", f"{_TO_ONNX}, where that code is"
    )


def _no_weights(content: Content) -> Identified:
    described = type(content.value).__name__
    if isinstance(content.value, Instance):
        described = f"an object of the class {content.value.maker}"
    elif isinstance(content.value, dict):
        described = f"a dictionary with {listed([str(key)[:30] for key in content.value], 4)}"
    return _other(f"a pickle without a network's weights ({described})", "give the model file")


def _other(what: str, remedy: str) -> Identified:
    return Identified(Family.OTHER, Verdict(what, remedy))
