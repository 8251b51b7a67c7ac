"""Models of the SAM family from folders as published: loaded whole or not at all, offline, on a named device."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pybase64
from numpy.typing import NDArray

from common.config import FunctionConfig
from common.errors import StartupError
from common.networks.engine import PRECISIONS, Engine, open_engine, torch_device
from common.networks.huggingface.library import offline_transformers
from common.networks.huggingface.loading import load_whole
from common.networks.runtime import keep_freed_memory, threads_per_worker
from common.networks.weights import locate

EXPORTED = "encoder.onnx"  # the image encoder beside the weights it was exported from
# Entries of the exported file's metadata: the digest of those weights, and what torch makes of a probe, in base64.
WEIGHTS_KEY, PROBE_KEY = "weights", "probe"
PROBE_VALUES = 256  # of each feature map
ENGINES = ("auto", "torch", "onnxruntime", "openvino")
_TOLERANCE = {"f32": 1e-3, "f16": 5e-2, "bf16": 2e-1}
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Family:
    """A generation of SAM: the names of its classes in transformers, and where it differs from the others."""

    model: str
    """The class of the model."""
    image_processor: str
    """The class that prepares images."""
    padded: bool = False
    """The image keeps its proportions and is padded at the right and below; otherwise it is stretched to a square."""
    hint_limit: float | None = 32.0
    """Logits are clipped to this distance from 0 when they come back as a hint, as in the authors' own code."""
    published_type: str = ""
    """The `model_type` of published folders where that is the video model, of which this model is a part."""


SAM = Family("SamModel", "SamImageProcessor", padded=True, hint_limit=None)
SAM2 = Family("Sam2Model", "Sam2ImageProcessor", published_type="sam2_video")
EDGETAM = Family("EdgeTamModel", "Sam2ImageProcessor", published_type="edgetam_video")
SAM3 = Family("Sam3TrackerModel", "Sam3ImageProcessor", published_type="sam3_video")
SAM2_VIDEO = Family("Sam2VideoModel", "Sam2ImageProcessor")
EDGETAM_VIDEO = Family("EdgeTamVideoModel", "Sam2ImageProcessor")


class Encoder(Protocol):
    """What turns a preprocessed image into feature maps."""

    description: str
    """Which engine on which device, for the log."""
    name: str
    """The engine's name, part of the key of what it makes."""

    def __call__(self, pixels: Any) -> list[Any]:
        """Encodes an image.

        Args:
            pixels: A tensor (1, 3, H, W), preprocessed.

        Returns:
            Tensors (1, C, h, w) float32, from the finest to the coarsest.
        """
        ...


class Loaded:
    """A model with its preprocessing and its encoder, ready to run. Its options are those of `SamInteractor`."""

    def __init__(
        self,
        config: FunctionConfig,
        family: Family,
        *,
        variant: str | None,
        model_path: str | None,
        device: str,
        engine: str,
        precision: str,
    ):
        import torch

        StartupError.check(engine in ENGINES, "ENGINE", f"one of {', '.join(ENGINES)}", engine)
        precisions = f"auto or one of {', '.join(PRECISIONS)}"
        StartupError.check(precision in ("auto", *PRECISIONS), "PRECISION", precisions, precision)
        threads = threads_per_worker(config.workers)
        torch.set_num_threads(threads)
        self.device = torch_device(device)
        """Of torch; where the model is."""
        if self.device.type == "cpu":
            keep_freed_memory()
        if precision == "auto":
            precision = "f32" if self.device.type == "cpu" else "bf16"
        self.family = family
        folder = model_folder(locate(config, variant, model_path))
        self.model = load_model(folder, family).to(self.device)
        self.side = model_side(self.model)
        """Height and width in pixels of the square that the model sees."""
        self.processor = load_image_processor(folder, family, self.side)
        self.weights = digest = weights_digest(folder)
        """A digest of the weights."""
        exported = folder / EXPORTED
        neck = getattr(self.model.vision_encoder, "neck", None)
        self._places: Any = getattr(neck, "position_encoding", None)
        if engine == "torch" or (engine == "auto" and (self.device.type != "cpu" or not exported.is_file())):
            self.encoder: Encoder = TorchEncoder(self.model, precision, threads)
        elif not exported.is_file():
            raise StartupError(f"ENGINE={engine}: there is no {exported}; export it: python -m tools.export_encoder")
        else:
            self.encoder = ExportedEncoder(exported, digest, device, engine, precision, threads)
            self.model.vision_encoder = None  # its share of the memory is free again
        preprocessing = repr(sorted(self.processor.to_dict().items()))
        self.key = "/".join((family.model, digest, preprocessing, self.encoder.name, precision))
        """Of everything that an embedding depends on besides the image."""
        _LOG.info("%s of %s; image encoder: %s", family.model, folder.name, self.encoder.description)

    def preprocess(self, image: NDArray[np.uint8]) -> Any:
        """An image as the model's input.

        Args:
            image: (H, W, 3) uint8 RGB.

        Returns:
            A tensor (1, 3, side, side) float32 on the model's device.
        """
        return self.processor(image, return_tensors="pt", device=self.device)["pixel_values"]

    def places(self, feature_map: Any) -> Any:
        """The positional encoding of a feature map.

        Args:
            feature_map: A tensor (1, C, h, w); its shape, device and type count.

        Returns:
            A tensor (1, C, h, w).
        """
        return self._places(feature_map.shape, feature_map.device, feature_map.dtype)

    def feature_maps(self, image: NDArray[np.uint8]) -> list[Any]:
        """The encoder's feature maps of an image.

        Args:
            image: (H, W, 3) uint8 RGB.

        Returns:
            Tensors (1, C, h, w) float32 on the model's device, finest first.
        """
        import torch

        with torch.inference_mode():
            return [each.to(self.device) for each in self.encoder(self.preprocess(image))]


