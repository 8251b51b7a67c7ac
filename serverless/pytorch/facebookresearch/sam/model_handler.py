"""SAM 1 on clicks and boxes; under one name, the embedding that CVAT's UI decodes itself."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.config import FunctionConfig
from common.errors import StartupError
from common.networks.sam.interactor import SamEmbedding, SamInteractor
from common.networks.sam.model import SAM
from common.serving.kinds.interactor import BLOB_FUNCTION

_VIT_H_WIDTH = 1280  # of its layers; no other size of SAM 1 has it


class ModelHandler(SamInteractor):
    family = SAM

    def check(self, config: FunctionConfig, model_config: Any) -> None:
        width = model_config.vision_config.hidden_size
        if config.name == BLOB_FUNCTION and width != _VIT_H_WIDTH:
            raise StartupError(
                f"under the name {BLOB_FUNCTION} CVAT's UI decodes the embeddings itself, with the decoder of ViT-H: "
                f"set VARIANT=sam-vit-huge (this model's layers are {width} wide, not {_VIT_H_WIDTH}), or use another name"
            )

    def blob(self, embedding: SamEmbedding) -> NDArray[np.float32]:
        """The embedding (1, 256, 64, 64) for the decoder in CVAT's UI."""
        return embedding.maps[0].astype(np.float32)
