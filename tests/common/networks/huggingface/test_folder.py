"""Folders as published, and wrong ones: what is refused before anything is loaded, and what after."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from common.errors import StartupError
from common.networks.huggingface.folder import ModelFolder, class_names
from common.networks.huggingface.library import offline_transformers
from common.networks.huggingface.safetensors_file import read_header

transformers = offline_transformers()
CLASSIFIER = "AutoModelForImageClassification"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny ViT of two classes."""
    folder = tmp_path_factory.mktemp("vit")
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=16,
        id2label={0: "person", 1: "car"}, label2id={"person": 0, "car": 1},
    )  # fmt: skip
    transformers.ViTForImageClassification(config).save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(published: Path, tmp_path: Path) -> Path:
    """A copy of it to change."""
    return Path(shutil.copytree(published, tmp_path / "model"))


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_a_published_folder_loads_with_all_its_weights(published: Path) -> None:
    found = ModelFolder.open(published)
    assert found.architecture == "ViTForImageClassification"
    assert found.names == ("person", "car")
    model = found.load_model(CLASSIFIER)
    assert not model.training
    torch.manual_seed(0)  # as in the fixture
    expected = transformers.ViTForImageClassification(model.config).state_dict()
    assert list(model.state_dict()) == list(expected)
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())
    assert type(found.load_image_processor()).__name__ == "ViTImageProcessor"


def test_the_file_in_a_folder_names_the_folder(published: Path) -> None:
    assert ModelFolder.open(published / "model.safetensors").path == published


def test_weights_in_several_files_are_one_model(published: Path, tmp_path: Path) -> None:
    whole = ModelFolder.open(published).load_model(CLASSIFIER)
    whole.save_pretrained(tmp_path, max_shard_size="4KB")
    found = ModelFolder.open(tmp_path)
    assert len(found.files) > 1
    parts = found.load_model(CLASSIFIER).state_dict()
    assert all(torch.equal(value, parts[name]) for name, value in whole.state_dict().items())
    found.files[0].unlink()
    with pytest.raises(StartupError, match=f"1 of {len(found.files)} files are missing: {found.files[0].name}"):
        ModelFolder.open(tmp_path)


def test_counters_that_the_library_no_longer_keeps_are_no_error(folder: Path) -> None:
    edit_weights(folder, lambda weights: weights.update({"vit.relative_position_index": torch.arange(4)}))
    ModelFolder.open(folder).load_model(CLASSIFIER)


def test_parts_that_the_caller_does_not_need_are_no_error(folder: Path) -> None:
    edit_weights(folder, lambda weights: weights.update({"vit.pooler.dense.weight": torch.zeros(4, 4)}))
    ModelFolder.open(folder).load_model(CLASSIFIER, unused=(r"\.pooler\.",))
    with pytest.raises(StartupError, match=r"1 tensors have no place in it: vit\.pooler\.dense\.weight"):
        ModelFolder.open(folder).load_model(CLASSIFIER)


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def cut_in_its_header(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100])


def not_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0" + b"[1, 2, 3, 4, 5] " * 4)


def pointer_of_git_lfs(folder: Path) -> None:
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")


def only_a_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def broken_config(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "vit"')


def own_code(folder: Path) -> None:
    edit_config(folder, auto_map={"AutoModel": "modeling.Model"})


def index_that_leaves_the_folder(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder.parent / "other.safetensors")
    index = {"weight_map": {"a": "../other.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (cut, "the file is cut off"),
        (cut_in_its_header, "cut off in its header"),
        (not_weights, "not a .safetensors file: its header can't be read"),
        (pointer_of_git_lfs, "run git lfs pull"),
        (only_a_pickle, "got only pytorch_model.bin, a pickle"),
        (no_weights, "there is no model.safetensors"),
        (no_config, "with config.json and model.safetensors"),
        (broken_config, "config.json: not JSON"),
        (own_code, "code of its own .auto_map., which is never run"),
        (index_that_leaves_the_folder, "expected .safetensors files beside it, got ../other.safetensors"),
    ],
)
def test_wrong_folders_are_refused_before_anything_is_loaded(
    folder: Path, change: Callable[[Path], None], message: str
) -> None:
    change(folder)
    with pytest.raises(StartupError, match=message):
        ModelFolder.open(folder)


def without_a_tensor(weights: dict[str, torch.Tensor]) -> None:
    del weights["classifier.weight"]


def with_another_shape(weights: dict[str, torch.Tensor]) -> None:
    weights["classifier.bias"] = torch.zeros(3)


def with_one_layer_more(weights: dict[str, torch.Tensor]) -> None:
    for name in [name for name in weights if ".1." in name]:
        weights[name.replace(".1.", ".2.")] = weights[name].clone()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_a_tensor, r"1 tensors are missing: classifier\.weight"),
        (with_another_shape, r"1 tensors have another shape: classifier\.bias"),
        (with_one_layer_more, r"tensors have no place in it: vit\."),
    ],
)
def test_weights_that_do_not_fit_are_named(folder: Path, change: Callable[..., None], message: str) -> None:
    edit_weights(folder, change)
    with pytest.raises(StartupError, match=message):
        ModelFolder.open(folder).load_model(CLASSIFIER)


def test_a_folder_of_another_task_or_an_unknown_model_is_an_error(folder: Path) -> None:
    with pytest.raises(StartupError, match="AutoModelForObjectDetection can't be loaded"):
        ModelFolder.open(folder).load_model("AutoModelForObjectDetection")
    edit_config(folder, model_type="never_heard_of")
    with pytest.raises(StartupError, match=r"can't be loaded.*never_heard_of"):
        ModelFolder.open(folder).load_model(CLASSIFIER)


def test_preprocessing_that_is_missing_or_comes_as_code_is_an_error(folder: Path) -> None:
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps({"auto_map": {"AutoImageProcessor": "own.Processor"}, "image_processor_type": "Own"}))
    with pytest.raises(StartupError, match="the preprocessing can't be loaded"):
        ModelFolder.open(folder).load_image_processor()
    path.unlink()
    with pytest.raises(StartupError, match=r"preprocessor_config\.json is missing"):
        ModelFolder.open(folder).load_image_processor()


def test_names_are_those_of_the_config_in_the_order_of_their_indices() -> None:
    assert class_names({"id2label": {"10": "k", "2": "c", "0": "a"}}, "") == (
        "a", "class 1", "c", *(f"class {i}" for i in range(3, 10)), "k",
    )  # fmt: skip
    assert class_names({"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}, "") is None
    assert class_names({}, "") is None
    with pytest.raises(StartupError, match=r"c\.json: id2label: expected an object of class names by index"):
        class_names({"id2label": {"first": "a"}}, "c.json")


def test_a_header_says_what_the_tensors_are(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.zeros(2, 3, dtype=torch.bfloat16), "b": torch.zeros(4, dtype=torch.int64)}, path)
    header = read_header(path)
    assert (header["a"].dtype, header["a"].shape, header["a"].is_integer) == ("BF16", (2, 3), False)
    assert header["b"].is_integer
