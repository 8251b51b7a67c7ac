"""Files of layouts that are not known here: each is refused with what was seen, none is taken for another one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from common.errors import StartupError
from common.networks.exported.model import ExportedModel
from common.networks.formats.detections import Candidates
from common.networks.formats.layout import OutputLayout
from common.networks.formats.registry import LAYOUTS
from common.networks.formats.signature import Dimensions, Hints, Signature
from tests.common.networks.onnx_files import constant_model

_RANDOM = np.random.default_rng(3)
IMAGE = np.full((64, 128, 3), 100, np.uint8)
NAMES = {"names": "{0: 'cat', 1: 'dog'}"}


def logits(*shape: int) -> NDArray[np.float32]:
    return _RANDOM.normal(-1, 3, shape).astype(np.float32)


def shares(*shape: int) -> NDArray[np.float32]:
    return _RANDOM.random(shape, np.float32)


def softmax(*shape: int) -> NDArray[np.float32]:
    values = np.exp(logits(*shape))
    return np.asarray(values / values.sum(axis=-1, keepdims=True), np.float32)


def whole(*shape: int) -> NDArray[np.int64]:
    return _RANDOM.integers(0, 3, shape)


def boxes_and_score(*shape: int) -> NDArray[np.float32]:
    """Corners in pixels of the input, then a score."""
    table = shares(*shape)
    table[..., :4] *= 64
    return table


def rows_of_seven(order: str) -> NDArray[np.float32]:
    """A detection in the rows of another detector than YOLOv7: box b, score s, class c, image i."""
    parts = {"b": [8, 20, 24, 32], "s": [0.9], "c": [1], "i": [0]}
    return np.array([[value for part in order for value in parts[part]]], np.float32)


FOREIGN: dict[str, dict[str, NDArray[Any]]] = {
    "DETR of transformers": {"logits": logits(1, 100, 92), "pred_boxes": shares(1, 100, 4)},
    # As many queries as the grids of a YOLOR have anchors, and classes like its.
    "DETR, 252 queries": {"logits": logits(1, 252, 3), "pred_boxes": shares(1, 252, 4)},
    "DETR, 252 queries, after softmax": {"logits": softmax(1, 252, 3), "pred_boxes": shares(1, 252, 4)},
    "DETR, 252 queries, other names": {"classes": logits(1, 252, 3), "boxes": shares(1, 252, 4)},
    "DETR with masks": {"logits": logits(1, 100, 92), "pred_boxes": shares(1, 100, 4), "m": logits(1, 100, 16, 16)},
    "rfdetr, other names": {"boxes": shares(1, 300, 4), "scores": logits(1, 300, 91)},
    "rfdetr, whole numbers": {"dets": shares(1, 252, 4), "labels": whole(1, 252, 4)},
    "SSD": {"detection_out": shares(1, 1, 200, 7)},
    # As the files of other exporters that are served, but for a name, a batch or a value.
    "SSD, other names": {"detections": shares(1, 1, 200, 7) * 0},
    "mmdeploy, its boxes in a third order": {"dets": shares(1, 100, 7), "labels": whole(1, 100)},
    "mmdeploy with logits": {"dets": logits(1, 100, 5), "labels": whole(1, 100)},
    "mmdeploy with features": {
        "dets": boxes_and_score(1, 100, 5),
        "labels": whole(1, 100),
        "masks": shares(1, 1, 28, 28),
    },
    "OMZ with a batch": {"boxes": boxes_and_score(1, 100, 5), "labels": whole(1, 100)},
    "OMZ, fractions for classes": {"boxes": boxes_and_score(100, 5), "labels": shares(100)},
    "Mask R-CNN, masks of all classes alone": {"masks": shares(100, 90, 33, 33)},
    "torchvision without names": {"10": shares(20, 4) * 64, "11": whole(20), "12": shares(20)},
    "torchvision, labels as fractions": {"boxes": shares(20, 4) * 64, "labels": shares(20), "scores": shares(20)},
    "torchvision, unknown outputs": {
        "boxes": shares(20, 4),
        "labels": whole(20),
        "scores": shares(20),
        "ids": whole(20),
    },
    # Rows as wide as YOLOv7's, in another order; without a detection nothing but the names tells them apart.
    "YOLO-NAS": {"graph2_flat_predictions": rows_of_seven("ibsc")},
    "YOLO-NAS, nothing found": {"graph2_flat_predictions": rows_of_seven("ibsc")[:0]},
    "SSD, rows alone": {"detections": rows_of_seven("icsb")[:0]},
    "YOLO-NAS, raw": {"boxes": shares(1, 84, 4) * 64, "scores": shares(1, 84, 3)},
    "YOLOX": {"output": np.concatenate([shares(1, 84, 4) * 64, shares(1, 84, 3)], axis=2)},
    "YOLOv4 in PyTorch": {"boxes": shares(1, 252, 1, 4), "confs": shares(1, 252, 2)},
    "PP-YOLOE": {"boxes": shares(1, 84, 4) * 64, "scores": shares(1, 2, 84)},
    "SimCC": {"simcc_x": shares(1, 17, 128), "simcc_y": shares(1, 17, 128)},
    "heat maps": {"heatmap": shares(1, 17, 16, 16)},
    "keypoints": {"keypoints": shares(1, 300, 6) * 64},
    "anchors and scores in pixels": {"scores": shares(1, 252, 2), "boxes": shares(1, 252, 4) * 64},
    "classifier, logits": {"logits": logits(1, 1000)},
    "classifier, probabilities": {"probabilities": softmax(1, 1000)},
    "classifier of 7": {"prob": softmax(1, 7)},
    "embedding": {"embedding": logits(1, 512)},
    "segmentation map": {"classes": _RANDOM.integers(0, 9, (1, 64, 64)).astype(np.uint8)},
    "segmentation scores": {"logits": logits(1, 19, 64, 64)},
    "depth": {"depth": shares(1, 64, 64)},
    "tokens": {"last_hidden_state": logits(1, 197, 768)},
    "raw table of logits": {"output0": logits(1, 6, 84)},
    "rows of logits": {"output": logits(1, 252, 7)},
}


@pytest.mark.parametrize("hints", [Hints(), Hints(likely_task="detect", classes=2), Hints(likely_task="segment")])
@pytest.mark.parametrize("name", FOREIGN)
def test_refused_with_what_was_seen(tmp_path: Path, name: str, hints: Hints) -> None:
    path = constant_model(tmp_path / "m.onnx", FOREIGN[name])
    with pytest.raises(StartupError) as caught:
        ExportedModel(path, engine="onnxruntime", hints=hints)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "inputs: images float32 (1, 3, 64, 64)" in message
    for output, values in FOREIGN[name].items():
        assert f"{output} {values.dtype} ({', '.join(map(str, values.shape))})" in message


@pytest.mark.parametrize(("kind", "name"), [("tag", "classifier, logits"), ("tag", "embedding"), ("skeleton", "depth")])
def test_labels_do_not_make_a_file_what_it_is_not(tmp_path: Path, kind: str, name: str) -> None:
    hints = Hints(likely_task={"tag": "classify", "skeleton": "pose"}[kind], classes=1)
    with pytest.raises(StartupError, match="Seen: inputs"):
        ExportedModel(constant_model(tmp_path / "m.onnx", FOREIGN[name]), engine="onnxruntime", hints=hints)


@pytest.mark.parametrize(
    ("outputs", "metadata", "hints", "message"),
    [
        (
            {"o": logits(1, 6, 84)},
            NAMES | {"task": "detect"},
            Hints(),
            "scores should be probabilities from 0 to 1, but",
        ),
        ({"o": logits(1, 252, 7)}, NAMES, Hints(), "layout yolov5 .* scores should be probabilities"),
        # Logits can all be from 0 to 1.
        (
            {"o": shares(1, 4)},
            None,
            Hints(task="classify"),
            "layout classify .* scores of all classes should add up to 1",
        ),
        (
            {"scores": shares(1, 252, 2), "boxes": shares(1, 252, 4) * 64},
            None,
            Hints(),
            "layout yolor .* boxes should be parts of the input's sides, 0 to 1, but reach 6",
        ),
        (
            {"o": boxes_and_score(1, 300, 6)},
            NAMES | {"task": "detect", "head": "RTDETRDecoder"},
            Hints(),
            "layout rtdetr .* boxes should be parts",
        ),
        ({"o": rows_of_seven("ibsc")}, None, Hints(layout="yolov7-end2end"), "class indices should be whole numbers"),
        ({"o": logits(1, 1000)}, None, Hints(layout="classify"), "layout classify .* scores should be probabilities"),
        (
            {"logits": logits(1, 100, 92), "pred_boxes": shares(1, 100, 4)},
            None,
            Hints(layout="yolor"),
            "layout yolor .* scores should be probabilities from 0 to 1",
        ),
        (
            {"o": boxes_and_score(1, 300, 6)},
            NAMES | {"task": "detect", "end2end": True},
            Hints(),
            "class indices should be whole numbers below 2",
        ),
        (
            {"o": np.full((1, 300, 6), 0.5, np.float32) + [0, 0, 0, 0, 0, 4.5]},
            NAMES | {"task": "detect", "end2end": True},
            Hints(),
            "class indices should be whole numbers below 2, but are 5 to 5",
        ),
        (
            {"o": np.full((1, 6, 84), np.nan, np.float32)},
            NAMES | {"task": "detect"},
            Hints(),
            "boxes are not all finite",
        ),
        (
            {"dets": boxes_and_score(1, 100, 6) * 9, "labels": whole(1, 100)},
            None,
            Hints(),
            "layout mmrotate .* scores should be probabilities",
        ),
    ],
)
def test_values_that_the_layout_rules_out(
    tmp_path: Path, outputs: dict[str, NDArray[Any]], metadata: dict[str, Any] | None, hints: Hints, message: str
) -> None:
    outputs = {
        name: values.astype(np.float32) if values.dtype == np.float64 else values for name, values in outputs.items()
    }
    path = constant_model(tmp_path / "m.onnx", outputs, metadata=metadata)
    with pytest.raises(StartupError, match=message):
        ExportedModel(path, engine="onnxruntime", hints=hints)


def upstream_rtdetr(path: Path, image: str = "images", size: str = "orig_target_sizes") -> Path:
    """Upstream's export: boxes in pixels of the image, from its size, which is an input."""
    inputs = [
        helper.make_tensor_value_info(image, TensorProto.FLOAT, [1, 3, 64, 64]),
        helper.make_tensor_value_info(size, TensorProto.INT64, [1, 2]),
    ]
    box, labels, scores = [0.25, 0.5, 0.75, 1.0], [1, 0], [0.9, 0.1]
    nodes = [
        helper.make_node("Cast", [size], ["sides"], to=TensorProto.FLOAT),
        helper.make_node("Concat", ["sides", "sides"], ["all_sides"], axis=1),
        helper.make_node("Mul", ["all_sides", "shares"], ["boxes"]),
        helper.make_node("ReduceMean", [image], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "all_scores"], ["scores"]),
        helper.make_node("Identity", ["all_labels"], ["labels"]),
    ]
    constants = [
        helper.make_tensor("shares", TensorProto.FLOAT, [1, 2, 4], box * 2),
        helper.make_tensor("zero", TensorProto.FLOAT, [], [0]),
        helper.make_tensor("all_scores", TensorProto.FLOAT, [1, 2], scores),
        helper.make_tensor("all_labels", TensorProto.INT64, [1, 2], labels),
    ]
    outputs = [
        helper.make_tensor_value_info("labels", TensorProto.INT64, [1, 2]),
        helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [1, 2, 4]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 2]),
    ]
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "auto"])
def test_inputs_that_no_layout_knows(tmp_path: Path, engine: str) -> None:
    path = upstream_rtdetr(tmp_path / "m.onnx", size="sizes")
    seen = r"sizes int64 \(1, 2\); outputs: labels int64 \(1, 2\), boxes float32 \(1, 2, 4\), scores float32"
    with pytest.raises(StartupError, match=f"no known layout has the inputs sizes.*{seen}"):
        ExportedModel(path, engine=engine)
    shape = [1, 3, 64, 64]
    pair = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("template", "search")]
    out = helper.make_tensor_value_info("score", TensorProto.FLOAT, shape)
    graph = helper.make_graph([helper.make_node("Add", ["template", "search"], ["score"])], "g", pair, [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(tmp_path / "pair.onnx"))
    with pytest.raises(StartupError, match=r"expected one input that is an image.*template float32.*score float32"):
        ExportedModel(tmp_path / "pair.onnx", engine=engine)


def test_a_new_layout_is_one_object(tmp_path: Path) -> None:
    """With a second input, several outputs and boxes in the image's own pixels."""

    def match(file: Signature) -> Dimensions | None:
        return Dimensions(file.classes) if file.names == ["labels", "boxes", "scores"] else None

    def read(outputs: Any, dimensions: Dimensions) -> Candidates:
        labels, boxes, scores = outputs
        return Candidates(boxes=boxes[0], scores=scores[0], classes=labels[0])

    layout = OutputLayout(
        name="new",
        task="detect",
        outputs="labels, boxes, scores",
        match=match,
        read=read,
        box_format="xyxy",
        # The network is told the size of its input, so that boxes come in its pixels.
        further_inputs={"sizes": lambda letterbox, port: np.array([letterbox.size_hw[::-1]])},
    )
    path = upstream_rtdetr(tmp_path / "m.onnx", size="sizes")
    for engine in ("onnxruntime", "openvino"):
        model = ExportedModel(path, engine=engine, layouts=(*LAYOUTS, layout))
        assert model.layout is layout
        found = model.find(IMAGE, 0.5)
        # (16, 32) to (48, 64) of the input; the image lies in its rows 16 to 48.
        assert found.boxes_xyxy is not None and found.boxes_xyxy.tolist() == [[32, 32, 96, 64]]
        assert (found.classes.tolist(), found.scores.tolist()) == ([1], [np.float32(0.9)])
