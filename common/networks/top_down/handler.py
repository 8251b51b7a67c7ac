"""A detector and a pose network together: skeletons of what is in the detector's boxes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.config import FunctionConfig
from common.cvat.labels import Labels
from common.errors import StartupError
from common.networks.exported.model import ExportedModel
from common.networks.formats.image_input import read_size
from common.networks.formats.signature import Hints
from common.networks.normalisation import Normalisation
from common.networks.patches import PatchNetwork
from common.networks.results import Found, check_types, to_shapes
from common.networks.runtime import threads_per_worker
from common.networks.top_down.boxes import labels_of_classes
from common.networks.top_down.crop import PADDING
from common.networks.top_down.files import locate_model
from common.networks.top_down.network import ExportedPose, PoseNetwork, find_joints
from common.protocol import Image
from common.shapes import Shape

_LOG = logging.getLogger(__name__)
JOINT_THRESHOLD = 0.3
MAX_DET = 100
FindBoxes = Callable[[Sequence[Image], float], Sequence[Found]]
"""(images, lowest score) -> for each of them boxes with their scores and classes, the highest scores first."""


class TopDown:
    """Skeletons from a detector's boxes; the score of a skeleton is that of its box.

    Args:
        config: The function's function.yaml.
        find_boxes: The detector.
        pose: The pose network.
        names: The names of the detector's classes, from the first one on; None if it has no names.
        first_class: The index of the detector's first class: 1 where 0 is the background.
        detector_classes: Which of the detector's classes get a pose; see `labels_of_classes`.
        joint_threshold: The lowest score of a joint, 0 to 1; others are outside.
        max_det: How many boxes of an image get a pose, the highest scores first.

    Raises:
        StartupError: An option is wrong, or labels, detector and pose network don't belong together.
    """

    def __init__(
        self,
        config: FunctionConfig,
        find_boxes: FindBoxes,
        pose: PoseNetwork,
        *,
        names: Sequence[str] | None,
        first_class: int = 0,
        detector_classes: str | None = None,
        joint_threshold: float = JOINT_THRESHOLD,
        max_det: int = MAX_DET,
    ):
        StartupError.check(max_det >= 1, "MAX_DET", "a whole number of 1 or more", max_det)
        _check_joints(config.labels, pose.joints)
        self._labels = labels_of_classes(config.labels, names, detector_classes, first_class)
        self._find_boxes, self._pose = find_boxes, pose
        self._joint_threshold, self._most = joint_threshold, max_det
        classes = {
            label.name: [i for i, each in self._labels.items() if each is label] for label in self._labels.values()
        }
        _LOG.info("Poses of the detector's classes, by label: %s", classes)

    def infer(self, image: Image, threshold: float) -> list[Shape]:
        """The skeletons in an image.

        Args:
            image: (H, W, 3) uint8 RGB.
            threshold: The lowest score of a box, 0 to 1.
        """
        (shapes,) = self.infer_batch([image], threshold)
        return shapes

    def infer_batch(self, images: Sequence[Image], threshold: float) -> list[list[Shape]]:
        """As `infer` for several images, whose boxes go through the pose network together.

        Args:
            images: (H, W, 3) uint8 RGB each.
            threshold: The lowest score of a box, 0 to 1.
        """
        found = [self._with_pose(each) for each in self._find_boxes(images, threshold)]
        joints = find_joints(self._pose, images, [boxes for _, boxes in found])
        return [
            to_shapes(replace(each, joints=its), self._labels, self._joint_threshold)
            for (each, _), its in zip(found, joints, strict=True)
        ]

    def _with_pose(self, found: Found) -> tuple[Found, NDArray[np.float64]]:
        """What gets a pose, and its boxes."""
        assert found.boxes_xyxy is not None  # as every detector's
        taken = np.flatnonzero(np.isin(found.classes, list(self._labels)))[: self._most]
        boxes = found.boxes_xyxy[taken]
        return Found(found.scores[taken], found.classes[taken], boxes), boxes


class ExportedTopDown(TopDown):
    """Finds skeletons with an exported detector and an exported pose network.

    Each argument but `config` is an option of that name.

    Args:
        config: The function's function.yaml.
        model_path: A folder with pose.onnx and detector.onnx (or .xml).
        variant: One of the function's weights.yaml.
        pose_path: Another file of the pose network; a relative one starts at the function's directory.
        detector_path: Another file of the detector, alike.
        detector_classes: Which of the detector's classes get a pose: names or indices with commas between them.
        detector_layout: What the detector's outputs mean, where the file doesn't say; auto: found out.
        detector_size: "640" or "384x640", for detectors whose input size is free.
        iou: How much the detector's boxes of one class may overlap, 0 to 1; None for its layout's own.
        max_det: The most skeletons of an image.
        codec: How the pose network's outputs are decoded: auto, msra, dark, udp or simcc.
        blur_kernel: Cells of the filter of dark and udp, odd; None: by the size of the heat maps.
        padding: How many times as large as its box the part is that the pose network sees.
        joint_threshold: The lowest score of a joint, 0 to 1.
        image_size: "256x192" (height x width), for pose networks whose input size is free.
        color: rgb or bgr, the order of the pose network's channels.
        mean: One number or three with commas, 0 to 255, in the order of its channels; None: ImageNet's.
        std: As `mean`.
        device: cpu, cuda or cuda:<number>.
        engine: auto (the faster one, measured), onnxruntime, openvino or tensorrt.
        precision: f32, bf16 or f16, of OpenVINO's arithmetic.

    Raises:
        StartupError: An option is wrong, or the files can't be used with the function's labels.
    """

    def __init__(
        self,
        config: FunctionConfig,
        *,
        model_path: str | None = None,
        variant: str | None = None,
        pose_path: str | None = None,
        detector_path: str | None = None,
        detector_classes: str | None = None,
        detector_layout: str = "auto",
        detector_size: str | None = None,
        iou: float | None = None,
        max_det: int = MAX_DET,
        codec: str = "auto",
        blur_kernel: int | None = None,
        padding: float = PADDING,
        joint_threshold: float = JOINT_THRESHOLD,
        image_size: str | None = None,
        color: str = "rgb",
        mean: str | None = None,
        std: str | None = None,
        device: str = "cpu",
        engine: str = "auto",
        precision: str = "f32",
    ):
        StartupError.check(iou is None or 0 <= iou <= 1, "IOU", "a number from 0 to 1", iou)
        paths = {
            role: locate_model(config, role, path, variant=variant, model_path=model_path)
            for role, path in (("pose", pose_path), ("detector", detector_path))
        }
        threads = threads_per_worker(config.workers)
        network = PatchNetwork(
            paths["pose"],
            device=device,
            engine=_engine_for(paths["pose"], engine),
            precision=precision,
            threads=threads,
            size_hw=read_size(image_size, stride=1),
            normalisation=Normalisation.read(color, mean, std),
        )
        pose = ExportedPose(network, codec=codec, kernel=blur_kernel, padding=padding)
        detector = open_detector(
            paths["detector"],
            layout=detector_layout,
            image_size=detector_size,
            device=device,
            engine=_engine_for(paths["detector"], engine),
            precision=precision,
            threads=threads,
        )
        super().__init__(
            config,
            lambda images, threshold: detector.find_all(images, threshold, iou=iou),
            pose,
            names=detector.names,
            first_class=detector.dimensions.first_class,
            detector_classes=detector_classes,
            joint_threshold=joint_threshold,
            max_det=max_det,
        )


def open_detector(
    path: Path,
    *,
    layout: str = "auto",
    image_size: str | None = None,
    device: str = "cpu",
    engine: str = "auto",
    precision: str = "f32",
    threads: int = 1,
) -> ExportedModel:
    """Opens the detector in front of a pose network.

    Args:
        path: An .onnx file or an OpenVINO .xml.
        layout: What its outputs mean, where the file doesn't say; auto: found out.
        image_size: For files whose input size is free.
        device: As for `ExportedModel`.
        engine: As for `ExportedModel`.
        precision: As for `ExportedModel`.
        threads: As for `ExportedModel`.

    Raises:
        StartupError: It is not a detector, or what its outputs mean is not certain.
    """
    model = ExportedModel(
        path,
        device=device,
        engine=engine,
        precision=precision,
        threads=threads,
        image_size=image_size,
        hints=Hints(layout=None if layout == "auto" else layout, likely_task="detect"),
    )
    if model.layout.task in ("classify", "obb"):
        raise StartupError(
            f"{path}: expected a detector of boxes in front of the pose network; its task is {model.layout.task}"
        )
    return model


def _check_joints(labels: Labels, joints: int) -> None:
    """Checks that labels are skeletons with the joints that a network finds. Raises StartupError."""
    thirds = {3 * len(label.sublabels) for label in labels.values() if label.sublabels}
    if joints in thirds:
        raise StartupError(
            f"the pose network has {joints} heat maps, three for each joint of the label: offsets beside each map (UDP's combined "
            "heat maps) can't be decoded here; use a network with one map for each joint"
        )
    check_types(labels, "pose", (joints, 3))


def _engine_for(path: Path, engine: str) -> str:
    """The engine for one of two files that may be of different kinds: only OpenVINO runs an .xml."""
    return "openvino" if path.suffix == ".xml" and engine == "onnxruntime" else engine
