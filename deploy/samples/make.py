"""Writes the requests with which a deployment tries functions: `python -m deploy.samples.make`.

They are the simplest valid requests of tools/check: one for each kind, and for trackers one for each type of shape.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common.config import FunctionConfig, KindName
from tools.check import samples

FOLDER = Path(__file__).resolve().parent
_TRACKED = ("rectangle", "polygon", "mask", "points")


def requests() -> Iterator[tuple[str, dict[str, Any]]]:
    """Name of a file -> the request in it."""
    kinds: tuple[KindName, ...] = ("detector", "interactor", "reid")
    for kind in kinds:
        yield f"{kind}.json", samples.good_requests(_config(kind))[0].body
    for name in _TRACKED:
        yield f"tracker-{name}.json", _first_call(_config("tracker", supported_shape_types=name), name)
    yield "tracker-legacy.json", _first_call(_config("tracker"), "rectangle")


def _first_call(config: FunctionConfig, name: str) -> dict[str, Any]:
    return {"image": samples.frame(0), "shapes": [samples.tracked_shapes(config)[name]], "states": []}


def _config(kind: KindName, **annotations: str) -> FunctionConfig:
    return FunctionConfig(directory=FOLDER, name="sample", kind=kind, annotations={"type": kind, **annotations})


if __name__ == "__main__":
    for file_name, request in requests():
        (FOLDER / file_name).write_text(json.dumps(request) + "\n")
        print(f"{file_name}: {(FOLDER / file_name).stat().st_size} bytes")
