"""The functions of the SAM family on weights of the tests, through their real main.py."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from common.cvat.reply import read_interactor_reply
from common.vision.mask import mask_to_bitmap
from tools.collection import COLLECTION
from tools.wrapper import LoadedFunction, Reply

FACEBOOK = COLLECTION / "pytorch/facebookresearch"


def loaded(
    name: str, weights: Path, monkeypatch: pytest.MonkeyPatch, cache: Path | None = None, **variables: object
) -> LoadedFunction:
    """One worker of a function. cache: its folder of embeddings; variables: of its environment, besides."""
    settings = {"MODEL_PATH": weights, "DEVICE": "cpu", "THREADS": 1, "SMALLEST_PART": 0, **variables}
    if cache is not None:
        settings["EMBEDDING_CACHE_DIR"] = cache
    for variable, value in settings.items():
        monkeypatch.setenv(variable, str(value))
    return LoadedFunction(FACEBOOK / name, unique=True)


def encoded(image: NDArray[np.uint8], form: str = "PNG") -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, form, **({"compress_level": 1} if form == "PNG" else {"quality": 90}))
    return base64.b64encode(buffer.getvalue()).decode()


def noise(seed: int, width: int = 200, height: int = 150) -> NDArray[np.uint8]:
    """Coarse random colours."""
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), np.uint8)
    return coarse[np.arange(height) * 9 // height][:, np.arange(width) * 12 // width]


def click(image: NDArray[np.uint8] | str, *positive: tuple[float, float], **more: Any) -> dict[str, Any]:
    """The body that CVAT sends for clicks on an object; more: neg_points, obj_bbox."""
    text = image if isinstance(image, str) else encoded(image)
    return {"image": text, "pos_points": [list(p) for p in positive], "neg_points": [], "obj_bbox": None, **more}


def bitmap(reply: Reply | dict[str, Any], size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """The full mask of an interactor's reply."""
    return mask_to_bitmap(read_interactor_reply(reply if isinstance(reply, dict) else reply.body), size_hw)


def stages(reply: Reply) -> dict[str, float]:
    """Name -> milliseconds of a reply's Server-Timing header."""
    entries = (entry.split(";dur=") for entry in reply.headers.get("Server-Timing", "").split(", ") if entry)
    return {name: float(milliseconds) for name, milliseconds in entries}


def error(reply: Reply) -> str:
    text: str = json.loads(reply.body)["error"]
    return text


def iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return np.count_nonzero(a & b) / max(np.count_nonzero(a | b), 1)
