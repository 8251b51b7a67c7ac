"""What reads one kind of model files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from common.config import KindName
from tools.new.facts import Facts, Given


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads one kind of model files."""

    files: str
    """The files in words, for messages."""
    kinds: tuple[KindName, ...]
    """Kinds of functions that are made of them."""
    recognises: Callable[[Given], bool]
    """Whether a model is of this kind, by its name and first bytes; quick, and without an error."""
    read: Callable[[Given, Path], Facts]
    """(what the command line says, an empty folder for files that are made on the way) -> what the model says. Raises
    StartupError with what to do about it."""
