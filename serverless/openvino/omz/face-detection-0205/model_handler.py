"""Faces by face-detection-0205, with age, gender and emotion by two more networks of OpenVINO's Open Model Zoo."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from common.config import FunctionConfig
from common.cvat.labels import Attribute
from common.errors import StartupError
from common.networks.engine import Array
from common.networks.exported.handler import ExportedDetector
from common.networks.normalisation import Normalisation
from common.networks.patches import PatchNetwork
from common.networks.runtime import threads_per_worker
from common.networks.weights import locate
from common.protocol import Image
from common.shapes import Rectangle, Shape

DETECTOR = "face-detection-0205.xml"
GENDERS = ("female", "male")
EMOTIONS = ("neutral", "happy", "sad", "surprise", "anger")
_HIGHEST_AGE = 100  # the network gives parts of it
_LOG = logging.getLogger("common.faces")


@dataclass(frozen=True)
class Property:
    """What a network says about a face."""

    network: str
    """The file of the network."""
    values: int
    """How many numbers its output has."""
    read: Callable[[NDArray[np.floating]], int | str]
    """Makes the attribute's value of them."""
    names: tuple[str, ...] = ()
    """The values that the attribute can have; none for a number."""


def _likeliest(names: tuple[str, ...]) -> Callable[[NDArray[np.floating]], str]:
    return lambda scores: names[int(scores.argmax())]


_AGE_GENDER, _EMOTION = "age-gender-recognition-retail-0013.xml", "emotions-recognition-retail-0003.xml"
PROPERTIES: Mapping[str, Property] = {
    "age": Property(_AGE_GENDER, 1, lambda parts: round(float(np.clip(parts[0], 0, 1)) * _HIGHEST_AGE)),
    "gender": Property(_AGE_GENDER, 2, _likeliest(GENDERS), GENDERS),
    "emotion": Property(_EMOTION, 5, _likeliest(EMOTIONS), EMOTIONS),
}


class ModelHandler:
    """A rectangle for each face, with those of the attributes that its label has.

    Args:
        config: The function's configuration.
        model_path: A folder with the three networks, .xml and .bin; those for attributes that are left out may be missing.
        variant: One of the function's weights.yaml.
        attributes: Which are estimated: age, gender, emotion, with commas between them, or none.
        crop_scale: Side of the square around a face that the networks for the attributes see, as a multiple of the face's
            longer side.
        precision: f32, bf16 or f16, of OpenVINO's arithmetic.
        max_det: The most faces of an image.

    Raises:
        StartupError: An option is wrong, a network is missing or another one, or an attribute in function.yaml lacks values.
    """

    def __init__(
        self,
        config: FunctionConfig,
        *,
        model_path: str | None = None,
        variant: str | None = None,
        attributes: str = "age, gender, emotion",
        crop_scale: float = 1.2,
        precision: str = "f32",
        max_det: int = 300,
    ):
        StartupError.check(0.5 <= crop_scale <= 3, "CROP_SCALE", "a number from 0.5 to 3", crop_scale)
        folder = locate(config, variant, model_path)
        if not folder.is_dir():
            raise StartupError(
                f"MODEL_PATH: expected a folder with {DETECTOR} and the networks for attributes, got {folder}"
            )
        self._detector = ExportedDetector(
            config, model_path=str(folder / DETECTOR), precision=precision, max_det=max_det
        )
        self._crop_scale = crop_scale
        wanted = _wanted(attributes)
        self._properties = {
            label.name: {
                attribute.name: PROPERTIES[attribute.name]
                for attribute in label.attributes
                if attribute.name in wanted and _checked(attribute)
            }
            for label in config.labels.values()
        }
        needed = {each.network: each for properties in self._properties.values() for each in properties.values()}
        self._networks = {name: _open(folder / name, precision, config.workers) for name in sorted(needed)}
        for properties in self._properties.values():
            for each in properties.values():
                _find(self._networks[each.network].example, each, folder)
        _LOG.info(
            "Faces, with %s",
            ", ".join(sorted({name for each in self._properties.values() for name in each})) or "no attributes",
        )

    def infer(self, image: Image, threshold: float) -> list[Shape]:
        """The faces of an image.

        Args:
            image: (H, W, 3) uint8 RGB.
            threshold: The lowest score, 0 to 1.
        """
        return self._all_described(image, self._detector.infer(image, threshold))

    def infer_batch(self, images: Sequence[Image], threshold: float) -> list[list[Shape]]:
        """As `infer` for several images; the detector sees them together where its file allows it.

        Args:
            images: (H, W, 3) uint8 RGB each.
            threshold: The lowest score, 0 to 1.
        """
        found = self._detector.infer_batch(images, threshold)
        return [self._all_described(image, shapes) for image, shapes in zip(images, found, strict=True)]

    def _all_described(self, image: Image, shapes: Sequence[Shape]) -> list[Shape]:
        return [self._described(image, shape) if isinstance(shape, Rectangle) else shape for shape in shapes]

    def _described(self, image: Image, face: Rectangle) -> Rectangle:
        properties = self._properties[face.label]
        answers = {
            name: network.run([_crop(image, face.box_xyxy, self._crop_scale, network.size_hw)])
            for name, network in self._networks.items()
            if any(each.network == name for each in properties.values())
        }
        values = {name: each.read(_find(answers[each.network], each)) for name, each in properties.items()}
        return replace(face, attributes=values)


