"""Torchvision's models, by name, with their published weights or a file of your own.

Torchvision's own builders load the weights, because they do more than read a file; but from files that
`common.networks.weights` has checked, and without pickle.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from common.config import FunctionConfig
from common.errors import StartupError, describe
from common.networks.engine import torch_device
from common.networks.runtime import threads_per_worker
from common.networks.weights import locate, read_catalog
from common.protocol import Image
from common.shapes import Joint, Mask, Rectangle, Shape, Skeleton, Tag
from common.vision.geometry import shifted

_LOG = logging.getLogger(__name__)
_MASK_THRESHOLD = 0.5
_BUILDING = threading.Lock()

Output = dict[str, NDArray[Any]]
"""What a model says about a picture, as torchvision names it: boxes, labels, scores, masks, keypoints."""


class TorchvisionHandler:
    """A model of torchvision; subclasses make shapes of what it finds.

    Each argument but `config` is an option of that name.

    Args:
        config: The function's function.yaml.
        variant: A model's name, with `.` and the name of its weights when they are not the default ones; see
            weights.yaml.
        model_path: A file with other weights for that model: a state dict, .pth or .safetensors.
        classes: How many classes those weights have, the background included where the model has one; None: as
            published.
        min_size: Pixels of the shorter side to which a picture is resized, where the model resizes it (SSD does not):
            less is faster and finds less. None: as published.
        device: cpu, cuda or cuda:<number>.

    Raises:
        StartupError: An option is wrong, or the weights don't fit the model or the function's labels.
    """

    def __init__(
        self,
        config: FunctionConfig,
        *,
        variant: str | None = None,
        model_path: str | None = None,
        classes: int | None = None,
        min_size: int | None = None,
        device: str = "cpu",
    ):
        import torch

        self._device = torch_device(device)
        torch.set_num_threads(threads_per_worker(config.workers))
        catalog = read_catalog(config.directory)
        name = variant or (catalog.default if catalog else "")
        builder_name, weights = _published(name)
        path = locate(config, variant, model_path)
        state = _read_state(path)
        settings: dict[str, Any] = {} if min_size is None else {"min_size": min_size}
        if classes is None:
            model = _build(builder_name, weights, state, path, settings)
            classes = len(weights.meta["categories"])
        else:
            model = _build_own(builder_name, classes, state, path, settings)
        self._model = model.eval().to(self._device)
        self._transforms: Callable[[Any], Any] = weights.transforms()
        self._labels = {index: config.labels[label] for index, label in config.labels.names_by_id.items()}
        if beyond := [label.name for index, label in self._labels.items() if not 0 <= index < classes]:
            raise StartupError(
                f"the labels {', '.join(beyond[:4])} have ids beyond the model's {classes} classes: the id of a label "
                "is the number of its class"
            )
        _LOG.info("%s from %s on %s", name, path.name, self._device)

    def infer(self, image: Image, threshold: float) -> list[Shape]:
        """What the model finds.

        Args:
            image: (H, W, 3) uint8 RGB.
            threshold: The lowest score, 0 to 1.
        """
        (shapes,) = self._infer_alike([image], threshold)
        return shapes

    def infer_batch(self, images: Sequence[Image], threshold: float) -> list[list[Shape]]:
        """As `infer` for several images; those of one size go through the network together, with the same results.

        Args:
            images: (H, W, 3) uint8 RGB each.
            threshold: The lowest score, 0 to 1.
        """
        found: dict[int, list[Shape]] = {}
        sizes: dict[tuple[int, ...], list[int]] = {}
        for i, image in enumerate(images):
            sizes.setdefault(image.shape, []).append(i)
        for alike in sizes.values():
            found.update(zip(alike, self._infer_alike([images[i] for i in alike], threshold), strict=True))
        return [found[i] for i in range(len(images))]

    def _infer_alike(self, images: Sequence[Image], threshold: float) -> list[list[Shape]]:
        """The shapes in each of some images of one size."""
        import torch

        # From pictures and not from arrays: torchvision resizes the two in different ways.
        inputs = [self._transforms(PillowImage.fromarray(image)).to(self._device) for image in images]
        with torch.inference_mode():
            return [self._shapes(output, threshold) for output in self._run(inputs)]

    def _run(self, inputs: list[Any]) -> list[Output]:
        """What a detection model says about each picture, as arrays."""
        return [{name: value.cpu().numpy() for name, value in output.items()} for output in self._model(inputs)]

    def _shapes(self, output: Output, threshold: float) -> list[Shape]:
        shapes = []
        for i in np.flatnonzero(output["scores"] >= threshold):
            label = self._labels.get(int(output["labels"][i]))
            if label is not None and (shape := self._shape(output, int(i), label.name, float(output["scores"][i]))):
                shapes.append(shape)
        return shapes

    def _shape(self, output: Output, i: int, label: str, score: float) -> Shape | None:
        """The shape of one object; None when none of it is visible."""
        raise NotImplementedError


class Classification(TorchvisionHandler):
    """The likeliest class of the whole picture as a tag."""

    def _run(self, inputs: list[Any]) -> list[Output]:
        import torch

        scores = self._model(torch.stack(inputs)).softmax(dim=1)
        best, labels = scores.max(dim=1)
        pairs = zip(best.cpu().numpy(), labels.cpu().numpy(), strict=True)
        return [{"scores": np.array([score]), "labels": np.array([label])} for score, label in pairs]

    def _shape(self, output: Output, i: int, label: str, score: float) -> Shape | None:
        return Tag(label=label, score=score)


class Detection(TorchvisionHandler):
    """Boxes."""

    def _shape(self, output: Output, i: int, label: str, score: float) -> Shape | None:
        left, top, right, bottom = (float(v) for v in output["boxes"][i])
        if round(right, 2) <= round(left, 2) or round(bottom, 2) <= round(top, 2):
            return None
        return Rectangle(label=label, score=score, box_xyxy=(left, top, right, bottom))


class InstanceSegmentation(TorchvisionHandler):
    """Masks.

    Torchvision makes a picture-sized float mask of everything that it finds, up to 100 things and whatever their scores: 10 GB
    for a picture of 24 megapixels. Here that is done one by one, for what is asked for.
    """

    def _run(self, inputs: list[Any]) -> list[Output]:
        self._model.transform.postprocess = _resize_boxes
        outputs = super()._run(inputs)
        for output, image in zip(outputs, inputs, strict=True):
            output["image_hw"] = np.array(image.shape[-2:])
        return outputs

    def _shape(self, output: Output, i: int, label: str, score: float) -> Shape | None:
        import torch
        from torchvision.models.detection.roi_heads import paste_masks_in_image

        masks, boxes = (torch.from_numpy(output[name][i : i + 1]) for name in ("masks", "boxes"))
        height, width = output["image_hw"].tolist()
        full = paste_masks_in_image(masks, boxes, (height, width))[0, 0].numpy()
        # It is as large as the picture, but means nothing beyond its box.
        (left, top), (right, bottom) = (np.floor(output["boxes"][i][:2]), np.ceil(output["boxes"][i][2:]))
        rows, columns = slice(int(top), int(bottom)), slice(int(left), int(right))
        inside = Mask.from_full(full[rows, columns] >= _MASK_THRESHOLD, label=label, score=score)
        return shifted(inside, columns.start, rows.start) if inside.bitmap.size else None


class KeypointDetection(TorchvisionHandler):
    """Skeletons.

    Args:
        config: As for every model of torchvision.
        variant: As for every model of torchvision.
        model_path: As for every model of torchvision.
        classes: As for every model of torchvision.
        min_size: As for every model of torchvision.
        device: As for every model of torchvision.
        joint_threshold: Joints with a lower score are not visible; torchvision gives logits, 0 is an even chance. None:
            all joints are visible.
    """

    def __init__(
        self,
        config: FunctionConfig,
        *,
        variant: str | None = None,
        model_path: str | None = None,
        classes: int | None = None,
        min_size: int | None = None,
        device: str = "cpu",
        joint_threshold: float | None = None,
    ):
        super().__init__(
            config, variant=variant, model_path=model_path, classes=classes, min_size=min_size, device=device
        )
        self._joint_threshold = joint_threshold
        self._joints = {
            label.name: [joint.name for joint in sorted(label.sublabels, key=lambda joint: joint.id)]
            for label in config.labels.values()
        }

    def _shape(self, output: Output, i: int, label: str, score: float) -> Shape | None:
        points, scores = output["keypoints"][i], output["keypoints_scores"][i]
        visible = points[:, 2] > 0
        if self._joint_threshold is not None:
            visible &= scores >= self._joint_threshold
        if not visible.any():
            return None
        joints = tuple(
            Joint(name, float(x), float(y), bool(seen))
            for name, (x, y, _), seen in zip(self._joints[label], points, visible, strict=True)
        )
        return Skeleton(label=label, score=score, joints=joints)


def _resize_boxes(found: list[dict[str, Any]], inner_hws: list[Any], image_hws: list[Any]) -> list[dict[str, Any]]:
    """What torchvision does with the boxes of a network's input, and not with the masks: pixels of the pictures."""
    from torchvision.models.detection.transform import resize_boxes

    return [
        {**each, "boxes": resize_boxes(each["boxes"], inner_hw, image_hw)}
        for each, inner_hw, image_hw in zip(found, inner_hws, image_hws, strict=True)
    ]


