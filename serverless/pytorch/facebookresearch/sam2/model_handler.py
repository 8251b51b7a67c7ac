"""SAM 2.1 on clicks and boxes."""

from __future__ import annotations

from common.networks.sam.interactor import SamInteractor
from common.networks.sam.model import SAM2


class ModelHandler(SamInteractor):
    """SAM 2.1 as an interactor."""

    family = SAM2
