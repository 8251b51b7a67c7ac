"""A model file of the YOLO family, opened: an image in, what the network found out."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from common.errors import StartupError, describe
from common.networks.engine import Engine, open_engine
from common.networks.formats.decode import Detections, decode
from common.networks.formats.layout import Hints, Layout, find_layout, refused_tensorrt
from common.networks.formats.masks import masks_in_boxes
from common.networks.formats.metadata import Metadata
from common.networks.formats.rotated_graph import cut_rotated_nms
from common.networks.results import Found
from common.vision.geometry import clip_points
from common.vision.letterbox import Letterbox, to_planes

_LOG = logging.getLogger(__name__)
_DEFAULT_SIDE = 640
_STRIDE = 32
# What the networks' own pipelines suppress with, where nobody says: YOLOv5 and v7 0.45, Ultralytics' later ones 0.7.
_DEFAULT_IOU = {"yolov5": 0.45, "yolov7": 0.45, "yolor": 0.45, "mmrotate-raw": 0.1}
_LATER_IOU = 0.7
# MMRotate's networks take ImageNet's normalised colours.
_MEAN = np.array([123.675, 116.28, 103.53], np.float32)
_DEVIATION = np.array([58.395, 57.12, 57.375], np.float32)
# Operations of files that were exported for TensorRT.
_TENSORRT = re.compile(rb"(EfficientNMS|BatchedNMS\w*)_TRT|TRT\w*NMS")

Array = NDArray[Any]


class YoloModel:
    """An .onnx file or an OpenVINO .xml (or the folder of one), its layout known.

    image_size: "640" or "640x384" (height, width) for files whose input size is free. The other options: `open_engine`.
    Raises StartupError when it can't be run, with what to do about it.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        device: str = "cpu",
        engine: str = "auto",
        precision: str = "f32",
        threads: int = 1,
        image_size: str | None = None,
        hints: Hints | None = None,
    ):
        import cv2

        cv2.setNumThreads(threads)
        self._wanted_size = _read_size(image_size)
        self.path = model_file(Path(path))
        self.metadata = Metadata()
        try:
            self._engine = open_engine(
                cut_rotated_nms(self.path) or self.path,
                device=device,
                engine=engine,
                precision=precision,
                threads=threads,
                example=self._example,
                fixed=True,
            )
        except StartupError as error:
            if _TENSORRT.search(self.path.read_bytes()):
                raise StartupError(f"{self.path}: {refused_tensorrt()}") from error
            raise
        try:
            example = self._example(self._engine)
            outputs = self._engine.run(example)
            shapes = {port.name: output.shape for port, output in zip(self._engine.outputs, outputs, strict=True)}
            self.layout = find_layout(shapes, self.size_hw, self.metadata, hints)
        except StartupError as error:
            raise StartupError(f"{self.path}: {error}") from error
        _LOG.info(
            "%s: layout %s, task %s, %s classes, input %d x %d; from %s",
            self.path.name,
            self.layout.name,
            self.layout.task,
            self.layout.classes or "unknown",
            self.size_hw[1],
            self.size_hw[0],
            self.layout.found,
        )
        if self.metadata.nms:
            _LOG.warning(
                "%s was exported with nms=True: it drops everything under the confidence of its export (0.25 unless set) "
                "and overlaps by itself; a lower THRESHOLD and IOU change nothing",
                self.path.name,
            )

    @property
    def engine(self) -> str:
        """Which engine runs the model, and on what."""
        return self._engine.description

    @property
    def names(self) -> tuple[str, ...] | None:
        """The names of the classes by index, None when the file has none."""
        return self.metadata.names

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the network's input."""
        return self._size_hw

    def run(self, tensor: Array) -> list[Array]:
        """The raw outputs for a ready input, (1, C, H, W)."""
        return self._engine.run([tensor])

    def find(
        self,
        image: NDArray[np.uint8],
        threshold: float,
        *,
        iou: float | None = None,
        most: int = 300,
        agnostic: bool = False,
    ) -> Found:
        """What is in an image, (H, W, 3) uint8 RGB, the surest first.

        threshold: the lowest score. iou: how much boxes of one class may overlap, None for the layout's custom.
        most: how many at most. agnostic: boxes of different classes suppress each other too.
        """
        letterbox = self.fit(image.shape[:2])
        outputs = self.run(self.prepare(image, letterbox))
        overlap = _DEFAULT_IOU.get(self.layout.name, _LATER_IOU) if iou is None else iou
        detections = decode(self.layout, outputs, self.size_hw, threshold, iou=overlap, most=most, agnostic=agnostic)
        return _to_image(detections, self.layout, outputs, letterbox)

    def fit(self, image_hw: tuple[int, ...]) -> Letterbox:
        """How an image of (height, width, ...) lies in the network's input."""
        size = image_hw[0], image_hw[1]
        if self.layout.stretched:
            return Letterbox.stretch(size, self.size_hw)
        return Letterbox.fit(size, self.size_hw, centered=not self.layout.from_mmrotate)

    def prepare(self, image: NDArray[np.uint8], letterbox: Letterbox) -> Array:
        """The network's input, (B, C, H, W) of its type, for an image (H, W, 3) uint8 RGB."""
        if self.layout.task == "classify":
            planes = to_planes(self._channels(_center_square(image, self.size_hw)), self._dtype)
        elif self.layout.from_mmrotate:
            planes = _normalised(image, letterbox, self._dtype)
        else:
            planes = to_planes(self._channels(letterbox.apply(image)), self._dtype)
        if self._batch == 1:
            return planes
        batch = np.zeros((self._batch, *planes.shape[1:]), planes.dtype)
        batch[0] = planes[0]
        return batch

    def _channels(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        import cv2

        return image if self._colors == 3 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[:, :, None]

    def _example(self, engine: Engine) -> Sequence[Array]:
        """An input as all will be; reads the metadata and the size of the input on the way."""
        self.metadata = Metadata.read(engine.metadata)
        if len(engine.inputs) != 1 or len(engine.inputs[0].shape) != 4:
            given = ", ".join(f"{port.name} {port.shape}" for port in engine.inputs)
            raise StartupError(f"expected one input, an image (batch, channels, height, width), got {given}")
        port = engine.inputs[0]
        batch, channels, height, width = port.shape
        self._colors = channels or self.metadata.channels
        if self._colors not in (1, 3):
            raise StartupError(f"expected an input of 3 channels (RGB) or 1 (grey), first, got {port.shape}")
        free = self._wanted_size or self.metadata.size_hw or (_DEFAULT_SIDE, _DEFAULT_SIDE)
        self._size_hw = height or free[0], width or free[1]
        if self._wanted_size and self._size_hw != self._wanted_size:
            raise StartupError(
                f"IMAGE_SIZE is {self._wanted_size[0]}x{self._wanted_size[1]}, but the file's input is fixed to "
                f"{self._size_hw[0]}x{self._size_hw[1]} (height x width): leave IMAGE_SIZE empty, or export with dynamic=True"
            )
        self._batch, self._dtype = batch or 1, port.dtype
        return [np.full((self._batch, self._colors, *self._size_hw), 0.5, port.dtype)]


def model_file(path: Path) -> Path:
    """The model file at a path, or in the folder there. Raises StartupError when it is none that runs here."""
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in (".onnx", ".xml"))
        if len(files) != 1:
            listed = ", ".join(file.name for file in files) or "none"
            raise StartupError(f"{path}: expected one .onnx or .xml file in the folder, found {listed}")
        return files[0]
    if path.suffix in (".pt", ".pth"):
        raise StartupError(
            f"{path}: a PyTorch file: export it (yolo export model={path.name} format=onnx), or use the function "
            "serverless/pytorch/ultralytics/yolo, which reads it with the ultralytics package (AGPL-3.0)"
        )
    if path.suffix not in (".onnx", ".xml"):
        raise StartupError(f"{path}: expected an .onnx file or an OpenVINO .xml")
    if not path.is_file():
        raise StartupError(f"{path}: there is no such file")
    if path.suffix == ".xml" and not path.with_suffix(".bin").is_file():
        raise StartupError(f"{path}: there is no {path.with_suffix('.bin').name} beside it, which holds the weights")
    return path


