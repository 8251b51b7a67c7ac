"""The ModelHandler of all functions of the YOLO family."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from common.config import FunctionConfig
from common.cvat.labels import Labels
from common.errors import StartupError, describe
from common.networks.exported.model import YoloModel
from common.networks.formats.layout import Hints
from common.networks.results import check_types, class_labels, to_shapes
from common.networks.runtime import threads_per_worker
from common.networks.weights import locate
from common.shapes import Shape

_LOG = logging.getLogger(__name__)
_LIKELY_TASKS = {"tag": "classify", "skeleton": "pose", "mask": "segment", "polygon": "segment", "rectangle": "detect"}


class YoloHandler:
    """Options:

    MODEL_PATH: an .onnx file, an OpenVINO .xml, or a folder of one; VARIANT: one of the function's weights.yaml.
    DEVICE: cpu, cuda, cuda:1. ENGINE: auto (measures), onnxruntime, openvino, tensorrt. PRECISION: f32, bf16, f16.
    LAYOUT, TASK: what the file's outputs are, where the file doesn't say. IMAGE_SIZE: for files of free input size.
    IOU: how much boxes of one class may overlap. AGNOSTIC: of any class. MAX_DET: the most results of an image.
    JOINT_THRESHOLD: the lowest visibility of a joint. TOP: the most tags of an image.
    LABELS_BY: name, the labels are the model's class names; id, their ids are its class numbers.
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
        iou: float | None = None,
        max_det: int = 300,
        agnostic: bool = False,
        joint_threshold: float = 0.5,
        top: int = 5,
        labels_by: str = "name",
    ):
        if iou is not None and not 0 <= iou <= 1:
            raise StartupError(f"IOU: expected a number from 0 to 1, got {iou}")
        if max_det < 1 or top < 1:
            raise StartupError(f"MAX_DET and TOP: expected whole numbers of 1 or more, got {max_det} and {top}")
        if labels_by not in ("name", "id"):
            raise StartupError(f"LABELS_BY: expected name or id, got {describe(labels_by)}")
        self._model = YoloModel(
            locate(config, variant, model_path),
            device=device,
            engine=engine,
            precision=precision,
            threads=threads_per_worker(config.workers),
            image_size=image_size,
            hints=_hints(config.labels, layout, task),
        )
        found = self._model.layout
        check_types(config.labels, found.task, found.joints)
        self._labels = class_labels(config.labels, self._model.names, found.classes, labels_by == "id")
        classes = len(self._model.names) if self._model.names else found.classes
        if classes is not None and classes > len(self._labels):
            _LOG.warning(
                "The model has %d classes, %d of them a label; the others are left out", classes, len(self._labels)
            )
        self._iou, self._agnostic, self._joint_threshold = iou, agnostic, joint_threshold
        self._most = top if found.task == "classify" else max_det

    def infer(self, image: NDArray[np.uint8], threshold: float) -> list[Shape]:
        found = self._model.find(image, threshold, iou=self._iou, most=self._most, agnostic=self._agnostic)
        return to_shapes(found, self._labels, self._joint_threshold)


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
