"""The functions of the YOLO family through their own main.py, with files of constant outputs in place of their weights."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from common.config import FunctionConfig
from common.cvat.skeleton import COCO_JOINTS
from common.errors import StartupError
from common.networks import weights
from common.networks.exported.model import ExportedModel
from common.networks.formats.metadata import Metadata
from common.vision.mask import flat_to_mask, mask_to_bitmap
from tests.common.networks.exported.random_networks import network
from tests.common.networks.onnx_files import constant_model
from tools.collection import COLLECTION
from tools.new.facts import Facts
from tools.new.function import Plan, write_function
from tools.new.labels import make_labels
from tools.wrapper import LoadedFunction, Reply

FAMILY = {
    "onnx/yolo/detect": ("rectangle", 80),
    "onnx/yolo/segment": ("mask", 80),
    "onnx/yolo/pose": ("skeleton", 1),
    "onnx/yolo/obb": ("rectangle", 15),
    "onnx/yolo/classify": ("tag", 1000),
    "onnx/WongKinYiu/yolov7": ("rectangle", 80),
    "onnx/WongKinYiu/yolor": ("rectangle", 80),
    "onnx/open-mmlab/mmrotate": ("rectangle", 15),
    "pytorch/ultralytics/yolo": ("rectangle", 80),
}
PLACES = 84
# The image is 128 x 64, the input 64 x 64: a point (x, y) of the input is (2 x, 2 (y - 16)) in the image.
IMAGE = np.full((64, 128, 3), 100, np.uint8)
CAT = 15  # in COCO's list


def body(image: np.ndarray, threshold: float | None = None) -> dict[str, Any]:
    png = cv2.imencode(".png", image[..., ::-1])[1].tobytes()
    return {"image": base64.b64encode(png).decode()} | ({} if threshold is None else {"threshold": threshold})


def columns(height: int, values: dict[int, float], count: int = PLACES) -> np.ndarray:
    table = np.zeros((1, height, count), np.float32)
    for row, value in values.items():
        table[0, row, 7] = value
    return table


def said(task: str, names: list[str], **more: Any) -> dict[str, Any]:
    return {"names": str(dict(enumerate(names))), "task": task, "stride": 32, "end2end": False, **more}


def labels_of(function: str) -> list[str]:
    return list(FunctionConfig.load(COLLECTION / function).labels)


def ask(
    function: str, model: Path, monkeypatch: pytest.MonkeyPatch, threshold: float | None = 0.3, **options: str
) -> Reply:
    monkeypatch.setenv("MODEL_PATH", str(model))
    monkeypatch.setenv("ENGINE", "onnxruntime")
    for name, value in options.items():
        monkeypatch.setenv(name, value)
    return LoadedFunction(COLLECTION / function, unique=True)(body(IMAGE, threshold))


@pytest.mark.parametrize("function", FAMILY)
def test_the_labels_are_those_of_the_published_weights(function: str) -> None:
    config = FunctionConfig.load(COLLECTION / function)
    kind, count = FAMILY[function]
    assert len(config.labels) == count and {label.type for label in config.labels.values()} == {kind}
    assert sorted(config.labels.names_by_id) == list(range(count))
    assert config.environment["DEVICE"] == "cpu"
    if count == 80:
        assert config.labels.names_by_id[CAT] == "cat" and config.labels.names_by_id[79] == "toothbrush"


def test_lists_of_the_data_sets_are_those_of_ultralytics() -> None:
    import ultralytics
    import yaml

    for function, file in (("detect", "coco"), ("segment", "coco"), ("obb", "DOTAv1"), ("classify", "ImageNet")):
        path = Path(ultralytics.__file__).parent / f"cfg/datasets/{file}.yaml"
        names = yaml.safe_load(path.read_text(encoding="utf-8"))["names"]
        assert labels_of(f"onnx/yolo/{function}") == [names[i] for i in range(len(names))]


@pytest.mark.parametrize("function", FAMILY)
def test_without_weights_the_start_says_what_to_do(function: str, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = COLLECTION / function
    if weights.missing(directory, {}) is None:
        pytest.fail(f"{function} has weights here; this test needs a checkout without")
    with pytest.raises(StartupError, match=r"python -m common\.networks\.weights|mount the folder of your weights"):
        LoadedFunction(directory, unique=True)


@pytest.mark.parametrize("function", [name for name in FAMILY if (COLLECTION / name / "weights.yaml").is_file()])
def test_every_variant_has_an_address(function: str) -> None:
    catalog = weights.read_catalog(COLLECTION / function)
    assert catalog is not None
    assert FunctionConfig.load(COLLECTION / function).environment["VARIANT"] == catalog.default
    suffix = ".pt" if function.startswith("pytorch") else ".onnx"
    for name, variant in catalog.variants.items():
        (file,) = variant.files
        assert (
            file.url is not None
            and file.url.startswith("https://github.com/")
            and file.url.endswith(f"/{name}{suffix}")
        )


def test_detect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = columns(84, {0: 16, 1: 26, 2: 16, 3: 12, 4 + CAT: 0.9})
    model = constant_model(tmp_path / "m.onnx", {"o": table}, metadata=said("detect", labels_of("onnx/yolo/detect")))
    reply = ask("onnx/yolo/detect", model, monkeypatch)
    assert reply.status == 200
    assert reply.json() == [{"label": "cat", "type": "rectangle", "confidence": "0.9000", "points": [16, 8, 48, 32]}]
    assert ask("onnx/yolo/detect", model, monkeypatch, 0.95).json() == []


def test_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prototypes = np.full((1, 32, 16, 16), -1, np.float32)
    prototypes[0, 3, :, 8:] = 1
    table = columns(116, {0: 32, 1: 32, 2: 16, 3: 8, 4 + CAT: 0.9, 84 + 3: 1})
    model = constant_model(
        tmp_path / "m.onnx", {"o": table, "p": prototypes}, metadata=said("segment", labels_of("onnx/yolo/segment"))
    )
    (shape,) = ask("onnx/yolo/segment", model, monkeypatch).json()
    # The box is (48, 24) to (80, 40); the right half of the image is set.
    assert (shape["label"], shape["type"], shape["mask"][-4:]) == ("cat", "mask", [64, 24, 79, 39])
    assert shape["mask"][:-4] == [1] * 16 * 16
    assert sorted(map(tuple, np.reshape(shape["points"], (-1, 2)))) == [(64, 24), (64, 40), (80, 24), (80, 40)]


def test_pose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {0: 16.0, 1: 26.0, 2: 16.0, 3: 12.0, 4: 0.9}
    for i in range(17):
        values |= {5 + 3 * i: 10 + i, 6 + 3 * i: 20 + i, 7 + 3 * i: 0.9 if i % 2 else 0.2}
    metadata = said("pose", ["person"], kpt_shape="[17, 3]")
    model = constant_model(tmp_path / "m.onnx", {"o": columns(56, values)}, metadata=metadata)
    (shape,) = ask("onnx/yolo/pose", model, monkeypatch).json()
    assert (shape["label"], shape["type"]) == ("person", "skeleton")
    assert [element["label"] for element in shape["elements"]] == list(COCO_JOINTS)
    assert shape["elements"][1] == {"label": "left_eye", "type": "points", "points": [22, 10], "outside": 0}
    assert [element["outside"] for element in shape["elements"]] == [(i + 1) % 2 for i in range(17)]
    surer = ask("onnx/yolo/pose", model, monkeypatch, JOINT_THRESHOLD="0.95")
    assert (surer.status, surer.json()) == (200, [])


def test_obb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = columns(20, {0: 32, 1: 32, 2: 20, 3: 8, 4 + 1: 0.9, 19: np.pi / 6})
    model = constant_model(tmp_path / "m.onnx", {"o": table}, metadata=said("obb", labels_of("onnx/yolo/obb")))
    assert ask("onnx/yolo/obb", model, monkeypatch).json() == [
        {"label": "ship", "type": "rectangle", "confidence": "0.9000", "points": [44, 24, 84, 40], "rotation": 30.0}
    ]


def test_classify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = np.zeros((1, 1000), np.float32)
    scores[0, [3, 134, 517, 999]] = [0.2, 0.4, 0.3, 0.1]
    # The published files write their names with underscores.
    names = [name.replace(" ", "_") for name in labels_of("onnx/yolo/classify")]
    model = constant_model(tmp_path / "m.onnx", {"o": scores}, metadata=said("classify", names))
    tags = ask("onnx/yolo/classify", model, monkeypatch, None).json()
    assert [(tag["type"], tag["label"]) for tag in tags] == [("tag", "crane (bird)"), ("tag", "crane (machine)")]
    assert len(ask("onnx/yolo/classify", model, monkeypatch, 0.05).json()) == 4
    assert len(ask("onnx/yolo/classify", model, monkeypatch, 0.05, TOP="1").json()) == 1
    assert len(ask("onnx/yolo/classify", model, monkeypatch, 0.05, TOP="4", LABELS_BY="name").json()) == 4


def test_yolov7(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.array([[0, 8, 20, 24, 32, CAT, 0.9]], np.float32)
    reply = ask("onnx/WongKinYiu/yolov7", constant_model(tmp_path / "m.onnx", {"output": rows}), monkeypatch)
    assert reply.json() == [{"label": "cat", "type": "rectangle", "confidence": "0.9000", "points": [16, 8, 48, 32]}]


def test_yolor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores, boxes = np.zeros((252, 80), np.float32), np.zeros((252, 4), np.float32)
    scores[9, CAT], boxes[9] = 0.9, [16 / 64, 26 / 64, 16 / 64, 12 / 64]
    model = constant_model(tmp_path / "m.onnx", {"classes": scores, "boxes": boxes})
    reply = ask("onnx/WongKinYiu/yolor", model, monkeypatch)
    assert reply.json() == [{"label": "cat", "type": "rectangle", "confidence": "0.9000", "points": [16, 8, 48, 32]}]


def test_mmrotate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dets = np.zeros((1, 100, 6), np.float32)
    dets[0, 4] = [32, 16, 20, 8, np.pi / 6, 0.9]
    classes = np.zeros((1, 100), np.int64)
    classes[0, 4] = 6
    model = constant_model(tmp_path / "m.onnx", {"dets": dets, "labels": classes}, input_name="input")
    reply = ask("onnx/open-mmlab/mmrotate", model, monkeypatch)
    assert reply.json() == [
        {"label": "ship", "type": "rectangle", "confidence": "0.9000", "points": [44, 24, 84, 40], "rotation": 30.0}
    ]


def test_a_model_that_is_not_the_labels_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = constant_model(tmp_path / "m.onnx", {"o": columns(6, {})}, metadata=said("detect", ["scratch", "dent"]))
    with pytest.raises(
        StartupError, match=r"no class named person, .*; its 2 classes: scratch, dent.*make new WEIGHTS="
    ):
        ask("onnx/yolo/detect", other, monkeypatch)
    scores = np.full((1, 80), 1 / 80, np.float32)
    tags = constant_model(tmp_path / "t.onnx", {"o": scores}, metadata=said("classify", labels_of("onnx/yolo/detect")))
    with pytest.raises(StartupError, match=r"task is classify; function\.yaml's labels for it are of type tag or any"):
        ask("onnx/yolo/detect", tags, monkeypatch)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("IOU", "1.5", "IOU: expected a number from 0 to 1"),
        ("MAX_DET", "0", "MAX_DET"),
        ("LABELS_BY", "colour", "LABELS_BY: expected name or id"),
        ("LAYOUT", "yolo99", "LAYOUT: expected auto or one of"),
        ("DEVICE", "cuda", "DEVICE=cpu"),
        ("MODEL_PATH", "/nowhere/best.onnx", "there is no /nowhere/best.onnx"),
        ("JOINT_THRESHOLD", "high", "JOINT_THRESHOLD: expected a number"),
    ],
)
def test_a_wrong_option_stops_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    model = constant_model(
        tmp_path / "m.onnx", {"o": columns(84, {})}, metadata=said("detect", labels_of("onnx/yolo/detect"))
    )
    monkeypatch.setenv("MODEL_PATH", str(model))
    monkeypatch.setenv(name, value)
    with pytest.raises(StartupError, match=message):
        LoadedFunction(COLLECTION / "onnx/yolo/detect", unique=True)


def test_tiles_find_what_is_too_small_in_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A box in the middle of whatever the network sees: once in the whole image, and in each tile.
    table = columns(84, {0: 32, 1: 32, 2: 8, 3: 8, 4 + CAT: 0.9})
    model = constant_model(tmp_path / "m.onnx", {"o": table}, metadata=said("detect", labels_of("onnx/yolo/detect")))
    reply = ask("onnx/yolo/detect", model, monkeypatch, TILE_SIZE="64", TILE_OVERLAP="0")
    assert sorted(shape["points"] for shape in reply.json()) == [[28, 28, 36, 36], [56, 24, 72, 40], [92, 28, 100, 36]]
    none = ask("onnx/yolo/detect", model, monkeypatch, TILE_SIZE="0")
    assert [shape["points"] for shape in none.json()] == [[56, 24, 72, 40]]


@pytest.fixture(scope="module")
def pt_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pt")
    model = network(folder, "detect", names=tuple(labels_of("onnx/yolo/detect")))
    model.save(str(folder / "net.pt"))
    return folder / "net.pt"


def test_pt_files_through_the_package(pt_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ultralytics import YOLO

    random = np.random.default_rng(1)
    image = cv2.resize(random.integers(0, 256, (12, 16, 3), np.uint8), (400, 300), interpolation=cv2.INTER_CUBIC)
    monkeypatch.setenv("MODEL_PATH", str(pt_file))
    monkeypatch.setenv("IMAGE_SIZE", "160")
    reply = LoadedFunction(COLLECTION / "pytorch/ultralytics/yolo", unique=True)(body(image, 0.3))
    result = YOLO(str(pt_file)).predict(image[..., ::-1], conf=0.3, iou=0.7, imgsz=160, rect=False, verbose=False)[0]
    shapes = reply.json()
    assert reply.status == 200 and len(shapes) == len(result.boxes) > 3
    for shape, box, score, index in zip(shapes, result.boxes.xyxy, result.boxes.conf, result.boxes.cls, strict=True):
        np.testing.assert_allclose(shape["points"], box.numpy(), atol=0.01)
        assert (shape["label"], shape["confidence"]) == (result.names[int(index)], f"{float(score):.4f}")


@pytest.mark.parametrize("task", ["segment", "pose", "obb", "classify"])
def test_pt_files_of_every_task(task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written as `make new` writes them; the shapes are what Ultralytics' predictor says."""
    from ultralytics import YOLO

    names, joints = ("cat", "dog", "cow"), tuple("abcde")
    path = tmp_path / "net.pt"
    network(tmp_path, task, names=names).save(str(path))
    (folder := tmp_path / "made").mkdir()
    facts = Facts(files=(path,), like="pytorch/ultralytics/yolo", task=task, names=names, classes=len(names))
    labels = make_labels(names, task, joints if task == "pose" else ())
    write_function(folder, Plan("made", "detector", labels, {"IMAGE_SIZE": "160"}, facts))
    random = np.random.default_rng(1)
    image = cv2.resize(random.integers(0, 256, (12, 16, 3), np.uint8), (400, 300), interpolation=cv2.INTER_CUBIC)
    monkeypatch.setenv("MAX_DET", "20")
    reply = LoadedFunction(folder, unique=True)(body(image, 0.2))
    options = {"rect": False, "retina_masks": True, "max_det": 20, "verbose": False}
    result = YOLO(str(path)).predict(image[..., ::-1], conf=0.2, imgsz=160, **options)[0].cpu().numpy()
    shapes = reply.json()
    assert reply.status == 200 and len(shapes) >= 1
    if task == "classify":
        likely = [i for i in result.probs.top5 if result.probs.data[i] >= 0.2]
        assert [shape["label"] for shape in shapes] == [names[i] for i in likely]
        return
    boxes = result.boxes if result.obb is None else result.obb
    theirs = {(f"{float(boxes.conf[i]):.4f}", names[int(boxes.cls[i])]): i for i in range(len(boxes.conf))}
    for shape in shapes:
        i = theirs[shape["confidence"], shape["label"]]
        if task == "segment":
            mask = mask_to_bitmap(flat_to_mask(shape["mask"]), image.shape[:2])
            np.testing.assert_array_equal(mask, result.masks.data[i] > 0)
        elif task == "pose":
            for element, (x, y, seen) in zip(shape["elements"], result.keypoints.data[i], strict=True):
                assert element["outside"] == int(seen < 0.5)
                if seen >= 0.5:
                    np.testing.assert_allclose(element["points"], [x, y], atol=0.01)
        else:
            left, top, right, bottom = shape["points"]
            turned = [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
            np.testing.assert_allclose(turned, boxes.xywhr[i, :4], atol=0.02)
            angle = (shape["rotation"] - np.degrees(boxes.xywhr[i, 4]) + 90) % 180 - 90
            assert abs(angle) < 0.02


def test_pt_function_refuses(pt_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        LoadedFunction(COLLECTION / "pytorch/ultralytics/yolo", unique=True)

    broken = tmp_path / "broken.pt"
    broken.write_bytes(b"no checkpoint" * 100)
    with pytest.raises(StartupError, match=r"broken\.pt: the ultralytics package can't load it"):
        start(MODEL_PATH=str(broken))
    with pytest.raises(StartupError, match=r"torch sees 0 GPUs here.*Or set DEVICE=cpu"):
        start(MODEL_PATH=str(pt_file), DEVICE="cuda")
    (tmp_path / "m.onnx").touch()
    with pytest.raises(StartupError, match=r"expected a \.pt file.*serverless/onnx/yolo"):
        start(MODEL_PATH=str(tmp_path / "m.onnx"), DEVICE="cpu")


def test_model_files_of_the_collection_say_what_they_are() -> None:
    # The one network that the collection ships.
    model = ExportedModel(COLLECTION / "onnx/yolo/shapes/shapes.onnx", engine="onnxruntime")
    assert isinstance(model.metadata, Metadata) and model.layout.task == "segment"
    assert json.dumps(model.names) == json.dumps(labels_of("onnx/yolo/shapes"))
