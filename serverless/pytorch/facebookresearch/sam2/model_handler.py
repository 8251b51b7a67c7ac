"""SAM 2.1 on clicks and boxes."""

from __future__ import annotations

from common.sam.interactor import SamInteractor
from common.sam.model import SAM2


class ModelHandler(SamInteractor):
    family = SAM2
