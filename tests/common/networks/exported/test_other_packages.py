"""Files of SSD, the Open Model Zoo, mmdeploy and torchvision with constant outputs: where the numbers say, results must come out.

All images are 128 x 64 and all inputs 64 x 64. In an input that is stretched over the image, (x, y) is (2 x, y) in the image; in one
with the image in its corner, which fills the upper half, it is (2 x, 2 y).
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from openvino import opset1, opset8

from common.errors import StartupError
from common.networks.exported.model import ExportedModel
from common.networks.formats.preparation import InputOptions
from common.networks.formats.signature import Hints
from common.networks.results import Found
from common.vision.mask import mask_to_bitmap
from tests.ascii import drawn
from tests.common.networks.onnx_files import constant_model

IMAGE = np.full((64, 128, 3), 100, np.uint8)
# In the input: a cat (class 1) and a dog (class 2).
CAT, DOG = [8.0, 4.0, 24.0, 20.0], [30.0, 8.0, 50.0, 24.0]
STRETCHED = [(1, 0.9, [16.0, 4.0, 48.0, 20.0]), (2, 0.8, [60.0, 8.0, 100.0, 24.0])]
CORNER = [(1, 0.9, [16.0, 8.0, 48.0, 40.0]), (2, 0.8, [60.0, 16.0, 100.0, 48.0])]
Outputs = dict[str, NDArray[Any]]


def floats(*rows: list[float]) -> NDArray[np.float32]:
    return np.array(rows, np.float32)


def parts(box: list[float]) -> list[float]:
    return [side / 64 for side in box]


def padded(array: NDArray[Any], count: int) -> NDArray[Any]:
    """More rows, of zeros."""
    return np.concatenate([array, np.zeros((count - len(array), *array.shape[1:]), array.dtype)])


def results(found: Found) -> list[tuple[int, float, list[float]]]:
    assert found.boxes_xyxy is not None
    boxes = np.round(found.boxes_xyxy, 2).tolist()
    return [(int(c), round(float(s), 4), b) for c, s, b in zip(found.classes, found.scores, boxes, strict=True)]


# The dog comes first, so that the order of the results is not that of the rows.
SSD_ROWS = padded(
    floats(
        [0, 2, 0.8, *parts(DOG)],
        [0, 1, 0.9, *parts(CAT)],
        [0, 1, 0.2, 0, 0, 1, 1],
        [1, 1, 0.95, 0, 0, 1, 1],  # of another image in the batch
        [-1, 0, 0, 0, 0, 0, 0],
        [0, 1, 0.99, 0, 0, 1, 1],  # behind the end
    ),
    100,
)
DETS = padded(floats([*DOG, 0.8], [*CAT, 0.9], [0, 0, 64, 64, 0.2]), 100)
LABELS = padded(np.array([2, 1, 1]), 100)
LABELS[50:] = -1
BOXES: dict[str, tuple[Outputs, list[Any]]] = {
    "ssd": ({"detection_out": SSD_ROWS[None, None]}, STRETCHED),
    "omz-boxes": ({"boxes": DETS, "labels": LABELS}, STRETCHED),
    "mmdeploy": ({"dets": DETS[None], "labels": LABELS[None]}, CORNER),
    "mmdeploy, labels first": ({"labels": LABELS[None], "dets": DETS[None]}, CORNER),
    "torchvision": ({"boxes": DETS[:, :4], "labels": LABELS, "scores": DETS[:, 4]}, CORNER),
    "torchvision's RetinaNet": ({"boxes": DETS[:, :4], "scores": DETS[:, 4], "labels": LABELS}, CORNER),
}


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("name", BOXES)
def test_boxes(tmp_path: Path, name: str, engine: str) -> None:
    outputs, expected = BOXES[name]
    model = ExportedModel(constant_model(tmp_path / "m.onnx", outputs), engine=engine)
    assert model.layout.name == name.split(",")[0].split("'")[0]
    assert results(model.find(IMAGE, 0.3)) == expected
    assert [result[0] for result in results(model.find(IMAGE, 0.85))] == [1]


def full(left: int, top: int, right: int, bottom: int) -> NDArray[np.float32]:
    plane = np.zeros((64, 64), np.float32)
    plane[top:bottom, left:right] = 0.9
    return plane


def small(size: int, *, lower_half: bool = False) -> NDArray[np.float32]:
    plane = np.full((size, size), 0.9, np.float32)
    if lower_half:
        plane[: size // 2] = 0.1
    return plane


# The mask of the cat is its box, that of the dog the lower half of its.
MASKS = padded(np.stack([full(30, 16, 50, 24), full(8, 4, 24, 20), full(0, 0, 64, 64)]), 100)
SMALL = padded(np.stack([small(28, lower_half=True), small(28), small(28)]), 100)
ZOO_MASKS = np.zeros((100, 3, 33, 33), np.float32)
ZOO_MASKS[0, 1], ZOO_MASKS[1, 0] = small(33, lower_half=True), small(33)
ZOO_MASKS[0, 2], ZOO_MASKS[1, 2] = small(33), small(33)  # of another class than the detection's: to be ignored
WITH_MASKS: dict[str, Outputs] = {
    "mask-rcnn": {"reshape_do_2d": SSD_ROWS, "masks": ZOO_MASKS},
    "mmdeploy": {"dets": DETS[None], "labels": LABELS[None], "masks": SMALL[None]},
    "mmdeploy, full": {"dets": DETS[None], "labels": LABELS[None], "masks": MASKS[None]},
    "mmdeploy, full, thresholded": {"dets": DETS[None], "labels": LABELS[None], "masks": MASKS[None] > 0.5},
    "torchvision": {"boxes": DETS[:, :4], "labels": LABELS, "scores": DETS[:, 4], "masks": MASKS[:, None]},
}


@pytest.mark.parametrize("name", WITH_MASKS)
def test_masks(tmp_path: Path, name: str) -> None:
    path = (
        with_info(tmp_path / "m.onnx", WITH_MASKS[name]) if name == "mask-rcnn" else plain(tmp_path, WITH_MASKS[name])
    )
    model = ExportedModel(path, engine="onnxruntime")
    assert (model.layout.name, model.layout.task) == (name.split(",")[0], "segment")
    found = model.find(IMAGE, 0.3)
    assert results(found) == CORNER and found.masks is not None
    expected = np.zeros((2, 64, 128), np.bool_)
    expected[0, 8:40, 16:48] = expected[1, 32:48, 60:100] = True
    slack = 1 if name == "mask-rcnn" else 0  # its boxes are cut to whole pixels
    for mask, area in zip(found.masks, expected, strict=True):
        bitmap = mask_to_bitmap(mask, (64, 128))
        rows, columns = np.nonzero(area)
        inner = np.s_[rows[0] + slack : rows[-1] + 1 - slack, columns[0] + slack : columns[-1] + 1 - slack]
        outer = np.s_[rows[0] - slack : rows[-1] + 1 + slack, columns[0] - slack : columns[-1] + 1 + slack]
        assert bitmap[inner].all() and bitmap.sum() == bitmap[outer].sum(), drawn(bitmap)


def plain(folder: Path, outputs: Outputs) -> Path:
    numbers = {name: values for name, values in outputs.items() if values.dtype != np.bool_}
    path = constant_model(
        folder / "m.onnx", numbers | {n: v.astype(np.float32) for n, v in outputs.items() if n not in numbers}
    )
    if len(numbers) == len(outputs):
        return path
    model = onnx.load(str(path))
    for output in model.graph.output:
        if output.name not in numbers:
            model.graph.node.append(
                helper.make_node("Cast", [output.name], [output.name + "_bool"], to=TensorProto.BOOL)
            )
            for node in model.graph.node:
                node.output[:] = [f"{n}_number" if n == output.name else n for n in node.output]
                node.input[:] = [f"{n}_number" if n == output.name else n for n in node.input]
            model.graph.node[-1].output[:] = [output.name]
            output.type.tensor_type.elem_type = TensorProto.BOOL
    onnx.save(model, str(path))
    return path


def with_info(path: Path, outputs: Outputs, image: tuple[int, ...] = (1, 64, 64, 3)) -> Path:
    """A model with TensorFlow's order of axes and a second input, whose numbers (less those expected) are added to the scores."""
    constant_model(path, outputs, input_shape=image, input_type=TensorProto.UINT8, input_name="image_tensor")
    model = onnx.load(str(path))
    rows = next(name for name in outputs if name in ("reshape_do_2d", "detection_out"))
    for node in model.graph.node:
        node.output[:] = ["bare" if name == rows else name for name in node.output]
    info = helper.make_tensor_value_info("image_info", TensorProto.FLOAT, [1, 3])
    expected = helper.make_tensor("expected", TensorProto.FLOAT, [1, 3], [64, 64, 1])
    model.graph.input.append(info)
    model.graph.initializer.append(expected)
    model.graph.node.extend(
        [
            helper.make_node("Sub", ["image_info", "expected"], ["wrong"]),
            helper.make_node("ReduceSum", ["wrong"], ["off"], keepdims=0),
            helper.make_node("Add", ["bare", "off"], [rows]),
        ]
    )
    onnx.save(model, str(path))
    return path


