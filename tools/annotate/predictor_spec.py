"""How to make a predictor of a function, in this process or in a worker."""

from __future__ import annotations

from dataclasses import dataclass, replace

from common.serving import kinds
from common.serving.kinds.detector import Detector
from common.serving.kinds.reid import Reid
from tools.annotate.annotation_encoder import AnnotationEncoder
from tools.annotate.function import Function
from tools.annotate.local_function import LocalDetector, LocalReid
from tools.annotate.predictor import Predictor


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
