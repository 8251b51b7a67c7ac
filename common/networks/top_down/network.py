"""Pose networks: boxes of images in, joints out; and those exported to a file."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from common.errors import StartupError
from common.networks.engine import Array
from common.networks.patches import PatchNetwork
from common.networks.top_down import decoding
from common.networks.top_down.crop import PADDING, BoxCrop
from common.protocol import Image
from common.vision.geometry import clip_points

_LOG = logging.getLogger(__name__)
CODECS = ("auto", "msra", "dark", "udp", "simcc")
_HIGHEST = 3.0  # heat maps are trained to peak at 1; the logits of a segmentation are far from that
_BEYOND = 0.02  # of the part's sides: how far outside the image a joint may be to be seen


class PoseNetwork(Protocol):
    """Finds the joints in parts of images."""

    joints: int
    """How many it finds."""

    def crop(self, box_xyxy: NDArray[np.float64]) -> BoxCrop:
        """The part of an image that the network sees of a box.

        Args:
            box_xyxy: 4 numbers, pixels of the image, with an area.
        """
        ...

    def joints_in(self, parts: Iterable[Image]) -> NDArray[np.float64]:
        """The joints in some parts, of which only a few are in memory at a time.

        Args:
            parts: One at least, each as `BoxCrop.apply` returns it.

        Returns:
            (N, K, 3) x, y as shares of the part's width and height, score from 0 to 1.
        """
        ...


class ExportedPose:
    """A pose network in an .onnx file or an OpenVINO .xml.

    Args:
        network: The file, opened.
        codec: How its outputs are decoded, one of CODECS; auto: simcc for two outputs of rows, msra for heat maps.
        kernel: Cells of the filter of dark and udp; None: as mmpose has it for maps of that size.
        padding: How many times as large as its box the part is that the network sees.

    Raises:
        StartupError: An option is wrong, or the outputs are not those of a pose network.
    """

    def __init__(
        self, network: PatchNetwork, *, codec: str = "auto", kernel: int | None = None, padding: float = PADDING
    ):
        StartupError.check(codec in CODECS, "CODEC", f"one of {', '.join(CODECS)}", codec)
        usable = kernel is None or (kernel >= 3 and kernel % 2 == 1)
        StartupError.check(usable, "BLUR_KERNEL", "an odd number of 3 or more", kernel)
        StartupError.check(0.5 <= padding <= 4, "PADDING", "a number from 0.5 to 4", padding)
        self._network, self._padding = network, padding
        outputs = _recognise(network)
        if (codec == "simcc") != outputs.rows and codec != "auto":
            kind = "rows of scores: CODEC=simcc" if outputs.rows else "heat maps: CODEC=msra, dark or udp"
            raise StartupError(f"CODEC={codec}: the outputs of {network.path} are {kind}, or auto")
        self.codec = ("simcc" if outputs.rows else "msra") if codec == "auto" else codec
        """How the outputs are decoded: one of CODECS, never auto."""
        self._decode = _decoder(outputs, self.codec, kernel)
        self._unbiased = self.codec == "udp"
        self.joints = outputs.joints
        """How many joints it finds."""
        _LOG.info("%s: %d joints from %s; %s", network.path.name, self.joints, outputs.words, network.seen)

    def crop(self, box_xyxy: NDArray[np.float64]) -> BoxCrop:
        """As `PoseNetwork.crop`.

        Args:
            box_xyxy: 4 numbers.
        """
        return BoxCrop.around(box_xyxy, self._network.size_hw, padding=self._padding, unbiased=self._unbiased)

    def joints_in(self, parts: Iterable[Image]) -> NDArray[np.float64]:
        """As `PoseNetwork.joints_in`.

        Args:
            parts: The parts.
        """
        return self._decode(self._network.run(parts))


def find_joints(
    network: PoseNetwork, images: Sequence[Image], boxes_xyxy: Sequence[NDArray[np.float64]]
) -> list[NDArray[np.float64]]:
    """The joints of what is in the boxes of some images; all go through the network together.

    Args:
        network: The pose network.
        images: Each (H, W, 3) uint8 RGB.
        boxes_xyxy: For each image (N, 4) pixels of the image, with an area.

    Returns:
        For each image (N, K, 3) x, y in pixels of the image and inside it, score; of joints outside the image it is 0.
    """
    crops = [(image, network.crop(box)) for image, boxes in zip(images, boxes_xyxy, strict=True) for box in boxes]
    joints = np.zeros((0, network.joints, 3))
    if crops:
        joints = network.joints_in(crop.apply(image) for image, crop in crops)
    for each, (image, crop) in zip(joints, crops, strict=True):
        points = crop.to_image(each[:, :2])
        each[:, :2] = clip_points(points, (image.shape[0], image.shape[1]))
        beyond = np.abs(points - each[:, :2]) > np.multiply(crop.extent_wh, _BEYOND)
        each[beyond.any(axis=1), 2] = 0
    return np.split(joints, np.cumsum([len(boxes) for boxes in boxes_xyxy])[:-1])


@dataclass(frozen=True, slots=True)
class _Outputs:
    """What the outputs of a pose network are."""

    joints: int
    """How many joints."""
    indices: tuple[int, ...]
    """The output with heat maps, or those with the rows of x and of y."""
    map_hw: tuple[int, int]
    """Height and width of the heat maps, or the lengths of the rows of y and x."""

    @property
    def rows(self) -> bool:
        """Whether they are SimCC's rows of scores."""
        return len(self.indices) == 2

    @property
    def words(self) -> str:
        """For the log."""
        return f"{'rows' if self.rows else 'heat maps'} of {self.map_hw[1]} x {self.map_hw[0]}"


