"""TransT through frames: what is cut out of a frame, what the network's answer means, and what a state holds.

As in the published tracker: the object's picture shows twice its size, the part of a frame that is searched four times. Of the
places in that part, those far from the last one count less. Beyond the frame there is the mean colour of the first one.
"""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from common.config import FunctionConfig
from common.errors import BadState, ModelError, StartupError
from common.networks.engine import torch_device
from common.networks.fingerprint import content_key
from common.networks.runtime import threads_per_worker
from common.networks.transt.checkpoint import load_network
from common.networks.transt.network import STRIDE
from common.networks.weights import locate
from common.protocol import Image
from common.shapes import Rectangle, Shape
from common.vision.geometry import bounds_xyxy
from common.vision.lossless import compressed, restored
from common.vision.search_region import SearchRegion

_LOG = logging.getLogger(__name__)
_TEMPLATE_SIDE, _SEARCH_SIDE = 128, 256  # pixels of what the network sees of the object, and of the frame
# What is added to each side of an object, as a multiple of the mean of its sides.
_TEMPLATE_CONTEXT, _SEARCH_CONTEXT = 1, 3
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)  # ImageNet's
_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
_SMALLEST = 10.0  # pixels of a side, unless the object was drawn smaller
_LARGEST = 1e6  # pixels, of numbers in a state
_REMEMBERED = 64  # templates whose feature maps are kept, 256 kB each
_OURS = "expected a state that this tracker made"


