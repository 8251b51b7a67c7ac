"""The function that annotates, as the command line names it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from common.config import FunctionConfig
from common.cvat.labels import Labels


@dataclass(frozen=True)
class Function:
    """A function in a directory here, behind addresses, or both: then the directory only describes it."""

    kind: str
    """detector or reid."""
    config: FunctionConfig | None = None
    """None when only addresses are known."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of a function that runs here, by name."""
    urls: tuple[str, ...] = ()
    threshold: float | None = None
    """None for the function's own."""
    max_distance: float | None = None
    """For reid, in pixels; None for the function's own."""
    timeout_s: float = 120.0
    """For one frame."""

    @property
    def name(self) -> str:
        """Its name in messages."""
        return self.config.name if self.config else " ".join(self.urls)

    @property
    def labels(self) -> Labels | None:
        """None when they are not known."""
        return self.config.labels if self.config else None

    def settings(self) -> dict[str, Any]:
        """What must be the same when a run is resumed."""
        return {
            "function": self.config.name if self.config else "at an address",
            "options": dict(self.options),
            "threshold": self.threshold,
            "max_distance": self.max_distance,
        }
