import logging
from pathlib import Path

import numpy as np
import onnx
import openvino
import pytest
from onnx import TensorProto, helper

from common.errors import StartupError
from common.networks.engine import OnnxRuntimeEngine, OpenVinoEngine, choices, cuda_index, open_engine
from tests.common.networks.onnx_files import constant_model

VALUES = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
COUNTS = np.array([[7, 8]], np.int64)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    metadata = {"names": "{0: 'cat', 1: \"dog's\"}", "task": "detect"}
    outputs = {"values": VALUES, "counts": COUNTS}
    return constant_model(tmp_path / "model.onnx", outputs, metadata=metadata, brightness=True)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_each_engine_gives_the_same(model: Path, engine: str) -> None:
    opened = open_engine(model, engine=engine)
    image = np.full((1, 3, 64, 64), 0.5, np.float32)
    values, counts = opened.run([image])
    np.testing.assert_allclose(values, VALUES + 0.5, atol=1e-6)
    assert counts.tolist() == [[7, 8]]
    assert [port.name for port in opened.outputs] == ["values", "counts"]
    assert opened.inputs[0].shape == (1, 3, 64, 64) and opened.inputs[0].dtype == np.float32
    assert opened.metadata["names"] == "{0: 'cat', 1: \"dog's\"}" and opened.metadata["task"] == "detect"


def test_results_stay_when_the_engine_runs_again(model: Path) -> None:
    opened = open_engine(model, engine="openvino")
    first = opened.run([np.zeros((1, 3, 64, 64), np.float32)])[0]
    opened.run([np.ones((1, 3, 64, 64), np.float32)])
    np.testing.assert_allclose(first, VALUES, atol=1e-6)


def test_auto_measures_both_and_says_so(model: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="common"), choices() as taken:
        opened = open_engine(model, threads=2)
        open_engine(model, engine="onnxruntime")
    assert isinstance(opened, (OnnxRuntimeEngine, OpenVinoEngine))
    assert taken == ["openvino" if isinstance(opened, OpenVinoEngine) else "onnxruntime"]
    (line,) = [
        record.getMessage()
        for record in caplog.records
        if record.name == "common.networks.engine" and "measured" in record.getMessage()
    ]
    assert line.startswith(f"Using {opened.description}")
    assert line.count(" ms") == 2 and "ONNX Runtime" in line and "OpenVINO" in line
    open_engine(model, threads=2)
    assert len(taken) == 1  # only what is opened in the block counts


def test_auto_takes_what_can_load_the_model(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # OpenVINO does not know this operation; ONNX Runtime does.
    path = constant_model(tmp_path / "m.onnx", {"values": VALUES, "matrix": np.array([[2, 0], [0, 3]], np.float32)})
    graph = onnx.load(str(path))
    graph.graph.node.append(helper.make_node("Det", ["matrix"], ["area"]))
    graph.graph.output.append(helper.make_tensor_value_info("area", TensorProto.FLOAT, []))
    onnx.save(graph, str(path))
    with caplog.at_level(logging.INFO, logger="common"):
        opened = open_engine(path)
    assert isinstance(opened, OnnxRuntimeEngine)
    assert "OpenVINO can't load it" in caplog.text and "the only engine here" in caplog.text
    assert opened.run([np.zeros((1, 3, 64, 64), np.float32)])[2] == 6


def test_free_sizes_are_measured_with_the_example(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = constant_model(tmp_path / "m.onnx", {"values": VALUES}, input_shape=("batch", 3, "height", "width"))
    with caplog.at_level(logging.INFO, logger="common"):
        opened = open_engine(path, example=lambda e: [np.zeros((1, 3, 32, 96), np.float32)], fixed=True)
    assert "measured here" in caplog.text
    assert opened.run([np.zeros((1, 3, 32, 96), np.float32)])[0].shape == (1, 2, 3)
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="common"):
        assert isinstance(open_engine(path), OnnxRuntimeEngine)
    assert "not measured" in caplog.text


def test_half_precision_inputs_are_cast(tmp_path: Path) -> None:
    path = constant_model(tmp_path / "m.onnx", {"values": VALUES}, input_type=TensorProto.FLOAT16, brightness=True)
    for engine in ("onnxruntime", "openvino"):
        opened = open_engine(path, engine=engine)
        assert opened.inputs[0].dtype == np.float16
        result = opened.run([np.full((1, 3, 64, 64), 0.25, np.float32)])[0]
        np.testing.assert_allclose(result, VALUES + 0.25, atol=1e-3)


def test_openvino_files(tmp_path: Path, model: Path) -> None:
    openvino.save_model(openvino.Core().read_model(str(model)), str(tmp_path / "exported.xml"))
    (tmp_path / "metadata.yaml").write_text("task: detect\nnames: {0: cat, 1: dog}\nimgsz: [64, 64]\n")
    opened = open_engine(tmp_path / "exported.xml")
    assert isinstance(opened, OpenVinoEngine)
    assert opened.metadata == {"task": "detect", "names": "{0: 'cat', 1: 'dog'}", "imgsz": "[64, 64]"}
    np.testing.assert_allclose(opened.run([np.zeros((1, 3, 64, 64), np.float32)])[0], VALUES, atol=1e-3)
    with pytest.raises(StartupError, match=r"needs an \.onnx file"):
        open_engine(tmp_path / "exported.xml", engine="onnxruntime")


def test_a_model_from_bytes(model: Path) -> None:
    opened = open_engine(model.read_bytes())
    np.testing.assert_allclose(opened.run([np.zeros((1, 3, 64, 64), np.float32)])[0], VALUES, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        # This machine has the CPU build of ONNX Runtime: asking for a GPU must stop, not fall back.
        ({"device": "cuda"}, "no CUDAExecutionProvider .*GPU image"),
        ({"device": "cuda:1", "engine": "tensorrt"}, "no TensorrtExecutionProvider"),
        ({"device": "cuda", "engine": "openvino"}, "DEVICE=cuda needs ONNX Runtime"),
        ({"engine": "tensorrt"}, "ENGINE=tensorrt needs DEVICE=cuda"),
        ({"engine": "torchscript"}, r"ENGINE=torchscript needs a \.torchscript file"),
        ({"engine": "caffe"}, "ENGINE: expected one of auto, onnxruntime, openvino, tensorrt, torchscript"),
        ({"device": "tpu"}, "DEVICE: expected cpu, cuda or cuda:<number>"),
        ({"precision": "int3"}, "PRECISION: expected one of f32, bf16, f16"),
    ],
)
def test_refuses_what_is_not_there(model: Path, options: dict[str, str], message: str) -> None:
    with pytest.raises(StartupError, match=message):
        open_engine(model, **options)


@pytest.mark.parametrize("engine", ["auto", "onnxruntime", "openvino"])
def test_a_file_that_is_no_model(tmp_path: Path, engine: str) -> None:
    path = tmp_path / "photo.onnx"
    path.write_bytes(b"\xff\xd8 no model" * 100)
    with pytest.raises(StartupError, match=r"photo\.onnx: .* can't load it"):
        open_engine(path, engine=engine)


def test_device_names() -> None:
    assert cuda_index("cpu") is None
    assert cuda_index("cuda") == 0
    assert cuda_index("CUDA:3") == 3
