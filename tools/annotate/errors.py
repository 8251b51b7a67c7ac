"""The error that ends a run, and the error of one frame."""

from __future__ import annotations


class CannotRun(Exception):
    """The run can't start or continue, such as for a wrong argument; the message says what to do."""


class FrameError(Exception):
    """One frame could not be annotated; the others are."""
