"""A file as mmdeploy exports MMRotate: an operation that ONNX Runtime lacks, cut out and done by us."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from common.errors import StartupError
from common.networks.exported.model import ExportedModel
from common.networks.formats.rotated_graph import cut_rotated_nms
from tests.common.networks.onnx_files import constant_model

# Centre, size, angle in the input; the image fills its upper half.
BOXES = np.array(
    [[32, 16, 20, 8, 0.3], [33, 16, 20, 8, 0.3], [32, 16, 20, 8, 0.3 + np.pi / 2], [50, 20, 6, 4, 0]], np.float32
)
SCORES = np.array([[0.9, 0.8, 0.7, 0.1], [0.1, 0.2, 0.3, 0.6]], np.float32)  # (classes, places)
IMAGE = np.full((64, 128, 3), 100, np.uint8)


def mmdeploy_file(path: Path) -> Path:
    """Boxes and scores as constants, then NMSRotated and what mmdeploy puts behind it, cut down to the names."""
    image = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 64, 64])
    dets = helper.make_tensor_value_info("dets", TensorProto.FLOAT, [1, "n", 6])
    labels = helper.make_tensor_value_info("labels", TensorProto.INT64, [1, "n"])
    constants = [
        numpy_helper.from_array(BOXES[None], "all_boxes"),
        numpy_helper.from_array(SCORES[None], "all_scores"),
        numpy_helper.from_array(np.array(0, np.float32), "nothing"),
        numpy_helper.from_array(np.zeros((1, 4, 1), np.float32), "behind"),
    ]
    nodes = [
        helper.make_node("ReduceMean", ["input"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "nothing"], ["zero"]),
        helper.make_node("Add", ["all_boxes", "zero"], ["candidates"]),
        helper.make_node("Add", ["all_scores", "zero"], ["candidate_scores"]),
        helper.make_node(
            "NMSRotated",
            ["candidates", "candidate_scores"],
            ["picked"],
            domain="mmdeploy",
            iou_threshold=0.1,
            score_threshold=0.05,
        ),
        helper.make_node("Cast", ["picked"], ["labels"], to=TensorProto.INT64),
        helper.make_node("Concat", ["candidates", "behind"], ["dets"], axis=2),
    ]
    graph = helper.make_graph(nodes, "g", [image], [dets, labels], constants)
    versions = [helper.make_opsetid("", 17), helper.make_opsetid("mmdeploy", 1)]
    onnx.save(helper.make_model(graph, opset_imports=versions, ir_version=8), str(path))
    return path


def test_the_cut_model_runs_and_holds_only_what_is_needed(tmp_path: Path) -> None:
    path = mmdeploy_file(tmp_path / "end2end.onnx")
    with pytest.raises(Exception, match="NMSRotated"):
        onnxruntime.InferenceSession(str(path))
    content = cut_rotated_nms(path)
    assert content is not None
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model)
    assert [node.op_type for node in model.graph.node].count("NMSRotated") == 0
    assert {constant.name for constant in model.graph.initializer} == {"all_boxes", "all_scores", "nothing"}
    session = onnxruntime.InferenceSession(content)
    boxes, scores = session.run(None, {"input": np.zeros((1, 3, 64, 64), np.float32)})
    np.testing.assert_array_equal(boxes[0], BOXES)
    np.testing.assert_array_equal(scores[0], SCORES)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "auto"])
def test_boxes_in_the_image(tmp_path: Path, engine: str) -> None:
    model = ExportedModel(mmdeploy_file(tmp_path / "end2end.onnx"), engine=engine)
    assert (model.layout.name, model.layout.task, model.dimensions.classes) == ("mmrotate-raw", "obb", 2)
    found = model.find(IMAGE, 0.25)
    assert found.rotated_xywhr is not None
    # The second goes with the first; the third crosses it (IoU 0.25): gone at 0.1, here with its other class too.
    assert found.classes.tolist() == [0, 1, 1]
    np.testing.assert_allclose(found.scores, [0.9, 0.6, 0.3])
    np.testing.assert_allclose(found.rotated_xywhr[:2], [[64, 32, 40, 16, 0.3], [100, 40, 12, 8, 0]], atol=1e-5)
    loose = model.find(IMAGE, 0.25, iou=0.5)
    assert loose.classes.tolist() == [0, 0, 1, 1]
    assert model.find(IMAGE, 0.25, agnostic=True).scores.tolist() == pytest.approx([0.9, 0.6])
    assert len(model.find(IMAGE, 0.95).scores) == 0


def test_the_picture_is_fed_as_mmrotate_normalises_it(tmp_path: Path) -> None:
    model = ExportedModel(mmdeploy_file(tmp_path / "end2end.onnx"), engine="onnxruntime")
    image = np.zeros((64, 128, 3), np.uint8)
    image[...] = (255, 128, 0)
    (tensor,) = model.prepare(image, model.fit(image.shape))
    mean, deviation = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
    np.testing.assert_allclose(tensor[0, :, 5, 5], (np.array([255, 128, 0]) - mean) / deviation, rtol=1e-5)
    assert (tensor[0, :, 32:] == 0).all() and (tensor[0, :, :32] != 0).all()


def test_other_files_are_left_as_they_are(tmp_path: Path) -> None:
    path = constant_model(tmp_path / "m.onnx", {"o": np.zeros((1, 6, 84), np.float32)})
    assert cut_rotated_nms(path) is None
    twice = onnx.load(str(mmdeploy_file(tmp_path / "twice.onnx")))
    again = onnx.NodeProto()
    again.CopyFrom(next(node for node in twice.graph.node if node.op_type == "NMSRotated"))
    again.output[0] = "again"
    twice.graph.node.append(again)
    onnx.save(twice, str(tmp_path / "twice.onnx"))
    with pytest.raises(StartupError, match="expected one operation NMSRotated in the model, found 2"):
        cut_rotated_nms(tmp_path / "twice.onnx")
