"""Ultralytics' model files as they are, through their package (AGPL-3.0): any task, any of their architectures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.config import FunctionConfig
from common.errors import StartupError
from common.networks.engine import cuda_index
from common.networks.formats.metadata import TASKS
from common.networks.results import Found, check_types, class_labels, to_shapes
from common.networks.runtime import threads_per_worker
from common.networks.weights import locate
from common.shapes import Mask, Shape
from common.vision.mask import cropped


class ModelHandler:
    """Any task of the package.

    Args:
        config: The function's configuration.
        model_path: A .pt file; None for the one of `variant`.
        variant: A name in weights.yaml; None for its default.
        device: cpu, cuda or cuda:1.
        half: Compute in 16 bit; on a GPU only.
        image_size: The side of the network's input in pixels; None for the size that it was trained with.
        iou: The overlap, 0 to 1, above which the weaker of two detections of a class is dropped.
        max_det: The largest number of detections on an image.
        agnostic: Drop overlapping detections of different classes too.
        joint_threshold: The visibility, 0 to 1, below which a joint is marked as outside.
        top: The largest number of tags on an image, for a classifier.
        labels_by: "name": a class has the label of its name; "id": the label whose id is its index.

    Raises:
        StartupError: The file, an option or the device can't be used.
    """

    def __init__(
        self,
        config: FunctionConfig,
        *,
        model_path: str | None = None,
        variant: str | None = None,
        device: str = "cpu",
        half: bool = False,
        image_size: int | None = None,
        iou: float = 0.7,
        max_det: int = 300,
        agnostic: bool = False,
        joint_threshold: float = 0.5,
        top: int = 5,
        labels_by: str = "name",
    ):
        path = locate(config, variant, model_path)
        index = cuda_index(device)
        self._model = _load(path, threads_per_worker(config.workers))
        self._check_device(index)
        self._arguments: dict[str, Any] = {
            "imgsz": image_size or self._model.overrides.get("imgsz", 640),
            "device": "cpu" if index is None else index,
            "iou": iou,
            "max_det": max_det,
            "agnostic_nms": agnostic,
            # Masks at the resolution of the image, and the image in a square as in the exported models.
            "retina_masks": True,
            "rect": False,
            "verbose": False,
            "save": False,
        } | ({"quantize": 16} if half else {})
        names = tuple(str(name) for _, name in sorted(self._model.names.items()))
        joints = getattr(self._model.model, "kpt_shape", None)
        if self._model.task not in TASKS:
            raise StartupError(f"{path}: the model's task is {self._model.task}; served here: {', '.join(TASKS)}")
        check_types(config.labels, self._model.task, tuple(joints) if joints else None)
        self._labels = class_labels(config.labels, names, len(names), labels_by == "id")
        self._joint_threshold, self._top = joint_threshold, top
        # The first prediction prepares what would otherwise delay the first request.
        self._predict(np.zeros((64, 64, 3), np.uint8), 0.5)

    def infer(self, image: NDArray[np.uint8], threshold: float) -> list[Shape]:
        """The shapes with a score of at least the threshold."""
        return to_shapes(self._found(self._predict(image, threshold), threshold), self._labels, self._joint_threshold)

    def _predict(self, image: NDArray[np.uint8], threshold: float) -> Any:
        # The package takes arrays for BGR.
        (result,) = self._model.predict(np.ascontiguousarray(image[..., ::-1]), conf=threshold, **self._arguments)
        return result

    def _found(self, result: Any, threshold: float) -> Found:
        result = result.cpu().numpy()
        if result.probs is not None:
            scores = np.asarray(result.probs.data, np.float32)
            classes = np.argsort(-scores, kind="stable")[: self._top]
            classes = classes[scores[classes] >= threshold]
            return Found(scores[classes], classes)
        boxes = result.boxes if result.obb is None else result.obb
        scores, classes = np.asarray(boxes.conf, np.float32), np.asarray(boxes.cls, np.int64)
        if result.obb is not None:
            rotated = np.asarray(boxes.xywhr, np.float64)
            height, width = result.orig_shape
            keep = ((rotated[:, :2] >= 0) & (rotated[:, :2] <= (width, height))).all(axis=1)
            keep &= (rotated[:, 2:4] > 0).all(axis=1)
            return Found(scores[keep], classes[keep], np.asarray(boxes.xyxy, np.float64)[keep], rotated[keep])
        upright = np.asarray(boxes.xyxy, np.float64)
        keep = (upright[:, 2] > upright[:, 0]) & (upright[:, 3] > upright[:, 1])
        masks = None
        if result.masks is not None:
            masks = tuple(
                cropped(Mask(bitmap=np.asarray(mask, np.bool_)))
                for mask, some in zip(result.masks.data, keep, strict=True)
                if some
            )
        joints = None
        if result.keypoints is not None:
            values = np.asarray(result.keypoints.data, np.float64)[keep]
            seen = values[..., 2:3] if values.shape[-1] == 3 else np.ones_like(values[..., :1])
            joints = np.concatenate([values[..., :2], seen], axis=-1)
        return Found(scores[keep], classes[keep], upright[keep], masks=masks, joints=joints)

    def _check_device(self, index: int | None) -> None:
        import torch

        if index is not None and not (torch.cuda.is_available() and index < torch.cuda.device_count()):
            raise StartupError(
                f"DEVICE=cuda:{index}: torch sees {torch.cuda.device_count()} GPUs here: is there an NVIDIA GPU with a "
                "driver, and does the container see it (nvidia-smi; resources.limits)? Or set DEVICE=cpu"
            )


def _load(path: Path, threads: int) -> Any:
    if path.suffix != ".pt":
        raise StartupError(
            f"{path}: expected a .pt file; .onnx and .xml are served by serverless/onnx/yolo, without the package"
        )
    # Neither looks for updates nor reports use; both would ask the network at the first request.
    os.environ.setdefault("YOLO_OFFLINE", "true")
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")  # nothing is installed while something runs
    try:
        from ultralytics import YOLO
    except ImportError as error:
        raise StartupError(
            "the package ultralytics (AGPL-3.0) is not installed: pip install ultralytics, or export the model and serve it "
            "without: yolo export model=best.pt format=onnx"
        ) from error
    import torch

    torch.set_num_threads(threads)
    try:
        model = YOLO(str(path))
    except Exception as error:  # a file of another kind fails in many ways
        raise StartupError(f"{path}: the ultralytics package can't load it: {str(error)[:200]}") from error
    return model
