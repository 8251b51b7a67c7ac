"""Our decoder against Ultralytics' own predictor: the same file, the same picture, number by number."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from ultralytics import RTDETR, YOLO

from common.networks.exported.model import ExportedModel
from common.networks.formats.signature import Hints
from common.networks.results import Found
from common.vision.mask import mask_to_bitmap
from tests.common.networks.exported.random_networks import export, network
from tests.common.networks.onnx_files import constant_model

TASKS = ("detect", "segment", "pose", "obb", "classify")
SIZES = {"1080p": (1080, 1920), "12 MP": (3000, 4000), "strip": (90, 2000), "grey": (480, 640)}
SIDE = 160

# Raw outputs, final ones of a network that makes them itself, and final ones by the exporter's suppression.
EXPORTS: dict[str, dict[str, Any]] = {
    "raw": {"family": "11"},
    "end2end": {"family": "26", "nms": False},
    "nms": {"family": "11", "nms": True},
}
CASES = [
    (task, how)
    for task in TASKS
    for how in EXPORTS
    if not (task == "classify" and how != "raw") and (task, how) != ("pose", "nms")
]


@pytest.fixture(scope="module")
def model_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    made: dict[tuple[str, str], Path] = {}
    folder = tmp_path_factory.mktemp("networks")

    def of(task: str, how: str) -> Path:
        if (task, how) not in made:
            made[task, how] = export(folder, task, size=SIDE, **EXPORTS[how])
        return made[task, how]

    return of


def picture(name: str) -> np.ndarray:
    """Discs of many sizes on a blurred background: something for every stride of a network."""
    height, width = SIZES[name]
    random = np.random.default_rng(5)
    coarse = random.integers(0, 256, (9, 16, 3), np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(40):
        center = int(random.integers(0, width)), int(random.integers(0, height))
        radius = int(random.integers(3, max(4, min(height, width) // 4)))
        cv2.circle(image, center, radius, [int(v) for v in random.integers(0, 256, 3)], -1)
    return np.repeat(image[:, :, :1], 3, axis=2) if name == "grey" else image


def reference(model: YOLO, image: np.ndarray, threshold: float, **how: Any) -> Any:
    settings = {"imgsz": SIDE, "rect": False, "iou": 0.7, "device": "cpu", "verbose": False, "retina_masks": True} | how
    return model.predict(np.ascontiguousarray(image[..., ::-1]), conf=threshold, **settings)[0].cpu().numpy()


def compare(found: Found, result: Any, size_hw: tuple[int, int]) -> int:
    """Asserts that both found the same; returns how many."""
    if result.probs is not None:
        np.testing.assert_allclose(found.scores, result.probs.data[found.classes], atol=1e-3)
        assert found.classes[0] == result.probs.top1
        return len(found.scores)
    height, width = size_hw
    boxes = result.boxes if result.obb is None else result.obb
    if result.obb is None:
        # Nothing is left of what lies in the padding, and CVAT takes no empty boxes.
        keep = (boxes.xyxy[:, 2] > boxes.xyxy[:, 0]) & (boxes.xyxy[:, 3] > boxes.xyxy[:, 1])
    else:
        keep = ((boxes.xywhr[:, :2] >= 0) & (boxes.xywhr[:, :2] <= (width, height))).all(axis=1)
    assert len(found.scores) == keep.sum()
    np.testing.assert_allclose(found.scores, boxes.conf[keep], atol=1e-3)
    np.testing.assert_array_equal(found.classes, boxes.cls[keep])
    if result.obb is not None:
        assert found.rotated_xywhr is not None
        np.testing.assert_allclose(found.rotated_xywhr[:, :4], boxes.xywhr[keep, :4], atol=0.5)
        turn = np.degrees(found.rotated_xywhr[:, 4] - boxes.xywhr[keep, 4])
        assert (np.abs((turn + 90) % 180 - 90) < 0.1).all()
        return int(keep.sum())
    np.testing.assert_allclose(found.boxes_xyxy, boxes.xyxy[keep], atol=0.5)
    if result.masks is not None:
        assert found.masks is not None
        for mask, theirs in zip(found.masks, result.masks.data[keep], strict=True):
            left, top, right, bottom = mask.box_xyxy
            shared = np.count_nonzero(theirs[top:bottom, left:right] & mask.bitmap)
            assert shared > 0.99 * (np.count_nonzero(theirs) + np.count_nonzero(mask.bitmap) - shared)
    if result.keypoints is not None:
        assert found.joints is not None
        np.testing.assert_allclose(found.joints[..., :2], result.keypoints.data[keep, :, :2], atol=0.5)
        np.testing.assert_allclose(found.joints[..., 2], result.keypoints.data[keep, :, 2], atol=1e-3)
    return int(keep.sum())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("task", "how"), CASES)
def test_as_ultralytics(model_of: Callable[[str, str], Path], task: str, how: str, size: str) -> None:
    path, image = model_of(task, how), picture(size)
    threshold, most = 0.3, 40 if task == "segment" else 300  # hundreds of masks of 12 megapixels take long to compare
    found = ExportedModel(path, engine="onnxruntime").find(image, threshold, most=most)
    result = reference(YOLO(str(path), task=task), image, threshold, max_det=most)
    count = compare(found, result, image.shape[:2])
    assert count >= 1, "nothing was compared"
    if task == "classify":
        return
    assert count >= 10 or size == "strip"


def test_openvino_agrees(model_of: Callable[[str, str], Path]) -> None:
    image = picture("1080p")
    for task in ("segment", "obb"):
        path = model_of(task, "raw")
        # A little over the scores at which one engine's rounding would decide.
        found = ExportedModel(path, engine="openvino").find(image, 0.3)
        assert compare(found, reference(YOLO(str(path), task=task), image, 0.3), image.shape[:2]) >= 10


@pytest.mark.parametrize("options", [{"iou": 0.3}, {"agnostic_nms": True}, {"max_det": 5}])
def test_options_mean_the_same(model_of: Callable[[str, str], Path], options: dict[str, Any]) -> None:
    image = picture("1080p")
    ours = {"iou": "iou", "agnostic_nms": "agnostic", "max_det": "most"}
    for task in ("detect", "obb"):
        path = model_of(task, "raw")
        found = ExportedModel(path, engine="onnxruntime").find(image, 0.1, **{ours[k]: v for k, v in options.items()})  # type: ignore[arg-type]
        result = reference(YOLO(str(path), task=task), image, 0.1, **options)
        assert compare(found, result, image.shape[:2]) >= 3


def test_masks_are_those_of_the_default_predictor_too(model_of: Callable[[str, str], Path]) -> None:
    # By default Ultralytics gives masks at the size of the network's input: ours, seen at that size, are the same but for
    # pixels along their edges and along the boxes', which are cut at whole pixels of another size.
    path, image = model_of("segment", "raw"), picture("1080p")
    model = ExportedModel(path, engine="onnxruntime")
    found = model.find(image, 0.3)
    result = reference(YOLO(str(path), task="segment"), image, 0.3, retina_masks=False)
    letterbox = model.fit(image.shape)
    assert found.masks is not None and found.boxes_xyxy is not None and len(found.masks) == len(result.masks.data) >= 10
    inside = slice(letterbox.top, letterbox.top + letterbox.inner_hw[0])
    centers = letterbox.to_image(np.arange(SIDE)[:, None] + (0.5, 0.5))
    columns, rows = np.floor(centers[:, 0]).astype(int), np.floor(centers[inside, 1]).astype(int)
    y, x = np.mgrid[inside, :SIDE] + 0.5
    for mask, theirs, box in zip(found.masks, result.masks.data[:, inside] > 0, found.boxes_xyxy, strict=True):
        ours = mask_to_bitmap(mask, image.shape[:2])[np.ix_(rows, columns)]
        edge = cv2.morphologyEx(theirs.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
        x1, y1, x2, y2 = letterbox.to_input(box.reshape(2, 2)).ravel()
        border = (
            np.minimum(np.abs(np.array([x - x1, x - x2])).min(axis=0), np.abs(np.array([y - y1, y - y2])).min(axis=0))
            < 1
        )
        assert not ((ours != theirs) & ~edge & ~border).any()


def test_a_network_of_free_input_size(tmp_path: Path) -> None:
    path = export(tmp_path, "detect", size=SIDE, dynamic=True)
    image = picture("1080p")
    for engine in ("onnxruntime", "openvino"):
        model = ExportedModel(path, engine=engine, image_size="96x224")
        assert model.size_hw == (96, 224)
        result = reference(YOLO(str(path), task="detect"), image, 0.3, imgsz=(96, 224))
        assert compare(model.find(image, 0.3), result, image.shape[:2]) >= 10


def test_half_precision(tmp_path: Path) -> None:
    # The exporter makes such files on a GPU only; the converter of onnxruntime's users does the same to a file.
    import onnx
    from onnx import numpy_helper

    path = export(tmp_path, "detect", size=SIDE)
    model = onnx.load(str(path))
    sizes = {name for node in model.graph.node if node.op_type == "Resize" for name in node.input[1:]}
    for constant in model.graph.initializer:
        if constant.data_type == onnx.TensorProto.FLOAT and constant.name not in sizes:
            constant.CopyFrom(
                numpy_helper.from_array(numpy_helper.to_array(constant).astype(np.float16), constant.name)
            )
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    for node in model.graph.node:
        for attribute in node.attribute:
            if (
                attribute.name == "value"
                and node.output[0] not in sizes
                and attribute.t.data_type == onnx.TensorProto.FLOAT
            ):
                attribute.t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(attribute.t).astype(np.float16)))
    del model.graph.value_info[:]
    half = tmp_path / "half.onnx"
    onnx.save(model, str(half))
    image = picture("1080p")
    exact, rough = ExportedModel(path).find(image, 0.3), ExportedModel(half, engine="onnxruntime").find(image, 0.3)
    assert len(exact.scores) >= 10 and abs(len(exact.scores) - len(rough.scores)) <= 3
    assert exact.boxes_xyxy is not None and rough.boxes_xyxy is not None
    # Sixteen bits are good for some three digits: the surest are the same boxes to a few pixels of 1920.
    nearest = np.abs(exact.boxes_xyxy[:5, None] - rough.boxes_xyxy[None]).max(axis=-1).min(axis=1)
    assert (nearest < 12).all()


def test_rtdetr(tmp_path: Path) -> None:
    """Ultralytics' RT-DETR: rows of six that mean something else, of a stretched image."""
    random = np.random.default_rng(8)
    table = random.uniform(0.05, 0.6, (1, 300, 6)).astype(np.float32)
    table[..., 4], table[..., 5] = random.uniform(0, 1, 300), random.integers(0, 3, 300)
    metadata = {"names": "{0: 'a', 1: 'b', 2: 'c'}", "task": "detect", "head": "RTDETRDecoder", "end2end": False}
    metadata |= {"stride": 32, "imgsz": f"[{SIDE}, {SIDE}]", "batch": 1, "channels": 3}
    table = table[:, np.argsort(-table[0, :, 4])]
    path = constant_model(
        tmp_path / "rtdetr.onnx", {"output0": table}, input_shape=(1, 3, SIDE, SIDE), metadata=metadata
    )
    image = picture("1080p")
    ours = ExportedModel(path, engine="onnxruntime")
    assert ours.layout.name == "rtdetr"
    found = ours.find(image, 0.3)
    result = reference(RTDETR(str(path)), image, 0.3)
    # It does not clip boxes to the image, which CVAT does.
    result.boxes.data[:, :4] = np.clip(result.boxes.data[:, :4], 0, [1920, 1080, 1920, 1080])
    assert compare(found, result, image.shape[:2]) >= 100


def test_set_by_hand_for_a_file_that_says_nothing(model_of: Callable[[str, str], Path], tmp_path: Path) -> None:
    import onnx

    model = onnx.load(str(model_of("pose", "raw")))
    del model.metadata_props[:]
    path = tmp_path / "nameless.onnx"
    onnx.save(model, str(path))
    image = picture("1080p")
    hints = Hints(task="pose", classes=3, joints=5)
    known = ExportedModel(model_of("pose", "raw"), engine="onnxruntime").find(image, 0.3)
    guessed = ExportedModel(path, engine="onnxruntime", hints=hints).find(image, 0.3)
    np.testing.assert_array_equal(known.joints, guessed.joints)


def test_pt_and_onnx_of_one_network_agree(tmp_path: Path) -> None:
    trained = network(tmp_path, "detect")
    image = picture("1080p")
    path = tmp_path / "net.pt"
    trained.save(str(path))
    result = reference(YOLO(str(path)), image, 0.3)
    exported = Path(YOLO(str(path)).export(format="onnx", imgsz=SIDE, verbose=False))
    assert compare(ExportedModel(exported, engine="onnxruntime").find(image, 0.3), result, image.shape[:2]) >= 10
