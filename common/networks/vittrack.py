"""Networks in ONNX Runtime or OpenVINO that follow an object as OpenCV's TrackerVit does.

The network compares a picture of the object, cut out of the frame in which it was drawn, with the part of the next frame
around its last place. It gives three maps over that part: how likely the object's centre is in each cell, the object's size,
and where in the cell the centre is. What is done with them follows TrackerVit, with two differences: boxes are not rounded down
to whole pixels, and the last row and column of a frame belong to it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from common.config import FunctionConfig
from common.errors import BadState, ModelError, StartupError
from common.networks.engine import Array, Tensor, open_engine
from common.networks.exported.model import model_file
from common.networks.formats.signature import list_ports
from common.networks.normalisation import Normalisation
from common.networks.runtime import threads_per_worker
from common.networks.weights import locate
from common.protocol import Image
from common.shapes import BoxXyxy, Rectangle, Shape
from common.vision.geometry import bounds_xyxy
from common.vision.lossless import compressed, restored
from common.vision.search_region import SearchRegion

_LOG = logging.getLogger(__name__)
_INPUTS = ("template", "search")
_OUTPUTS = ("output1", "output2", "output3")  # the maps of scores, sizes and offsets
_TEMPLATE_FACTOR, _SEARCH_FACTOR = 2, 4  # sides of the squares that the network sees, as multiples of the object's size
_LARGEST = 1e6  # pixels, of coordinates in a state
_SMALLEST = 1.0  # pixels of a side: an object that seems smaller can't be seen


class VitTrack:
    """Follows boxes with a network that has the inputs and outputs of OpenCV's VitTrack.

    Each argument but `config` is an option of that name.

    Args:
        config: The function's function.yaml.
        model_path: An .onnx file, an OpenVINO .xml, or a folder with one of them.
        variant: One of the function's weights.yaml.
        threshold: The lowest score, 0 to 1, with which an object counts as found.
        color: bgr or rgb, the order of the inputs' channels; OpenCV gives its networks bgr.
        device: cpu, cuda or cuda:<number>.
        engine: auto (the faster one, measured), onnxruntime, openvino or tensorrt.
        precision: f32, bf16 or f16, of OpenVINO's arithmetic.

    Raises:
        StartupError: An option is wrong, or the file is not such a network.
    """

    def __init__(
        self,
        config: FunctionConfig,
        *,
        model_path: str | None = None,
        variant: str | None = None,
        threshold: float = 0.2,
        color: str = "bgr",
        device: str = "cpu",
        engine: str = "auto",
        precision: str = "f32",
    ):
        StartupError.check(0 <= threshold <= 1, "THRESHOLD", "a number from 0 to 1", threshold)
        StartupError.check(color.lower() in ("rgb", "bgr"), "COLOR", "bgr or rgb", color)
        threads = threads_per_worker(config.workers)
        cv2.setNumThreads(threads)
        self._threshold = threshold
        # OpenCV subtracts ImageNet's mean of red from blue, and the networks were made for that.
        self._normalisation = Normalisation(bgr=color.lower() == "bgr")
        self._network = VitTrackNetwork(
            locate(config, variant, model_path), device=device, engine=engine, precision=precision, threads=threads
        )

    def prepare(self, image: Image) -> Image:
        """The frame as it is: only small parts of it are needed.

        Args:
            image: (H, W, 3) uint8 RGB.
        """
        return image

    def start(self, frame: Image, shape: Shape) -> dict[str, Any]:
        """The state of an object that is drawn on this frame.

        Args:
            frame: What `prepare` returned.
            shape: A box; of a rotated one, the upright box around it is followed.

        Raises:
            ModelError: The shape has no box.
        """
        box_xyxy = bounds_xyxy(shape)
        if box_xyxy is None:
            raise ModelError(f"expected a rectangle, got a {shape.type}")
        template = region_around(box_xyxy, _TEMPLATE_FACTOR).crop(frame, self._network.template_side)
        return {"template": compressed(template), "box": list(box_xyxy)}

    def track(self, frame: Image, state: Any) -> tuple[Rectangle | None, dict[str, Any]]:
        """Finds an object in the next frame.

        Args:
            frame: What `prepare` returned.
            state: The object's, after the frame before.

        Returns:
            Its box, or None while it is lost; and its new state. A lost object is searched for where it was last seen.

        Raises:
            BadState: This tracker did not make the state.
        """
        packed, last_xyxy = _checked(state)
        found = self.find(frame, _restored(packed, self._network.template_side), last_xyxy)
        if found.score < self._threshold or not _is_visible(found.box_xyxy, frame):
            return None, state
        return Rectangle(box_xyxy=found.box_xyxy, score=found.score), {**state, "box": list(found.box_xyxy)}

    def find(self, frame: Image, template: NDArray[np.uint8], last_xyxy: BoxXyxy) -> Found:
        """Where in a frame the object most likely is.

        Args:
            frame: (H, W, 3) uint8 RGB.
            template: (side, side, 3) uint8 RGB, the object's picture.
            last_xyxy: Its box in the frame before, in pixels.
        """
        region = region_around(last_xyxy, _SEARCH_FACTOR)
        search = region.crop(frame, self._network.search_side)
        maps = self._network.run(*(self._normalisation.planes(picture[None]) for picture in (template, search)))
        return strongest(maps, region)


@dataclass(frozen=True, slots=True)
class Found:
    """The most likely place of an object."""

    box_xyxy: BoxXyxy
    """In pixels of the frame; parts of it may lie outside."""
    score: float
    """0 to 1; the farther the object has moved, the lower."""


class VitTrackNetwork:
    """The network in a file.

    Args:
        path: An .onnx file, an OpenVINO .xml, or a folder with one of them.
        device: As for `open_engine`.
        engine: As for `open_engine`.
        precision: As for `open_engine`.
        threads: As for `open_engine`.

    Raises:
        StartupError: The file can't be run, or is another network.
    """

    path: Path
    """The model file."""
    template_side: int
    """Of the object's square picture, pixels."""
    search_side: int
    """Of the square part of a frame, pixels."""

    def __init__(
        self,
        path: str | Path,
        *,
        device: str = "cpu",
        engine: str = "auto",
        precision: str = "f32",
        threads: int = 1,
    ):
        self.path = model_file(Path(path))
        self._engine = open_engine(self.path, device=device, engine=engine, precision=precision, threads=threads)
        self._inputs = self._by_name(self._engine.inputs, _INPUTS)
        self._outputs = self._by_name(self._engine.outputs, _OUTPUTS)
        self.template_side, self.search_side = (self._side(self._engine.inputs[i]) for i in self._inputs)
        self._try_out()
        _LOG.info(
            "%s: template %d px, search region %d px, %s",
            self.path.name,
            self.template_side,
            self.search_side,
            self._engine.description,
        )

    def run(self, template: Array, search: Array) -> Maps:
        """Runs the network once.

        Args:
            template: (1, 3, side, side), normalised.
            search: (1, 3, side, side), normalised.
        """
        arrays = [template, search] if self._inputs[0] == 0 else [search, template]
        outputs = self._engine.run(arrays)
        scores, sizes, offsets = (outputs[i][0].astype(np.float64) for i in self._outputs)
        return Maps(scores[0], sizes, offsets)

    def _by_name(self, ports: Sequence[Tensor], names: tuple[str, ...]) -> list[int]:
        """The indices of inputs or outputs."""
        if sorted(port.name for port in ports) != sorted(names):
            raise self._refused()
        return [[port.name for port in ports].index(name) for name in names]

    def _side(self, port: Tensor) -> int:
        """The side of a square input in pixels."""
        if len(port.shape) != 4 or port.shape[0] not in (1, None) or port.shape[1] != 3:
            raise self._refused()
        if port.shape[2] is None or port.shape[2] != port.shape[3] or not np.issubdtype(port.dtype, np.floating):
            raise self._refused()
        return port.shape[2]

    def _try_out(self) -> None:
        """Checks the outputs for noise."""
        rng = np.random.default_rng(0)
        noise = [rng.standard_normal((1, 3, side, side), np.float32) for side in (self.template_side, self.search_side)]
        outputs = self._engine.run(noise if self._inputs[0] == 0 else noise[::-1])
        shapes = [outputs[i].shape for i in self._outputs]
        cells = shapes[0][-1] if shapes[0] else 0
        if shapes != [(1, channels, cells, cells) for channels in (1, 2, 2)]:
            raise self._refused()
        scores = outputs[self._outputs[0]]
        if not all(np.isfinite(output).all() for output in outputs) or scores.min() < 0 or scores.max() > 1:
            raise self._refused(
                f"for noise, output1 is from {scores.min():.3g} to {scores.max():.3g}, where scores from 0 to 1 are expected"
            )

    def _refused(self, why: str = "") -> StartupError:
        seen = f"inputs: {list_ports(self._engine.inputs)}; outputs: {list_ports(self._engine.outputs)}"
        return StartupError(
            f"{self.path}: expected a network like OpenCV's VitTrack: inputs template and search (1, 3, side, side), outputs "
            f"output1 (1, 1, n, n), output2 and output3 (1, 2, n, n). {why or 'Seen: ' + seen}"
        )