def test_the_size_of_the_input_is_told(tmp_path: Path) -> None:
    path = with_info(tmp_path / "m.onnx", {"detection_out": SSD_ROWS[None, None]})
    model = ExportedModel(path, engine="onnxruntime")
    assert results(model.find(IMAGE, 0.3)) == STRETCHED


def test_keypoints(tmp_path: Path) -> None:
    keypoints = np.zeros((2, 3, 3), np.float32)
    keypoints[:] = [[8, 4, 1], [16, 12, 1], [24, 20, 0]]
    outputs = {
        "boxes": floats(CAT, DOG),
        "labels": np.array([1, 1]),
        "scores": np.array([0.9, 0.2], np.float32),
        "keypoints": keypoints,
        "keypoints_scores": np.full((2, 3), 7, np.float32),
    }
    model = ExportedModel(constant_model(tmp_path / "m.onnx", outputs), engine="onnxruntime")
    assert (model.layout.task, model.dimensions.joints) == ("pose", (3, 3))
    found = model.find(IMAGE, 0.3)
    assert found.joints is not None and found.joints.tolist() == [[[16, 8, 1], [32, 24, 1], [48, 40, 0]]]


def test_the_image_as_the_zoo_takes_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """BGR from 0 to 255; a file that doesn't say so is served with a warning, unless it is set by hand."""
    path = constant_model(tmp_path / "m.onnx", {"boxes": DETS, "labels": LABELS})
    image = np.zeros((64, 128, 3), np.uint8)
    image[...] = (30, 20, 10)
    with caplog.at_level(logging.WARNING):
        model = ExportedModel(path, engine="onnxruntime")
    assert (
        "m.onnx doesn't say how it takes an image; assumed: BGR, mean 0, 0, 0, std 1, 1, 1, stretched." in caplog.text
    )
    (tensor,) = model.prepare(image, model.fit(image.shape))
    assert tensor[0, :, 5, 5].tolist() == [10, 20, 30]
    caplog.clear()
    by_hand = InputOptions(color="rgb", mean="0", std="255", resize="corner")
    model = ExportedModel(path, engine="onnxruntime", taken=by_hand)
    assert "doesn't say" not in caplog.text
    (tensor,) = model.prepare(image, model.fit(image.shape))
    np.testing.assert_allclose(tensor[0, :, 5, 5], np.array([30, 20, 10]) / 255, atol=1e-6)
    assert not tensor[0, :, 40].any()


