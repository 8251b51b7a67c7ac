"""What the command line says about a model, and what the model's own files say about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from common.config import KindName
from common.errors import StartupError
from common.networks.formats.signature import Hints
from common.networks.weights import WeightFile

UNKNOWN_LICENCE = "Unknown: the file doesn't say."


@dataclass(frozen=True, slots=True)
class Given:
    """What the command line says about a model."""

    weights: str
    """WEIGHTS: a path, or the name of a model on a hub."""
    kind: KindName = "detector"
    """KIND."""
    names: tuple[str, ...] | None = None
    """The class names of LABELS, from class 0; None without LABELS, or where their ids don't count from 0."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """All variables that are set, by name."""

    @property
    def path(self) -> Path:
        """WEIGHTS as a path."""
        return Path(self.weights).expanduser()

    @property
    def hints(self) -> Hints:
        """What the file of a detector may leave open."""
        joints = self.settings.get("JOINTS", "")
        return Hints(
            layout=self.settings.get("LAYOUT"),
            task=self.settings.get("TASK"),
            classes=len(self.names) if self.names else None,
            joints=(int(joints) if joints.isdecimal() else len(joints.split(","))) if joints else None,
        )

    def refuse(self, *variables: str, reason: str) -> None:
        """Refuses variables that mean nothing for a model.

        Args:
            *variables: Their names.
            reason: What they are for.

        Raises:
            StartupError: One of them is set.
        """
        if useless := [name for name in variables if name in self.settings]:
            raise StartupError(f"{', '.join(useless)}: {reason}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the files of a model say about it, and which function of the collection runs such files."""

    files: tuple[Path, ...]
    """What is copied into the new function's directory: all that belong to the model."""
    below: Path | None = None
    """The folder from which on the files keep their places; None: all of them go into the function's directory itself."""
    like: str
    """The path, below serverless/, of the function of the collection that runs such files: the new one takes its
    handler, base image, packages, time limits and options."""
    entry: str | None = None
    """What the handler opens: the name of a file, "" for the folder with all of them; None for the first file."""
    fetched: tuple[WeightFile, ...] = ()
    """Files that are fetched when the image is built, beside those that are copied."""
    base_image: str | None = None
    """Another base image than that of `like`; None for the same."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Options of the new function beside those of `like`, or instead of them."""
    licence: str = UNKNOWN_LICENCE
    """Of the weights, as a sentence."""
    task: str = ""
    """Of a detector: detect, segment, pose, obb or classify."""
    names: tuple[str, ...] | None = None
    """Of the classes; None when the files have none."""
    classes: int | None = None
    """How many, without the background; None when the outputs don't tell either."""
    first_class: int = 0
    """The index of the first: 1 where 0 is the background."""
    size_hw: tuple[int, int] | None = None
    """Height and width of the input in pixels, for the summary."""
    joints: int | None = None
    """How many a pose has."""
    joint_names: tuple[str, ...] | None = None
    """As the file has them."""
    layout: str = ""
    """As `common.networks.formats` names it; empty where that means nothing."""
    note: str = ""
    """How the files were made, for the summary and the README: a sentence without its full stop; empty for files as given."""
    published: str = ""
    """The model's name on a hub, with its revision; "" for local files."""

    def noted(self, note: str) -> Facts:
        """The same facts with a note.

        Args:
            note: How the files were made.
        """
        return replace(self, note=note)

    def place(self, file: Path) -> Path:
        """Where one of the files goes, relative to the function's directory.

        Args:
            file: One of `files`.
        """
        return Path(file.name) if self.below is None else file.relative_to(self.below)

    @property
    def title(self) -> str:
        """What the model is called in messages: its name on a hub, the file that is opened, or the folder's."""
        if self.published:
            return self.published
        if self.entry or not self.files:
            return self.entry or "the model"
        return self.files[0].name if self.entry is None else self.files[0].parent.name
