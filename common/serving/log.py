"""Sends what the modules of `common` log at start to Nuclio's logger."""

from __future__ import annotations

import logging
from typing import Any


class _Forward(logging.Handler):
    def __init__(self, logger: Any):
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        level = "error" if record.levelno >= logging.ERROR else "warn" if record.levelno >= logging.WARNING else "info"
        getattr(self._logger, level)(record.getMessage())


def forward(logger: Any) -> None:
    """Sends what `common` logs, from level info on, to a logger of Nuclio's SDK.

    Args:
        logger: Replaces one given before.
    """
    ours = logging.getLogger("common")
    ours.setLevel(logging.INFO)
    ours.handlers = [_Forward(logger)]
