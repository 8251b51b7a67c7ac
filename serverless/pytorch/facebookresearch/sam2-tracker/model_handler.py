"""SAM 2.1 on frames, one after the other."""

from __future__ import annotations

from common.networks.sam.model import SAM2_VIDEO
from common.networks.sam.tracker import SamTracker


class ModelHandler(SamTracker):
    """SAM 2.1 as a tracker."""

    family = SAM2_VIDEO
