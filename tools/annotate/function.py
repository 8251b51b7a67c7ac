"""The function that annotates, as the command line names it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from common.config import FunctionConfig
from common.cvat.labels import Labels
from tools.annotate.annotation_encoder import AnnotationEncoder
from tools.annotate.local_function import LocalDetector, LocalReid
from tools.annotate.predictor import PredictorSpec


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

    def predictor(self, encoder: AnnotationEncoder | None, workers: int) -> PredictorSpec:
        """How to make a predictor of it.

        Args:
            encoder: what a detector's shapes become; None for reid.
            workers: how many share the machine's cores.
        """
        if self.urls or self.config is None:
            # Imported here: worker processes, which load a model, don't need an HTTP client.
            from tools.annotate.remote_function import RemoteDetector, RemoteReid

            if encoder is None:
                return RemoteReid(self.urls, self.threshold, self.max_distance, self.timeout_s)
            return RemoteDetector(self.urls, self.threshold, encoder, self.labels, self.timeout_s)
        directory = self.config.directory
        if encoder is None:
            return LocalReid(directory, self.options, self.threshold, self.max_distance, workers)
        return LocalDetector(directory, self.options, self.threshold, encoder, workers)

    def settings(self) -> dict[str, Any]:
        """What must be the same when a run is resumed."""
        return {
            "function": self.config.name if self.config else "at an address",
            "options": dict(self.options),
            "threshold": self.threshold,
            "max_distance": self.max_distance,
        }