def _published(variant: str) -> tuple[str, Any]:
    """The name of a model and its weights in torchvision's own list. Raises StartupError."""
    from torchvision import models

    name, _, weights_name = variant.partition(".")
    try:
        weights = models.get_model_weights(name)
    except ValueError:
        raise StartupError(f"VARIANT: torchvision has no model {describe(name)}") from None
    try:
        return name, weights[weights_name or "DEFAULT"]
    except KeyError:
        known = ", ".join(f"{name}.{each.name}" for each in weights)
        raise StartupError(f"VARIANT: expected one of {known}, got {describe(variant)}") from None


def _read_state(path: Path) -> dict[str, Any]:
    """The tensors of a file by name, on the CPU. Raises StartupError."""
    import torch

    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each kind of damage has a class of its own
        raise StartupError(f"{path}: not a file of weights: {type(error).__name__}: {str(error)[:200]}") from error
    if isinstance(state, dict) and isinstance(state.get("model"), dict):
        state = state["model"]  # what torchvision's own training scripts save
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise StartupError(f"{path}: expected a state dict: an object of tensors by name")
    return state


def _build(name: str, weights: Any, state: dict[str, Any], path: Path, settings: dict[str, Any]) -> Any:
    """A model as torchvision builds it for some of its published weights, with the tensors of a file as these."""
    from torchvision import models

    try:
        with _fetching_nothing(state):
            return models.get_model(name, weights=weights, **settings)
    except RuntimeError as error:
        raise _misfit(name, path, error) from error
    except TypeError as error:
        raise StartupError(f"{name}: does not take {', '.join(settings)}: {error}") from error