@dataclass(frozen=True, slots=True, eq=False)
class Maps:
    """What a network says about n x n cells of a search region."""

    scores: NDArray[np.float64]
    """(n, n), 0 to 1: how likely the object's centre is in the cell."""
    sizes: NDArray[np.float64]
    """(2, n, n): width and height in parts of the region."""
    offsets: NDArray[np.float64]
    """(2, n, n): x and y of the centre in the cell, in cells."""


def strongest(maps: Maps, region: SearchRegion) -> Found:
    """The best cell, where far ones count less.

    Args:
        maps: What the network says.
        region: What part of the frame it saw.
    """
    cells = len(maps.scores)
    hann = np.hanning(cells + 2)[1:-1]
    weighted = maps.scores * hann[:, None] * hann
    row, column = np.unravel_index(int(weighted.argmax()), weighted.shape)
    middle = (np.array([column, row]) + maps.offsets[:, row, column]) / cells
    half = maps.sizes[:, row, column] / 2
    (left, top), (right, bottom) = region.to_frame(np.array([middle - half, middle + half]), size=1).tolist()
    return Found((left, top, right, bottom), float(weighted[row, column]))


def region_around(box_xyxy: BoxXyxy, factor: float) -> SearchRegion:
    """The square around an object that the network sees; for boxes of whole pixels that of TrackerVit.

    Args:
        box_xyxy: The object's box in pixels.
        factor: The square's side as a multiple of the object's size, the root of its area.
    """
    left, top, right, bottom = box_xyxy
    side = math.ceil(math.sqrt((right - left) * (bottom - top)) * factor)
    return SearchRegion.around(((left + right) / 2, (top + bottom) / 2), max(side, 1), rounding=math.ceil)


def _is_visible(box_xyxy: BoxXyxy, frame: Image) -> bool:
    """Whether a box is of some size, with a part of it in the frame."""
    left, top, right, bottom = box_xyxy
    if not all(map(math.isfinite, box_xyxy)) or min(right - left, bottom - top) < _SMALLEST:
        return False
    height, width = frame.shape[:2]
    return right > 0 and bottom > 0 and left < width and top < height


def _checked(state: Any) -> tuple[bytes, BoxXyxy]:
    """The parts of a state: the compressed template and the last box."""
    try:
        packed, (left, top, right, bottom) = state["template"], (float(value) for value in state["box"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise BadState("expected a state that this tracker made") from error
    numbers = (left, top, right, bottom)
    if not isinstance(packed, bytes) or not all(abs(v) <= _LARGEST for v in numbers) or right <= left or bottom <= top:
        raise BadState("expected a state that this tracker made")
    return packed, numbers


def _restored(packed: bytes, side: int) -> NDArray[np.uint8]:
    """The template of a state, as a picture. Raises BadState."""
    try:
        return restored(packed, (side, side))
    except ValueError as error:
        raise BadState("expected a state that this tracker made, with a template of this network's size") from error
