"""A model file exported to ONNX or OpenVINO, opened: an image in, what the network found out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.errors import StartupError
from common.networks.engine import Array, Engine, Tensor, open_engine
from common.networks.engines.torch_script import SUFFIX as TORCHSCRIPT_SUFFIX
from common.networks.exported.batches import Batches
from common.networks.formats.detections import Detections
from common.networks.formats.hub_settings import HubSettings
from common.networks.formats.image_input import ImageInput, read_size
from common.networks.formats.layout import OutputLayout
from common.networks.formats.metadata import Metadata
from common.networks.formats.preparation import InputOptions, Placement, Preparation
from common.networks.formats.registry import LAYOUTS, UNREADABLE, find_layout
from common.networks.formats.signature import Dimensions, Hints, Signature
from common.networks.results import Found
from common.vision.geometry import clip_points
from common.vision.letterbox import Letterbox

SUFFIXES = (".onnx", ".xml", TORCHSCRIPT_SUFFIX)
"""Of model files."""
_LOG = logging.getLogger(__name__)

_FurtherInputs = Mapping[str, Callable[[Letterbox, Tensor], Array]]


class ExportedModel:
    """An .onnx file, an OpenVINO .xml (or a folder with one of them) or a .torchscript file whose output layout is known.

    It is run once on noise when it is opened, to see what its outputs are.

    Args:
        path: The file or its folder.
        device: As for `open_engine`.
        engine: As for `open_engine`.
        precision: As for `open_engine`.
        threads: As for `open_engine`.
        image_size: "640" or "384x640" (height x width) for files whose input size is free.
        hints: What is known apart from the file.
        taken: How the network takes an image, where it is not as its layout has it.
        layouts: The layouts to choose from.

    Raises:
        StartupError: The file can't be run, or what its outputs mean is not certain; with what to do about it.
    """

    layout: OutputLayout
    """What the outputs mean."""
    dimensions: Dimensions
    """The numbers that the layout leaves open."""
    metadata: Metadata
    """What the exporter wrote into the file."""
    path: Path
    """The model file."""

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
        taken: InputOptions | None = None,
        layouts: Sequence[OutputLayout] = LAYOUTS,
    ):
        import cv2

        cv2.setNumThreads(threads)
        wanted_hw = read_size(image_size)
        self.path = model_file(Path(path))
        self._settings = HubSettings.beside(self.path)
        self._further = {name: make for layout in layouts for name, make in layout.further_inputs.items()}
        rewritten = (layout.rewrite(self.path) for layout in layouts if layout.rewrite)
        self._opened = partial(
            open_engine,
            next((content for content in rewritten if content is not None), self.path),
            device=device,
            precision=precision,
            threads=threads,
        )
        opened = partial(
            self._opened,
            engine=engine,
            example=lambda opened: _example(opened, self._image_input(opened, wanted_hw), self._further),
        )
        try:
            self._engine = opened(fixed=True)
        except StartupError as error:
            content = self.path.read_bytes()
            for unreadable in UNREADABLE:
                if unreadable.operations and unreadable.operations.search(content):
                    raise StartupError(f"{self.path}: {unreadable.remedy}") from error
            raise
        self.metadata = Metadata.read(self._engine.metadata)
        self._image = self._image_input(self._engine, wanted_hw)
        known = replace(hints or Hints(), model_type=self._settings.model_type, names=self._settings.names)
        try:
            self.layout, self.dimensions = self._recognise(known, layouts)
        except StartupError as error:
            raise StartupError(f"{self.path}: {error}") from error
        self._preparation = self._prepared(taken or InputOptions())
        self._any_size = self.layout.any_size and self._image.free
        self._sizes_differ = self._any_size or self._preparation.placement is Placement.SCALED
        if self._sizes_differ:
            self._engine = opened(fixed=False)
        if self.metadata.nms:
            _LOG.warning(
                "%s was exported with nms=True: it drops everything under the confidence of its export (0.25 unless set) "
                "and suppresses overlaps itself; a lower THRESHOLD and IOU change nothing",
                self.path.name,
            )

    @property
    def engine(self) -> str:
        """Which engine runs the model, and on what."""
        return self._engine.description

    @property
    def names(self) -> tuple[str, ...] | None:
        """The names of the classes by index, None when neither the file nor its layout has them."""
        return self.metadata.names or self.dimensions.names

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the network's input."""
        return self._image.size_hw

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """The raw outputs.

        Args:
            inputs: All inputs in the file's order, from `prepare`.

        Returns:
            The outputs in the file's order.
        """
        return self._engine.run(inputs)

    def find(
        self,
        image: NDArray[np.uint8],
        threshold: float,
        *,
        iou: float | None = None,
        most: int = 300,
        agnostic: bool = False,
    ) -> Found:
        """What is in an image, the highest score first.

        Args:
            image: (H, W, 3) uint8 RGB.
            threshold: The lowest score, 0 to 1.
            iou: How much boxes of one class may overlap; None for the layout's own.
            most: How many results at most.
            agnostic: Whether boxes of different classes suppress each other too.
        """
        letterbox = self.fit(image.shape[:2])
        outputs = self.run(self.prepare(image, letterbox))
        return self._read(outputs, letterbox, threshold, iou, most, agnostic)

    def find_all(
        self,
        images: Sequence[NDArray[np.uint8]],
        threshold: float,
        *,
        iou: float | None = None,
        most: int = 300,
        agnostic: bool = False,
    ) -> list[Found]:
        """What `find` finds in each of several images; they are run together where the file allows it.

        Args:
            images: (H, W, 3) uint8 RGB each.
            threshold: As for `find`.
            iou: As for `find`.
            most: As for `find`.
            agnostic: As for `find`.
        """
        batches = self._batches if len(images) > 1 else None
        if batches is None:
            return [self.find(image, threshold, iou=iou, most=most, agnostic=agnostic) for image in images]
        found = []
        for start in range(0, len(images), batches.size):
            part = images[start : start + batches.size]
            letterboxes = [self.fit(image.shape[:2]) for image in part]
            inputs = [self._alone(image, letterbox) for image, letterbox in zip(part, letterboxes, strict=True)]
            for outputs, letterbox in zip(batches.run(inputs), letterboxes, strict=True):
                found.append(self._read(outputs, letterbox, threshold, iou, most, agnostic))
        return found

    @cached_property
    def _batches(self) -> Batches | None:
        """How several images are run together; found out when that is first wanted. None: one by one."""
        if self._sizes_differ or self._image.axes == "CHW":
            return None
        example = _example(self._engine, self._image, self._further)
        return Batches.of(
            self._engine,
            self._image,
            example,
            lambda inputs: self._opened(engine="openvino", example=lambda _: inputs, fixed=True),
        )

    def _alone(self, image: NDArray[np.uint8], letterbox: Letterbox) -> list[Array]:
        """The network's inputs for an image as one of a batch."""
        taken = replace(self._image, batch=1)
        planes = self._preparation.planes(image, letterbox, taken.channels, taken.dtype)
        return _inputs(self._engine.inputs, taken, taken.filled(planes), letterbox, self.layout.further_inputs)

    def _read(
        self,
        outputs: Sequence[Array],
        letterbox: Letterbox,
        threshold: float,
        iou: float | None,
        most: int,
        agnostic: bool,
    ) -> Found:
        detections = self.layout.detect(
            outputs, self.dimensions, letterbox.size_hw, threshold, iou=iou, most=most, agnostic=agnostic
        )
        return self._to_image(detections, outputs, letterbox)

    def fit(self, image_hw: tuple[int, ...]) -> Letterbox:
        """How an image lies in the network's input.

        Args:
            image_hw: Height and width of the image, pixels; what follows is ignored.
        """
        size_hw = image_hw[0], image_hw[1]
        return self._preparation.fit(size_hw, size_hw if self._any_size else self.size_hw)

    def prepare(self, image: NDArray[np.uint8], letterbox: Letterbox) -> list[Array]:
        """The network's inputs for an image, in the file's order.

        Args:
            image: (H, W, 3) uint8 RGB.
            letterbox: How it lies in the input, from `fit`.
        """
        taken = self._image
        planes = self._preparation.planes(image, letterbox, taken.channels, taken.dtype)
        return _inputs(self._engine.inputs, taken, taken.filled(planes), letterbox, self.layout.further_inputs)

    def _image_input(self, engine: Engine, wanted_hw: tuple[int, int] | None) -> ImageInput:
        metadata = Metadata.read(engine.metadata)
        metadata = replace(metadata, size_hw=metadata.size_hw or self._settings.size_hw)
        try:
            if self.path.suffix == TORCHSCRIPT_SUFFIX and wanted_hw is None and metadata.size_hw is None:
                raise StartupError(
                    "IMAGE_SIZE: a TorchScript file doesn't declare the size of its input, and this one has no metadata of its "
                    "exporter: set it to the size that the model was exported with"
                )
            image = ImageInput.of(engine.inputs, metadata, wanted_hw)
            unknown = {port.name for port in engine.inputs} - {engine.inputs[image.index].name, *self._further}
            if unknown:
                raise StartupError(f"no known layout has the inputs {', '.join(sorted(unknown))}")
        except StartupError as error:
            seen = Signature(engine.inputs, engine.outputs, (0, 0), metadata)
            raise StartupError(f"{self.path}: {error}. Seen: {seen}") from error
        return image

    def _recognise(self, hints: Hints, layouts: Sequence[OutputLayout]) -> tuple[OutputLayout, Dimensions]:
        outputs = self._answer()
        ports = tuple(
            Tensor(port.name, output.shape, output.dtype)
            for port, output in zip(self._engine.outputs, outputs, strict=True)
        )
        file = Signature(self._engine.inputs, ports, self.size_hw, self.metadata, hints)
        layout, dimensions = find_layout(file, outputs, layouts)
        _LOG.info(
            "%s: layout %s, task %s, %s classes, input %d x %d (height x width); from %s",
            self.path.name,
            layout.name,
            layout.task,
            dimensions.classes or "unknown",
            *self.size_hw,
            file,
        )
        return layout, dimensions

    def _prepared(self, taken: InputOptions) -> Preparation:
        """How an image becomes the input: as the file or the layout has it, and as it is set by hand."""
        own: Preparation | None = self.layout.preparation
        if self.layout.prepare_for is not None:
            try:
                own = self.layout.prepare_for(self.path)
            except StartupError:
                if not taken.mean:  # what is set by hand needs no file
                    raise
        preparation = (own or self.layout.preparation).with_options(taken)
        if own is None and not (taken.color and taken.mean):
            _LOG.warning(
                "%s doesn't say how it takes an image; assumed: %s. If the results are poor, set COLOR, MEAN, STD and RESIZE as the "
                "model was trained",
                self.path.name,
                preparation,
            )
        if preparation.placement is Placement.SCALED and not self._image.free:
            return replace(preparation, placement=Placement.CORNER)
        return preparation

    def _answer(self) -> list[Array]:
        inputs = _example(self._engine, self._image, self._further)
        try:
            return self._engine.run(inputs)
        except Exception as error:  # each engine has its own
            first, *_ = str(error).splitlines() or [""]
            raise StartupError(f"{self.engine} can't run the model: {first[:300]}") from error

    def _to_image(self, detections: Detections, outputs: Sequence[Array], letterbox: Letterbox) -> Found:
        if self.layout.task == "classify":
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
        if self.dimensions.masks is not None:
            masks = self.layout.masks(outputs[self.dimensions.masks], detections, boxes, letterbox)
            some = np.array([bool(mask.bitmap.size) for mask in masks], np.bool_)
            masks = [mask for mask in masks if mask.bitmap.size]
            return Found(detections.scores[some], detections.classes[some], boxes[some], masks=tuple(masks))
        if self.dimensions.joints is not None:
            values = detections.extra.reshape(len(detections), *self.dimensions.joints).astype(np.float64)
            places = clip_points(letterbox.to_image(values[..., :2]), (height, width))
            visibility = values[..., 2:3] if self.dimensions.joints[1] == 3 else np.ones_like(places[..., :1])
            joints = np.concatenate([places, visibility], axis=-1)
            return Found(detections.scores, detections.classes, boxes, joints=joints)
        return Found(detections.scores, detections.classes, boxes)