# As mmdeploy writes it for RTMDet.
RTMDET = [
    {"type": "LoadImageFromFile", "backend_args": None},
    {"type": "Resize", "keep_ratio": True, "size": [64, 64]},
    {"type": "Pad", "size": [64, 64], "pad_val": {"img": [114, 114, 114]}},
    {"type": "Normalize", "to_rgb": False, "mean": [103.53, 116.28, 123.675], "std": [57.375, 57.12, 58.395]},
    {"type": "Pad", "size_divisor": 1},
    {"type": "DefaultFormatBundle"},
    {"type": "Collect", "keys": ["img"], "meta_keys": ["img_shape"]},
]


def pipeline(folder: Path, steps: object) -> None:
    tasks = [{"type": "Task", "module": "Transform", "name": "Preprocess", "transforms": steps}, {"module": "Net"}]
    (folder / "pipeline.json").write_text(json.dumps({"pipeline": {"input": ["img"], "tasks": tasks}}))


def test_a_pipeline_beside_the_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = constant_model(tmp_path / "end2end.onnx", {"dets": DETS[None], "labels": LABELS[None]})
    image = np.zeros((64, 128, 3), np.uint8)
    image[...] = (30, 20, 10)
    with caplog.at_level(logging.WARNING):
        model = ExportedModel(path, engine="onnxruntime")
    assert "end2end.onnx doesn't say how it takes an image; assumed: RGB, mean 123.675" in caplog.text
    (tensor,) = model.prepare(image, model.fit(image.shape))
    np.testing.assert_allclose(
        tensor[0, :, 5, 5], [(30 - 123.675) / 58.395, (20 - 116.28) / 57.12, (10 - 103.53) / 57.375]
    )
    assert not tensor[0, :, 40].any()
    caplog.clear()
    pipeline(tmp_path, RTMDET)
    model = ExportedModel(path, engine="onnxruntime")
    assert "doesn't say" not in caplog.text
    (tensor,) = model.prepare(image, model.fit(image.shape))
    mean, deviation = np.array([103.53, 116.28, 123.675]), np.array([57.375, 57.12, 58.395])
    np.testing.assert_allclose(tensor[0, :, 5, 5], (np.array([10, 20, 30]) - mean) / deviation, rtol=1e-5)
    np.testing.assert_allclose(tensor[0, :, 40, 5], (114 - mean) / deviation, rtol=1e-5)
    assert results(model.find(IMAGE, 0.3)) == CORNER
    # Stretched, and the padding after the normalisation.
    pipeline(tmp_path, [{"type": "Resize", "keep_ratio": False}, {**RTMDET[3], "to_rgb": True}, RTMDET[2]])
    model = ExportedModel(path, engine="onnxruntime")
    assert results(model.find(IMAGE, 0.3)) == STRETCHED


