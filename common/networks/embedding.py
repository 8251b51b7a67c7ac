"""Embedding networks as reid handlers: what is in a box as a vector of unit length, similar for views of one object."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from common.config import FunctionConfig
from common.errors import StartupError, listed
from common.networks.engine import Array
from common.networks.formats.image_input import read_size
from common.networks.normalisation import Normalisation
from common.networks.patches import PatchNetwork
from common.networks.runtime import threads_per_worker
from common.networks.weights import locate
from common.protocol import Image
from common.vision.geometry import pixels_of_box

_LOG = logging.getLogger(__name__)
_PROBABILITIES = 1e-3  # rows of a classifier's probabilities sum to 1 this exactly


class ExportedEmbedding:
    """Describes boxes with an embedding network in an .onnx file or an OpenVINO .xml.

    Each argument but `config` is an option of that name.

    Args:
        config: The function's function.yaml.
        model_path: An .onnx file, an OpenVINO .xml, or a folder with one of them.
        variant: One of the function's weights.yaml.
        image_size: "256x128" (height x width), for files whose input size is free.
        color: rgb or bgr, the order of the input's channels.
        mean: One number or three with commas, 0 to 255, in the order of the input's channels; None: ImageNet's.
        std: As `mean`.
        output: The name of the output that holds the descriptors, for files with several.
        device: cpu, cuda or cuda:<number>.
        engine: auto (the faster one, measured), onnxruntime, openvino or tensorrt.
        precision: f32, bf16 or f16, of OpenVINO's arithmetic.

    Raises:
        StartupError: An option is wrong, or the file is not an embedding network.
    """

    def __init__(
        self,
        config: FunctionConfig,
        *,
        model_path: str | None = None,
        variant: str | None = None,
        image_size: str | None = None,
        color: str = "rgb",
        mean: str | None = None,
        std: str | None = None,
        output: str | None = None,
        device: str = "cpu",
        engine: str = "auto",
        precision: str = "f32",
    ):
        self._network = PatchNetwork(
            locate(config, variant, model_path),
            device=device,
            engine=engine,
            precision=precision,
            threads=threads_per_worker(config.workers),
            size_hw=read_size(image_size, stride=1),
            normalisation=Normalisation.read(color, mean, std),
        )
        self._output = descriptors(self._network, output)
        _LOG.info(
            "%s: descriptors of %d numbers from the output %s, input %d x %d (height x width)",
            self._network.path.name,
            self._network.outputs[self._output].shape[1],
            self._network.outputs[self._output].name,
            *self._network.size_hw,
        )

    def embed(self, image: Image, boxes_xyxy: NDArray[np.float64]) -> NDArray[np.float32]:
        """Descriptors of the parts of boxes that lie inside the image.

        Args:
            image: (H, W, 3) uint8 RGB.
            boxes_xyxy: (N, 4), N of 1 or more; a box without a pixel inside gets the descriptor of the nearest pixel.

        Returns:
            (N, D) float32 of unit length.
        """
        answers = self._network.run(crops(image, boxes_xyxy, self._network.size_hw))
        return unit_rows(answers[self._output])


def crops(image: Image, boxes_xyxy: NDArray[np.float64], size_hw: tuple[int, int]) -> Iterator[Image]:
    """The parts of an image in boxes, each stretched to one size as Pillow and torchvision do it, averaged where it shrinks.

    Args:
        image: (H, W, 3) uint8 RGB.
        boxes_xyxy: (N, 4) in pixels of the image; of a box outside the nearest pixel is taken.
        size_hw: Height and width of the results.

    Yields:
        (height, width, 3) uint8 RGB for each box.
    """
    for box in boxes_xyxy:
        left, top, right, bottom = pixels_of_box(box, image.shape[:2])
        part = PillowImage.fromarray(image[top:bottom, left:right])
        yield np.asarray(part.resize(size_hw[::-1], PillowImage.Resampling.BILINEAR))


def unit_rows(answers: Array) -> NDArray[np.float32]:
    """Descriptors of unit length; one of length 0 stays as it is.

    Args:
        answers: (N, D), or with further axes of size 1.

    Returns:
        (N, D) float32.
    """
    rows = answers.reshape(len(answers), -1).astype(np.float32)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12), np.float32)


def descriptors(network: PatchNetwork, wanted: str | None) -> int:
    """The output that holds the descriptors.

    Args:
        network: The network, opened.
        wanted: The option OUTPUT, its name; None or "" for the only one.

    Returns:
        Its index.

    Raises:
        StartupError: There is no such output, or it holds something else.
    """
    ports = network.outputs
    names = [port.name for port in ports]
    if wanted and wanted not in names:
        raise StartupError(f"OUTPUT: expected one of {listed(names, 8)}, got {wanted}")
    if not wanted and len(ports) > 1:
        raise StartupError(
            f"{network.path}: expected one output (batch, D), a descriptor for each picture; set OUTPUT to the name of the one "
            f"that holds them. Seen: {network.seen}"
        )
    index = names.index(wanted) if wanted else 0
    shape, values = ports[index].shape, network.example[index]
    if len(shape) < 2 or shape[1] in (None, 1) or any(size != 1 for size in shape[2:]):
        raise StartupError(
            f"{network.path}: expected an output (batch, D), a descriptor for each picture: export the network with its pooling "
            f"and without a head. Seen: {network.seen}"
        )
    if not np.issubdtype(values.dtype, np.floating) or not np.isfinite(values).all():
        raise StartupError(
            f"{network.path}: the output {names[index]} should hold descriptors, finite floating-point numbers; for an "
            f"example it doesn't. Seen: {network.seen}"
        )
    _warn_of_a_classifier(network, values.reshape(len(values), -1))
    return index


def _warn_of_a_classifier(network: PatchNetwork, values: Array) -> None:
    are_probabilities = (values >= 0).all() and np.allclose(values.sum(axis=1), 1, atol=_PROBABILITIES)
    if are_probabilities or network.metadata.get("task") == "classify":
        _LOG.warning(
            "%s looks like a classifier: its answers are probabilities of classes, which tell objects of one class apart badly; "
            "export the network without its last layer",
            network.path.name,
        )
