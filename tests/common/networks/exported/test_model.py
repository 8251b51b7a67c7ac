"""Files of each layout with constant outputs, opened and asked: where the numbers say, boxes must come out, in image pixels.

All images are 128 x 64 and all inputs 64 x 64: an image is halved and lies between rows 16 and 48, so that a point (x, y)
of the input is (2 x, 2 (y - 16)) in the image.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import openvino
import pytest
from onnx import TensorProto, helper, numpy_helper

from common.errors import StartupError
from common.networks.exported.model import ExportedModel
from common.networks.formats.signature import Hints
from common.networks.results import Found
from tests.common.networks.onnx_files import constant_model

IMAGE = np.full((64, 128, 3), 100, np.uint8)
PLACES = 84  # of a network with strides 8, 16, 32 and an input of 64 x 64
NAMES = "{0: 'cat', 1: 'dog'}"


def said(task: str, **more: Any) -> dict[str, Any]:
    return {"names": NAMES, "task": task, "stride": 32, "imgsz": "[64, 64]", "end2end": False, **more}


def columns(height: int, *places: list[float]) -> np.ndarray:
    """(1, height, PLACES) with some columns filled from the top."""
    table = np.zeros((1, height, PLACES), np.float32)
    for i, values in enumerate(places):
        table[0, : len(values), 3 + 7 * i] = values
    return table


def rows(width: int, count: int, *places: list[float]) -> np.ndarray:
    table = np.zeros((1, count, width), np.float32)
    for i, values in enumerate(places):
        table[0, 3 * i, : len(values)] = values
    return table


def ask(
    folder: Path,
    outputs: dict[str, np.ndarray],
    metadata: dict[str, Any] | None = None,
    threshold: float = 0.3,
    **how: Any,
) -> Found:
    path = constant_model(folder / "model.onnx", outputs, metadata=metadata, **how.pop("file", {}))
    find = {key: how.pop(key) for key in ("iou", "most", "agnostic") if key in how}
    return ExportedModel(path, engine="onnxruntime", **how).find(IMAGE, threshold, **find)


def results(found: Found) -> list[tuple[int, float, list[float]]]:
    assert found.boxes_xyxy is not None
    return [
        (index, round(score, 4), box)
        for index, score, box in zip(
            found.classes.tolist(), found.scores.tolist(), np.round(found.boxes_xyxy, 2).tolist(), strict=True
        )
    ]


# In the input: a cat from (8, 20) to (24, 32), and a dog from (30, 24) to (50, 40).
CAT, DOG = (0, 0.9, [16.0, 8.0, 48.0, 32.0]), (1, 0.8, [60.0, 16.0, 100.0, 48.0])
CAT_XYWH, DOG_XYWH = [16, 26, 16, 12], [40, 32, 20, 16]
CAT_XYXY, DOG_XYXY = [8, 20, 24, 32], [30, 24, 50, 40]
LAYOUTS: dict[str, tuple[dict[str, np.ndarray], dict[str, Any] | None, dict[str, Any]]] = {
    "yolov8": (
        # The third is the cat again, less sure; the fourth is under the threshold.
        {
            "output0": columns(
                6, [*CAT_XYWH, 0.9, 0.2], [*DOG_XYWH, 0.1, 0.8], [17, 26, 16, 12, 0.7, 0.1], [40, 20, 9, 9, 0.29, 0.1]
            )
        },
        said("detect"),
        {},
    ),
    "end2end": ({"output0": rows(6, 300, [*CAT_XYXY, 0.9, 0], [*DOG_XYXY, 0.8, 1])}, said("detect", end2end=True), {}),
    "nms=True": ({"output0": rows(6, 300, [*CAT_XYXY, 0.9, 0], [*DOG_XYXY, 0.8, 1])}, said("detect"), {}),
    "yolov5": (
        {
            "output0": rows(
                7, 252, [*CAT_XYWH, 1.0, 0.9, 0.2], [*DOG_XYWH, 0.8, 0.1, 1.0], [40, 20, 9, 9, 0.5, 0.5, 0.1]
            )
        },
        {"names": NAMES, "stride": 32},
        {},
    ),
    "yolov7": (
        {
            "output": rows(7, 252, [*CAT_XYWH, 1.0, 0.9, 0.2], [*DOG_XYWH, 0.8, 0.1, 1.0]),
            "528": np.zeros((1, 3, 8, 8, 7), np.float32),
        },
        None,
        {},
    ),
    "yolov7-end2end": (
        {"output": np.array([[0, *CAT_XYXY, 0, 0.9], [0, *DOG_XYXY, 1, 0.8], [1, *DOG_XYXY, 1, 0.95]], np.float32)},
        None,
        {},
    ),
    "yolor": (
        {
            "classes": rows(2, 252, [0.9, 0.1], [0.1, 0.8])[0],
            "xy": rows(2, 252, [16 / 64, 26 / 64], [40 / 64, 32 / 64])[0],
            "wh": rows(2, 252, [16 / 64, 12 / 64], [20 / 64, 16 / 64])[0],
        },
        None,
        {},
    ),
    "yolor in two": (
        {
            "classes": rows(2, 252, [0.9, 0.1], [0.1, 0.8]),
            "boxes": rows(4, 252, [v / 64 for v in CAT_XYWH], [v / 64 for v in DOG_XYWH]),
        },
        None,
        {},
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_boxes_of_each_layout(tmp_path: Path, name: str) -> None:
    outputs, metadata, how = LAYOUTS[name]
    assert results(ask(tmp_path, outputs, metadata, **how)) == [CAT, DOG]


def test_openvino_reads_them_too(tmp_path: Path) -> None:
    for name in ("yolov8", "end2end", "yolov7", "yolor"):
        outputs, metadata, _ = LAYOUTS[name]
        path = constant_model(tmp_path / f"{name}.onnx", outputs, metadata=metadata)
        found = ExportedModel(path, engine="openvino").find(IMAGE, 0.3)
        assert results(found) == [CAT, DOG]


@pytest.mark.parametrize(("width", "values"), [(6, [0.9, 0]), (6, [0.9, 0.2])])
def test_rtdetr_stretches_the_image(tmp_path: Path, width: int, values: list[float]) -> None:
    # Parts of the input's sides are parts of the image's sides.
    newer = values[1] == 0
    table = rows(width, 300, [0.25, 0.5, 0.25, 0.5, *values])
    metadata = {"names": NAMES, "task": "detect"} | ({"head": "RTDETRDecoder", "end2end": False} if newer else {})
    hints = None if newer else Hints(layout="rtdetr")
    found = ask(tmp_path, {"output0": table}, metadata, hints=hints)
    assert results(found) == [(0, 0.9, [16.0, 16.0, 48.0, 48.0])]


def test_rtdetr_with_a_score_for_each_class(tmp_path: Path) -> None:
    table = rows(7, 300, [0.25, 0.5, 0.25, 0.5, 0.2, 0.1, 0.6])
    names = {"names": "['a', 'b', 'c']", "task": "detect"}
    assert results(ask(tmp_path, {"output0": table}, names)) == [(2, 0.6, [16.0, 16.0, 48.0, 48.0])]


def test_one_class(tmp_path: Path) -> None:
    # YOLOv7 does not train the class's own score when there is one class; YOLOv5 multiplies it all the same.
    table = {"output": rows(6, 252, [*CAT_XYWH, 0.9, 0.5])}
    assert results(ask(tmp_path, table)) == [CAT]
    five = ask(tmp_path, table, {"names": "['cat']"})
    assert results(five) == [(0, 0.45, CAT[2])]
    assert results(ask(tmp_path, {"o": columns(5, [*CAT_XYWH, 0.9])}, said("detect") | {"names": "['cat']"})) == [CAT]


def test_more_than_a_thousand_classes(tmp_path: Path) -> None:
    table = columns(4 + 1203, [*CAT_XYWH])
    table[0, 4 + 1100, 3] = 0.9
    names = str({i: f"thing {i}" for i in range(1203)})
    assert results(ask(tmp_path, {"o": table}, said("detect") | {"names": names})) == [(1100, 0.9, CAT[2])]


def test_suppression(tmp_path: Path) -> None:
    # Of another class in the same place; and the same class, overlapping by 12 * 12 / (2 * 16 * 12 - 12 * 12) = 0.6.
    table = {"o": columns(6, [*CAT_XYWH, 0.9, 0.1], [*CAT_XYWH, 0.1, 0.8], [20, 26, 16, 12, 0.7, 0.1])}

    def classes(**how: Any) -> list[int]:
        return ask(tmp_path, table, said("detect"), **how).classes.tolist()

    assert classes(iou=0.5) == [0, 1]
    assert classes(iou=0.65) == [0, 1, 0]
    assert classes(iou=0.65, agnostic=True) == [0, 0]
    assert classes(iou=0.65, most=2) == [0, 1]
    # What a later network leaves to its user by default is 0.7, and what YOLOv7 does is 0.45.
    assert classes() == [0, 1, 0]
    rows_of_v7 = {"o": rows(7, 252, [*CAT_XYWH, 1, 0.9, 0.1], [20, 26, 16, 12, 1, 0.7, 0.1])}
    assert ask(tmp_path, rows_of_v7).classes.tolist() == [0]


def test_nothing_found_is_an_empty_answer(tmp_path: Path) -> None:
    for name, (outputs, metadata, how) in LAYOUTS.items():
        found = ask(tmp_path, {key: value * 0 for key, value in outputs.items()}, metadata, **how)
        assert results(found) == [], name
    empty = {"output": np.zeros((0, 7), np.float32)}
    assert results(ask(tmp_path, empty)) == []


def test_numbers_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    path = constant_model(tmp_path / "m.onnx", {"o": columns(6)}, metadata=said("detect"))
    model = ExportedModel(path, engine="onnxruntime")
    table = columns(
        6, [*CAT_XYWH, 0.9, 0.2], [np.nan, 5, 5, 5, 0.9, 0.2], [5, 5, np.inf, 5, 0.9, 0.2], [9, 9, 5, 5, np.nan, 0]
    )
    detections = model.layout.detect([table], model.dimensions, (64, 64), 0.3)
    assert detections.boxes.tolist() == [CAT_XYXY] and detections.scores.tolist() == [np.float32(0.9)]


def test_boxes_in_the_padding_are_left_out(tmp_path: Path) -> None:
    # The image ends at row 48 of the input; one box sticks out of it, one lies in the grey below.
    table = columns(6, [16, 46, 16, 12, 0.9, 0.2], [16, 58, 16, 8, 0.8, 0.2])
    assert results(ask(tmp_path, {"o": table}, said("detect"))) == [(0, 0.9, [16.0, 48.0, 48.0, 64.0])]


def test_masks(tmp_path: Path) -> None:
    prototypes = np.full((1, 32, 16, 16), -1, np.float32)
    prototypes[0, 5, :, 8:] = 1  # the right half of the input
    table = columns(38, [32, 32, 32, 16, 0.9, 0.1], [10, 32, 8, 8, 0.8, 0.1])
    table[0, 6 + 5, [3, 10]] = 1
    found = ask(tmp_path, {"output0": table, "output1": prototypes}, said("segment"))
    # The second has no pixel in its box: it is left out.
    assert results(found) == [(0, 0.9, [32.0, 16.0, 96.0, 48.0])]
    assert found.masks is not None
    (mask,) = found.masks
    assert mask.box_xyxy == (64, 16, 96, 48) and mask.bitmap.all()


def test_joints(tmp_path: Path) -> None:
    joints = [10, 22, 0.9, 20, 30, 0.4, 70, 90, 0.8]
    for layout, table in (
        ("raw", columns(6 + 9, [*CAT_XYWH, 0.9, 0.1, *joints])),
        ("end to end", rows(6 + 9, 300, [*CAT_XYXY, 0.9, 0, *joints])),
    ):
        metadata = said("pose", kpt_shape="[3, 3]", end2end=layout != "raw")
        found = ask(tmp_path, {"output0": table}, metadata)
        assert results(found) == [CAT]
        assert found.joints is not None
        # The last lies outside the image and is moved to its edge.
        np.testing.assert_allclose(found.joints, [[[20, 12, 0.9], [40, 28, 0.4], [128, 64, 0.8]]], atol=1e-5)


def test_joints_without_visibility(tmp_path: Path) -> None:
    table = columns(6 + 4, [*CAT_XYWH, 0.9, 0.1, 10, 22, 20, 30])
    found = ask(tmp_path, {"output0": table}, said("pose", kpt_shape="[2, 2]"))
    assert found.joints is not None
    assert found.joints.tolist() == [[[20, 12, 1], [40, 28, 1]]]


@pytest.mark.parametrize("layout", ["raw", "end to end", "mmrotate"])
def test_turned_boxes(tmp_path: Path, layout: str) -> None:
    angle = 0.3
    if layout == "raw":
        outputs = {"output0": columns(7, [32, 32, 20, 8, 0.9, 0.1, angle], [33, 32, 20, 8, 0.8, 0.1, angle])}
        found = ask(tmp_path, outputs, said("obb"))
    elif layout == "end to end":
        # In a file that does it itself, two boxes in one place are two objects.
        outputs = {"output0": rows(7, 300, [32, 32, 20, 8, 0.9, 0, angle])}
        found = ask(tmp_path, outputs, said("obb", end2end=True))
    else:
        outputs = {"dets": rows(6, 2000, [32, 16, 20, 8, angle, 0.9]), "labels": np.zeros((1, 2000), np.int64)}
        found = ask(tmp_path, outputs)  # its image lies in the top left corner of the input
    assert found.scores.tolist() == pytest.approx([0.9])
    assert found.rotated_xywhr is not None
    np.testing.assert_allclose(found.rotated_xywhr, [[64, 32, 40, 16, angle]], atol=1e-5)


def test_tags(tmp_path: Path) -> None:
    outputs = {"output0": np.array([[0.05, 0.6, 0.35]], np.float32)}
    metadata = said("classify") | {"names": "['a', 'b', 'c']"}
    found = ask(tmp_path, outputs, metadata, threshold=0.1)
    assert (found.classes.tolist(), found.boxes_xyxy) == ([1, 2], None)
    assert ask(tmp_path, outputs, metadata, threshold=0.1, most=1).classes.tolist() == [1]


def brightness_file(path: Path, shape: tuple[int | str, ...], kind: int = TensorProto.FLOAT, **metadata: Any) -> Path:
    """A detector with one box whose score is the mean of its input."""
    table = columns(6, CAT_XYWH)
    constant_model(path, {"output0": table}, input_shape=shape, input_type=kind, metadata=said("detect") | metadata)
    model = onnx.load(str(path))
    place = np.zeros_like(table)
    place[0, 4, 3] = 1
    model.graph.initializer.append(numpy_helper.from_array(place, "place"))
    last = model.graph.node[-1]
    last.output[0] = "still"
    model.graph.node.append(helper.make_node("Mul", ["mean", "place"], ["score"]))
    model.graph.node.append(helper.make_node("Add", ["still", "score"], ["output0"]))
    onnx.save(model, str(path))
    return path


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        ((1, 3, 64, 64), TensorProto.FLOAT),
        ((1, 3, 64, 64), TensorProto.FLOAT16),
        ((1, 1, 64, 64), TensorProto.FLOAT),
        (("batch", 3, "height", "width"), TensorProto.FLOAT),
    ],
    ids=["float", "half", "grey", "free"],
)
def test_inputs(tmp_path: Path, shape: tuple[int | str, ...], kind: int, engine: str) -> None:
    model = ExportedModel(brightness_file(tmp_path / "m.onnx", shape, kind, channels=shape[1]), engine=engine)
    assert model.size_hw == (64, 64)
    # Half of the input is the image, half the grey around it.
    (score,) = model.find(IMAGE, 0.3).scores.tolist()
    assert score == pytest.approx((100 + 114) / 2 / 255, abs=2e-3 if kind == TensorProto.FLOAT16 else 1e-5)


def test_batches(tmp_path: Path) -> None:
    # The image goes into the first place of the batch, and the answer is that of the first place.
    path = brightness_file(tmp_path / "m.onnx", (4, 3, 64, 64))
    (score,) = ExportedModel(path).find(IMAGE, 0.1).scores.tolist()
    assert score == pytest.approx((100 + 114) / 2 / 255 / 4, abs=1e-5)


def test_sizes(tmp_path: Path) -> None:
    free = brightness_file(tmp_path / "free.onnx", ("batch", 3, "height", "width"), imgsz="[96, 64]")
    nameless = constant_model(tmp_path / "x.onnx", {"o": columns(6)}, input_shape=(1, 3, "h", "w"))
    assert ExportedModel(nameless, image_size="64").layout.name == "yolov8"
    with pytest.raises(StartupError, match="fit none"):  # the constant outputs are those of 64 x 64
        ExportedModel(nameless, image_size="96")
    assert ExportedModel(free, hints=Hints(layout="yolov8")).size_hw == (96, 64)
    assert ExportedModel(free, image_size="32x128", hints=Hints(layout="yolov8")).size_hw == (32, 128)
    fixed = brightness_file(tmp_path / "fixed.onnx", (1, 3, 64, 64))
    assert ExportedModel(fixed, image_size="64").size_hw == (64, 64)
    with pytest.raises(StartupError, match="IMAGE_SIZE is 96x96, but the file's input is fixed to 64x64"):
        ExportedModel(fixed, image_size="96")
    for text in ("large", "65", "64x", "0", "64x64x64"):
        with pytest.raises(StartupError, match="IMAGE_SIZE: expected one side or height x width, multiples of 32"):
            ExportedModel(free, image_size=text)


def test_the_start_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="common"):
        ask(tmp_path, *LAYOUTS["yolov8"][:2])
    assert (
        "model.onnx: layout yolov8, task detect, 2 classes, input 64 x 64 (height x width); from inputs: images float32"
        in caplog.text
    )
    assert "output0 float32 (1, 6, 84); metadata: task=detect, end2end=False, 2 class names" in caplog.text
    with caplog.at_level(logging.INFO, logger="common"):
        ask(tmp_path, LAYOUTS["nms=True"][0], said("detect", args="{'nms': True}"))
    assert "exported with nms=True: it drops everything under the confidence of its export" in caplog.text


def test_openvino_folder(tmp_path: Path) -> None:
    folder = tmp_path / "best_openvino_model"
    folder.mkdir()
    outputs, _, _ = LAYOUTS["yolov8"]
    read = openvino.Core().read_model(str(constant_model(tmp_path / "m.onnx", outputs)))
    openvino.save_model(read, str(folder / "best.xml"), compress_to_fp16=False)
    (folder / "metadata.yaml").write_text("task: detect\nnames: {0: cat, 1: dog}\nend2end: false\n")
    assert results(ExportedModel(folder).find(IMAGE, 0.3)) == [CAT, DOG]
    (folder / "other.onnx").touch()
    with pytest.raises(
        StartupError,
        match=r"expected one \.onnx, \.xml or \.torchscript file in the folder, found best\.xml, other\.onnx",
    ):
        ExportedModel(folder)


def trt_file(path: Path) -> Path:
    """A graph that ends in TensorRT's operation, as YOLOv7's `--end2end` without `--max-wh` makes it."""
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 64, 64])
    outputs = [
        helper.make_tensor_value_info(name, kind, shape)
        for name, kind, shape in (
            ("num_dets", TensorProto.INT32, [1, 1]),
            ("det_boxes", TensorProto.FLOAT, [1, 100, 4]),
            ("det_scores", TensorProto.FLOAT, [1, 100]),
            ("det_classes", TensorProto.INT32, [1, 100]),
        )
    ]
    node = helper.make_node("EfficientNMS_TRT", ["images", "images"], [o.name for o in outputs], domain="TRT")
    graph = helper.make_graph([node], "g", [image], outputs)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("TRT", 1)], ir_version=8
    )
    onnx.save(model, str(path))
    return path


@pytest.mark.parametrize("engine", ["auto", "onnxruntime", "openvino"])
def test_refuses_what_only_tensorrt_has(tmp_path: Path, engine: str) -> None:
    with pytest.raises(StartupError, match=r"only TensorRT has.*--grid --end2end --max-wh 640"):
        ExportedModel(trt_file(tmp_path / "yolov7.onnx"), engine=engine)


def test_refuses_other_inputs_and_files(tmp_path: Path) -> None:
    four = constant_model(tmp_path / "four.onnx", {"o": columns(6)}, input_shape=(1, 4, 64, 64))
    with pytest.raises(StartupError, match=r"3 channels \(colour\) or 1 \(grey\), first or last, got \(1, 4, 64, 64\)"):
        ExportedModel(four)
    vector = constant_model(tmp_path / "vector.onnx", {"o": columns(6)}, input_shape=(1, 10))
    with pytest.raises(
        StartupError, match=r"expected one input that is an image .*Seen: inputs: images float32 \(1, 10\); outputs: o"
    ):
        ExportedModel(vector)
    for name, message in (
        ("a.pt", "export it.*serverless/pytorch/ultralytics/yolo"),
        ("a.txt", "expected an .onnx"),
        ("b.onnx", "no such file"),
    ):
        if name != "b.onnx":
            (tmp_path / name).touch()
        with pytest.raises(StartupError, match=message):
            ExportedModel(tmp_path / name)


def test_the_letterbox_is_fed_as_rgb(tmp_path: Path) -> None:
    path = constant_model(tmp_path / "m.onnx", {"o": columns(6)}, metadata=said("detect"))
    model = ExportedModel(path, engine="onnxruntime")
    image = np.zeros((64, 128, 3), np.uint8)
    image[...] = (255, 128, 0)
    (tensor,) = model.prepare(image, model.fit(image.shape))
    assert tensor.shape == (1, 3, 64, 64) and tensor.dtype == np.float32
    np.testing.assert_allclose(tensor[0, :, 32, 32], [1, 128 / 255, 0], atol=1e-6)
    np.testing.assert_allclose(tensor[0, :, 0, 0], 114 / 255, atol=1e-6)
    assert cv2.getNumThreads() == 1