def _to_image(detections: Detections, layout: Layout, outputs: Sequence[Array], letterbox: Letterbox) -> Found:
    if layout.task == "classify":
        return Found(detections.scores, detections.classes)
    height, width = letterbox.image_hw
    if detections.angles is not None:
        # Each side by the gain of its axis: they differ by the rounding of the scaled image only.
        sizes = detections.boxes[:, 2:].astype(np.float64) / letterbox.gain_xy
        centers = letterbox.to_image(detections.boxes[:, :2])
        keep = (sizes > 0).all(axis=1) & (centers >= 0).all(axis=1) & (centers <= (width, height)).all(axis=1)
        rotated = np.concatenate([centers, sizes, detections.angles[:, None].astype(np.float64)], axis=1)[keep]
        upright = np.concatenate([centers - sizes / 2, centers + sizes / 2], axis=1)[keep]
        return Found(detections.scores[keep], detections.classes[keep], upright, rotated_xywhr=rotated)
    boxes = letterbox.boxes_to_image(detections.boxes)
    keep = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    detections, boxes = detections.take(keep), boxes[keep]
    if layout.task == "segment":
        prototypes = outputs[layout.prototypes][0]
        masks = masks_in_boxes(prototypes, detections.extra, boxes, letterbox)
        some = np.array([bool(mask.bitmap.size) for mask in masks], np.bool_)
        masks = [mask for mask in masks if mask.bitmap.size]
        return Found(detections.scores[some], detections.classes[some], boxes[some], masks=tuple(masks))
    if layout.task == "pose" and layout.joints is not None:
        values = detections.extra.reshape(len(detections), *layout.joints).astype(np.float64)
        places = clip_points(letterbox.to_image(values[..., :2]), (height, width))
        visibility = values[..., 2:3] if layout.joints[1] == 3 else np.ones_like(places[..., :1])
        joints = np.concatenate([places, visibility], axis=-1)
        return Found(detections.scores, detections.classes, boxes, joints=joints)
    return Found(detections.scores, detections.classes, boxes)


