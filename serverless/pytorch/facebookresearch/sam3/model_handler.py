"""SAM 3 on clicks and boxes."""

from __future__ import annotations

from common.networks.sam.interactor import SamInteractor
from common.networks.sam.model import SAM3


class ModelHandler(SamInteractor):
    """SAM 3 as an interactor."""

    family = SAM3
