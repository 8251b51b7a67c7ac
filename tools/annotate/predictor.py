"""What annotates blocks of frames: the values that go in and come out, and what a predictor can do.

`local_function` has predictors for functions that run in this process, `remote_function` for those behind an address.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from common.errors import FunctionError
from tools.annotate.annotation_encoder import FrameAnnotations
from tools.annotate.errors import CannotRun, FrameError


@dataclass(frozen=True, slots=True)
class FrameInput:
    """A frame to annotate."""

    frame: int
    """Its number in the task or folder."""
    data: bytes
    """The image file."""
    boxes: Sequence[Mapping[str, Any]] = ()
    """For reid: the annotations of its boxes."""


@dataclass(frozen=True, slots=True)
class FrameResult:
    """The annotations of a frame, or the reason why there are none."""

    frame: int
    annotations: FrameAnnotations | None = None
    error: str = ""
    size_wh: tuple[int, int] = (0, 0)
    """Of the image in pixels, (0, 0) when it could not be opened."""
    partners: Sequence[int] | None = None
    """For reid: for each box the index of the same object on the next frame of the block, or -1."""


class Predictor(Protocol):
    """A function that is ready to annotate."""

    def predict(self, block: Sequence[FrameInput]) -> list[FrameResult]:
        """Annotates a block of frames; what is wrong with one of them is the `error` of its result.

        Args:
            block: the frames, in order.

        Returns:
            A result for each frame in order; for reid, for each frame but the last.
        """
        ...


def annotate_each(annotate: Callable[[FrameInput], FrameResult], block: Sequence[FrameInput]) -> list[FrameResult]:
    """Annotates frames one by one; an error becomes the frame's.

    Args:
        annotate: annotates one frame.
        block: the frames.

    Raises:
        CannotRun: when no frame can be annotated any more.
    """
    return [_result(annotate, frame) for frame in block]


def match_each(
    match: Callable[[FrameInput, FrameInput], FrameResult], block: Sequence[FrameInput]
) -> list[FrameResult]:
    """Matches the boxes of each frame with those of the next; an error becomes the first frame's.

    Args:
        match: matches the boxes of two frames.
        block: the frames.

    Raises:
        CannotRun: when no frames can be matched any more.
    """
    return [_result(match, first, second) for first, second in itertools.pairwise(block)]


def _result(predict: Callable[..., FrameResult], *frames: FrameInput) -> FrameResult:
    """The result of the first frame, which an error becomes a part of, so that other frames go on."""
    try:
        return predict(*frames)
    except CannotRun:
        raise
    except (FunctionError, FrameError) as error:
        return FrameResult(frames[0].frame, error=str(error))
    except Exception as error:  # a model may raise anything
        return FrameResult(frames[0].frame, error=f"{type(error).__name__}: {str(error)[:300]}")
