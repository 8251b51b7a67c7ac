"""A model's folder as published on the Hugging Face hub: checked before anything is loaded, then loaded whole, offline.

Only .safetensors files are read, and no code that comes with a model is run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import StartupError, describe, listed
from common.networks.huggingface.library import offline_transformers
from common.networks.huggingface.loading import load_whole
from common.networks.huggingface.safetensors_file import StoredTensor, read_header

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"  # of weights in several files: tensor -> file
PREPROCESSING = ("preprocessor_config.json", "processor_config.json")
TIMM = "TimmWrapperForImageClassification"
TIMM_SETTINGS = "pretrained_cfg"  # of config.json: how images are prepared for a model of timm's own
_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "model.bin")
_PLACEHOLDER = re.compile(r"LABEL_\d+")  # what transformers writes for a class without a name


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A folder whose files are complete and hold no code."""

    path: Path
    """The folder."""
    config: Mapping[str, Any]
    """The content of its config.json."""
    files: tuple[Path, ...]
    """The files with weights, all of them whole."""

    @classmethod
    def open(cls, path: Path) -> ModelFolder:
        """Checks a folder; needs neither torch nor transformers.

        Args:
            path: The folder, or the file model.safetensors in it.

        Raises:
            StartupError: Files are missing, cut off or of another kind, or the model comes with code of its own.
        """
        folder = path.parent if path.name in (WEIGHTS, CONFIG) else path
        if not (folder / CONFIG).is_file():
            raise StartupError(
                f"{path}: expected a folder as published on the Hugging Face hub, with {CONFIG} and {WEIGHTS}"
            )
        config = read_object(folder / CONFIG)
        check_no_code(config, f"{folder / CONFIG}")
        files = tuple(folder / name for name in _weight_files(folder))
        for file in files:
            read_header(file)
        return cls(folder, config, files)

    @property
    def architecture(self) -> str:
        """The class of transformers that the model was saved from, such as DetrForObjectDetection; "" when unknown."""
        return architecture(self.config)

    @property
    def names(self) -> tuple[str, ...] | None:
        """The names of the model's classes by index, from id2label or timm's label_names; None when it has none, or only LABEL_0, LABEL_1, ..."""
        return class_names(self.config, f"{self.path / CONFIG}")

    def tensors(self) -> dict[str, StoredTensor]:
        """All tensors of the files by name, without their values."""
        return {name: tensor for file in self.files for name, tensor in read_header(file).items()}

    def load_model(self, class_name: str, unused: Sequence[str] = ()) -> Any:
        """The model with all its weights: float32, on the CPU, in evaluation mode.

        Args:
            class_name: A class of transformers: a model's, or an "AutoModelFor...".
            unused: Regular expressions of tensors that may be in the files though the class does not have them; counters
                and tables of indices, which are whole numbers, always may.

        Raises:
            StartupError: The class has no model for this folder, or tensors are missing, unexpected or of another shape;
                with the names of some.
        """
        transformers = offline_transformers()
        model, unexpected = load_whole(getattr(transformers, class_name), self.path)
        counters = self._integer_names()
        wrong = [
            name
            for name in unexpected
            if name.rpartition(".")[2] not in counters and not any(re.search(pattern, name) for pattern in unused)
        ]
        if wrong:
            # More layers than config.json says, or a head for another task: what is computed without them is not the model.
            raise StartupError(
                f"{self.path}: the weights don't fit {type(model).__name__}: {len(wrong)} tensors have no place in it: "
                f"{listed(wrong, 5)}. Use the folder as published"
                + (f"; it was saved from {self.architecture}" if self.architecture != type(model).__name__ else "")
            )
        return model

    def _integer_names(self) -> set[str]:
        """The last parts of names that only tensors of whole numbers have; transformers may rename the parts before it."""
        tensors = self.tensors().items()
        return {name.rpartition(".")[2] for name, tensor in tensors if tensor.is_integer} - {
            name.rpartition(".")[2] for name, tensor in tensors if not tensor.is_integer
        }

    def load_image_processor(self, **settings: Any) -> Any:
        """The preprocessing of the folder.

        Args:
            **settings: Entries of its file that are replaced.

        Raises:
            StartupError: The folder has none, or it can't be loaded.
        """
        if not any((self.path / name).is_file() for name in PREPROCESSING) and TIMM_SETTINGS not in self.config:
            raise StartupError(
                f"{self.path}: {PREPROCESSING[0]} is missing: it says how images are resized and normalised. Copy it from "
                "where the model was published, or from the model that yours was trained from"
            )
        transformers = offline_transformers()
        try:
            return transformers.AutoImageProcessor.from_pretrained(
                self.path, local_files_only=True, trust_remote_code=False, **settings
            )
        except (OSError, ValueError, TypeError, RuntimeError, AttributeError, ImportError, KeyError) as error:
            raise StartupError(
                f"{self.path}: the preprocessing can't be loaded: {' '.join(str(error).split())}"
            ) from error


