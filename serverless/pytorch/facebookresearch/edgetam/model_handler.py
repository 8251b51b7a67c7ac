"""EdgeTAM on clicks and boxes."""

from __future__ import annotations

from common.networks.sam.interactor import SamInteractor
from common.networks.sam.model import EDGETAM


class ModelHandler(SamInteractor):
    """EdgeTAM as an interactor."""

    family = EDGETAM
