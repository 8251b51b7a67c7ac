"""Trackers: a frame with shapes to follow, or with the states of the last frame, in; shapes and states out.

A handler says that an object is lost by None instead of a shape. CVAT's UI can't take `null` among the shapes of a reply: it
then updates no object of that tracker any more. So a reply repeats the last shape of a lost object, and names it in the
field `lost`, a list of indices, which CVAT passes on and ignores. The state is the handler's own: the
object is found again as soon as it is in sight.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from common.config import FunctionConfig, KindName
from common.cvat.conform import conform_geometry
from common.cvat.reply import tracker_reply
from common.cvat.request import TrackedItem, TrackerRequest
from common.errors import BadRequest, BadState, ModelError, NothingInside, StartupError
from common.protocol import Image, TrackerHandler
from common.serving.last_shape import pack_shape, unpack_shape
from common.serving.stages import Stages
from common.serving.state import States
from common.serving.store import DEFAULT_PORT, Store
from common.shapes import Shape
from common.vision.image import decode_image

_LOST = ("last", "null")


@dataclass(frozen=True, slots=True)
class Frame:
    """An image that a handler has prepared."""

    size_hw: tuple[int, int]
    """(height, width) in pixels."""
    content: Any
    """What the handler's `prepare` returned."""


@dataclass(frozen=True, slots=True)
class _Object:
    """One object of a request, on its way from the last frame to this one."""

    field: str
    """Where it comes from in the request, for messages: "shapes[0]" or "states[0]"."""
    bare: bool
    """Its shape goes over the wire as a bare box, for servers that don't know shape types."""
    shape: Shape | None
    """Where it is, or was when it was last seen; None when that is not known."""
    state: Any = None
    """What the handler keeps of it; nothing yet for one that starts here."""
    starts: bool = False
    """It is to be followed from this frame on."""
    lost: bool = False
    """It is not in sight in this frame."""


def shape_types(config: FunctionConfig) -> tuple[str, ...]:
    """The types of shapes that a tracker follows; a function.yaml that lists none means boxes.

    Args:
        config: What function.yaml says.
    """
    types = config.annotations.get("supported_shape_types") or "rectangle"
    return tuple(t.strip() for t in types.split(",") if t.strip())