def architecture(config: Mapping[str, Any]) -> str:
    """The class of transformers that a model was saved from.

    Args:
        config: The content of its config.json.

    Returns:
        Such as DetrForObjectDetection, or transformers' class around a model of timm; "" when unknown.
    """
    names = config.get("architectures")
    if isinstance(names, list) and names:
        return str(names[0])
    return TIMM if TIMM_SETTINGS in config and "architecture" in config else ""


def class_names(config: Mapping[str, Any], where: str) -> tuple[str, ...] | None:
    """The names of a model's classes.

    Args:
        config: The content of its config.json.
        where: What a message calls that file.

    Returns:
        By class index; None without names, or with only the placeholders LABEL_0, LABEL_1, ...

    Raises:
        StartupError: id2label can't be understood.
    """
    names = config.get("id2label")
    if isinstance(listed_names := config.get("label_names"), list):  # timm's form
        names = {str(i): name for i, name in enumerate(listed_names)}
    if not names:
        return None
    keyed = isinstance(names, dict) and all(str(key).isdecimal() and len(str(key)) < 7 for key in names)
    StartupError.check(keyed, f"{where}: id2label", "an object of class names by index", names)
    by_index = {int(key): str(name) for key, name in names.items()}
    if all(_PLACEHOLDER.fullmatch(name) for name in by_index.values()):
        return None
    return tuple(by_index.get(index, f"class {index}") for index in range(max(by_index) + 1))


def check_no_code(config: Mapping[str, Any], where: str) -> None:
    """Refuses a model that comes with Python code of its own.

    Args:
        config: The content of its config.json.
        where: What a message calls that file.

    Raises:
        StartupError: It has an entry auto_map.
    """
    if config.get("auto_map"):
        raise StartupError(
            f"{where}: the model comes with code of its own (auto_map), which is never run. Use a version of the model that "
            "transformers itself has a class for, or export it to ONNX"
        )


def read_object(path: Path) -> dict[str, Any]:
    """The content of a JSON file that holds an object.

    Args:
        path: The file.

    Raises:
        StartupError: It doesn't hold one.
    """
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise StartupError(f"{path}: not JSON: {str(error)[:100]}") from error
    if not isinstance(content, dict):
        raise StartupError(f"{path}: expected a JSON object, got {describe(content)}")
    return content


def _weight_files(folder: Path) -> list[str]:
    """The names of the files with weights. Raises StartupError."""
    if (folder / WEIGHTS).is_file():
        return [WEIGHTS]
    if (folder / INDEX).is_file():
        places: Any = read_object(folder / INDEX).get("weight_map")
        StartupError.check(isinstance(places, dict) and places, f"{folder / INDEX}: weight_map", "an object", places)
        names = sorted({str(name) for name in places.values()})
        if outside := [name for name in names if Path(name).name != name or not name.endswith(".safetensors")]:
            raise StartupError(f"{folder / INDEX}: expected .safetensors files beside it, got {listed(outside, 3)}")
        if absent := [name for name in names if not (folder / name).is_file()]:
            raise StartupError(f"{folder}: {len(absent)} of {len(names)} files are missing: {listed(absent, 3)}")
        return names
    pickles = [name for name in _PICKLES if (folder / name).is_file()]
    if pickles:
        raise StartupError(
            f"{folder}: expected {WEIGHTS}, got only {pickles[0]}, a pickle, which can run any code and is never read. Many "
            f"models have a revision with {WEIGHTS}; or convert it where you trust its author: load it with transformers and "
            "call save_pretrained"
        )
    raise StartupError(f"{folder}: there is no {WEIGHTS}")
