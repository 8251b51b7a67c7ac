"""The trained networks on drawn pictures: made into functions by `make new`, asked through their main.py, and through
tools.serve, and measured against what was drawn, decoded from the JSON that CVAT would get.

No picture has the size that the networks were trained on.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest

from common.vision.mask import flat_to_mask, mask_to_bitmap
from tests.tools.test_serve import Server
from tools.collection import COLLECTION, ROOT
from tools.new.__main__ import make
from tools.wrapper import LoadedFunction
from training.shapes.draw import Scene
from training.shapes.measure import NEAR, Found, Tally, fresh_scenes

MODELS = [*sorted((ROOT / "tests/models").glob("*.onnx")), COLLECTION / "onnx/yolo/shapes/shapes.onnx"]
PICTURES = 100
THRESHOLD = 0.4


def task_of(path: Path) -> str:
    return "segment" if path.stem == "shapes" else path.stem.split("_")[0]


def body_of(scene: Scene) -> dict[str, Any]:
    png = cv2.imencode(".png", scene.image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
    return {"image": base64.b64encode(png).decode(), "threshold": THRESHOLD}


def found_in(reply: list[dict[str, Any]], names: list[str], size_hw: tuple[int, int]) -> Iterator[Found]:
    """The annotations of a reply, as CVAT understands them."""
    for shape in reply:
        index, score = names.index(shape["label"]), float(shape["confidence"])
        if shape["type"] == "mask":
            mask = flat_to_mask(shape["mask"])
            left, top, right, bottom = mask.box_xyxy
            yield Found(index, score, np.array([left, top, right, bottom], float), mask=mask_to_bitmap(mask, size_hw))
        elif shape["type"] == "skeleton":
            joints = np.array([[*joint["points"], 1.0 - joint["outside"]] for joint in shape["elements"]])
            seen = joints[joints[:, 2] > 0, :2]
            yield Found(index, score, np.concatenate([seen.min(axis=0), seen.max(axis=0)]), joints=joints)
        else:
            left, top, right, bottom = shape["points"]
            turned = np.array(
                [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top, shape.get("rotation", 0)]
            )
            yield Found(index, score, np.array(shape["points"], float), rotated=turned)


def test_networks_for_every_task_are_here() -> None:
    names = {path.stem for path in MODELS}
    assert {task_of(path) for path in MODELS} == {"detect", "segment", "pose", "obb", "classify"}
    assert {"detect", "detect_e2e", "segment_e2e", "pose", "pose_e2e", "obb", "obb_e2e", "classify"} <= names


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_finds_what_was_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    task, name = task_of(path), f"drawn-{path.stem.replace('_', '-')}"
    made = make({"WEIGHTS": str(path), "NAME": name, "OUT": str(tmp_path / name)}).directory
    names = [label["name"] for label in json.loads((made / "labels.json").read_text())]
    monkeypatch.setenv("ENGINE", "onnxruntime")
    function = LoadedFunction(made, unique=True)
    tally = Tally()
    for scene in fresh_scenes(task, PICTURES):
        reply = function(body_of(scene))
        assert reply.status == 200
        if task == "classify":
            best = max(reply.json(), key=lambda tag: float(tag["confidence"]), default={"label": None})
            tally.right_tags.append(best["label"] == scene.things[0].label)
        else:
            height, width = scene.image.shape[:2]
            tally.add(scene.things, list(found_in(reply.json(), names, (height, width))))
    if task == "classify":
        assert np.mean(tally.right_tags) > 0.95
        return
    # The end-to-end heads were trained after the others, for fewer steps: tests/models/README.md says how good they are.
    fewest, most = (0.7, 0.35) if path.stem.endswith("_e2e") else (0.8, 0.2)
    assert len(tally.box_ious) > fewest * tally.things, "too little was found"
    assert tally.extra < most * tally.things, "too much was found"
    if task in ("detect", "segment"):
        assert np.mean(tally.box_ious) > 0.85
    if task == "segment":
        assert len(tally.mask_ious) == len(tally.box_ious) and np.mean(tally.mask_ious) > 0.85
    if task == "obb":
        assert np.mean(tally.rotated_ious) > 0.8
    if task == "pose":
        assert np.mean(tally.joint_errors) < NEAR
        assert np.mean([error < NEAR for error in tally.joint_errors]) > 0.8


def test_through_the_local_server(tmp_path: Path) -> None:
    """The same answers over HTTP, and as good, by the address of the function and by that of Nuclio's dashboard."""
    server = Server("onnx/yolo/shapes")
    try:
        server.wait_for("ready")
        names = ["circle", "square", "triangle"]
        function = LoadedFunction(COLLECTION / "onnx/yolo/shapes", unique=True)
        tally = Tally()
        deadline = 120
        for i, scene in enumerate(fresh_scenes("segment", PICTURES)):
            ask = server.direct if i % 2 else server.invoke
            reply: httpx.Response = ask("onnx-yolo-shapes", body_of(scene))
            assert reply.status_code == 200 and reply.elapsed.total_seconds() < deadline
            height, width = scene.image.shape[:2]
            found = list(found_in(reply.json(), names, (height, width)))
            tally.add(scene.things, found)
            if i < 5:
                ours = list(found_in(function(body_of(scene)).json(), names, (height, width)))
                assert len(ours) == len(found)
                for one, other in zip(ours, found, strict=True):
                    assert one.class_id == other.class_id and math.isclose(one.score, other.score, abs_tol=1e-3)
        assert len(tally.mask_ious) > 0.8 * tally.things
        assert np.mean(tally.mask_ious) > 0.85 and np.mean(tally.box_ious) > 0.85
    finally:
        server.stop()
