"""What a `ModelHandler` offers, by the kind of its function: arrays in, shapes out, nothing of Nuclio or JSON.

A handler is made once in a worker: `ModelHandler(config, *, option=default, ...)`; see `common.serving.options`. Images are
(H, W, 3) uint8 RGB in the orientation that CVAT shows; coordinates are floating-point pixels of that image, (0, 0) the
outer corner of the top left pixel. No verb may keep state between calls, except a cache keyed by content.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from common.shapes import Shape

Image = NDArray[np.uint8]


class DetectorHandler(Protocol):
    def infer(self, image: Image, threshold: float) -> list[Shape]:
        """The shapes of an image with a confidence of `threshold` (0 to 1) or more."""
        ...


@runtime_checkable
class BatchDetectorHandler(DetectorHandler, Protocol):
    """A detector that is faster with several images at a time; the tools that have several use it."""

    def infer_batch(self, images: Sequence[Image], threshold: float) -> list[list[Shape]]:
        """What `infer` returns for each of the images."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """What the user has clicked: at least one positive point or a box, all inside the image.

    Its right and bottom edge belong to the image, so x may be its width and y its height.
    pos_points_xy, neg_points_xy: (N, 2) float64 pixels. box_xyxy: (left, top, right, bottom) or None.
    """

    pos_points_xy: NDArray[np.float64]
    neg_points_xy: NDArray[np.float64]
    box_xyxy: tuple[float, float, float, float] | None = None


class InteractorHandler(Protocol):
    def embed(self, image: Image) -> Any:
        """Everything about an image that prompts don't change."""
        ...

    def segment(self, embedding: Any, prompt: Prompt) -> NDArray[np.bool_]:
        """The (H, W) bool bitmap of the object that the prompt means."""
        ...


@runtime_checkable
class CachedInteractorHandler(InteractorHandler, Protocol):
    """An interactor whose `embed` is slow: its embeddings are kept by content, as arrays, and its last masks as hints.

    model_key: names everything that an embedding depends on besides the image: weights, preprocessing, precision.
    """

    model_key: str

    def pack(self, embedding: Any) -> dict[str, NDArray[np.generic]]:
        """An embedding as arrays of float16, float32, int64 or uint8."""
        ...

    def unpack(self, arrays: Mapping[str, NDArray[np.generic]]) -> Any:
        """The inverse of `pack`; the embedding may be a view of the arrays, which must not be written to."""
        ...

    def image_size_hw(self, embedding: Any) -> tuple[int, int]:
        """(height, width) of the image in pixels."""
        ...

    def refine(
        self, embedding: Any, prompt: Prompt, hint: NDArray[np.float16] | None
    ) -> tuple[NDArray[np.bool_], NDArray[np.float16]]:
        """What `segment` returns, and a hint for the prompt that has one click more; None: nothing is known."""
        ...


class TrackerHandler(Protocol):
    """States are what JSON, or msgpack, can hold: None, bool, int, float, str, bytes, and lists and dicts of them."""

    def prepare(self, image: Image) -> Any:
        """What all objects of a frame share, made once for each request."""
        ...

    def start(self, frame: Any, shape: Shape) -> Any:
        """The state of an object that is at `shape` in this frame."""
        ...

    def track(self, frame: Any, state: Any) -> tuple[Shape | None, Any]:
        """The object's shape in this frame, None when it is lost, and its state after this frame.

        Raises BadState for a state that this handler did not make; any other error counts as its own fault.
        """
        ...


class ReidHandler(Protocol):
    def embed(self, image: Image, boxes_xyxy: NDArray[np.float64]) -> NDArray[np.float32]:
        """(N, D) descriptors of unit length of what is in the (N, 4) boxes; their distances tell objects apart."""
        ...
