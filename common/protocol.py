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

from common.shapes import BoxXyxy, Shape

Image = NDArray[np.uint8]
"""(H, W, 3) uint8 RGB."""


class DetectorHandler(Protocol):
    """A model that finds objects in an image."""

    def infer(self, image: Image, threshold: float) -> list[Shape]:
        """Finds the objects in an image.

        Args:
            image: (H, W, 3) uint8 RGB.
            threshold: The lowest score of a shape, 0 to 1.

        Returns:
            Shapes with a label of the function, in pixels of the image.
        """
        ...


@runtime_checkable
class BatchDetectorHandler(DetectorHandler, Protocol):
    """A detector that is faster with several images at a time; the tools that have several use it."""

    def infer_batch(self, images: Sequence[Image], threshold: float) -> list[list[Shape]]:
        """Finds the objects in several images.

        Args:
            images: Each (H, W, 3) uint8 RGB; the sizes may differ.
            threshold: The lowest score of a shape, 0 to 1.

        Returns:
            For each image what `infer` returns.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """What the user has clicked: at least one positive point or a box, all inside the image.

    The image's right and bottom edges belong to it, so x may be its width and y its height.
    """

    pos_points_xy: NDArray[np.float64]
    """(N, 2) pixels: points on the object, the oldest first."""
    neg_points_xy: NDArray[np.float64]
    """(N, 2) pixels: points beside it, the oldest first."""
    box_xyxy: BoxXyxy | None = None
    """(left, top, right, bottom) in pixels of the box around the object, or None."""


class InteractorHandler(Protocol):
    """A model that cuts out the object that a user clicks on."""

    def embed(self, image: Image) -> Any:
        """Computes everything about an image that prompts don't change.

        Args:
            image: (H, W, 3) uint8 RGB.

        Returns:
            The embedding: whatever `segment` wants.
        """
        ...

    def segment(self, embedding: Any, prompt: Prompt) -> NDArray[np.bool_]:
        """Cuts out an object.

        Args:
            embedding: What `embed` returned for the image.
            prompt: The user's clicks.

        Returns:
            (H, W) bool, the object's pixels in the image.
        """
        ...


@runtime_checkable
class CachedInteractorHandler(InteractorHandler, Protocol):
    """An interactor whose `embed` is slow: its embeddings are kept by content, as arrays, and its last masks as hints."""

    model_key: str
    """Names everything that an embedding depends on besides the image: weights, preprocessing, precision."""

    def pack(self, embedding: Any) -> dict[str, NDArray[np.generic]]:
        """Turns an embedding into arrays.

        Args:
            embedding: What `embed` returned.

        Returns:
            Arrays of float16, float32, int64 or uint8, by name.
        """
        ...

    def unpack(self, arrays: Mapping[str, NDArray[np.generic]]) -> Any:
        """The inverse of `pack`.

        Args:
            arrays: What `pack` returned; they must not be written to.

        Returns:
            The embedding, which may be a view of the arrays.
        """
        ...

    def image_size_hw(self, embedding: Any) -> tuple[int, int]:
        """The size of the image that an embedding is of.

        Args:
            embedding: What `embed` returned.

        Returns:
            (height, width) in pixels.
        """
        ...

    def refine(
        self, embedding: Any, prompt: Prompt, hint: NDArray[np.float16] | None
    ) -> tuple[NDArray[np.bool_], NDArray[np.float16]]:
        """Cuts out an object with the help of the result for the prompt with one click less.

        Args:
            embedding: What `embed` returned for the image.
            prompt: The user's clicks.
            hint: The hint that came with that result, or None when no such result is known.

        Returns:
            What `segment` returns, and a hint for the prompt with one click more.
        """
        ...


class TrackerHandler(Protocol):
    """A model that follows objects from frame to frame.

    States are what JSON, or msgpack, can hold: None, bool, int, float, str, bytes, and lists and dicts of them.
    """

    def prepare(self, image: Image) -> Any:
        """Computes what all objects of a frame share, once for each request.

        Args:
            image: (H, W, 3) uint8 RGB.

        Returns:
            The frame: whatever `start` and `track` want.
        """
        ...

    def start(self, frame: Any, shape: Shape) -> Any:
        """Begins to follow an object.

        Args:
            frame: What `prepare` returned.
            shape: The object in this frame, of a type that function.yaml names.

        Returns:
            The object's state.
        """
        ...

    def track(self, frame: Any, state: Any) -> tuple[Shape | None, Any]:
        """Finds an object again.

        Args:
            frame: What `prepare` returned.
            state: The object's state after the last frame.

        Returns:
            The object's shape in this frame, None when it is lost, and its state after this frame.

        Raises:
            BadState: This handler did not make the state. Any other error counts as the handler's own fault.
        """
        ...


class ReidHandler(Protocol):
    """A model that describes what objects look like."""

    def embed(self, image: Image, boxes_xyxy: NDArray[np.float64]) -> NDArray[np.float32]:
        """Describes what is in boxes; the distances of descriptors tell objects apart.

        Args:
            image: (H, W, 3) uint8 RGB.
            boxes_xyxy: (N, 4) boxes in pixels of the image; parts of them may be outside.

        Returns:
            (N, D) descriptors of unit length.
        """
        ...
