"""Trackers: a frame with shapes to follow, or with the states of the last frame, in; shapes and states out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common.config import FunctionConfig
from common.cvat.conform import conform_geometry
from common.cvat.reply import tracker_reply
from common.cvat.request import TrackedItem, TrackerRequest
from common.errors import BadRequest, BadState, ModelError, NothingInside
from common.protocol import Image, TrackerHandler
from common.serving.stages import Stages
from common.serving.state import States
from common.serving.store import DEFAULT_PORT, Store
from common.shapes import Shape
from common.vision.image import decode_image


@dataclass(frozen=True, slots=True)
class Frame:
    """An image that a handler has prepared. size_hw: its height and width. content: what `prepare` returned."""

    size_hw: tuple[int, int]
    content: Any


def shape_types(config: FunctionConfig) -> tuple[str, ...]:
    """The types of shapes that a tracker follows; a function.yaml that says nothing means boxes."""
    types = config.annotations.get("supported_shape_types") or "rectangle"
    return tuple(t.strip() for t in types.split(",") if t.strip())


class Tracker:
    """Options: CVAT_FUNCTIONS_REDIS_HOST, _PORT and _PASSWORD, the store in which large states stay."""

    def __init__(
        self,
        config: FunctionConfig,
        handler: TrackerHandler,
        *,
        cvat_functions_redis_host: str | None = None,
        cvat_functions_redis_port: int = DEFAULT_PORT,
        cvat_functions_redis_password: str | None = None,
    ):
        self._name, self._handler = config.name, handler
        self._types = shape_types(config)
        store = Store.at(cvat_functions_redis_host, cvat_functions_redis_port, cvat_functions_redis_password)
        self._states = States(config.name, store)

    def answer(self, body: Mapping[str, Any], stages: Stages) -> str:
        with stages.measure("decode"):
            request = TrackerRequest.parse(body)
            # All shapes and states are looked at before the frame is decoded: a bad one costs nobody time.
            opened = self._open(request.items)
            image = decode_image(request.image)
        stages.facts |= {"image": f"{image.shape[1]}x{image.shape[0]}", "objects": len(request.items)}
        with stages.measure("inference"):
            frame = self.prepare(image)
            results = [
                self.track(frame, state, f"states[{i}]")
                if item.shape is None
                else self.start(frame, item.shape, f"shapes[{i}]")
                for i, (item, (_, state)) in enumerate(zip(request.items, opened, strict=True))
            ]
        with stages.measure("encode"):
            shapes = [(shape, bare) for (bare, _), (shape, _) in zip(opened, results, strict=True)]
            kept = [[bare, state] for (bare, _), (_, state) in zip(opened, results, strict=True)]
            states = self._states.encode(kept)
            stages.facts["lost"] = sum(shape is None for shape, _ in shapes)
            return tracker_reply(shapes, states)

    def prepare(self, image: Image) -> Frame:
        """An image as `start` and `track` want it, for all objects on it."""
        return Frame((image.shape[0], image.shape[1]), self._handler.prepare(image))

    def start(self, frame: Frame, shape: Shape, field: str) -> tuple[Shape, Any]:
        """The part of a shape inside the frame, and the state of the object there. `field` names the shape in errors."""
        try:
            inside = conform_geometry(shape, frame.size_hw, field)
        except ModelError as error:
            raise BadRequest(str(error)) from error
        return inside, self._handler.start(frame.content, inside)

    def track(self, frame: Frame, state: Any, field: str) -> tuple[Shape | None, Any]:
        """An object's shape inside the frame, None when it is lost or has left it, and its state after this frame."""
        try:
            shape, state = self._handler.track(frame.content, state)
        except BadState as error:
            raise BadState(f"{field}: {error}") from error
        return None if shape is None else _inside(shape, frame.size_hw), state

    def _open(self, items: Sequence[TrackedItem]) -> list[tuple[bool, Any]]:
        """For each object, whether its shape goes over the wire as a bare box, and the handler's state if it has one."""
        for i, item in enumerate(items):
            if item.shape is not None and item.shape.type not in self._types:
                raise BadRequest.field(f"shapes[{i}].type", " or ".join(self._types), item.shape.type)
        fields = [f"states[{i}]" for i, item in enumerate(items) if item.shape is None]
        contents = self._states.decode([item.state for item in items if item.shape is None], fields)
        for content, field in zip(contents, fields, strict=True):
            if not isinstance(content, list) or len(content) != 2 or not isinstance(content[0], bool):
                raise BadRequest(f"{field}: expected a state that {self._name} returned, got one it did not make")
        opened = iter(contents)
        return [tuple(next(opened)) if item.shape is None else (item.bare, None) for item in items]


def _inside(shape: Shape, size_hw: tuple[int, int]) -> Shape | None:
    """The part of a tracked shape inside the frame; an object that has left it altogether is lost."""
    try:
        return conform_geometry(shape, size_hw)
    except NothingInside:
        return None
