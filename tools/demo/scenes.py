"""What the demo sends: requests for each kind of function, made from one photograph, and how their replies are drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from common.cvat.annotation import LabelIds, to_annotation
from common.cvat.reply import read_detector_reply, read_interactor_reply, read_reid_reply, read_tracker_reply
from common.cvat.request import detector_body, interactor_body, reid_body, tracker_body
from common.shapes import BoxXyxy, Rectangle
from common.vision.geometry import clip_points
from tools.draw import overlay
from training.shapes.draw import draw_shapes

Image = NDArray[np.uint8]
PHOTOGRAPH = Path(__file__).with_name("cat_mug.jpg")

MUG, LAMP, HEAD, KEYS = (58, 180, 308, 355), (145, 0, 318, 85), (440, 103, 612, 265), (526, 222, 640, 332)
_FRAMES = 12


@dataclass(frozen=True)
class Scene:
    """What the demo shows of one function."""

    function: str
    """Its name in function.yaml."""
    title: str
    """What it does, as the heading of its part of the output."""
    steps: list[Callable[[Any], dict[str, Any]]]
    """Each makes a request's body from the reply to the previous request (None for the first)."""
    draw: Callable[[Any], list[Image]]
    """The pictures of the last reply, (H, W, 3) uint8 RGB, side by side in the output."""
    captions: tuple[str, ...]
    """What each of those pictures is called in the montage."""
    detail_xyxy: tuple[int, int, int, int] = (0, 0, 640, 480)
    """The part of the pictures that the montage shows: (left, top, right, bottom) in pixels."""


def all_scenes() -> list[Scene]:
    """The parts of the demo, in order."""
    photograph = cv2.cvtColor(cv2.imread(str(PHOTOGRAPH)), cv2.COLOR_BGR2RGB)
    return [_text(photograph), _shapes(), _click(photograph), _track(photograph), _again(photograph)]


def _text(photograph: Image) -> Scene:
    return Scene(
        "onnx-rapidocr-text",
        "Text in a photograph, found and read",
        [lambda _: detector_body(PHOTOGRAPH.read_bytes())],
        lambda reply: [overlay(photograph, read_detector_reply(reply))],
        ("Detector: text, found and read",),
        detail_xyxy=(30, 125, 478, 461),
    )


def _shapes() -> Scene:
    drawn = draw_shapes(seed=24, size_hw=(480, 640)).image
    return Scene(
        "onnx-yolo-shapes",
        "Drawn shapes, found by a tiny YOLO with masks",
        [lambda _: detector_body(_png(drawn))],
        lambda reply: [overlay(drawn, read_detector_reply(reply))],
        ("Detector: masks of a YOLO model",),
    )


def _click(photograph: Image) -> Scene:
    body = interactor_body(_png(photograph), pos_points=[(215, 225)], neg_points=[(200, 400)], box_xyxy=MUG)
    return Scene(
        "opencv-grabcut",
        "The mug, cut out from a box, a click on it and one beside it",
        [lambda _: body],
        lambda reply: [_with_prompt(overlay(photograph, [read_interactor_reply(reply)]), body)],
        ("Interactor: cut out from a box and two clicks",),
    )


def _track(photograph: Image) -> Scene:
    def later(k: int) -> Callable[[Any], dict[str, Any]]:
        return lambda reply: tracker_body(_png(moved(photograph, k)), states=read_tracker_reply(reply).states)

    first = tracker_body(_png(photograph), [Rectangle(box_xyxy=MUG), Rectangle(box_xyxy=HEAD)])
    return Scene(
        "opencv-opticalflow",
        f"The mug and the cat's head, followed over {_FRAMES} frames while the camera moves and zooms",
        [lambda _: first, *(later(k) for k in range(1, _FRAMES + 1))],
        lambda reply: [overlay(moved(photograph, _FRAMES), read_tracker_reply(reply).shapes)],
        (f"Tracker: two objects, {_FRAMES} frames later",),
    )


def _again(photograph: Image) -> Scene:
    boxes0, order = [MUG, LAMP, HEAD, KEYS], [2, 0, 3, 1]
    after = moved(photograph, 3)
    boxes1 = [moved_box(boxes0[i], 3, photograph.shape[:2]) for i in order]
    in_first, in_second = [_cvat_shape(box, 0) for box in boxes0], [_cvat_shape(box, 1) for box in boxes1]
    body = reid_body(_png(photograph), _png(after), in_first, in_second, max_distance=100)

    def draw(reply: Any) -> list[Image]:
        names = [chr(ord("A") + i) for i in range(len(boxes0))]
        partners = read_reid_reply(reply, len(boxes0), len(boxes1))
        found = {partner: name for name, partner in zip(names, partners, strict=True) if partner >= 0}
        left = overlay(photograph, [Rectangle(box_xyxy=b, label=name) for b, name in zip(boxes0, names, strict=True)])
        right = overlay(after, [Rectangle(box_xyxy=b, label=found.get(i, "?")) for i, b in enumerate(boxes1)])
        return [left, right]

    captions = ("Re-identification: objects of one frame ...", "... and the same ones found in another")
    title = "Four objects of one frame, found again in another"
    return Scene("opencv-appearance", title, [lambda _: body], draw, captions)


def moved(image: Image, k: int) -> Image:
    """A later frame of the same scene: the camera moves right and down and comes a little closer.

    Args:
        image: The first frame, (H, W, 3) uint8 RGB.
        k: How many frames later.
    """
    height, width = image.shape[:2]
    frame = cv2.warpAffine(image, _motion(k, (height, width)), (width, height), borderMode=cv2.BORDER_REFLECT)
    return np.asarray(frame, np.uint8)


def moved_box(box_xyxy: BoxXyxy, k: int, size_hw: tuple[int, int]) -> BoxXyxy:
    """Where a box of the first frame is in the one that `moved` makes.

    Args:
        box_xyxy: [left, top, right, bottom] in pixels of the first frame.
        k: How many frames later.
        size_hw: Height and width of the frames.

    Returns:
        [left, top, right, bottom], clipped to the frame.
    """
    matrix = _motion(k, size_hw)
    corners = (matrix[:, :2] @ np.array(box_xyxy, np.float64).reshape(2, 2).T).T + matrix[:, 2]
    left, top, right, bottom = clip_points(corners, size_hw).ravel().round(1).tolist()
    return left, top, right, bottom


def _motion(k: int, size_hw: tuple[int, int]) -> NDArray[np.float64]:
    scale, center = 1 + 0.008 * k, np.array([size_hw[1], size_hw[0]]) / 2
    shift = center - scale * center + (-4.0 * k, -2.5 * k)
    return np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])


def _with_prompt(image: Image, body: dict[str, Any]) -> Image:
    """The picture with an interactor's box, and its clicks as dots: green on the object, red beside it."""
    canvas = image.copy()
    cv2.rectangle(canvas, body["obj_bbox"][0], body["obj_bbox"][1], (255, 255, 255), 1, cv2.LINE_AA)
    for key, colour in (("pos_points", (40, 200, 80)), ("neg_points", (230, 50, 50))):
        for point in body[key]:
            cv2.circle(canvas, point, 7, (255, 255, 255), -1, cv2.LINE_AA)
            cv2.circle(canvas, point, 5, colour, -1, cv2.LINE_AA)
    return canvas


def _cvat_shape(box_xyxy: BoxXyxy, frame: int) -> dict[str, Any]:
    return to_annotation(Rectangle(box_xyxy=box_xyxy), LabelIds(label=1), frame)


def _png(image: Image) -> bytes:
    return cv2.imencode(".png", image[:, :, ::-1])[1].tobytes()
