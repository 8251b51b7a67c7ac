"""Draws annotations on their images, as files in a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
from PIL import Image

from common.cvat.annotation import from_annotation
from common.vision.image import decode_image
from tools.annotate.annotation_encoder import FrameAnnotations
from tools.annotate.label_mapping import TaskLabel
from tools.draw import overlay


class OverlayWriter:
    """Draws annotations in CVAT's JSON on their images."""

    def __init__(self, labels: Sequence[TaskLabel], folder: Path):
        """Writes nothing.

        Args:
            labels: of the annotations.
            folder: for the pictures.
        """
        self._labels = {label.label.id: label for label in labels}
        self._folder = folder

    def __call__(self, name: str, data: bytes, annotations: Sequence[Mapping[str, Any]]) -> Path:
        """Writes an image with its annotations on it.

        Args:
            name: the picture's path in the folder; .jpg is added.
            data: the image file.
            annotations: of the image.

        Returns:
            The path of the picture.
        """
        shapes = []
        for annotation in annotations:
            label = self._labels[annotation["label_id"]]
            shapes.append(from_annotation(annotation, label.label.name, label.ids))
        drawn = overlay(decode_image(data), shapes, [label.label for label in self._labels.values()])
        path = self._folder / (name if name.lower().endswith(".jpg") else f"{name}.jpg")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(drawn).save(path, quality=90)
        return path


def parsed(annotations: FrameAnnotations) -> list[dict[str, Any]]:
    """The annotations of a frame as plain objects.

    Args:
        annotations: as `AnnotationEncoder` returns them.
    """
    return [orjson.loads(text) for text in (*annotations.tags, *annotations.shapes)]
