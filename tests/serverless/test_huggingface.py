"""The functions of pytorch/huggingface and facebookresearch/detr on tiny folders, through their real main.py."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from common.config import FunctionConfig
from common.errors import StartupError
from tests.common.networks.huggingface.tiny_models import save_tiny
from tests.serverless.sam_functions import encoded, error, noise
from tools.collection import COLLECTION
from tools.wrapper import LoadedFunction

HUGGINGFACE = COLLECTION / "pytorch/huggingface"
DETR = COLLECTION / "pytorch/facebookresearch/detr"
FUNCTIONS = {
    "detect": (HUGGINGFACE / "detect", "DFineForObjectDetection"),
    "segment": (HUGGINGFACE / "segment", "Mask2FormerForUniversalSegmentation"),
    "classify": (HUGGINGFACE / "classify", "ViTForImageClassification"),
    "detr": (DETR, "DetrForObjectDetection"),
}
SIZE_HW = (150, 200)


def classes(function: Path) -> dict[str, Any]:
    """A model's configuration with a class for each label of a function, at its id; gaps as COCO's numbers have them."""
    labels = FunctionConfig.load(function).labels.values()
    names = {label.id: label.name for label in labels}
    id2label = {i: names.get(i, "N/A") for i in range(max(names) + 1)}
    return {"id2label": id2label, "label2id": {name: i for i, name in id2label.items()}}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("folders")
    for name, (function, architecture) in FUNCTIONS.items():
        save_tiny(architecture, root / name, **classes(function))
    return {name: root / name for name in FUNCTIONS}


def loaded(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, **variables: object) -> LoadedFunction:
    for variable, value in {"MODEL_PATH": folder, "DEVICE": "cpu", "THREADS": 1, "THRESHOLD": 0, **variables}.items():
        monkeypatch.setenv(variable, str(value))
    return LoadedFunction(FUNCTIONS[name][0], unique=True)


def ask(function: LoadedFunction, image: NDArray[np.uint8], **more: Any) -> list[dict[str, Any]]:
    reply = function({"image": encoded(image), **more})
    assert reply.status == 200, reply.body
    found: list[dict[str, Any]] = reply.json()
    return found


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_answers_what_its_handler_finds(
    folders: dict[str, Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    function = loaded(name, folders[name], monkeypatch)
    image = noise(1)
    reply = ask(function, image)
    assert reply
    handler = function.context.user_data.function._handler
    expected = handler.infer(image, 0.0)
    assert [shape["label"] for shape in reply] == [shape.label for shape in expected]
    scores = [float(shape["confidence"]) for shape in reply]
    np.testing.assert_allclose(scores, [shape.score for shape in expected], atol=1e-3)
    assert scores == sorted(scores, reverse=True)
    kinds = {"segment": "mask", "classify": "tag"}
    assert {shape["type"] for shape in reply} == {kinds.get(name, "rectangle")}
    labels = FunctionConfig.load(FUNCTIONS[name][0]).labels
    assert {shape["label"] for shape in reply} <= set(labels)
    if kinds.get(name) != "tag":
        points = np.concatenate([np.reshape(shape["points"], (-1, 2)) for shape in reply])
        assert (points >= 0).all()
        assert (points <= [SIZE_HW[1], SIZE_HW[0]]).all()
    limit = float(np.mean(scores))
    some = ask(function, image, threshold=limit)
    assert 0 < len(some) < len(reply)
    assert all(float(shape["confidence"]) >= limit - 1e-4 for shape in some)


def test_tiles_and_thresholds_of_labels(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ask(loaded("detr", folders["detr"], monkeypatch), noise(1, 300, 260))
    label = whole[0]["label"]
    limit = float(whole[0]["confidence"]) + 1e-3
    function = loaded("detr", folders["detr"], monkeypatch, LABEL_THRESHOLDS=f"{label}={limit}")
    assert label not in {shape["label"] for shape in ask(function, noise(1, 300, 260))}
    tiled = ask(loaded("detr", folders["detr"], monkeypatch, TILE_SIZE=128), noise(1, 300, 260))
    assert {tuple(shape["points"]) for shape in tiled} - {tuple(shape["points"]) for shape in whole}


def test_several_images_are_answered_together(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    function = loaded("detr", folders["detr"], monkeypatch)
    kind = function.context.user_data.function
    assert kind.takes_batches
    from common.serving.stages import Stages

    images = [noise(i) for i in range(3)]
    together = kind.detect_batch(images, None, Stages())
    for shapes, image in zip(together, images, strict=True):
        alone = kind.detect(image, None, Stages())
        assert [shape.label for shape in shapes] == [shape.label for shape in alone]
        np.testing.assert_allclose([s.box_xyxy for s in shapes], [s.box_xyxy for s in alone], atol=0.5)


def test_a_request_that_is_wrong_is_answered(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    function = loaded("detr", folders["detr"], monkeypatch)
    reply = function({"image": "no picture"})
    assert reply.status == 400
    reply = function({"image": encoded(np.zeros((400, 2, 3), np.uint8))})
    assert reply.status == 400
    assert error(reply) == "image: 2 x 400 pixels can't be resized for this model: it is too narrow"


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def without_a_tensor(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["class_labels_classifier.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def own_code(folder: Path) -> None:
    change(folder, auto_map={"AutoModelForObjectDetection": "modeling.Model"})


def only_a_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def another_task(folder: Path) -> None:
    change(folder, architectures=["DetrForSegmentation"])


def unknown(folder: Path) -> None:
    change(folder, architectures=["BertForMaskedLM"], model_type="bert")


def without_names(folder: Path) -> None:
    change(folder, id2label={str(i): f"LABEL_{i}" for i in range(91)})


def other_names(folder: Path) -> None:
    change(folder, id2label={str(i): f"thing {i}" for i in range(91)})


def change(folder: Path, **entries: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (cut, "the file is cut off"),
        (without_a_tensor, r"1 tensors are missing: class_labels_classifier\.weight"),
        (own_code, "code of its own"),
        (only_a_pickle, r"got only pytorch_model\.bin, a pickle"),
        (another_task, "DetrForSegmentation is for the function pytorch/huggingface/segment"),
        (unknown, "expected models of ConditionalDetr.*got the text 'BertForMaskedLM'"),
        (without_names, "there are no class names.*LABELS_BY=id"),
        (other_names, "the model has no class named person, bicycle"),
    ],
)
def test_a_function_does_not_start_on_a_wrong_folder(
    folders: dict[str, Path],
    tmp_path: Path,
    spoil: Callable[[Path], None],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(folders["detr"], folder)
    spoil(folder)
    with pytest.raises(StartupError, match=message):
        loaded("detr", folder, monkeypatch)


def test_a_backbone_of_timm_is_a_part_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As DETR's folder is published: timm builds the backbone, its weights are in model.safetensors, and nothing is fetched."""
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("the network was used"))
    backbone = {
        "backbone_config": None,
        "use_timm_backbone": True,
        "backbone": "resnet10t",
        "use_pretrained_backbone": False,
    }
    save_tiny("DetrForObjectDetection", tmp_path / "model", **classes(DETR), **backbone)
    written = json.loads((tmp_path / "model/config.json").read_text())
    function = loaded("detr", tmp_path / "model", monkeypatch)
    assert "timm" in json.dumps(written)
    assert ask(function, noise(1))
