"""What OneFormer is asked for: a sentence that names the task, as tokens."""

from __future__ import annotations

from typing import Any

from common.errors import StartupError
from common.networks.huggingface.folder import ModelFolder
from common.networks.huggingface.library import offline_transformers


def task_tokens(folder: ModelFolder, task: str) -> Any:
    """The tokens of a task.

    Args:
        folder: OneFormer's, with the files of its tokenizer.
        task: instance, panoptic or semantic.

    Returns:
        A tensor (1, length) of whole numbers; 0 after the text's end.

    Raises:
        StartupError: The tokenizer's files are missing.
    """
    transformers = offline_transformers()
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            folder.path, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ImportError) as error:
        raise StartupError(
            f"{folder.path}: the tokenizer can't be loaded: OneFormer reads its task as text and needs vocab.json, merges.txt "
            f"and tokenizer_config.json beside its weights: {' '.join(str(error).split())[:150]}"
        ) from error
    length = int(folder.config.get("task_seq_len", 77))
    tokens = tokenizer(
        [f"the task is {task}"], padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    )
    return tokens["input_ids"] * tokens["attention_mask"]
