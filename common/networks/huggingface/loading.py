"""Loads a model of transformers with all its weights, or says which tensors don't fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common.errors import StartupError, listed

_FAILURES = (OSError, ValueError, TypeError, RuntimeError, AttributeError, ImportError, KeyError, AssertionError)


def load_whole(model_class: Any, folder: Path) -> tuple[Any, list[str]]:
    """A model in float32 on the CPU, ready to run, every tensor of which came from the folder.

    Args:
        model_class: A class of transformers with `from_pretrained`.
        folder: As published on the Hugging Face hub, with .safetensors files.

    Returns:
        The model, and the names of tensors in the files that it does not have.

    Raises:
        StartupError: Tensors are missing or have another shape, or the folder can't be loaded.
    """
    from safetensors import SafetensorError

    name = model_class.__name__
    try:
        model, report = model_class.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # reported below, with their names
            dtype="float32",
        )
    except (*_FAILURES, SafetensorError) as error:
        raise StartupError(f"{folder}: {name} can't be loaded: {' '.join(str(error).split())}") from error
    missing = sorted(report["missing_keys"])
    mismatched = sorted(str(entry[0]) for entry in report["mismatched_keys"])
    if missing or mismatched:
        # transformers would go on with random numbers in their place.
        kinds = ((missing, "tensors are missing"), (mismatched, "tensors have another shape"))
        problems = [f"{len(names)} {what}: {listed(names, 5)}" for names, what in kinds if names]
        raise StartupError(
            f"{folder}: the weights don't fit {type(model).__name__}: {'; '.join(problems)}. Use the folder as published"
        )
    return model.eval().requires_grad_(False), sorted(report["unexpected_keys"])