def _center_square(image: NDArray[np.uint8], size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """The middle of an image at the size of a classifier's input, resized as torchvision does it with Pillow."""
    height, width = image.shape[:2]
    if size_hw[0] == size_hw[1]:
        side, shorter = size_hw[0], min(height, width)
        scaled_hw = (
            side if height <= width else int(side * height / shorter),
            side if width <= height else int(side * width / shorter),
        )
    else:
        scaled_hw = size_hw
    picture = PillowImage.fromarray(image).resize(scaled_hw[::-1], PillowImage.Resampling.BILINEAR)
    top, left = round((scaled_hw[0] - size_hw[0]) / 2), round((scaled_hw[1] - size_hw[1]) / 2)
    return np.asarray(picture)[top : top + size_hw[0], left : left + size_hw[1]]


def _normalised(image: NDArray[np.uint8], letterbox: Letterbox, dtype: np.dtype[Any]) -> Array:
    canvas = letterbox.apply(image, padding=0).astype(np.float32)
    height, width = letterbox.inner_hw
    planes: Array = np.zeros((1, 3, *letterbox.size_hw), dtype)
    # The padding is 0 after the normalisation.
    inside = (canvas[:height, :width] - _MEAN) / _DEVIATION
    planes[0, :, :height, :width] = inside.transpose(2, 0, 1)
    return planes


def _read_size(text: str | None) -> tuple[int, int] | None:
    if not text:
        return None
    match = re.fullmatch(r"(\d+)(?:\s*[x,]\s*(\d+))?", text.strip())
    size = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not all(side > 0 and side % _STRIDE == 0 for side in size):
        raise StartupError(
            f"IMAGE_SIZE: expected one side or height x width, multiples of {_STRIDE}, got {describe(text)}"
        )
    return size