YoloModel = ExportedModel  # the former name


def model_file(path: Path) -> Path:
    """Finds the model file at a path.

    Args:
        path: An .onnx, .xml or .torchscript file, or a folder with one of them.

    Raises:
        StartupError: There is no such file, or it is not of these kinds; with what to do about it.
    """
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in (".onnx", ".xml"))
        files = files or sorted(path.glob(f"*{TORCHSCRIPT_SUFFIX}"))
        if len(files) != 1:
            listed = ", ".join(file.name for file in files) or "none"
            raise StartupError(f"{path}: expected one .onnx, .xml or .torchscript file in the folder, found {listed}")
        return files[0]
    if path.suffix in (".pt", ".pth"):
        raise StartupError(
            f"{path}: a PyTorch file: export it (yolo export model={path.name} format=onnx), or use the function "
            "serverless/pytorch/ultralytics/yolo, which reads it with the ultralytics package (AGPL-3.0)"
        )
    if path.suffix not in SUFFIXES:
        raise StartupError(f"{path}: expected an .onnx file, an OpenVINO .xml or a .torchscript file")
    if not path.is_file():
        raise StartupError(f"{path}: no such file")
    if path.suffix == ".xml" and not path.with_suffix(".bin").is_file():
        raise StartupError(f"{path}: {path.with_suffix('.bin').name}, which holds the weights, is missing beside it")
    return path


def _example(engine: Engine, image: ImageInput, further: _FurtherInputs) -> list[Array]:
    """All inputs for an image of noise that fills its input."""
    return _inputs(engine.inputs, image, image.example(), Letterbox.stretch(image.size_hw, image.size_hw), further)


def _inputs(
    ports: Sequence[Tensor], image: ImageInput, batch: Array, letterbox: Letterbox, further: _FurtherInputs
) -> list[Array]:
    def other(port: Tensor) -> Array:
        values = further[port.name](letterbox, port)
        return np.repeat(values, image.batch, axis=0) if len(values) == 1 else values

    return [batch if i == image.index else other(port) for i, port in enumerate(ports)]
