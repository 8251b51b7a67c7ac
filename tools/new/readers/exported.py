"""Detectors and classifiers exported to ONNX, OpenVINO or TorchScript."""

from __future__ import annotations

import shutil
from pathlib import Path

from common.errors import StartupError, listed
from common.networks.engines.torch_script import SUFFIX as TORCHSCRIPT_SUFFIX
from common.networks.engines.torch_script import is_torchscript
from common.networks.formats import mmdeploy_pipeline
from common.networks.formats.hub_settings import settings_files
from tools.checkpoints.formats import recognise
from tools.new.facts import UNKNOWN_LICENCE, Facts, Given
from tools.new.readers.reader import Reader

_ENGINES = {".onnx": "onnxruntime", ".xml": "openvino", TORCHSCRIPT_SUFFIX: "torchscript"}
ULTRALYTICS_LICENCE = (
    "Ultralytics claims AGPL-3.0 for its package and for every model trained with it, exported files included: serve this one "
    "only where that licence, or one that you have bought, allows it."
)
_XML = ("an OpenVINO model", "an XML document", "a text file")  # OpenVINO says what is wrong with others
_OPTIONS = ("LAYOUT", "TASK", "IMAGE_SIZE", "COLOR", "MEAN", "STD", "RESIZE")
_DETR_LAYOUTS = ("detr", "detr-sigmoid", "rtdetr-upstream", "rfdetr")


def read_exported(path: Path, given: Given) -> Facts:
    """Opens an exported file and reads what it says about its model.

    Args:
        path: An .onnx, .xml or .torchscript file, or the folder with one.
        given: What the command line says; its WEIGHTS is not looked at.

    Raises:
        StartupError: The file can't be served; with what to do about it.
    """
    from common.networks.exported.model import ExportedModel, model_file
    from common.networks.formats.preparation import InputOptions

    file = model_file(path)
    taken = {name.lower(): given.settings.get(name, "") for name in ("COLOR", "MEAN", "STD", "RESIZE")}
    model = ExportedModel(
        file,
        engine=_ENGINES[file.suffix],
        hints=given.hints,
        image_size=given.settings.get("IMAGE_SIZE"),
        taken=InputOptions(**taken),
    )
    layout, dimensions, metadata = model.layout, model.dimensions, model.metadata
    options = {name: given.settings[name] for name in _OPTIONS if name in given.settings}
    if layout.class_order and model.names is None:
        if given.names is not None and len(given.names) != dimensions.classes:
            raise StartupError(
                f"{file.name}: LABELS: expected a name for each of the {dimensions.classes} class indices, also for one that is "
                f"not used, or a map of class indices to names, got {len(given.names)} names: {layout.class_order}"
            )
        options["LABELS_BY"] = "id"
    return Facts(
        files=(file, *beside(file)),
        like=f"onnx/{'detr' if layout.name in _DETR_LAYOUTS else 'yolo'}/{layout.task}",
        base_image="cvat.pytorch.base" if file.suffix == ".torchscript" else None,
        options=options,
        licence=ULTRALYTICS_LICENCE if metadata.task is not None else UNKNOWN_LICENCE,
        task=layout.task,
        names=model.names,
        classes=None if dimensions.classes is None else dimensions.classes - dimensions.first_class,
        first_class=dimensions.first_class,
        size_hw=model.size_hw,
        joints=dimensions.joints[0] if dimensions.joints else None,
        joint_names=metadata.joint_names,
        layout=layout.name,
    )


def beside(file: Path) -> list[Path]:
    """The other files of a model that are there: its weights, and what says how it takes an image.

    Args:
        file: The one that is opened, .onnx or .xml.

    Raises:
        StartupError: The weights are in another folder.
    """
    others = [file.with_name(mmdeploy_pipeline.FILE_NAME)]
    if file.suffix == ".xml":
        others.insert(0, file.with_name("metadata.yaml"))
    return [*weights_beside(file), *(other for other in others if other.is_file()), *settings_files(file)]


def weights_beside(file: Path) -> list[Path]:
    """The files with a model's weights that are not in the one that is opened.

    Args:
        file: The one that is opened, .onnx or .xml.

    Raises:
        StartupError: The weights are in another folder.
    """
    if file.suffix == ".xml":
        names = [file.with_suffix(".bin").name]
    else:
        names = _external_data(file) if file.suffix == ".onnx" else []
    if elsewhere := [name for name in names if Path(name).name != name]:
        raise StartupError(
            f"{file}: its weights are in {listed(elsewhere, 3)}: save the model again with its weights in one file beside it"
        )
    return [path for path in map(file.with_name, names) if path.is_file()]


def _external_data(file: Path) -> list[str]:
    """The names of the files that hold an ONNX model's weights: weights.onnx.data, model.onnx_data and the like."""
    import onnx

    graph = onnx.load(str(file), load_external_data=False).graph
    entries = (entry for tensor in graph.initializer for entry in tensor.external_data)
    return sorted({entry.value for entry in entries if entry.key == "location"})


def _recognises(given: Given) -> bool:
    path = given.path
    if given.kind != "detector" or not path.exists():
        return False
    return path.is_dir() or path.suffix in _ENGINES or is_torchscript(path)


def _read(given: Given, workshop: Path) -> Facts:
    given.refuse("DETECTOR", reason="for top-down pose networks only")
    path = given.path
    _check_content(path)
    if path.is_file() and path.suffix not in _ENGINES:  # TorchScript is called model.pt as often
        path = workshop / f"{path.stem}{TORCHSCRIPT_SUFFIX}"
        shutil.copyfile(given.path, path)
    try:
        return read_exported(path, given)
    except StartupError as error:
        if _follows(path):
            raise StartupError(
                f"{given.path}: a network with the inputs and outputs of OpenCV's VitTrack, which follows a box: set KIND=tracker"
            ) from error
        raise


def _follows(path: Path) -> bool:
    """Whether a file that is no detector is one of the trackers that `make new` knows."""
    from common.networks.exported.model import model_file
    from common.networks.vittrack import VitTrackNetwork

    try:
        file = model_file(path)
        VitTrackNetwork(file, engine=_ENGINES[file.suffix])
    except StartupError:
        return False
    return True


def _check_content(path: Path) -> None:
    """Refuses what only has the name of a model: a web page, a pointer to a large file, an archive."""
    if not path.is_file() or path.suffix not in (".onnx", ".xml"):
        return
    verdict = recognise(path)
    if verdict is None or verdict.what.startswith("in no format"):
        return
    if verdict.what in (("an ONNX model",) if path.suffix == ".onnx" else _XML):
        return
    raise StartupError(f"{path}: {verdict}")


READER = Reader(".onnx, OpenVINO's .xml or its folder, .torchscript", ("detector",), _recognises, _read)
