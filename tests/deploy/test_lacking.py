"""What keeps functions from being deployed, in the collection and elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from common.networks import weights as model_weights
from deploy.definition.lacking import lacks, needs_gpu
from serverless.collection import COLLECTION, function_directories, name_of

OWN_WEIGHTS = "weights of your own (MODEL_PATH): mount them with --weights DIR"
WITHOUT_WEIGHTS = {
    "onnx-embedding-reid",
    "onnx-open-mmlab-mmrotate",
    "onnx-open-mmlab-pose",
    "onnx-detr-segment",
    "onnx-wongkinyiu-yolor",
    "openvino-omz-mask-rcnn-inception-resnet-v2-atrous-coco",
    "pytorch-dschoerk-transt",
}


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None


def lacking(directory: Path, device: str = "cpu", mounted: bool = False, **environment: str) -> str:
    function, catalog = read(directory / "function.yaml"), read(directory / "weights.yaml")
    return lacks(directory, function, catalog, device, environment, mounted)


def made(folder: Path, **spec: Any) -> Path:
    content = {"metadata": {"name": "own"}, "spec": {"build": {"baseImage": "cvat.onnx.base"}, **spec}}
    (folder / "function.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder


def test_functions_of_the_collection_that_lack_something() -> None:
    found = {name_of(directory): lacking(directory) for directory in function_directories()}
    assert {name: phrase for name, phrase in found.items() if phrase} == {
        **dict.fromkeys(WITHOUT_WEIGHTS, OWN_WEIGHTS),
        "pytorch-facebookresearch-sam3": "a GPU: ./deploy_gpu.sh",
    }


def test_on_a_gpu_they_still_lack_weights() -> None:
    found = {name_of(directory) for directory in function_directories() if lacking(directory, "gpu")}
    assert found == WITHOUT_WEIGHTS


def test_serve_lacks_the_same_weights() -> None:
    """What is not to be fetched for tools.serve can't be fetched for a deployment either."""
    for directory in function_directories():
        missing = model_weights.missing(directory, {})
        own = missing is not None and not missing.files
        assert own == bool(lacking(directory, "gpu")), directory


def test_weights_that_are_mounted_are_not_lacking() -> None:
    assert lacking(COLLECTION / "onnx/WongKinYiu/yolor", mounted=True) == ""


def test_mounted_weights_are_no_gpu() -> None:
    sam3 = COLLECTION / "pytorch/facebookresearch/sam3"
    assert lacking(sam3, mounted=True) == "a GPU: ./deploy_gpu.sh"


def test_no_model_path_in_the_deployment_takes_precedence(tmp_path: Path) -> None:
    made(tmp_path, env=[{"name": "MODEL_PATH", "value": "weights/own.onnx"}])
    assert lacking(tmp_path) == OWN_WEIGHTS
    assert lacking(tmp_path, MODEL_PATH="") == ""


def test_a_model_path_of_the_deployment_is_looked_for(tmp_path: Path) -> None:
    made(tmp_path)
    (tmp_path / "other.onnx").touch()
    assert lacking(tmp_path, MODEL_PATH="own.onnx") == OWN_WEIGHTS
    assert lacking(tmp_path, MODEL_PATH="other.onnx") == ""
    assert lacking(tmp_path, MODEL_PATH="/opt/nuclio/other.onnx") == ""
    assert lacking(tmp_path, MODEL_PATH="/models/other.onnx") == OWN_WEIGHTS


def test_a_file_in_the_weights_folder_is_copied_into_the_image(tmp_path: Path) -> None:
    made(tmp_path, env=[{"name": "MODEL_PATH", "value": "/opt/nuclio/weights/own.onnx"}])
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/own.onnx").touch()
    assert lacking(tmp_path) == ""


@pytest.mark.parametrize(
    "spec",
    [
        {"volumes": [{"volume": {"hostPath": {"path": "/x"}}, "volumeMount": {"mountPath": "/models/"}}]},
        {
            "build": {
                "baseImage": "cvat.onnx.base",
                "commands": ["curl -o /models/own.onnx https://example.com/own.onnx"],
            }
        },
        {
            "build": {
                "baseImage": "cvat.onnx.base",
                "directives": {"postCopy": [{"kind": "ADD", "value": "https://example.com/own.onnx /models/"}]},
            }
        },
        {"build": {"baseImage": "company/detector"}},
        {"build": {}},
    ],
    ids=["volume", "command", "directive", "base image", "no base image"],
)
def test_what_a_volume_the_build_or_a_base_image_may_bring_is_not_lacking(tmp_path: Path, spec: dict[str, Any]) -> None:
    environment = [{"name": "MODEL_PATH", "value": "/models/own.onnx"}]
    assert lacking(made(tmp_path, env=environment, **spec)) == ""


def test_a_volume_for_another_folder_is_no_help(tmp_path: Path) -> None:
    volume = {"volume": {"hostPath": {"path": "/x"}}, "volumeMount": {"mountPath": "/mod"}}
    made(tmp_path, env=[{"name": "MODEL_PATH", "value": "/models/own.onnx"}], volumes=[volume])
    assert lacking(tmp_path) == OWN_WEIGHTS


def test_files_without_an_address_must_be_in_the_directory(tmp_path: Path) -> None:
    made(tmp_path)
    variants = {"a": {"files": [{"path": "a.onnx"}]}, "b": {"files": [{"path": "b.onnx", "url": "https://x.org/b"}]}}
    (tmp_path / "weights.yaml").write_text(yaml.safe_dump({"default": "a", "variants": variants}))
    assert lacking(tmp_path) == "a.onnx: part of the function's directory, copy it again"
    assert lacking(tmp_path, VARIANT="b") == ""
    (tmp_path / "a.onnx").touch()
    assert lacking(tmp_path) == ""


@pytest.mark.parametrize(("count", "needed"), [(1, True), ("1", True), (0, False), ("0", False)])
def test_a_gpu_is_needed_when_the_limit_is_not_0(count: object, needed: bool) -> None:
    assert needs_gpu({"spec": {"resources": {"limits": {"nvidia.com/gpu": count}}}}) == needed


@pytest.mark.parametrize("content", [{}, {"spec": None}, {"spec": {"env": "x", "resources": [], "volumes": {"a": 1}}}])
def test_a_file_of_another_form_is_left_to_others(tmp_path: Path, content: dict[str, Any]) -> None:
    assert lacks(tmp_path, content, None, "cpu", {}, False) == ""
