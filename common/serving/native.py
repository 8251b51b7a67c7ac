"""Functions as CVAT's SDK wants them: the auto-annotation functions of `cvat_sdk.auto_annotation`.

`create` gives the object that matches a function's kind: what `cvat-cli task auto-annotate`, `function create-native`
and `function run-agent` load, and what `cvat_sdk.auto_annotation.annotate_task` takes. The model and the steps around it are the
same as under Nuclio; only the wire format of shapes differs. A lost object is None here, where a reply through Nuclio repeats
its last shape.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import cvat_sdk.auto_annotation as cvataa
from cvat_sdk import models
from PIL import Image as PillowImage

from common.config import FunctionConfig
from common.cvat.annotation import LabelIds, as_polygon, to_annotation
from common.cvat.labels import Attribute, Label
from common.cvat.request import InteractorRequest
from common.cvat.shape_json import parse_shape, shape_points
from common.errors import BadRequest
from common.serving import kinds
from common.serving.kinds.detector import Detector
from common.serving.kinds.interactor import EmbeddedImage, Interactor
from common.serving.kinds.tracker import Frame, Tracker, shape_types
from common.serving.stages import Stages
from common.shapes import Mask
from common.vision.image import pillow_to_rgb
from common.vision.mask import mask_to_rle


def create(directory: str | Path, options: Mapping[str, Any]) -> Detection | Interaction | Tracking:
    """The function in a directory, its model loaded, as an object for CVAT's SDK.

    Args:
        directory: Holds function.yaml and model_handler.py.
        options: Of the handler and of its kind, by name, as values or texts. They take precedence over the environment,
            which takes precedence over function.yaml.

    Raises:
        BadFunctionError: The SDK can't take this function; raised before its model is loaded.
        StartupError: An option does not exist or does not fit, or something keeps the function from starting anywhere.
    """
    config = replace(FunctionConfig.load(directory), workers=1)  # one copy of the model, whatever numWorkers says
    if config.kind == "detector":
        return Detection(detection_spec(config), config, kinds.load_as(Detector, config, options))
    if config.kind == "interactor":
        # What the SDK has embedded it keeps itself.
        settings = {"embedding_cache_mb": 0.0, **options}
        return Interaction(interaction_spec(config), config, kinds.load_as(Interactor, config, settings))
    if config.kind == "tracker":
        return Tracking(tracking_spec(config), config, kinds.load_as(Tracker, config, options))
    raise cvataa.BadFunctionError(
        f"{config.name} is a {config.kind} function, and CVAT's SDK has no interface for those; "
        "python -m tools.annotate runs them"
    )


class Detection:
    """A `cvat_sdk.auto_annotation.DetectionFunction`."""

    def __init__(self, spec: cvataa.DetectionFunctionSpec, config: FunctionConfig, detector: Detector):
        self._spec, self._detector = spec, detector
        self._ids = {name: LabelIds.own(label) for name, label in config.labels.items()}

    @property
    def spec(self) -> cvataa.DetectionFunctionSpec:
        """What the SDK knows of the function: its labels."""
        return self._spec

    def detect(
        self, context: cvataa.DetectionFunctionContext, image: PillowImage.Image
    ) -> list[cvataa.DetectionAnnotation]:
        """The annotations of an image. Masks become polygons when the context asks for that."""
        shapes = self._detector.detect(pillow_to_rgb(image), context.conf_threshold, Stages())
        if context.conv_mask_to_poly:
            tolerance = self._detector.polygon_tolerance
            shapes = [as_polygon(shape, tolerance) if isinstance(shape, Mask) else shape for shape in shapes]
        return [_model(to_annotation(shape, self._ids[shape.label])) for shape in shapes]


class Interaction:
    """A `cvat_sdk.auto_annotation.InteractionFunction`; a preprocessed image is its embedding."""

    def __init__(self, spec: cvataa.InteractionFunctionSpec, config: FunctionConfig, interactor: Interactor):
        self._spec, self._config, self._interactor = spec, config, interactor

    @property
    def spec(self) -> cvataa.InteractionFunctionSpec:
        """What the SDK knows of the function. Raises BadFunctionError when a task is to be annotated with it."""
        _refuse_task(self._config, sys._getframe(1))
        return self._spec

    def preprocess_image(self, context: cvataa.InteractionFunctionContext, image: PillowImage.Image) -> EmbeddedImage:
        """Embeds an image; the SDK keeps the embedding."""
        return self._interactor.embed(pillow_to_rgb(image))

    def detect(
        self, context: cvataa.InteractionFunctionContext, pp_image: EmbeddedImage, prompts: cvataa.InteractionPrompts
    ) -> list[cvataa.InteractionResultShape]:
        """The mask that a prompt means; an empty list when the model finds no object.

        Raises:
            BadRequest: There is neither a positive point nor a box, or one is outside the image.
        """
        box = prompts.bounding_box
        if not prompts.pos_points and box is None:
            raise BadRequest("pos_points: expected at least one positive point or a box, got neither")
        request = InteractorRequest(
            image=b"",
            pos_points=tuple(prompts.pos_points),
            neg_points=tuple(prompts.neg_points),
            box_xyxy=None if box is None else (*box[0], *box[1]),
        )
        mask = self._interactor.segment(pp_image, request)
        if not mask.bitmap.any():
            return []
        return [cvataa.InteractionResultShape(type="mask", points=mask_to_rle(mask))]


class _TrackedObject:
    """What the SDK keeps of an object between frames: the handler's state, replaced on every frame."""

    def __init__(self, state: Any):
        self.state = state


