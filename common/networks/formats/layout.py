"""An output layout: what the outputs of a kind of model file mean, and everything that follows from it, in one object.

A new layout is one `OutputLayout` in the module of its family, listed in `registry`, with its test.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from common.networks.engine import Array, Tensor
from common.networks.formats.detections import Candidates, Detections
from common.networks.formats.masks import masks_of_prototypes
from common.networks.formats.nms import best_first
from common.networks.formats.preparation import Preparation
from common.networks.formats.signature import Dimensions, Signature
from common.shapes import Mask
from common.vision.letterbox import Letterbox

MaskDecoder = Callable[[Array, Detections, NDArray[np.float64], Letterbox], list[Mask]]
"""(the output, N detections in pixels of the input, their (N, 4) boxes in pixels of the image and clipped to it, letterbox)
-> N masks in the image."""


@dataclass(frozen=True, slots=True)
class Suppression:
    """How detections of the same object are reduced to the best one."""

    method: Callable[
        [NDArray[np.floating], NDArray[np.floating], NDArray[np.integer] | None, float, int], NDArray[np.intp]
    ]
    """(boxes, scores, classes or None for any, iou, most) -> indices of those that stay; see `nms`."""
    iou: float
    """How much two boxes may overlap where the user sets nothing: as the network's own package has it."""


@dataclass(frozen=True, slots=True, eq=False)
class OutputLayout:
    """What the outputs of a kind of file mean for one task."""

    name: str
    """The value of LAYOUT that selects it; layouts that differ by their task may share it."""
    task: str
    """One of `metadata.TASKS`."""
    outputs: str
    """The outputs in words, and who makes such files; for messages."""
    match: Callable[[Signature], Dimensions | None]
    """Recognises a file: its dimensions, or None for a file of another layout. Must be certain: a file that another
    layout could have made is not matched unless its metadata, names and shapes together rule that out."""
    read: Callable[[Sequence[Array], Dimensions], Candidates]
    """Points out, in the outputs in the file's order, what the network proposes for the first image. The angles of turned
    boxes may be the last of the extra values."""
    box_format: Literal["xyxy", "xywh"] = "xywh"
    """Boxes as corners, or as centre and size; of turned boxes always xywh."""
    normalised: bool = False
    """Whether boxes are parts of the input's sides, not its pixels."""
    multiple_classes: bool = False
    """Whether a candidate can be a detection of several classes."""
    distribution: bool = False
    """Whether the scores of all candidates add up to 1, unless the layout is set by hand."""
    lowest_score: float = 0.0
    """Under this score nothing is a detection, whatever the threshold."""
    suppression: Suppression | None = None
    """How overlapping boxes are suppressed; None where the network gives each object once."""
    masks: MaskDecoder = masks_of_prototypes
    """Makes the masks of detections from the output `Dimensions.masks`, where there is one: the task is to segment."""
    preparation: Preparation = field(default_factory=Preparation)
    """How an image becomes the input."""
    prepare_for: Callable[[Path], Preparation | None] | None = None
    """How an image becomes the input of a certain file; None, or returning None: as `preparation` has it, in the second case
    with a warning, since nothing says so."""
    any_size: bool = False
    """Whether the network resizes the image itself: an input of free size takes each image at its own size."""
    further_inputs: Mapping[str, Callable[[Letterbox, Tensor], Array]] = field(default_factory=dict)
    """What the inputs besides the image take, by name: (how the image lies in the input, the input as declared) -> array."""
    optional_inputs: frozenset[str] = frozenset()
    """Those of them that a file need not have."""
    class_order: str = ""
    """Why a file without class names doesn't say what its class indices mean; empty: they are those of the labels."""
    rewrite: Callable[[Path], bytes | None] | None = None
    """Makes a file of it that an engine can open; None, or returning None: the file is opened as it is."""

    def detect(
        self,
        outputs: Sequence[Array],
        dimensions: Dimensions,
        size_hw: tuple[int, int],
        threshold: float,
        *,
        iou: float | None = None,
        most: int = 300,
        agnostic: bool = False,
    ) -> Detections:
        """The detections of the first image, each object once, the highest score first.

        Args:
            outputs: The network's outputs in the file's order.
            dimensions: Of the file, from `match`.
            size_hw: Height and width of the input, pixels.
            threshold: The lowest score, 0 to 1.
            iou: How much two boxes of one class may overlap; None for the layout's own.
            most: How many detections at most.
            agnostic: Whether boxes of different classes suppress each other too.
        """
        candidates = self.read(outputs, dimensions)
        found = candidates.over(max(threshold, self.lowest_score), multiple_classes=self.multiple_classes)
        boxes, angles = found.boxes, found.angles
        if self.task == "obb" and angles is None:
            angles = found.extra[:, -1]
        if self.normalised:
            height, width = size_hw
            boxes = boxes * np.array([width, height, width, height], np.float32)
        if self.box_format == "xywh" and angles is None:
            centers, halves = boxes[:, :2], boxes[:, 2:] / 2
            boxes = np.concatenate([centers - halves, centers + halves], axis=1)
        found = replace(found, boxes=boxes, angles=angles).take(np.flatnonzero(np.isfinite(boxes).all(axis=1)))
        if self.suppression is None:
            return found.take(best_first(found.scores)[: min(most, dimensions.most or most)])
        suppressed = found.boxes if found.angles is None else np.column_stack([found.boxes, found.angles])
        classes = None if agnostic else found.classes
        overlap = self.suppression.iou if iou is None else iou
        return found.take(self.suppression.method(suppressed, found.scores, classes, overlap, most))


@dataclass(frozen=True, slots=True)
class UnreadableOutputs:
    """Outputs that are known, but can't be used, and what to do about it."""

    match: Callable[[Signature], bool]
    """Recognises a file."""
    remedy: str
    """What the outputs are, and how to export the model so that it can be used."""
    operations: re.Pattern[bytes] | None = None
    """Finds in a file that no engine could open the operations that make it such a file."""
