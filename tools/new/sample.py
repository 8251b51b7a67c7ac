"""The sample of a new function, and the test that compares its replies with the expected ones."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.errors import StartupError
from common.vision.image import decode_image
from tools.new.document import TEMPLATES

PHOTOGRAPH = Path(__file__).parent.parent / "demo" / "cat_mug.jpg"
_MUG, _LAMP = [58, 180, 308, 355], [145, 0, 318, 85]  # in that photograph: (left, top, right, bottom)


def write_sample(folder: Path, kind: str, picture: Path, environment: Mapping[str, str]) -> None:
    """Writes the sample requests of a function and the test beside it; `tools.sample.record` adds the replies.

    Args:
        folder: The function's directory.
        kind: The function's kind. Any but a detector is asked about the objects in PHOTOGRAPH.
        picture: The image file of the requests.
        environment: Options that the requests are to be answered with, beside those of function.yaml.

    Raises:
        StartupError: The picture can't be read.
    """
    try:
        content = picture.read_bytes()
    except OSError as error:
        raise StartupError(f"IMAGE: {picture}: {error.strerror}") from error
    decode_image(content, "IMAGE")
    (folder / "sample").mkdir()
    shutil.copyfile(picture, folder / "sample" / picture.name)
    sample = {"environment": dict(environment), "requests": _requests(kind, picture.name)}
    (folder / "sample" / "requests.json").write_text(json.dumps(sample, indent=2) + "\n", encoding="utf-8")
    shutil.copyfile(TEMPLATES / "test_function.py", folder / "test_function.py")


def _requests(kind: str, image: str) -> list[dict[str, Any]]:
    if kind == "interactor":
        click: dict[str, Any] = {"image": image, "pos_points": [[215, 225]], "neg_points": []}
        return [click, {**click, "pos_points": [], "obj_bbox": [_MUG[:2], _MUG[2:]]}]
    if kind == "tracker":
        first = {"image": image, "shapes": [{"type": "rectangle", "points": _MUG}], "states": []}
        return [first, {"image": image, "shapes": [None], "states": "previous"}]
    if kind == "reid":
        before, after = [_shape(box, 0) for box in (_MUG, _LAMP)], [_shape(box, 1) for box in (_LAMP, _MUG)]
        return [{"image0": image, "image1": image, "boxes0": before, "boxes1": after, "max_distance": 500}]
    return [{"image": image}]


def _shape(box_xyxy: list[int], frame: int) -> dict[str, Any]:
    return {"type": "rectangle", "frame": frame, "label_id": 1, "points": box_xyxy, "attributes": [], "group": 0}