class TorchEncoder:
    """The model's own encoder, in torch.

    Args:
        model: Of transformers.
        precision: Of the backbone's arithmetic, f32, bf16 or f16; what comes after it stays float32.
        threads: For the description.
    """

    name = "torch"

    def __init__(self, model: Any, precision: str, threads: int):
        import torch

        self._model = model
        self._dtype = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}[precision]
        model.vision_encoder.to(self._dtype)
        device = next(model.parameters()).device
        where = f"CPU, {threads} threads" if device.type == "cpu" else str(device)
        self.description = f"torch {torch.__version__} on {where}, {precision}"

    def __call__(self, pixels: Any) -> list[Any]:
        """See `Encoder`."""
        output = self._model.vision_encoder(pixels.to(self._dtype), return_dict=True)
        return feature_maps(self._model, output)


class ExportedEncoder:
    """An encoder that `common.networks.sam.export` wrote, in ONNX Runtime or OpenVINO.

    Args:
        path: The file.
        digest: Of the weights that it must have been exported from.
        device: cpu or cuda.
        engine: onnxruntime, openvino, or auto.
        precision: Of its arithmetic.
        threads: That it may use.

    Raises:
        StartupError: It was exported from other weights, or its results are not those of torch.
    """

    name = "exported"

    def __init__(self, path: Path, digest: str, device: str, engine: str, precision: str, threads: int):
        def opened(which: str) -> Engine:
            return open_engine(path, device=device, engine=which, threads=threads, precision=precision)

        self._engine = opened(engine)
        found = self._engine.metadata.get(WEIGHTS_KEY)
        if found != digest:
            raise StartupError(
                f"{path} was exported from other weights than those beside it: export it again "
                "(python -m tools.export_encoder), or set ENGINE=torch"
            )
        expected = self._engine.metadata.get(PROBE_KEY, "")
        error = self._error(expected)
        if error > _TOLERANCE[precision] and engine == "auto" and device == "cpu":
            _LOG.warning("%s is off by %.2g on %s: left out", self._engine.description, error, path.name)
            self._engine = opened("onnxruntime")
            error = self._error(expected)
        if error > _TOLERANCE[precision]:
            raise StartupError(
                f"{path}: {self._engine.description} gives other results than torch, off by {error:.2g} of the largest "
                "value: use another ENGINE"
            )
        self.description = self._engine.description

    def __call__(self, pixels: Any) -> list[Any]:
        """See `Encoder`."""
        import torch

        outputs: Sequence[NDArray[Any]] = self._engine.run([pixels.cpu().numpy()])
        return [torch.from_numpy(np.array(output, np.float32)) for output in outputs]

    def _error(self, expected: str) -> float:
        """The largest difference on the probe, as a part of the largest value; infinite when there is no probe."""
        side = self._engine.inputs[0].shape[-1] or 0
        values = np.frombuffer(pybase64.b64decode(expected), np.float32).reshape(-1, PROBE_VALUES)
        found = [probe_values(output) for output in self._engine.run([probe_pixels(side)])]
        if len(found) != len(values):
            return float("inf")
        return max(
            float(np.abs(ours - theirs).max() / np.abs(theirs).max())
            for ours, theirs in zip(found, values, strict=True)
        )