class Tracking:
    """A `cvat_sdk.auto_annotation.TrackingFunction`; a preprocessed image is a prepared frame."""

    def __init__(self, spec: cvataa.TrackingFunctionSpec, config: FunctionConfig, tracker: Tracker):
        self._spec, self._config, self._tracker = spec, config, tracker

    @property
    def spec(self) -> cvataa.TrackingFunctionSpec:
        """What the SDK knows of the function. Raises BadFunctionError when a task is to be annotated with it."""
        _refuse_task(self._config, sys._getframe(1))
        return self._spec

    def preprocess_image(self, context: cvataa.TrackingFunctionContext, image: PillowImage.Image) -> Frame:
        """Prepares a frame, once for all objects on it."""
        return self._tracker.prepare(pillow_to_rgb(image))

    def init_tracking_state(
        self, context: cvataa.TrackingFunctionShapeContext, pp_image: Frame, shape: cvataa.TrackableShape
    ) -> _TrackedObject:
        """The state of an object that is at a shape in this frame.

        Raises:
            BadRequest: Nothing of the shape is inside the frame.
        """
        given = parse_shape({"type": shape.type, "points": shape.points}, "shape")
        return _TrackedObject(self._tracker.start(pp_image, given, "shape")[1])

    def track(
        self, context: cvataa.TrackingFunctionShapeContext, pp_image: Frame, state: _TrackedObject
    ) -> cvataa.TrackableShape | None:
        """Where an object is in this frame, None when it is lost. The state is updated in place."""
        shape, state.state = self._tracker.track(pp_image, state.state, "state")
        # There is no place for a rotation in the SDK's shapes.
        return None if shape is None else cvataa.TrackableShape(type=shape.type, points=shape_points(shape))


def detection_spec(config: FunctionConfig) -> cvataa.DetectionFunctionSpec:
    """The labels of a detector.

    Args:
        config: What function.yaml says.

    Raises:
        BadFunctionError: The SDK does not accept a label.
    """
    return cvataa.DetectionFunctionSpec(labels=[_label_spec(label) for label in config.labels.values()])