class Tracker:
    """The function around a tracker's handler.

    Options:
        LOST: What a reply has for an object that is out of sight: `last`, its last shape, or `null`, which CVAT's UI
            can't take.
        CVAT_FUNCTIONS_REDIS_HOST, _PORT, _PASSWORD: The store in which large states stay.
    """

    kind: ClassVar[KindName] = "tracker"

    def __init__(
        self,
        config: FunctionConfig,
        load_handler: Callable[[], TrackerHandler],
        *,
        lost: str = "last",
        cvat_functions_redis_host: str | None = None,
        cvat_functions_redis_port: int = DEFAULT_PORT,
        cvat_functions_redis_password: str | None = None,
    ):
        StartupError.check(lost in _LOST, "LOST", " or ".join(_LOST), lost)
        self._name, self._handler, self._repeats = config.name, load_handler(), lost == "last"
        self._types = shape_types(config)
        store = Store.at(cvat_functions_redis_host, cvat_functions_redis_port, cvat_functions_redis_password)
        self._states = States(config.name, store)

    def answer(self, body: Mapping[str, Any], stages: Stages) -> str:
        """The JSON text of the reply to a request.

        Args:
            body: The request's JSON object.
            stages: Filled in with the times and facts of this request.

        Raises:
            BadRequest: The request, or a state in it, is at fault.
            ModelError: The handler returned something that CVAT can't take.
            Unavailable: States are in a store that can't be reached.
        """
        with stages.measure("decode"):
            request = TrackerRequest.parse(body)
            # All shapes and states are checked before the frame is decoded, which takes longer.
            objects = self._open(request.items)
            image = decode_image(request.image)
        stages.facts |= {"image": f"{image.shape[1]}x{image.shape[0]}", "objects": len(objects)}
        with stages.measure("inference"):
            frame = self.prepare(image)
            objects = [self._step(frame, each) for each in objects]
        with stages.measure("encode"):
            states = self._states.encode([self._content(each) for each in objects])
            lost = [i for i, each in enumerate(objects) if each.lost]
            stages.facts["lost"] = len(lost)
            shapes = [(self._shown(each, frame.size_hw), each.bare) for each in objects]
            return tracker_reply(shapes, states, lost if self._repeats else ())

    def prepare(self, image: Image) -> Frame:
        """An image as `start` and `track` want it, for all objects on it.

        Args:
            image: (H, W, 3) uint8 RGB.
        """
        return Frame((image.shape[0], image.shape[1]), self._handler.prepare(image))

    def start(self, frame: Frame, shape: Shape, field: str) -> tuple[Shape, Any]:
        """Begins to follow an object.

        Args:
            frame: What `prepare` returned.
            shape: Where the object is in that frame.
            field: Names the shape in errors.

        Returns:
            The part of the shape inside the frame, and the handler's state of the object.

        Raises:
            BadRequest: Nothing of the shape is inside the frame.
        """
        try:
            inside = conform_geometry(shape, frame.size_hw, field)
        except ModelError as error:
            raise BadRequest(str(error)) from error
        return inside, self._handler.start(frame.content, inside)

    def track(self, frame: Frame, state: Any, field: str) -> tuple[Shape | None, Any]:
        """Finds an object in the next frame.

        Args:
            frame: What `prepare` returned.
            state: The handler's state of the object after the frame before.
            field: Names the state in errors.

        Returns:
            The object's shape inside the frame, None when it is lost or has left the frame; and its state after it.

        Raises:
            BadState: The handler did not make this state.
            ModelError: The handler returned a shape that CVAT can't take.
        """
        try:
            shape, state = self._handler.track(frame.content, state)
        except BadState as error:
            raise BadState(f"{field}: {error}") from error
        return None if shape is None else _inside(shape, frame.size_hw), state

    def _step(self, frame: Frame, before: _Object) -> _Object:
        """An object after a frame."""
        if before.starts and before.shape is not None:
            shape, state = self.start(frame, before.shape, before.field)
            return replace(before, shape=shape, state=state)
        found, state = self.track(frame, before.state, before.field)
        return replace(before, shape=found or before.shape, state=state, lost=found is None)

    def _shown(self, each: _Object, size_hw: tuple[int, int]) -> Shape | None:
        """What the reply says of an object's shape."""
        if not each.lost or each.shape is None:
            return each.shape
        if not self._repeats:
            return None
        try:  # this frame may be smaller than the one in which the object was seen
            return conform_geometry(each.shape, size_hw)
        except ModelError:
            return each.shape

    def _content(self, each: _Object) -> list[Any]:
        """What the state of an object holds. A state without a shape is what functions made before there was LOST."""
        content = [each.bare, each.state]
        return content if each.shape is None or not self._repeats else [*content, pack_shape(each.shape)]

    def _open(self, items: Sequence[TrackedItem]) -> list[_Object]:
        """The objects of a request, their states decoded."""
        fields = [f"states[{i}]" if item.shape is None else f"shapes[{i}]" for i, item in enumerate(items)]
        for item, field in zip(items, fields, strict=True):
            if item.shape is not None and item.shape.type not in self._types:
                raise BadRequest.field(f"{field}.type", " or ".join(self._types), item.shape.type)
        known = [(item.state, field) for item, field in zip(items, fields, strict=True) if item.shape is None]
        contents = iter(self._states.decode([state for state, _ in known], [field for _, field in known]))
        return [
            self._known(next(contents), field)
            if item.shape is None
            else _Object(field, item.bare, item.shape, starts=True)
            for item, field in zip(items, fields, strict=True)
        ]

    def _known(self, content: Any, field: str) -> _Object:
        """The inverse of `_content`."""
        try:
            bare, state, *packed = content
            if not isinstance(content, list) or not isinstance(bare, bool) or len(packed) > 1:
                raise ValueError("of another content")
            return _Object(field, bare, unpack_shape(packed[0]) if packed else None, state)
        except (TypeError, ValueError) as error:
            raise BadRequest(
                f"{field}: expected a state that {self._name} returned, got one it did not make"
            ) from error


def _inside(shape: Shape, size_hw: tuple[int, int]) -> Shape | None:
    """The part of a shape inside the frame; an object that has left it altogether is lost."""
    try:
        return conform_geometry(shape, size_hw)
    except NothingInside:
        return None