def probe_pixels(side: int) -> NDArray[np.float32]:
    """A preprocessed image of noise, always the same one.

    Args:
        side: Its height and width in pixels.

    Returns:
        (1, 3, side, side) float32.
    """
    return np.random.default_rng(side).standard_normal((1, 3, side, side), np.float32)


def probe_values(feature_map: NDArray[Any]) -> NDArray[np.float32]:
    """PROBE_VALUES values from all over a feature map.

    Args:
        feature_map: An array of any shape.
    """
    flat = np.asarray(feature_map, np.float32).ravel()
    return flat[np.linspace(0, flat.size - 1, PROBE_VALUES).astype(np.int64)]


def feature_maps(model: Any, output: Any) -> list[Any]:
    """The feature maps that a model's decoder takes.

    Args:
        model: Of transformers.
        output: What its vision encoder returned.

    Returns:
        Tensors (1, C, h, w) float32, finest first.
    """
    maps = getattr(output, "fpn_hidden_states", None)
    if maps is None:  # SAM 1 has one map, and no pyramid
        return [output.last_hidden_state.float()]
    fine, middle, coarse = (each.float() for each in maps[:3])
    return [model.mask_decoder.conv_s0(fine), model.mask_decoder.conv_s1(middle), coarse]


def model_folder(path: Path) -> Path:
    """The folder of a model, checked.

    Args:
        path: The folder, or the file model.safetensors in it.

    Raises:
        StartupError: There is no model in it.
    """
    if path.name == "model.safetensors":
        path = path.parent
    if not (path / "config.json").is_file():
        raise StartupError(
            f"{path}: expected a folder as published on the Hugging Face hub, with config.json and model.safetensors"
        )
    return path


def load_model(folder: Path, family: Family) -> Any:
    """A model with all its weights, float32, on the CPU.

    Args:
        folder: As published on the Hugging Face hub.
        family: Names the model's class.

    Raises:
        StartupError: Tensors are missing or have another shape, or the folder can't be loaded.
    """
    transformers = offline_transformers()
    with _part_of_published(family):
        # The files of a video model have more than this part of it.
        model, _ = load_whole(getattr(transformers, family.model), folder)
    return model


@contextmanager
def _part_of_published(family: Family) -> Iterator[None]:
    """Keeps transformers from warning that a model loaded from the folder of its video model "can yield errors".

    It warns of every such pair. These are the ones that are published, and missing weights are found after loading.
    """
    pair = f"a model of type `{family.published_type}` to instantiate"
    logger = logging.getLogger("transformers.configuration_utils")

    def other(record: logging.LogRecord) -> bool:
        return pair not in record.getMessage()

    logger.addFilter(other)
    try:
        yield
    finally:
        logger.removeFilter(other)


def model_side(model: Any) -> int:
    """Height and width in pixels of the square image that a model takes.

    Args:
        model: Of transformers.
    """
    side = model.config.prompt_encoder_config.image_size
    if isinstance(side, (list, tuple)):
        side = side[0]
    return int(side)


def load_image_processor(folder: Path, family: Family, side: int) -> Any:
    """The preprocessing of a folder, or the published one when the folder has none.

    Args:
        folder: The model's.
        family: Names the preprocessing's class.
        side: Height and width in pixels of the square that the model takes.

    Raises:
        StartupError: The folder prepares images for another size.
    """
    transformers = offline_transformers()
    processor_class = getattr(transformers, family.image_processor)
    size = {"longest_edge": side} if family.padded else {"height": side, "width": side}
    padding = {"pad_size": {"height": side, "width": side}} if family.padded else {}
    if not any((folder / name).is_file() for name in ("preprocessor_config.json", "processor_config.json")):
        return processor_class(size=size, **padding)
    processor = processor_class.from_pretrained(folder, local_files_only=True)
    found = {name: processor.size[name] for name in size}
    if found != size:
        raise StartupError(f"{folder}: images are prepared for {found}, the model takes {size}")
    return processor


def weights_digest(folder: Path) -> str:
    """A digest of a folder's configuration and weights, hexadecimal.

    Args:
        folder: The model's.
    """
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.iterdir() if p.name == "config.json" or p.suffix == ".safetensors"):
        with path.open("rb") as file:
            digest.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()
