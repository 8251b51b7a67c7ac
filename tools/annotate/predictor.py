"""What annotates blocks of frames: the values that go in and come out, and what a predictor can do.

`local_function` has predictors for functions that run in this process, `remote_function` for those behind an address.
"""

from __future__ import annotations

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
    """The annotations of a frame, or the reason why it could not be annotated."""

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


def result_or_error(predict: Callable[..., FrameResult], *frames: FrameInput) -> FrameResult:
    """The result of a frame; an error becomes a part of it, so that other frames go on.

    Args:
        predict: annotates the frame, or matches its boxes with those of the next.
        *frames: the frame; for reid, with the next.

    Raises:
        CannotRun: when no frame can be annotated any more.
    """
    try:
        return predict(*frames)
    except CannotRun:
        raise
    except (FunctionError, FrameError) as error:
        return FrameResult(frames[0].frame, error=str(error))
    except Exception as error:  # a model may raise anything
        return FrameResult(frames[0].frame, error=f"{type(error).__name__}: {str(error)[:300]}")
