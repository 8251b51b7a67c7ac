"""Networks that describe pictures, for KIND=reid: an exported file, or a folder of the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from common.errors import StartupError
from common.networks.huggingface.folder import CONFIG, PREPROCESSING, check_no_code
from tools.new.facts import Facts, Given
from tools.new.hub import is_hub_name, read_published
from tools.new.readers.exported import weights_beside
from tools.new.readers.huggingface import licence_of
from tools.new.readers.reader import Reader

_SUFFIXES = (".onnx", ".xml")
_OF_FILES = ("COLOR", "MEAN", "STD", "OUTPUT")
_OPTIONS = ("IMAGE_SIZE", *_OF_FILES)


def _recognises(given: Given) -> bool:
    path = given.path
    if given.kind != "reid":
        return False
    if not path.exists():
        return is_hub_name(given.weights)
    return path.is_dir() or path.suffix in _SUFFIXES


def _read(given: Given, workshop: Path) -> Facts:
    given.refuse("LAYOUT", "RESIZE", "DETECTOR", "CODEC", reason="for a detector, got KIND=reid")
    if not given.path.exists():
        return _of_the_hub(given)
    return _of_a_folder(given) if (given.path / CONFIG).is_file() else _of_a_file(given)


def _of_a_file(given: Given) -> Facts:
    from common.networks.embedding import descriptors
    from common.networks.exported.model import model_file
    from common.networks.formats.image_input import read_size
    from common.networks.normalisation import Normalisation
    from common.networks.patches import PatchNetwork

    settings = given.settings
    file = model_file(given.path)
    network = PatchNetwork(
        file,
        engine="openvino" if file.suffix == ".xml" else "onnxruntime",
        size_hw=read_size(settings.get("IMAGE_SIZE"), stride=1),
        normalisation=Normalisation.read(settings.get("COLOR", "rgb"), settings.get("MEAN"), settings.get("STD")),
    )
    descriptors(network, settings.get("OUTPUT"))
    return Facts(
        files=(file, *weights_beside(file)),
        like="onnx/embedding/reid",
        options={name: settings[name] for name in _OPTIONS if name in settings},
        size_hw=network.size_hw,
    )


def _of_a_folder(given: Given) -> Facts:
    from common.networks.huggingface.embedding import check_describes
    from common.networks.huggingface.folder import INDEX, ModelFolder

    given.refuse(*_OF_FILES, reason="for exported files only; the folder's settings say this")
    folder = ModelFolder.open(given.path)
    check_describes(folder.config, str(folder.path))
    names = [CONFIG, *PREPROCESSING, *([INDEX] if len(folder.files) > 1 else [])]
    others = [path for name in names if (path := folder.path / name).is_file()]
    if not any(path.name in PREPROCESSING for path in others):
        raise StartupError(
            f"{folder.path}: {PREPROCESSING[0]} is missing: it says how pictures are resized and normalised"
        )
    return Facts(
        files=(*others, *folder.files),
        entry="",
        like="pytorch/huggingface/reid",
        options=_size(given),
    )


def _of_the_hub(given: Given) -> Facts:
    from common.networks.huggingface.embedding import check_describes

    given.refuse(*_OF_FILES, reason="for exported files only; the model's settings say this")
    model = read_published(given.weights)
    check_no_code(model.config, f"{model.title}: {CONFIG}")
    check_describes(model.config, model.title)
    if not any(file.path in PREPROCESSING for file in model.files):
        raise StartupError(
            f"{model.title}: {PREPROCESSING[0]} is missing: it says how pictures are resized and normalised"
        )
    return Facts(
        files=(),
        fetched=model.files,
        entry="",
        published=model.title,
        licence=licence_of(model),
        like="pytorch/huggingface/reid",
        options=_size(given),
    )


def _size(given: Given) -> dict[str, str]:
    return {"IMAGE_SIZE": given.settings["IMAGE_SIZE"]} if "IMAGE_SIZE" in given.settings else {}


READER = Reader(
    "an .onnx or OpenVINO's .xml with a descriptor for each picture, a folder with config.json and model.safetensors, or its name on the Hugging Face hub",
    ("reid",),
    _recognises,
    _read,
)
