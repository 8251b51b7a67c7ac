"""What all engines have in common: their interface, and what their errors need."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

PRECISIONS = ("f32", "bf16", "f16")

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output of a model."""

    name: str
    """As in the file."""
    shape: tuple[int | None, ...]
    """Sizes of its axes, None where the size is free."""
    dtype: np.dtype[Any]
    """Type of its values."""


class Engine(Protocol):
    """A loaded model."""

    description: str
    """Which engine on which device."""
    inputs: tuple[Tensor, ...]
    """What the model takes, in its order."""
    outputs: tuple[Tensor, ...]
    """What the model gives, in its order."""
    metadata: Mapping[str, str]
    """The texts stored in the file."""

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """Runs the model once.

        Args:
            arrays: The inputs in the model's order; they are cast to its types.

        Returns:
            The outputs in the model's order.
        """
        ...


def installed(library: str) -> bool:
    """Whether a library can be imported.

    Args:
        library: The name of its package.
    """
    return importlib.util.find_spec(library) is not None


def model_name(model: str | Path | bytes) -> str:
    """What a model is called in messages.

    Args:
        model: Its file, or the file's content.
    """
    return "the model" if isinstance(model, bytes) else str(model)


def brief(error: Exception) -> str:
    """The first telling line of a library's error.

    Args:
        error: What it raised.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("Exception from ")] or lines  # OpenVINO's source lines
    return (lines[0] if lines else type(error).__name__)[:300]
