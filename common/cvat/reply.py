"""The replies of functions as JSON, both directions, a writer and a reader for each kind.

`detector_reply` and its like write the text that CVAT gets; `read_detector_reply` and its like are their inverses, for
tools that call functions. Coordinates are in hundredths of a pixel, see `common.cvat.shape_json`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import orjson
import pybase64
from numpy.typing import NDArray

from common.cvat.fields import point
from common.cvat.shape_json import parse_shape, rounded, shape_points, write_shape
from common.errors import BadRequest, ModelError, describe
from common.shapes import Joint, Mask, Shape, Skeleton, Tag
from common.vision.geometry import FEWEST_POINTS
from common.vision.mask import flat_to_mask, mask_to_json, outline_beside, rows_to_json

_BLOB_SHAPE = (1, 256, 64, 64)


@dataclass(frozen=True, slots=True)
class TrackerReply:
    """What a tracker answered, by the objects of the request."""

    shapes: list[Shape | None]
    """Where each is; where it was last, or None, for one that is lost."""
    states: list[Any]
    """What to send with the next frame."""
    lost: frozenset[int]
    """The indices of the objects that are out of sight."""


def detector_reply(shapes: Iterable[Shape], tolerance: float = 1.0) -> str:
    """A detector's reply: the list of its annotations.

    Args:
        shapes: Shapes that went through `common.cvat.conform`.
        tolerance: How far, in pixels, the polygon beside a mask may leave the mask's edge.
    """
    return orjson.dumps([_write_annotation(shape, tolerance) for shape in shapes]).decode()


def read_detector_reply(reply: Any) -> list[Shape]:
    """The inverse of `detector_reply`.

    Args:
        reply: JSON as text or bytes, or parsed.

    Returns:
        Shapes whose attributes are texts, as in the reply.

    Raises:
        ModelError: It is not a list of annotations.
    """
    items = _parsed(reply)
    if not isinstance(items, list):
        raise ModelError(f"the reply is not a list of annotations but {describe(items)}; is the function a detector?")
    shapes = []
    for i, item in enumerate(items):
        with _named(f"annotation {i} in the reply"):
            shapes.append(_read_annotation(item))
    return shapes


def interactor_reply(mask: Mask, tolerance: float = 1.0) -> str:
    """An interactor's reply: `mask` (rows of the box around the pixels), `bounds` (inclusive) and `points` (the outline).

    An empty mask is legal, but the browser needs rows: it is sent as a single background pixel in the image's corner.

    Args:
        mask: The object's pixels.
        tolerance: How far, in pixels, the outline may leave the mask's edge.
    """
    if not mask.bitmap.any():
        mask = Mask(bitmap=np.zeros((1, 1), np.bool_))
    left, top, right, bottom = mask.box_xyxy
    reply = {
        "mask": orjson.Fragment(rows_to_json(mask)),
        "bounds": [left, top, right - 1, bottom - 1],
        "points": np.reshape(rounded(outline_beside(mask, tolerance)), (-1, 2)).tolist(),
    }
    return orjson.dumps(reply).decode()


def read_interactor_reply(reply: Any) -> Mask:
    """The inverse of `interactor_reply`.

    Args:
        reply: JSON as text or bytes, or parsed. Without `bounds`, its rows are those of the whole image.

    Returns:
        The mask with its outline, if there is one. Its bitmap may be all background.

    Raises:
        ModelError: It is not the reply of an interactor.
    """
    content = _object(reply, "an interactor")
    with _named("the reply"):
        rows = np.array(content["mask"])
        if rows.ndim != 2 or rows.dtype.kind not in "biuf":
            raise ValueError("mask: expected rows of numbers, all of the same length")
        left, top, right, bottom = content.get("bounds") or (0, 0, rows.shape[1] - 1, rows.shape[0] - 1)
        if rows.shape != (bottom - top + 1, right - left + 1):
            raise ValueError(
                f"mask: bounds are of {right - left + 1} x {bottom - top + 1} pixels, the rows of "
                f"{rows.shape[1]} x {rows.shape[0]}"
            )
        points = [point(value, f"points[{i}]") for i, value in enumerate(content.get("points") or ())]
    outline = np.array(points) if len(points) >= FEWEST_POINTS["polygon"] else None
    return Mask(bitmap=rows, left=left, top=top, outline_xy=outline)


def blob_reply(embedding: NDArray[np.float32]) -> str:
    """The reply of the interactor that CVAT's UI decodes itself: `blob`, the image embedding of SAM ViT-H.

    Args:
        embedding: (1, 256, 64, 64) float32.
    """
    return orjson.dumps({"blob": pybase64.b64encode_as_string(np.ascontiguousarray(embedding, "<f4"))}).decode()


def read_blob_reply(reply: Any) -> NDArray[np.float32]:
    """The inverse of `blob_reply`.

    Args:
        reply: JSON as text or bytes, or parsed.

    Returns:
        (1, 256, 64, 64) float32.

    Raises:
        ModelError: There is no such embedding in it.
    """
    content = _object(reply, "an interactor with a blob")
    with _named("the reply"):
        values = np.frombuffer(pybase64.b64decode(content["blob"], validate=True), "<f4")
        return values.reshape(_BLOB_SHAPE).astype(np.float32)


def tracker_reply(shapes: Sequence[tuple[Shape | None, bool]], states: Sequence[Any], lost: Sequence[int] = ()) -> str:
    """A tracker's reply: `shapes` and `states` in the order of the request, and `lost` when an object is.

    Args:
        shapes: For each object its shape, None for null; and whether to write it as the bare box of servers that don't
            know shape types.
        states: For each object its state: what JSON can hold.
        lost: The indices of the objects that are out of sight, whose shapes are their last ones. CVAT ignores the field.
    """
    written = [None if shape is None else shape_points(shape) if bare else write_shape(shape) for shape, bare in shapes]
    reply = {"shapes": written, "states": list(states)} | ({"lost": list(lost)} if lost else {})
    return orjson.dumps(reply).decode()


def read_tracker_reply(reply: Any) -> TrackerReply:
    """The inverse of `tracker_reply`.

    Args:
        reply: JSON as text or bytes, or parsed.

    Raises:
        ModelError: It is not the reply of a tracker.
    """
    content = _object(reply, "a tracker")
    with _named("the reply"):
        shapes, states = content["shapes"], content["states"]
        if not isinstance(shapes, list) or not isinstance(states, list) or len(shapes) != len(states):
            raise ValueError(f"expected lists of the same length, got {describe(shapes)} and {describe(states)}")
        read = [None if value is None else parse_shape(value, f"shapes[{i}]") for i, value in enumerate(shapes)]
        lost = {i for i, shape in enumerate(read) if shape is None} | set(content.get("lost") or ())
    return TrackerReply(read, states, frozenset(lost))


def reid_reply(matches: Iterable[int]) -> str:
    """A reid function's reply.

    Args:
        matches: For each box of the first image the index of the same object in the second, or -1.
    """
    return orjson.dumps([int(match) for match in matches]).decode()


def read_reid_reply(reply: Any, count0: int, count1: int) -> list[int]:
    """The inverse of `reid_reply`.

    Args:
        reply: JSON as text or bytes, or parsed.
        count0: How many boxes the first image has.
        count1: How many boxes the second image has.

    Raises:
        ModelError: It is not a list with an index for each box, or an index is listed twice.
    """
    matches = _parsed(reply)
    if not isinstance(matches, list) or len(matches) != count0 or any(type(v) is not int for v in matches):
        raise ModelError(
            f"the reply is not a list with an index for each of {count0} boxes but {describe(matches)}; "
            "is the function for reid?"
        )
    partners = [v for v in matches if v >= 0]
    if any(v >= count1 for v in partners) or len(set(partners)) < len(partners):
        raise ModelError(
            f"expected indices of {count1} boxes, each at most once, in the reply, got {describe(matches)}"
        )
    return matches


def _write_annotation(shape: Shape, tolerance: float) -> dict[str, Any]:
    annotation: dict[str, Any] = {"label": shape.label, "type": shape.type}
    if shape.score is not None:
        annotation["confidence"] = f"{shape.score:.4f}"
    if isinstance(shape, Mask):
        annotation["mask"] = orjson.Fragment(mask_to_json(shape))
        annotation["points"] = rounded(outline_beside(shape, tolerance))
    elif isinstance(shape, Skeleton):
        annotation["elements"] = [
            {"label": j.name, "type": "points", "points": rounded((j.x, j.y)), "outside": int(not j.visible)}
            for j in shape.joints
        ]
    elif not isinstance(shape, Tag):
        annotation |= write_shape(shape)
    if shape.attributes:
        annotation["attributes"] = [{"name": name, "value": value} for name, value in shape.attributes.items()]
    if shape.group:
        annotation["group_id"] = shape.group
    return annotation


def _read_annotation(item: Any) -> Shape:
    if not isinstance(item, Mapping):
        raise ValueError(f"expected an object, got {describe(item)}")
    kind = item["type"]
    shape: Shape
    if kind == "tag":
        shape = Tag()
    elif kind == "mask":
        shape = flat_to_mask(item["mask"])
        if outline := item.get("points"):
            shape = replace(shape, outline_xy=np.array(outline, np.float64).reshape(-1, 2))
    elif kind == "skeleton":
        joints = [(e["label"], point(e["points"], "points"), e.get("outside")) for e in item["elements"]]
        shape = Skeleton(joints=tuple(Joint(str(name), x, y, not outside) for name, (x, y), outside in joints))
    else:
        shape = parse_shape(item, "shape")
    confidence = item.get("confidence")
    return replace(
        shape,
        label=str(item["label"]),
        score=None if confidence is None else min(max(float(confidence), 0.0), 1.0),
        group=int(item.get("group_id") or 0),
        attributes={str(a["name"]): a["value"] for a in item.get("attributes") or ()},
    )


def _parsed(reply: Any) -> Any:
    if not isinstance(reply, (str, bytes, bytearray, memoryview)):
        return reply
    try:
        return orjson.loads(reply)
    except ValueError as error:
        raise ModelError(f"the reply is not JSON: {error}") from error


def _object(reply: Any, kind: str) -> Mapping[str, Any]:
    content = _parsed(reply)
    if not isinstance(content, Mapping):
        raise ModelError(f"the reply is not an object but {describe(content)}; is the function {kind}?")
    return content


@contextlib.contextmanager
def _named(part: str) -> Iterator[None]:
    """Turns what goes wrong while a part of a reply is read into a ModelError that names the part."""
    try:
        yield
    except KeyError as error:
        raise ModelError(f'{part} is invalid: "{error.args[0]}" is missing') from error
    except (BadRequest, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{part} is invalid: {error}") from error