def _build_own(name: str, classes: int, state: dict[str, Any], path: Path, settings: dict[str, Any]) -> Any:
    """A model with a head of its own number of classes; only the counters of its batch normalizations may be missing."""
    from torchvision import models

    if name in models.list_models(module=models.detection):
        settings = {**settings, "weights_backbone": None}
    try:
        model = models.get_model(name, weights=None, num_classes=classes, **settings)
        report = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise _misfit(name, path, error) from error
    missing = [key for key in report.missing_keys if not key.endswith("num_batches_tracked")]
    if missing or report.unexpected_keys:
        raise _misfit(name, path, f"missing: {missing[:3]}, unexpected: {report.unexpected_keys[:3]}")
    return model


def _misfit(name: str, path: Path, problem: object) -> StartupError:
    lines = " ".join(str(problem).split())
    return StartupError(f"{path}: not the weights of {name} with this number of classes (CLASSES): {lines[:250]}")


@contextmanager
def _fetching_nothing(state: dict[str, Any]) -> Iterator[None]:
    """While this is open, torchvision gets `state` in place of the weights that it would download."""
    from torchvision.models import _api

    with _BUILDING:
        original = _api.load_state_dict_from_url
        _api.load_state_dict_from_url = lambda *_, **__: state
        try:
            yield
        finally:
            _api.load_state_dict_from_url = original
