"""Models of transformers: a local folder, or a name on the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.errors import StartupError, describe
from common.networks.huggingface.architectures import architecture_error, task_of
from common.networks.huggingface.folder import (
    CONFIG,
    INDEX,
    PREPROCESSING,
    TIMM_SETTINGS,
    ModelFolder,
    architecture,
    check_no_code,
    class_names,
)
from tools.new.facts import UNKNOWN_LICENCE, Facts, Given
from tools.new.hub import PublishedModel, is_hub_name, read_published
from tools.new.readers.reader import Reader

_TOKENIZER = ("tokenizer_config.json", "tokenizer.json", "vocab.json", "merges.txt", "special_tokens_map.json")


def _recognises(given: Given) -> bool:
    if given.kind != "detector":
        return False
    path = given.path
    if not path.exists():
        return is_hub_name(given.weights)
    if not path.is_dir() and path.suffix != ".safetensors":
        return False
    folder = path if path.is_dir() else path.parent
    exported = any(file.suffix in (".onnx", ".xml") for file in folder.iterdir()) and not any(
        folder.glob("*.safetensors")
    )
    return (folder / CONFIG).is_file() and not exported


def _read(given: Given, workshop: Path) -> Facts:
    given.refuse("LAYOUT", reason="for exported files; the model's class in transformers says what its outputs are")
    given.refuse(
        "IMAGE_SIZE", reason="for exported files; preprocessor_config.json says to what size images are resized"
    )
    given.refuse("DETECTOR", reason="for top-down pose networks only")
    return _read_folder(given) if given.path.exists() else _read_hub(given)


def _read_folder(given: Given) -> Facts:
    folder = ModelFolder.open(given.path)
    task = _task(folder.config, given, str(folder.path))
    index = [path for name in (INDEX,) if len(folder.files) > 1 and (path := folder.path / name).is_file()]
    names = [CONFIG, *PREPROCESSING, *(_TOKENIZER if _reads_text(folder.config) else ())]
    beside = [path for name in names if (path := folder.path / name).is_file()]
    return Facts(
        files=(*beside, *index, *folder.files),
        entry="",
        **_described(folder.config, task, str(folder.path / CONFIG)),
    )


def _read_hub(given: Given) -> Facts:
    model = read_published(given.weights)
    where = f"{model.title}: {CONFIG}"
    check_no_code(model.config, where)
    task = _task(model.config, given, model.title)
    if not any(file.path in PREPROCESSING for file in model.files) and TIMM_SETTINGS not in model.config:
        raise StartupError(
            f"{model.title}: {PREPROCESSING[0]} is missing: it says how images are resized and normalised"
        )
    text = _TOKENIZER if _reads_text(model.config) else ()
    return Facts(
        files=(),
        fetched=(*model.files, *(model.others[name] for name in text if name in model.others)),
        entry="",
        published=model.title,
        licence=licence_of(model),
        **_described(model.config, task, where),
    )


def _task(config: Mapping[str, Any], given: Given, where: str) -> str:
    """What the model is for. Raises StartupError when no function serves it."""
    name = architecture(config)
    task = task_of(name)
    if task is None and name.endswith(("Model", "Backbone")):
        raise StartupError(
            f"{where}: {name} gives descriptors, not classes: set KIND=reid to use it for re-identification"
        )
    if task is None:
        raise StartupError(architecture_error(name, where))
    if given.hints.task not in (None, task):
        raise StartupError(f"TASK: the model's task is {task} ({name}), got {describe(given.hints.task)}")
    return task


def _described(config: Mapping[str, Any], task: str, where: str) -> dict[str, Any]:
    """What config.json says, as fields of Facts."""
    names = class_names(config, where)
    return {
        "like": f"pytorch/huggingface/{task}",
        "task": task,
        "names": names,
        "classes": len(names) if names else _class_count(config),
        "options": {} if names else {"LABELS_BY": "id"},
    }


def _class_count(config: Mapping[str, Any]) -> int | None:
    """How many classes a model without class names has; None when its config.json doesn't say."""
    labels, count = config.get("id2label"), config.get("num_classes")  # the latter in timm's form
    if isinstance(labels, dict):
        return len(labels)
    return count if type(count) is int else None


def _reads_text(config: Mapping[str, Any]) -> bool:
    return architecture(config).startswith("OneFormer")


def licence_of(model: PublishedModel) -> str:
    """The licence of a model on the hub, as a sentence.

    Args:
        model: What the hub says about it.
    """
    gated = " It is gated: whoever fetches it has to accept its terms first." if model.gated else ""
    return (f"{model.licence}, by its page on the hub." if model.licence else UNKNOWN_LICENCE) + gated


READER = Reader(
    "a folder with config.json and model.safetensors, or organisation/name on the Hugging Face hub",
    ("detector",),
    _recognises,
    _read,
)