def _wanted(text: str) -> set[str]:
    names = {name.strip().lower() for name in text.split(",") if name.strip()} - {"none"}
    known = names <= set(PROPERTIES)
    StartupError.check(known, "ATTRIBUTES", f"names among {', '.join(PROPERTIES)}, or none", text)
    return names


def _checked(attribute: Attribute) -> bool:
    """True; raises StartupError where CVAT would refuse a value of the network."""
    names = PROPERTIES[attribute.name].names
    if names and not set(names) <= set(attribute.values):
        raise StartupError(
            f"function.yaml: the values of the attribute {attribute.name} must include {', '.join(names)}; got "
            f"{', '.join(attribute.values)}"
        )
    return True


def _open(path: Path, precision: str, workers: int) -> PatchNetwork:
    if not path.is_file():
        raise StartupError(
            f"{path}: no such file: copy it and its .bin there, or leave out its attributes (ATTRIBUTES)"
        )
    raw = Normalisation(bgr=True, mean=(0, 0, 0), deviation=(1, 1, 1))
    return PatchNetwork(path, threads=threads_per_worker(workers), precision=precision, normalisation=raw)


def _find(outputs: list[Array], wanted: Property, folder: Path | None = None) -> NDArray[np.floating]:
    """The numbers of one face in the only output that has so many for each."""
    found = [output for output in outputs if output[0].size == wanted.values]
    if len(found) != 1:
        sizes = ", ".join(str(output.shape) for output in outputs)
        raise StartupError(
            f"{folder}/{wanted.network}: expected an output with {wanted.values} numbers for a face, got {sizes}"
        )
    return np.asarray(found[0][0]).reshape(-1)


def _crop(image: Image, box_xyxy: tuple[float, ...], scale: float, size_hw: tuple[int, int]) -> Image:
    """A square around a face as far as it lies in the image, stretched to a network's input, as the zoo's own demo does it."""
    left, top, right, bottom = box_xyxy
    half = max(right - left, bottom - top) * scale / 2
    x, y, (height, width) = (left + right) / 2, (top + bottom) / 2, image.shape[:2]
    first_x, first_y = max(int(x - half), 0), max(int(y - half), 0)
    last_x, last_y = min(round(x + half), width), min(round(y + half), height)
    part = image[first_y : max(last_y, first_y + 1), first_x : max(last_x, first_x + 1)]
    return np.asarray(cv2.resize(part, size_hw[::-1]))
