"""What the files of the Hugging Face hub beside an exported file say, which the file itself doesn't.

config.json names the kind of network and its classes, preprocessor_config.json says how images are prepared. On the hub they lie
beside the file, or one folder above a file in the folder `onnx`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image as PillowImage

from common.errors import StartupError
from common.networks.formats.preparation import Color, Placement, Preparation
from common.networks.huggingface.folder import CONFIG, PREPROCESSING, class_names, read_object
from common.networks.normalisation import IMAGENET_DEVIATION, IMAGENET_MEAN

SETTINGS = (CONFIG, *PREPROCESSING)
"""The names of the files."""
_LONGEST_EDGE = 1333  # of processors that are saved with their shortest edge alone


@dataclass(frozen=True, slots=True)
class HubSettings:
    """The settings of a model; None where no file says so."""

    model_type: str | None = None
    """The kind of network, such as rt_detr."""
    names: tuple[str, ...] | None = None
    """The names of the classes by index."""
    processor: Path | None = None
    """The file about how an image becomes the input."""

    @classmethod
    def beside(cls, model: Path) -> HubSettings:
        """Finds the files that belong to a model file, and reads config.json.

        Args:
            model: The model file.

        Raises:
            StartupError: config.json can't be understood.
        """
        files = {path.name: path for path in settings_files(model)}
        config = read_object(files[CONFIG]) if CONFIG in files else {}
        processor = next((files[name] for name in PREPROCESSING if name in files), None)
        if not isinstance(config.get("model_type"), str):
            return cls(processor=processor)  # not a config.json of the hub, or none
        return cls(config["model_type"], class_names(config, f"{files[CONFIG]}"), processor)

    def preparation(self) -> Preparation | None:
        """How an image becomes the input; None when no file says so.

        Raises:
            StartupError: The file can't be understood, or asks for what can't be done here.
        """
        return None if self.processor is None else self._read_processor()[0]

    @property
    def size_hw(self) -> tuple[int, int] | None:
        """Height and width of an input of free size, pixels; None when no file says so."""
        try:
            return None if self.processor is None else self._read_processor()[1]
        except StartupError:
            return None  # only a layout that needs the file asks for it

    def _read_processor(self) -> tuple[Preparation, tuple[int, int]]:
        """How an image is prepared, and the size of an input of free size."""
        said, where = read_object(self.processor or Path()), f"{self.processor}"
        said = said.get("image_processor", said)
        StartupError.check(isinstance(said, dict), f"{where}: image_processor", "an object", said)
        kind = str(said.get("image_processor_type") or said.get("feature_extractor_type") or "")
        resized = said.get("do_resize", True) is True
        StartupError.check(resized, f"{where}: do_resize", "true", said.get("do_resize"))
        size_hw, edges = _read_size(said, where)
        mean, deviation = _read_scale(said, kind, where)
        try:
            resampling = PillowImage.Resampling(int(said.get("resample", PillowImage.Resampling.BILINEAR)))
        except (TypeError, ValueError) as error:
            raise StartupError(f"{where}: resample: expected a number from 0 to 5, got {said['resample']}") from error
        # The processor of RF-DETR resizes without averaging.
        sharp = kind.startswith("RfDetr") and resampling is PillowImage.Resampling.BILINEAR
        preparation = Preparation(
            placement=Placement.STRETCHED if edges is None else Placement.SCALED,
            mean=mean,
            deviation=deviation,
            resampling=None if sharp else resampling,
            edges=edges,
        )
        return preparation, size_hw


def settings_files(model: Path) -> list[Path]:
    """The files of the hub that belong to a model file and are there.

    Args:
        model: The model file.
    """
    folders = [model.parent, model.parent.parent] if model.parent.name == "onnx" else [model.parent]
    found = {}
    for folder in reversed(folders):
        found.update({name: folder / name for name in SETTINGS if (folder / name).is_file()})
    return list(found.values())


def _read_size(said: Mapping[str, Any], where: str) -> tuple[tuple[int, int], tuple[int, int] | None]:
    """(height, width), (shortest, longest edge) or None."""
    size = said.get("size")
    if isinstance(size, int):  # as the first processors were saved
        size = {"shortest_edge": size, "longest_edge": said.get("max_size")}
    numbers = {key: value for key, value in size.items() if value} if isinstance(size, dict) else {}
    whole = all(isinstance(value, int) and 0 < value < 10_000 for value in numbers.values())
    if whole and set(numbers) == {"height", "width"}:
        return (numbers["height"], numbers["width"]), None
    if whole and set(numbers) in ({"shortest_edge"}, {"shortest_edge", "longest_edge"}):
        shortest, longest = numbers["shortest_edge"], numbers.get("longest_edge", _LONGEST_EDGE)
        return (shortest, shortest), (shortest, longest)
    raise StartupError(f"{where}: size: expected height and width, or shortest_edge and longest_edge, got {size}")


def _read_scale(said: Mapping[str, Any], kind: str, where: str) -> tuple[Color | None, Color]:
    """(mean or None, deviation) on a scale of 0 to 255."""
    factor = said.get("rescale_factor", 1 / 255)
    by_255 = isinstance(factor, (int, float)) and abs(factor * 255 - 1) < 1e-3
    rescaled = said.get("do_rescale", True) is True and by_255
    StartupError.check(rescaled, f"{where}: do_rescale, rescale_factor", "true and 1/255", factor)
    # Where nothing is said the processor's own default holds.
    if not said.get("do_normalize", not kind.startswith("RTDetr")):
        return None, (255, 255, 255)
    mean = _color(said.get("image_mean"), IMAGENET_MEAN, f"{where}: image_mean")
    deviation = _color(said.get("image_std"), IMAGENET_DEVIATION, f"{where}: image_std")
    StartupError.check(min(deviation) > 0, f"{where}: image_std", "numbers above 0", said.get("image_std"))
    return mean, deviation


def _color(values: Any, usual: Color, where: str) -> Color:
    if values is None:
        return usual
    numbers = isinstance(values, list) and len(values) == 3 and all(isinstance(value, (int, float)) for value in values)
    StartupError.check(numbers, where, "three numbers", values)
    red, green, blue = (float(value) * 255 for value in values)
    return red, green, blue
