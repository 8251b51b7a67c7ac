"""The function that annotates, as the command line names it, and how to make a predictor of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from common.config import FunctionConfig
from common.cvat.labels import Labels
from common.serving import kinds
from common.serving.kinds.detector import Detector
from common.serving.kinds.reid import Reid
from tools.annotate.annotation_encoder import AnnotationEncoder
from tools.annotate.local_function import LocalDetector, LocalReid
from tools.annotate.predictor import Predictor


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


@dataclass(frozen=True)
class PredictorSpec:
    """How to make a predictor of a function: plain values, which can be sent to a worker process."""

    function: Function
    encoder: AnnotationEncoder | None = None
    """What a detector's shapes become; None for reid."""
    workers: int = 1
    """How many such predictors share the machine's cores."""

    @property
    def overlap(self) -> int:
        """How many frames at the end of a block are also the first ones of the next: 1 for pairs, else 0."""
        return 1 if self.encoder is None else 0

    def open(self, library: str = "") -> Predictor:
        """Makes the predictor; a model is loaded here.

        Args:
            library: what the model runs in, such as "openvino"; "" leaves that to the function. At an address it is
                the server's choice.
        """
        function = self.function
        if function.urls or function.config is None:
            # Imported here: worker processes, which load a model, don't need an HTTP client.
            from tools.annotate.remote_function import RemoteDetector, RemoteReid

            return RemoteReid(function) if self.encoder is None else RemoteDetector(function, self.encoder)
        config = replace(function.config, workers=max(self.workers, 1))
        options = {**function.options, "engine": library} if library else function.options
        if self.encoder is None:
            return LocalReid(kinds.load_as(Reid, config, options), function.threshold, function.max_distance)
        return LocalDetector(kinds.load_as(Detector, config, options), function.threshold, self.encoder)
