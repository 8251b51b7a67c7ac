"""The ModelHandler of ViTPose behind a detector: a folder of the Hugging Face hub, or an exported file."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from common.config import FunctionConfig
from common.errors import StartupError
from common.networks.exported.model import ExportedModel
from common.networks.huggingface.detect import boxes_found
from common.networks.huggingface.folder import CONFIG
from common.networks.huggingface.network import Network
from common.networks.huggingface.pose import VitPose
from common.networks.results import Found
from common.networks.runtime import threads_per_worker
from common.networks.top_down.crop import PADDING
from common.networks.top_down.files import locate_model
from common.networks.top_down.handler import JOINT_THRESHOLD, MAX_DET, FindBoxes, TopDown, open_detector
from common.protocol import Image

_MOST_BOXES = 300


class TransformersTopDown(TopDown):
    """Finds skeletons with ViTPose in the boxes of a detector.

    Each argument but `config` is an option of that name.

    Args:
        config: The function's function.yaml.
        model_path: A folder with the folder pose, and the folder detector or detector.onnx (or .xml).
        variant: One of the function's weights.yaml.
        pose_path: Another folder of the pose network; a relative one starts at the function's directory.
        detector_path: Another folder or file of the detector, alike.
        detector_classes: Which of the detector's classes get a pose: names or indices with commas between them.
        detector_layout: What an exported detector's outputs mean, where the file doesn't say; auto: found out.
        detector_size: "640" or "384x640", for exported detectors whose input size is free.
        iou: How much an exported detector's boxes of one class may overlap, 0 to 1; None for its layout's own.
        max_det: The most skeletons of an image.
        dataset_index: Which experts of a ViTPose+ are used; None for the first.
        padding: How many times as large as its box the part is that the pose network sees.
        joint_threshold: The lowest score of a joint, 0 to 1.
        device: cpu, cuda or cuda:<number>.
        engine: Of an exported detector: auto (the faster one, measured), onnxruntime or openvino.
        precision: f32, bf16 or f16, of the arithmetic of torch.

    Raises:
        StartupError: An option is wrong, or the models can't be used with the function's labels.
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
        dataset_index: int | None = None,
        padding: float = PADDING,
        joint_threshold: float = JOINT_THRESHOLD,
        device: str = "cpu",
        engine: str = "auto",
        precision: str = "f32",
    ):
        StartupError.check(iou is None or 0 <= iou <= 1, "IOU", "a number from 0 to 1", iou)
        torch.set_num_threads(threads_per_worker(config.workers))
        locate = partial(locate_model, config, variant=variant, model_path=model_path, folders=True)
        pose_folder, detector_place = locate("pose", pose_path, exported=False), locate("detector", detector_path)
        pose = VitPose(pose_folder, device=device, precision=precision, dataset_index=dataset_index, padding=padding)
        if detector_place.is_dir() and (detector_place / CONFIG).is_file():
            network = Network(config, "detect", model_path=str(detector_place), device=device, precision=precision)
            find, names, first_class = _by_transformers(network), network.names, 0
        else:
            detector = _exported(config, detector_place, detector_layout, detector_size, device, engine)
            find, names, first_class = _by_file(detector, iou), detector.names, detector.dimensions.first_class
        super().__init__(
            config,
            find,
            pose,
            names=names,
            first_class=first_class,
            detector_classes=detector_classes,
            joint_threshold=joint_threshold,
            max_det=max_det,
        )


def _by_transformers(network: Network) -> FindBoxes:
    def find(images: Sequence[Image], threshold: float) -> list[Found]:
        answers = network.run(images, ("logits", "pred_boxes"))
        return [boxes_found(answer, network.architecture, threshold, _MOST_BOXES) for answer in answers]

    return find


def _by_file(detector: ExportedModel, iou: float | None) -> FindBoxes:
    return lambda images, threshold: detector.find_all(images, threshold, iou=iou)


def _exported(
    config: FunctionConfig, path: Path, layout: str, image_size: str | None, device: str, engine: str
) -> ExportedModel:
    return open_detector(
        path,
        layout=layout,
        image_size=image_size,
        device=device,
        engine=engine,
        threads=threads_per_worker(config.workers),
    )
