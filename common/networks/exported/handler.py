"""The ModelHandler of all functions that run an exported detector."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from common.config import FunctionConfig
from common.cvat.labels import Labels
from common.errors import StartupError
from common.networks.exported.model import ExportedModel
from common.networks.formats.preparation import InputOptions
from common.networks.formats.signature import Hints
from common.networks.results import Found, check_types, class_labels, to_shapes
from common.networks.runtime import threads_per_worker
from common.networks.weights import locate
from common.shapes import Shape

_LOG = logging.getLogger(__name__)
_LIKELY_TASKS = {"tag": "classify", "skeleton": "pose", "mask": "segment", "polygon": "segment", "rectangle": "detect"}


class ExportedDetector:
    """Finds objects, or tags the image, with an ONNX or OpenVINO file of any known output layout.

    Each argument but `config` is an option of that name.

    Args:
        config: The function's function.yaml.
        model_path: An .onnx file, an OpenVINO .xml, or a folder with one of them; or a .torchscript file.
        variant: One of the function's weights.yaml.
        device: cpu, cuda or cuda:<number>.
        engine: auto (the faster one, measured), onnxruntime, openvino, tensorrt, or torchscript for such files alone.
        precision: f32, bf16 or f16, of OpenVINO's arithmetic.
        layout: What the file's outputs mean, where the file doesn't say: the name of a layout, or auto.
        task: What the network is for, where the file doesn't say.
        image_size: "640" or "384x640" (height x width), for files whose input size is free.
        color: rgb or bgr, the order in which the network takes the channels; empty: as its layout has it.
        mean: What is subtracted from each channel, 0 to 255, in that order: three numbers. Empty: as its layout has it.
        std: What the channels are divided by: three numbers.
        resize: center, corner or stretch: where the image lies in the input. Empty: as its layout has it.
        iou: How much boxes of one class may overlap, 0 to 1; None for the layout's own.
        max_det: The most results of an image.
        agnostic: Whether boxes of different classes suppress each other too.
        joint_threshold: The lowest visibility of a joint, 0 to 1.
        top: The most tags of an image.
        labels_by: name: labels are the model's class names; id: their ids are its class indices.

    Raises:
        StartupError: An option is wrong, or the file can't be used with the function's labels.
    """

    def __init__(
        self,
        config: FunctionConfig,
        *,
        model_path: str | None = None,
        variant: str | None = None,
        device: str = "cpu",
        engine: str = "auto",
        precision: str = "f32",
        layout: str = "auto",
        task: str | None = None,
        image_size: str | None = None,
        color: str = "",
        mean: str = "",
        std: str = "",
        resize: str = "",
        iou: float | None = None,
        max_det: int = 300,
        agnostic: bool = False,
        joint_threshold: float = 0.5,
        top: int = 5,
        labels_by: str = "name",
    ):
        StartupError.check(iou is None or 0 <= iou <= 1, "IOU", "a number from 0 to 1", iou)
        if max_det < 1 or top < 1:
            raise StartupError(f"MAX_DET and TOP: expected whole numbers of 1 or more, got {max_det} and {top}")
        StartupError.check(labels_by in ("name", "id"), "LABELS_BY", "name or id", labels_by)
        self._model = ExportedModel(
            locate(config, variant, model_path),
            device=device,
            engine=engine,
            precision=precision,
            threads=threads_per_worker(config.workers),
            image_size=image_size,
            hints=_hints(config.labels, layout, task),
            taken=InputOptions(color, mean, std, resize),
        )
        found_task, dimensions = self._model.layout.task, self._model.dimensions
        check_types(config.labels, found_task, dimensions.joints)
        if self._model.layout.class_order and labels_by != "id" and self._model.names is None:
            raise StartupError(
                f"{self._model.path}: the file has no class names, and {self._model.layout.class_order}: give each label of "
                "function.yaml the index of its class as its id, and set LABELS_BY=id"
            )
        names = None if labels_by == "id" else self._model.names
        first = dimensions.first_class
        classes = len(self._model.names) + first if self._model.names else dimensions.classes
        labels = class_labels(config.labels, names, classes, names is None)
        self._labels = {(index if names is None else index + first): label for index, label in labels.items()}
        if classes is not None and classes - first > len(self._labels):
            _LOG.warning(
                "The model has %d classes, %d of them have a label; the others are left out",
                classes - first,
                len(self._labels),
            )
        self._count_unknown = classes is None
        self._mentioned: set[int] = set()
        self._iou, self._agnostic, self._joint_threshold = iou, agnostic, joint_threshold
        self._most = top if found_task == "classify" else max_det

    def infer(self, image: NDArray[np.uint8], threshold: float) -> list[Shape]:
        """What the model finds.

        Args:
            image: (H, W, 3) uint8 RGB.
            threshold: The lowest score, 0 to 1.
        """
        found = self._model.find(image, threshold, iou=self._iou, most=self._most, agnostic=self._agnostic)
        return self._shapes(found)

    def _shapes(self, found: Found) -> list[Shape]:
        """The results that have a label; if the number of classes is unknown, those without one are logged once."""
        unlabelled = set(found.classes.tolist()) - self._labels.keys() - self._mentioned
        if unlabelled and self._count_unknown:
            self._mentioned |= unlabelled
            _LOG.warning(
                "Left out: objects of class %s, for which there is no label; the ids of the labels are %s",
                ", ".join(map(str, sorted(unlabelled))),
                ", ".join(map(str, sorted(self._labels))),
            )
        return to_shapes(found, self._labels, self._joint_threshold)

    def infer_batch(self, images: Sequence[NDArray[np.uint8]], threshold: float) -> list[list[Shape]]:
        """What `infer` finds in each of several images; they are run together where the file allows it.

        Args:
            images: (H, W, 3) uint8 RGB each.
            threshold: The lowest score, 0 to 1.
        """
        found = self._model.find_all(images, threshold, iou=self._iou, most=self._most, agnostic=self._agnostic)
        return [self._shapes(each) for each in found]


YoloHandler = ExportedDetector  # the former name, which functions made by earlier versions import


def _hints(labels: Labels, layout: str, task: str | None) -> Hints:
    types = {label.type for label in labels.values()}
    joints = {len(label.sublabels) for label in labels.values() if label.sublabels}
    return Hints(
        layout=None if layout == "auto" else layout,
        task=task or None,
        likely_task=next((name for kind, name in _LIKELY_TASKS.items() if kind in types), None),
        classes=len(labels) or None,
        joints=joints.pop() if len(joints) == 1 else None,
    )
