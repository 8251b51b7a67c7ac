"""EdgeTAM on clicks and boxes."""

from __future__ import annotations

from common.sam.interactor import SamInteractor
from common.sam.model import EDGETAM


class ModelHandler(SamInteractor):
    family = EDGETAM