class TransTTracker:
    """Follows boxes.

    Each argument but `config` is an option of that name.

    Args:
        config: The function's function.yaml.
        model_path: A file with the network's parameters: .pth, .pt, .tar or .safetensors.
        variant: One of the function's weights.yaml, if it has one.
        threshold: The lowest score, 0 to 1, with which an object counts as found.
        window: The weight of nearness to the last place, 0 to 1; the score has the rest.
        device: cpu, cuda or cuda:<number>.

    Raises:
        StartupError: An option is wrong, or the file is not such a network.
    """

    def __init__(
        self,
        config: FunctionConfig,
        *,
        model_path: str | None = None,
        variant: str | None = None,
        threshold: float = 0.3,
        window: float = 0.49,
        device: str = "cpu",
    ):
        for name, value in (("THRESHOLD", threshold), ("WINDOW", window)):
            StartupError.check(0 <= value <= 1, name, "a number from 0 to 1", value)
        self._device = torch_device(device)
        threads = threads_per_worker(config.workers)
        torch.set_num_threads(threads)
        cv2.setNumThreads(threads)
        path = locate(config, variant, model_path)
        network, self._key = load_network(path)
        self._network = network.to(self._device)
        self._threshold, self._window = threshold, window
        hann = np.hanning(_SEARCH_SIDE // STRIDE)
        self._nearness = np.outer(hann, hann).ravel()
        self._templates: OrderedDict[str, Any] = OrderedDict()
        _LOG.info("%s on %s", path.name, self._device)

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
        left, top, right, bottom = box_xyxy
        size_wh = max(right - left, 1.0), max(bottom - top, 1.0)
        place = Place(((left + right) / 2, (top + bottom) / 2), size_wh)
        red, green, blue = cv2.mean(frame)[:3]
        padding = int(red), int(green), int(blue)
        template = place.region(_TEMPLATE_CONTEXT).crop(frame, _TEMPLATE_SIDE, padding)
        smallest_wh = min(size_wh[0], _SMALLEST), min(size_wh[1], _SMALLEST)
        return _Track(place, smallest_wh, compressed(template), padding, 0).to_plain(self._key)

    def track(self, frame: Image, state: Any) -> tuple[Rectangle | None, dict[str, Any]]:
        """Finds an object in the next frame.

        Args:
            frame: What `prepare` returned.
            state: The object's, after the frame before.

        Returns:
            Its box, or None while it is lost; and its new state. A lost object is searched for around its last place.

        Raises:
            BadState: This tracker did not make the state, or not with these parameters.
        """
        track = _Track.from_plain(state, self._key)
        scores, boxes = self._answer(frame, track)
        weight = 0.0 if track.lost else self._window
        best = int(np.argmax((1 - weight) * scores + weight * self._nearness))
        if scores[best] < self._threshold:
            return None, replace(track, lost=track.lost + 1).to_plain(self._key)
        place = track.place.moved(boxes[best], frame.shape[:2], track.smallest_wh)
        found = Rectangle(box_xyxy=place.box_xyxy, score=float(scores[best]))
        return found, replace(track, place=place, lost=0).to_plain(self._key)

    def _answer(self, frame: Image, track: _Track) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """For each place in the part of a frame that is searched, its score (n,), and its box (n, 4) as the network has it."""
        search = track.place.region(_SEARCH_CONTEXT).crop(frame, _SEARCH_SIDE, track.padding)
        with torch.inference_mode():
            logits, boxes = self._network(self._template(track.template), self._embedded(search))
            scores = logits.softmax(dim=2)[0, :, 0]
        return scores.cpu().numpy().astype(np.float64), boxes[0].cpu().numpy().astype(np.float64)

    def _template(self, data: bytes) -> Any:
        """The feature map of an object's picture, kept by its content."""
        key = content_key(data)
        if key not in self._templates:
            try:
                picture = restored(data, (_TEMPLATE_SIDE, _TEMPLATE_SIDE))
            except ValueError as error:
                raise BadState(_OURS) from error
            self._templates[key] = self._embedded(picture)
            while len(self._templates) > _REMEMBERED:
                self._templates.popitem(last=False)
        self._templates.move_to_end(key)
        return self._templates[key]

    def _embedded(self, picture: NDArray[np.uint8]) -> Any:
        """The feature map of a picture (side, side, 3)."""
        normalised = (picture.astype(np.float32) / 255 - _MEAN) / _DEVIATION
        return self._network.embed(torch.from_numpy(normalised.transpose(2, 0, 1)[None].copy()).to(self._device))


@dataclass(frozen=True, slots=True)
class Place:
    """Where an object is."""

    center_xy: tuple[float, float]
    """In pixels of the frame."""
    size_wh: tuple[float, float]
    """Width and height in pixels."""

    @property
    def box_xyxy(self) -> tuple[float, float, float, float]:
        """(left, top, right, bottom); parts of it may be outside of the frame."""
        (x, y), (width, height) = self.center_xy, self.size_wh
        return x - width / 2, y - height / 2, x + width / 2, y + height / 2

    def region(self, context: float) -> SearchRegion:
        """The square around the object that the network sees.

        Args:
            context: What is added to each side of the object, as a multiple of the mean of its sides.
        """
        return SearchRegion.around(self.center_xy, self._side(context))

    def moved(self, box: NDArray[np.float64], size_hw: tuple[int, ...], smallest_wh: tuple[float, float]) -> Place:
        """Where the object is according to the network.

        Args:
            box: (4,) centre x and y, width and height, in parts of the search region. As in the published tracker, the
                region's centre is the object's last one; the region itself is up to a pixel to the left of it, and higher.
            size_hw: (height, width) of the frame in pixels.
            smallest_wh: Width and height are at least these, in pixels.
        """
        x, y, width, height = (float(value) for value in box)
        side = self._side(_SEARCH_CONTEXT)
        center = self.center_xy[0] + (x - 0.5) * side, self.center_xy[1] + (y - 0.5) * side
        limits = size_hw[1], size_hw[0]
        center = min(max(center[0], 0.0), limits[0]), min(max(center[1], 0.0), limits[1])
        size = min(width * side, limits[0]), min(height * side, limits[1])
        return Place(center, (max(size[0], smallest_wh[0]), max(size[1], smallest_wh[1])))

    def _side(self, context: float) -> int:
        """The side of a region in pixels."""
        width, height = self.size_wh
        more = context * (width + height) / 2
        return max(math.ceil(math.sqrt((width + more) * (height + more))), 1)


@dataclass(frozen=True, slots=True)
class _Track:
    """What is known of an object after a frame: what its state holds."""

    place: Place
    """Where it was seen last."""
    smallest_wh: tuple[float, float]
    """Pixels of its sides below which it does not shrink."""
    template: bytes
    """Its picture in the first frame, as `compressed` packs it."""
    padding: tuple[float, float, float]
    """The mean colour of the first frame, RGB, 0 to 255."""
    lost: int
    """For how many frames it has been lost."""

    def to_plain(self, key: str) -> dict[str, Any]:
        """Plain values; `key` names the network."""
        return {
            "network": key[:16],
            "center": list(self.place.center_xy),
            "size": list(self.place.size_wh),
            "smallest": list(self.smallest_wh),
            "template": self.template,
            "padding": list(self.padding),
            "lost": self.lost,
        }

    @classmethod
    def from_plain(cls, state: Any, key: str) -> _Track:
        """The inverse of `to_plain`. Raises BadState."""
        try:
            if state["network"] != key[:16]:
                raise BadState("expected a state made with the loaded network, got one made with another")
            center, size, smallest = (_numbers(state[name], 2) for name in ("center", "size", "smallest"))
            red, green, blue = _numbers(state["padding"], 3)
            (lost,) = _numbers([state["lost"]], 1)
            if min(*size, *smallest) < 1e-3 or not all(0 <= level <= 255 for level in (red, green, blue)) or lost < 0:
                raise ValueError("numbers out of range")
            if not isinstance(state["template"], bytes):
                raise ValueError("no picture")
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise BadState(_OURS) from error
        place = Place((center[0], center[1]), (size[0], size[1]))
        return cls(place, (smallest[0], smallest[1]), state["template"], (red, green, blue), int(lost))


def _numbers(values: Any, count: int) -> list[float]:
    """`count` numbers of at most a million. Raises ValueError or OverflowError for anything else."""
    if not isinstance(values, list) or not all(type(value) in (int, float) for value in values):
        raise ValueError("no numbers")
    numbers = [float(value) for value in values]
    if len(numbers) != count or not all(abs(value) <= _LARGEST for value in numbers):
        raise ValueError("numbers out of range")
    return numbers