def interaction_spec(config: FunctionConfig) -> cvataa.InteractionFunctionSpec:
    """The prompts that an interactor takes, read from the annotations in function.yaml as CVAT reads them.

    Args:
        config: What function.yaml says.

    Raises:
        BadFunctionError: A number of points is not a number.
    """

    def number(name: str, default: int) -> int:
        text = config.annotations.get(name) or str(default)
        try:
            return int(text)
        except ValueError:
            raise cvataa.BadFunctionError(f"{config.name}: {name}: expected a whole number, got {text!r}") from None

    positive, negative = number("min_pos_points", 1), number("min_neg_points", -1)
    box = 1 if config.annotations.get("startswith_box") else None
    if config.annotations.get("startswith_box_optional"):
        box = 0  # CVAT's servers read both; the optional box is newer, and a function that says both means the weaker
    return cvataa.InteractionFunctionSpec(
        min_pos_points=max(positive, 0), min_neg_points=None if negative < 0 else negative, min_bounding_boxes=box
    )


def tracking_spec(config: FunctionConfig) -> cvataa.TrackingFunctionSpec:
    """The types of shapes that a tracker follows.

    Args:
        config: What function.yaml says.

    Raises:
        BadFunctionError: CVAT has no such type.
    """
    types = shape_types(config)
    known = models.ShapeType.allowed_values[("value",)].values()
    if unknown := sorted(set(types) - set(known)):
        raise cvataa.BadFunctionError(
            f"{config.name}: supported_shape_types: expected some of {', '.join(known)}, got {', '.join(unknown)}"
        )
    return cvataa.TrackingFunctionSpec(supported_shape_types=types)


def _refuse_task(config: FunctionConfig, caller: FrameType | None) -> None:
    """Raises BadFunctionError when `annotate_task`, which runs detectors only, is what asks for a function's spec.

    It would end in an AssertionError without a word. Agents ask for the same spec, so only the caller tells them apart.
    """
    if caller is not None and caller.f_code is cvataa.annotate_task.__code__:
        article = "an" if config.kind[0] in "aeiou" else "a"
        raise cvataa.BadFunctionError(
            f"{config.name} is {article} {config.kind}, and a task is annotated by detectors only. It works in CVAT's UI: "
            "deploy it there with cvat-cli function create-native and run-agent, or on Nuclio"
        )


def _label_spec(label: Label) -> models.PatchedLabelRequest:
    more: dict[str, Any] = {"color": label.color} if label.color else {}
    if label.sublabels:
        joints = [
            cvataa.keypoint_spec(sublabel.name, sublabel.id, attributes=_attribute_specs(sublabel.attributes))
            for sublabel in label.sublabels
        ]
        more |= {"sublabels": joints, "svg": label.svg}
    return cvataa.label_spec(
        label.name, label.id, type=label.type, attributes=_attribute_specs(label.attributes), **more
    )


def _attribute_specs(attributes: tuple[Attribute, ...]) -> list[models.AttributeRequest]:
    return [
        models.AttributeRequest(
            name=attribute.name,
            id=i,
            input_type=attribute.input_type,
            values=list(attribute.values),
            mutable=attribute.mutable,
            default_value=attribute.default_value,
        )
        for i, attribute in enumerate(attributes)
    ]


def _model(annotation: dict[str, Any]) -> cvataa.DetectionAnnotation:
    """An annotation as a model of the SDK.

    The models' own check of every number takes longer than a mask; ours went through `common.cvat.conform`.
    """
    attributes = [models.AttributeValRequest(**attribute) for attribute in annotation.pop("attributes")]
    if "type" not in annotation:
        return models.LabeledImageRequest(attributes=attributes, **annotation)
    annotation["type"] = models.ShapeType(annotation["type"])
    if "elements" in annotation:
        annotation["elements"] = [
            models.SubLabeledShapeRequest(**element | {"type": models.ShapeType(element["type"])}, _check_type=False)
            for element in annotation["elements"]
        ]
    return models.LabeledShapeRequest(attributes=attributes, **annotation, _check_type=False)
