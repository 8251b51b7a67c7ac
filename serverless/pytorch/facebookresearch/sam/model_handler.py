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
    """SAM 1, whose embeddings of ViT-H CVAT's UI can decode."""

    family = SAM

    def check(self, config: FunctionConfig, model_config: Any) -> None:
        """Refuses a model of another size under the name for which CVAT's UI decodes."""
        width = model_config.vision_config.hidden_size
        if config.name == BLOB_FUNCTION and width != _VIT_H_WIDTH:
            raise StartupError(
                f"under the name {BLOB_FUNCTION} CVAT's UI decodes the embeddings itself, with the decoder of ViT-H: "
                f"set VARIANT=sam-vit-huge (this model's layers are {width} wide, not {_VIT_H_WIDTH}), or use another name"
            )

    def blob(self, embedding: SamEmbedding) -> NDArray[np.float32]:
        """The embedding for the decoder in CVAT's UI.

        Args:
            embedding: What `embed` made of the image.

        Returns:
            (1, 256, 64, 64) float32.
        """
        return embedding.maps[0].astype(np.float32)
