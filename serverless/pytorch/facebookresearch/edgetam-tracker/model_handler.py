"""EdgeTAM on frames, one after the other."""

from __future__ import annotations

from common.networks.sam.model import EDGETAM_VIDEO
from common.networks.sam.tracker import SamTracker


class ModelHandler(SamTracker):
    """EdgeTAM as a tracker."""

    family = EDGETAM_VIDEO