@pytest.mark.parametrize(
    "content", ["", "[]", '{"pipeline": {}}', '{"pipeline": {"tasks": [{"module": "Transform", "transforms": []}]}}']
)
def test_a_pipeline_that_is_none(tmp_path: Path, content: str) -> None:
    path = constant_model(tmp_path / "end2end.onnx", {"dets": DETS[None], "labels": LABELS[None]})
    (tmp_path / "pipeline.json").write_text(content)
    with pytest.raises(StartupError, match=r"pipeline\.json: not what mmdeploy writes with --dump-info"):
        ExportedModel(path, engine="onnxruntime")


def test_files_without_names_of_outputs(tmp_path: Path) -> None:
    """A single image without a batch is torchvision's; else its name has to be set."""
    outputs = {"2774": DETS[:, :4], "2772": LABELS, "2773": DETS[:, 4]}
    single = constant_model(tmp_path / "single.onnx", outputs, input_shape=(3, 64, 64))
    assert results(ExportedModel(single, engine="onnxruntime").find(IMAGE, 0.3)) == CORNER
    batch = constant_model(tmp_path / "batch.onnx", outputs)
    with pytest.raises(
        StartupError, match=r"fit none of the layouts .*2774 float32.* set TASK and LAYOUT: torchvision$"
    ):
        ExportedModel(batch, engine="onnxruntime")
    by_hand = ExportedModel(batch, engine="onnxruntime", hints=Hints(layout="torchvision"))
    assert results(by_hand.find(IMAGE, 0.3)) == CORNER


def test_an_input_of_free_size_takes_each_image_as_it_is(tmp_path: Path) -> None:
    outputs = BOXES["torchvision"][0]
    path = constant_model(tmp_path / "m.onnx", outputs, input_shape=(3, "height", "width"))
    as_it_is = [(1, 0.9, CAT), (2, 0.8, DOG)]
    for engine in ("onnxruntime", "openvino"):
        model = ExportedModel(path, engine=engine)
        for height, width in ((64, 128), (333, 77)):
            image = np.full((height, width, 3), 255, np.uint8)
            (tensor,) = model.prepare(image, model.fit(image.shape))
            assert tensor.shape == (3, height, width) and (tensor == 1).all()
            assert results(model.find(image, 0.3)) == as_it_is
        assert results(ExportedModel(path, engine=engine, image_size="64").find(IMAGE, 0.3)) == CORNER


