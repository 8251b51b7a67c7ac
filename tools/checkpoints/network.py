"""A whole network of YOLOv5 or YOLOv7, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from common.errors import StartupError, listed
from tools.checkpoints.blocks import IMPLICIT, JOINTS, join
from tools.checkpoints.blocks import KNOWN as KNOWN_BLOCKS
from tools.checkpoints.graph import Graph, Value
from tools.checkpoints.heads import HEADS, Outputs
from tools.checkpoints.heads import KNOWN as KNOWN_HEADS
from tools.checkpoints.module import Module
from tools.checkpoints.standins import Instance

MODELS = frozenset(
    f"models.yolo.{name}" for name in ("Model", "DetectionModel", "SegmentationModel", "ClassificationModel")
)
"""The classes of whole networks."""

KNOWN = MODELS | KNOWN_BLOCKS | KNOWN_HEADS
"""All classes that such a checkpoint may have."""

_MOST_LAYERS = 1000
_LARGEST_STRIDE = 1024
_IMAGENET_MEAN, _IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class Layer:
    """One of the modules in a row that a network consists of."""

    module: Module
    inputs: tuple[int, ...]
    """Indices of the layers whose outputs it takes; -1 for the image."""


@dataclass(frozen=True, slots=True)
class Network:
    """A network that was read from a checkpoint."""

    layers: tuple[Layer, ...]
    names: tuple[str, ...]
    """Of the classes by index."""
    yolov7: bool
    """Whether YOLOv7's package made it, else YOLOv5's."""

    @classmethod
    def read(cls, model: Instance) -> Network:
        """Reads a stand-in.

        Args:
            model: Of one of MODELS.

        Raises:
            StartupError: It is not such a network, or has layers that are not known here.
        """
        whole = Module(model, "the model")
        layers = _layers(whole)
        kinds = _kinds(model)
        marks = JOINTS - {"models.common.Concat"} | IMPLICIT | {f"models.common.{name}" for name in _ONLY_V7}
        names = _names(whole)
        head = layers[-1].module
        if head.kind not in HEADS:
            raise head.error(f"expected the last layer to be one of {', '.join(sorted(HEADS))}")
        count = (
            head.whole("nc") if head.kind != "models.common.Classify" else len(head.child("linear").tensor("weight"))
        )
        if len(names) != count:
            raise head.error(f"{count} classes, but {len(names)} names")
        return cls(layers, names, "traced" in model.attributes or bool(marks & kinds))

    @property
    def task(self) -> str:
        """detect, segment or classify."""
        return HEADS[self.layers[-1].module.kind][0]

    @property
    def stride(self) -> int:
        """What the sides of the input must be multiples of."""
        if self.task == "classify":
            return 32
        head = self.layers[-1].module
        largest = int(head.tensor("stride").max(initial=0))
        if not 1 <= largest <= _LARGEST_STRIDE:
            raise head.error(f"expected strides from 1 to {_LARGEST_STRIDE}, got {largest}")
        return largest

    def write(self, graph: Graph, image: Value) -> Outputs:
        """Writes all layers that the outputs need.

        Args:
            graph: To write to.
            image: (1, 3, height, width), from 0 to 1.

        Returns:
            The outputs by their names.

        Raises:
            StartupError: A layer is not known, or damaged.
        """
        needed = self._needed()
        values: dict[int, Value] = {-1: self._prepared(graph, image)}
        for index, layer in enumerate(self.layers[:-1]):
            if index not in needed:
                continue
            inputs = [values[source] for source in layer.inputs]
            if layer.module.kind in JOINTS or len(inputs) != 1:
                values[index] = join(graph, layer.module, inputs)
            else:
                values[index] = graph.emit(layer.module, inputs[0])
        head = self.layers[-1]
        _, write = HEADS[head.module.kind]
        return write(graph, head.module, [values[source] for source in self._of_head()], image.size_hw)

    def _needed(self) -> set[int]:
        needed = set(self._of_head())
        for index in range(len(self.layers) - 2, -1, -1):
            if index in needed:
                needed.update(self.layers[index].inputs)
        return needed

    def _of_head(self) -> tuple[int, ...]:
        head = self.layers[-1]
        # The second half is for training alone.
        return head.inputs[: len(head.inputs) // 2] if head.module.kind.endswith(".IAuxDetect") else head.inputs

    def _prepared(self, graph: Graph, image: Value) -> Value:
        if self.task != "classify":
            return image
        # YOLOv5's classifiers see the colours as those of ImageNet's pictures are spread.
        mean, deviation = (np.array(v)[:, None, None] for v in (_IMAGENET_MEAN, _IMAGENET_DEVIATION))
        return graph.same("Div", graph.same("Sub", image, mean), deviation)


_ONLY_V7 = ("MP", "SP", "ReOrg", "DownC", "SPPCSPC", "GhostSPPCSPC", "RepConv", "Stem", "Foldcut")


def _layers(whole: Module) -> tuple[Layer, ...]:
    modules = whole.child("model").children()
    if not 2 <= len(modules) <= _MOST_LAYERS:
        raise whole.error(f"expected 2 to {_MOST_LAYERS} layers, got {len(modules)}")
    layers = []
    for index, module in enumerate(modules):
        named = Module(module.instance, f"layer {index}")
        given = named.get("f", -1)
        sources = given if isinstance(given, (list, tuple)) else [given]
        if not sources or not all(type(source) is int for source in sources):
            raise named.error("f: expected the numbers of its input layers")
        absolute = [source if source >= 0 else index + source for source in sources]
        if not all(-1 <= source < index for source in absolute):
            raise named.error(f"takes the output of a layer that does not come before it: {sources[:4]}")
        layers.append(Layer(named, tuple(absolute)))
    return tuple(layers)


def _names(whole: Module) -> tuple[str, ...]:
    names: Any = whole.get("names")
    if isinstance(names, dict):
        names = (
            [names[key] for key in sorted(names) if type(key) is int] if all(type(k) is int for k in names) else None
        )
    if not isinstance(names, list) or not names or not all(isinstance(name, (str, int)) for name in names):
        raise whole.error("names: expected a name for each class")
    return tuple(str(name) for name in names)


def _kinds(model: Instance) -> set[str]:
    """The classes of all modules inside of a network."""
    found: set[str] = set()
    seen: set[int] = set()
    waiting = [model]
    while waiting:
        instance = waiting.pop()
        if id(instance) not in seen:
            seen.add(id(instance))
            found.add(str(instance.maker))
            modules = instance.attributes.get("_modules")
            waiting += (
                [child for child in (modules or {}).values() if isinstance(child, Instance)]
                if isinstance(modules, dict)
                else []
            )
    return found


def check_names(names: list[str]) -> None:
    """Refuses a checkpoint that names anything but the known modules and plain data.

    Args:
        names: Those that are neither.

    Raises:
        StartupError: There are some.
    """
    if names:
        raise StartupError(
            f"has modules that are not known here: {listed(names, 4)}; export the model to ONNX with the package that "
            "trained it: python export.py --weights best.pt --include onnx (YOLOv5), --grid (YOLOv7)"
        )
