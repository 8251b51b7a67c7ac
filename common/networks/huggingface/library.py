"""The library `transformers`, told never to use the network."""

from __future__ import annotations

import os
from typing import Any


def offline_transformers() -> Any:
    """The library transformers, told never to ask the network for anything."""
    os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
    import transformers

    transformers.utils.logging.disable_progress_bar()
    return transformers
