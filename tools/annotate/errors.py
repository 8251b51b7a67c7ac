"""What ends a run, and what a single frame fails with."""

from __future__ import annotations


class CannotRun(Exception):
    """The run can't begin or go on: wrong arguments, a server that is not there; the message says what to do."""


class FrameError(Exception):
    """One frame could not be annotated; the run goes on."""