def ssd_network(path: Path, **attributes: Any) -> Path:
    """A real SSD head: a prior for each quarter of the input, its class by the brightness of that quarter in the blue channel."""
    image = opset8.parameter([1, 3, 64, 64], np.float32, name="data")
    blue = opset8.gather(image, np.array([0]), np.array(1))
    quarters = opset8.avg_pool(blue, [32, 32], [0, 0], [0, 0], [32, 32], False, "floor", "explicit")
    dark = opset8.multiply(opset8.reshape(quarters, [4, 1], False), np.float32(1 / 255))
    scores = opset8.concat([opset8.subtract(np.float32(1), dark), dark], 1)
    offsets = opset8.multiply(opset8.reshape(opset8.concat([quarters] * 4, 1), [1, 16], False), np.float32(0))
    priors = [[0, 0, 0.5, 0.5], [0.5, 0, 1, 0.5], [0, 0.5, 0.5, 1], [0.5, 0.5, 1, 1]]
    anchors = opset8.constant(np.array([np.ravel(priors), np.full(16, 0.1)], np.float32)[None])
    final = opset1.detection_output(
        offsets,
        opset8.reshape(scores, [1, 8], False),
        anchors,
        {
            "num_classes": 2,
            "background_label_id": 0,
            "top_k": 10,
            "keep_top_k": [10],
            "nms_threshold": 0.5,
            "code_type": "caffe.PriorBoxParameter.CORNER",
            "share_location": True,
            "confidence_threshold": 0.1,
            "normalized": True,
            "input_height": 1,
            "input_width": 1,
            **attributes,
        },
    )
    openvino.save_model(openvino.Model([final], [image]), str(path), compress_to_fp16=False)
    return path


def test_a_real_detection_output_of_openvino(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    image = np.zeros((64, 128, 3), np.uint8)
    image[32:, 64:] = (0, 0, 255)  # blue: only a network fed with BGR sees it
    with caplog.at_level(logging.WARNING):
        model = ExportedModel(ssd_network(tmp_path / "m.xml"))
    assert "doesn't say" not in caplog.text
    assert (model.layout.name, model.dimensions.classes, model.dimensions.first_class) == ("ssd", 2, 1)
    assert results(model.find(image, 0.5)) == [(1, 1.0, [64.0, 32.0, 128.0, 64.0])]


def test_where_the_background_is(tmp_path: Path) -> None:
    """Other exporters put it last, or nowhere: then class 0 is an object's."""
    image = np.zeros((64, 128, 3), np.uint8)
    image[32:, 64:] = (0, 0, 255)
    model = ExportedModel(ssd_network(tmp_path / "m.xml", background_label_id=-1))
    assert (model.dimensions.classes, model.dimensions.first_class) == (2, 0)
    assert {index for index, _, _ in results(model.find(image, 0.5))} == {0, 1}


def test_outputs_of_older_converters_are_called_after_their_operations(tmp_path: Path) -> None:
    image = opset8.parameter([1, 3, 64, 64], np.float32, name="image")
    nothing = opset8.multiply(opset8.reduce_mean(image, np.array([0, 1, 2, 3]), False), np.float32(0))
    boxes, labels = opset8.add(nothing, DETS), opset8.add(opset8.convert(nothing, "i64"), LABELS)
    boxes.set_friendly_name("boxes")
    labels.set_friendly_name("labels")
    openvino.save_model(openvino.Model([boxes, labels], [image]), str(tmp_path / "m.xml"), compress_to_fp16=False)
    port, _ = openvino.Core().read_model(tmp_path / "m.xml").outputs
    assert port.get_names() == {port.get_node().get_friendly_name()}
    model = ExportedModel(tmp_path / "m.xml")
    assert model.layout.name == "omz-boxes" and results(model.find(IMAGE, 0.3)) == STRETCHED
