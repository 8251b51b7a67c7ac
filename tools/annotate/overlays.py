"""Draws annotations on their images, as files in a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from common.vision.image import decode_image
from tools.annotate.annotation_encoder import read_shapes
from tools.annotate.label_mapping import TaskLabel
from tools.draw import overlay


def write_overlay(
    folder: Path, name: str, data: bytes, annotations: Sequence[Mapping[str, Any]], labels: Sequence[TaskLabel]
) -> Path:
    """Writes an image with its annotations on it.

    Args:
        folder: for the picture.
        name: the picture's path in the folder; .jpg is added.
        data: the image file.
        annotations: of the image, in CVAT's JSON.
        labels: of the annotations.

    Returns:
        The path of the picture.
    """
    shapes = read_shapes(annotations, labels)
    drawn = overlay(decode_image(data), shapes, [label.label for label in labels])
    path = folder / (name if name.lower().endswith(".jpg") else f"{name}.jpg")
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(drawn).save(path, quality=90)
    return path