def _recognise(network: PatchNetwork) -> _Outputs:
    """What the outputs are. Raises StartupError when that is not certain."""
    shapes = [tuple(size or 0 for size in port.shape) for port in network.outputs]
    height, width = network.size_hw
    problem = "expected heat maps (batch, joints, height, width), or rows of scores `simcc_x` and `simcc_y` (batch, joints, n)"
    if any(not np.isfinite(values).all() for values in network.example):
        problem = "expected finite numbers for an example"
    elif len(shapes) == 1 and len(shapes[0]) == 4:
        _, joints, *map_hw = shapes[0]
        if height * map_hw[1] == width * map_hw[0] and 1 < map_hw[0] <= height:
            _check_values(network)
            return _Outputs(joints, (0,), (map_hw[0], map_hw[1]))
        problem = f"expected heat maps of the proportions of the input, {width} x {height}"
    elif len(shapes) == 2 and all(len(shape) == 3 for shape in shapes):
        x, y = _order_of_rows([port.name for port in network.outputs])
        (_, joints, across), (_, same, down) = shapes[x], shapes[y]
        if joints == same and across * height == down * width and across >= width:
            return _Outputs(joints, (x, y), (down, across))
        problem = f"expected rows of the same number of joints, as long as a multiple of the input's sides, {width} x {height}"
    raise StartupError(f"{network.path}: not a top-down pose network: {problem}. Seen: {network.seen}")


def _order_of_rows(names: Sequence[str]) -> tuple[int, int]:
    """Which of two outputs are the scores along x and along y: by their names, else x first as in mmpose."""
    return (1, 0) if names[0].endswith("_y") and names[1].endswith("_x") else (0, 1)


def _check_values(network: PatchNetwork) -> None:
    values = network.example[0]
    low, high = float(values.min()), float(values.max())
    if max(-low, high) > _HIGHEST:
        raise StartupError(
            f"{network.path}: heat maps peak at about 1, but for an example the values are {low:.4g} to {high:.4g}: these may be "
            f"the classes of a segmentation. Seen: {network.seen}"
        )
    if values.shape[1] > 1 and low >= 0 and np.allclose(values.sum(axis=1), 1, atol=1e-3):
        raise StartupError(
            f"{network.path}: the values of each place sum to 1: these are the classes of a segmentation, not the heat maps of "
            f"joints. Seen: {network.seen}"
        )


def _decoder(outputs: _Outputs, codec: str, kernel: int | None) -> Callable[[Sequence[Array]], NDArray[np.float64]]:
    if outputs.rows:
        x, y = outputs.indices
        return lambda answers: decoding.decode_simcc(answers[x], answers[y])
    smooth = partial(decoding.smooth_as_mmpose, kernel=kernel or decoding.usual_kernel(outputs.map_hw))
    decode: decoding.Decoder = decoding.decode_quarter
    if codec == "dark":
        decode = partial(decoding.decode_dark, smooth=smooth)
    elif codec == "udp":
        decode = partial(decoding.decode_udp, smooth=smooth)
    return lambda answers: decode(answers[0])
