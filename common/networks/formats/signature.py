"""What a model file shows of itself before its layout is known: inputs, outputs, metadata; and what is known besides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from common.networks.engine import Tensor
from common.networks.formats.image_input import image_port
from common.networks.formats.metadata import Metadata

# Strides of the networks' grids, whose cells are counted to recognise outputs with a row or a column for each.
_STRIDES = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32), (16, 32))


@dataclass(frozen=True, slots=True)
class Hints:
    """What is known apart from the file; None: nothing."""

    layout: str | None = None
    """A layout's name, set by hand (LAYOUT)."""
    task: str | None = None
    """A task, set by hand (TASK)."""
    likely_task: str | None = None
    """The task that the types of the function's labels suggest."""
    classes: int | None = None
    """How many labels the function has."""
    joints: int | None = None
    """How many joints the function's skeletons have."""
    model_type: str | None = None
    """The kind of network, such as rt_detr, from a config.json beside the file."""
    names: tuple[str, ...] | None = None
    """The names of the classes by index, from the same."""


@dataclass(frozen=True, slots=True)
class Dimensions:
    """The numbers that a layout leaves open and a file decides."""

    classes: int | None
    """How many classes; None when the outputs don't tell."""
    table: int = 0
    """Index of the output with the boxes."""
    masks: int | None = None
    """Index of the output that masks are made from, such as their prototypes."""
    extra: int = 0
    """Values of a detection besides box, score and class."""
    joints: tuple[int, int] | None = None
    """(How many joints, values of each) of a pose."""
    parts: tuple[int, ...] = ()
    """Indices of the outputs that `OutputLayout.read` takes, in the layout's own order; for layouts of several outputs."""
    first_class: int = 0
    """The index of the first class: 1 where 0 is the background."""
    most: int | None = None
    """The most detections of an image, as the network's own package has it; None: as many as there are."""
    names: tuple[str, ...] | None = None
    """The names of the classes by index where the layout knows them and the file's metadata doesn't."""


@dataclass(frozen=True, slots=True)
class Signature:
    """A model file's inputs, outputs and metadata, with what is known besides."""

    inputs: tuple[Tensor, ...]
    """As the file declares them."""
    outputs: tuple[Tensor, ...]
    """With the shapes that they had for an input of `size_hw`."""
    size_hw: tuple[int, int]
    """Height and width of the image input, pixels."""
    metadata: Metadata = field(default_factory=Metadata)
    """What the exporter wrote into the file."""
    hints: Hints = field(default_factory=Hints)
    """What is known apart from the file."""

    @property
    def by_hand(self) -> bool:
        """Whether LAYOUT names the layout: then the shapes alone decide whether it fits."""
        return self.hints.layout is not None

    @property
    def further_inputs(self) -> set[str]:
        """The names of the inputs besides the image."""
        image = image_port(self.inputs)
        return {port.name for i, port in enumerate(self.inputs) if i != image}

    @property
    def names(self) -> list[str]:
        """The names of the outputs."""
        return [port.name for port in self.outputs]

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shapes of the outputs."""
        return [tuple(size or 0 for size in port.shape) for port in self.outputs]

    @property
    def classes(self) -> int | None:
        """How many class names the file has."""
        return len(self.metadata.names) if self.metadata.names else None

    @property
    def table(self) -> tuple[int, int, int] | None:
        """Index, rows and columns of the output (1, rows, columns) that holds all there is about the detections.

        Only prototypes and undecoded maps, of more dimensions, may accompany it. None where there is no such output.
        """
        tables = [i for i, shape in enumerate(self.shapes) if len(shape) <= 3]
        if len(tables) != 1 or len(self.shapes[tables[0]]) != 3:
            return None
        if not np.issubdtype(self.outputs[tables[0]].dtype, np.floating):
            return None
        _, rows, columns = self.shapes[tables[0]]
        return tables[0], rows, columns

    @property
    def prototypes(self) -> int | None:
        """Index of the first output of four dimensions: the prototypes of masks."""
        return next((i for i, shape in enumerate(self.shapes) if len(shape) == 4), None)

    @property
    def task(self) -> str | None:
        """What the network is for: as set by hand, else as the file says, else as outputs and labels suggest."""
        segments = self.table is not None and self.prototypes is not None and len(self.outputs) == 2
        return self.hints.task or self.metadata.task or ("segment" if segments else self.hints.likely_task)

    def cells(self, *anchors: int) -> set[int]:
        """Possible numbers of cells of all grids of a network for this input.

        Args:
            anchors: Boxes at each cell; several numbers for several possibilities.
        """
        height, width = self.size_hw
        counts = {sum((height // stride) * (width // stride) for stride in strides) for strides in _STRIDES}
        return {count * number for count in counts for number in anchors}

    def class_count(self, values: int) -> int | None:
        """How many of the values of a detection are scores of classes.

        Args:
            values: How many values there are besides box and objectness.

        Returns:
            The number, or None when the task and the metadata don't agree with so many values.
        """
        if self.classes is not None:
            return self.classes if self.extra_values(values - self.classes) == values - self.classes else None
        if self.task == "pose" and self.hints.classes and self.extra_values(values - self.hints.classes):
            return self.hints.classes
        extra = None if self.task == "pose" else self.extra_values(0)
        return values - extra if extra is not None and values > extra else None

    def extra_values(self, left: int) -> int | None:
        """How many values a detection has besides box, score and class.

        Args:
            left: How many there are, for a pose whose number of joints is not known.

        Returns:
            The number by the task, or None when it can't be known.
        """
        if self.task == "segment":
            return None if self.prototypes is None else self.shapes[self.prototypes][1]
        if self.task == "obb":
            return 1
        if self.task != "pose":
            return 0
        if self.metadata.joints:
            return self.metadata.joints[0] * self.metadata.joints[1]
        if self.hints.joints:
            return left if left in (2 * self.hints.joints, 3 * self.hints.joints) else None
        return left if left > 0 and (left % 3 == 0 or left % 2 == 0) else None

    def dimensions(self, table: int, classes: int | None, extra: int = 0) -> Dimensions:
        """The dimensions of a layout of one table, with masks or joints by the task.

        Args:
            table: Index of the output with the boxes.
            classes: How many classes, None when the outputs don't tell.
            extra: Values of a detection besides box, score and class.
        """
        masks = self.prototypes if self.task == "segment" else None
        joints = self._joints(extra) if self.task == "pose" else None
        return Dimensions(classes, table, masks, extra, joints)

    def _joints(self, extra: int) -> tuple[int, int]:
        if self.metadata.joints:
            return self.metadata.joints
        if self.hints.joints:
            return self.hints.joints, extra // self.hints.joints
        return (extra // 3, 3) if extra % 3 == 0 else (extra // 2, 2)

    def __str__(self) -> str:
        said = {"task": self.metadata.task, "head": self.metadata.head, "end2end": self.metadata.end2end}
        facts = [f"{key}={value}" for key, value in said.items() if value is not None]
        facts += [f"{len(self.metadata.names)} class names"] if self.metadata.names else []
        metadata = ", ".join(facts) or "none"
        return f"inputs: {list_ports(self.inputs)}; outputs: {list_ports(self.outputs)}; metadata: {metadata}"


def list_ports(ports: Sequence[Tensor]) -> str:
    """Names, types and shapes of inputs or outputs, for messages; free sizes as `?`.

    Args:
        ports: The inputs or outputs.
    """
    sizes = [", ".join("?" if size is None else str(size) for size in port.shape) for port in ports]
    return ", ".join(f"{port.name} {port.dtype} ({size})" for port, size in zip(ports, sizes, strict=True)) or "none"
