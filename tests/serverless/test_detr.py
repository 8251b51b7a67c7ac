"""The functions of the DETR family through their own main.py, with files of constant outputs in place of their weights."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import yaml
from numpy.typing import NDArray

from common.config import FunctionConfig
from common.errors import StartupError
from common.networks.exported.model import ExportedModel
from common.networks.formats.coco import COCO_CATEGORIES
from common.vision.mask import flat_to_mask, mask_to_bitmap
from tests.common.networks.exported.test_foreign_files import upstream_rtdetr
from tests.common.networks.onnx_files import constant_model
from tools.collection import COLLECTION
from tools.wrapper import LoadedFunction, Reply

IMAGE = np.full((64, 128, 3), 100, np.uint8)  # stretched to 64 x 64
CAT, DOG = 15, 16  # in COCO's list of 80
QUERIES = 20
BOX = [0.25, 0.5, 0.25, 0.5]  # centre and size: 16 to 48 across, 16 to 48 down in the image
POINTS = [16.0, 16.0, 48.0, 48.0]
LEFT_OUT = -9.0  # a logit


def names() -> list[str]:
    return list(FunctionConfig.load(COLLECTION / "onnx/detr/detect").labels)


def queries(
    columns: int, scores: Mapping[int, Mapping[int, float]], masks: bool = False
) -> dict[str, NDArray[np.float32]]:
    """Outputs of transformers; scores: query -> class -> logit."""
    logits = np.full((1, QUERIES, columns), LEFT_OUT, np.float32)
    boxes = np.full((1, QUERIES, 4), 0.5, np.float32)
    for query, classes in scores.items():
        boxes[0, query] = BOX
        for index, logit in classes.items():
            logits[0, query, index] = logit
    outputs = {"logits": logits, "pred_boxes": boxes}
    if masks:
        outputs["pred_masks"] = np.full((1, QUERIES, 16, 16), -5, np.float32)
        for query in scores:
            outputs["pred_masks"][0, query, 4:12, 2:6] = 5
    return outputs


def settings(folder: Path, model_type: str, classes: list[str] | None = None, **processor: Any) -> None:
    """Writes config.json and preprocessor_config.json."""
    id2label = {str(i): name for i, name in enumerate(names() if classes is None else classes)}
    (folder / "config.json").write_text(json.dumps({"model_type": model_type, "id2label": id2label}))
    usual = {"image_processor_type": "RTDetrImageProcessor", "do_normalize": False, "size": {"height": 64, "width": 64}}
    (folder / "preprocessor_config.json").write_text(json.dumps(usual | processor))


def body() -> dict[str, Any]:
    png = cv2.imencode(".png", IMAGE[..., ::-1])[1].tobytes()
    return {"image": base64.b64encode(png).decode(), "threshold": 0.3}


def ask(model: Path, monkeypatch: pytest.MonkeyPatch, function: str = "detect", **options: str) -> Reply:
    monkeypatch.setenv("MODEL_PATH", str(model))
    monkeypatch.setenv("ENGINE", "onnxruntime")
    for name, value in options.items():
        monkeypatch.setenv(name, value)
    return LoadedFunction(COLLECTION / f"onnx/detr/{function}", unique=True)(body())


def box(label: str, confidence: str) -> dict[str, Any]:
    return {"label": label, "type": "rectangle", "confidence": confidence, "points": POINTS}


def test_sigmoids_give_a_query_several_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = constant_model(tmp_path / "m.onnx", queries(80, {3: {CAT: 2.0, DOG: 0.0}}), input_name="pixel_values")
    settings(tmp_path, "rt_detr")
    assert ask(model, monkeypatch).json() == [box("cat", "0.8808"), box("dog", "0.5000")]


def test_a_softmax_gives_a_query_one_class_or_no_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    category = COCO_CATEGORIES.index("cat")
    scores = {3: {category: 9.0, category + 1: 8.0}, 4: {category: 9.0, 91: 11.0}}
    model = constant_model(tmp_path / "m.onnx", queries(92, scores), input_name="pixel_values")
    # As facebook's configuration has them, with gaps.
    settings(tmp_path, "detr", list(COCO_CATEGORIES), image_processor_type="DetrImageProcessor", do_normalize=True)
    assert ask(model, monkeypatch).json() == [box("cat", "0.7311")]


def test_old_names_of_classes_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The published configuration of RT-DETR calls a couch a sofa."""
    old = ["sofa" if name == "couch" else name for name in names()]
    model = constant_model(tmp_path / "m.onnx", queries(80, {3: {old.index("sofa"): 2.0}}), input_name="pixel_values")
    settings(tmp_path, "rt_detr", old)
    assert ask(model, monkeypatch).json() == [box("couch", "0.8808")]


def test_the_folder_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the file in a folder of its own, below the settings: so weights.yaml lays it out."""
    (tmp_path / "onnx").mkdir()
    outputs = queries(80, {3: {CAT: 2.0}})
    shape = ("batch", "channels", "height", "width")  # as optimum declares it
    model = constant_model(tmp_path / "onnx/model.onnx", outputs, input_name="pixel_values", input_shape=shape)
    settings(tmp_path, "rt_detr")
    assert ask(model, monkeypatch).json() == [box("cat", "0.8808")]
    files = yaml.safe_load((COLLECTION / "onnx/detr/detect/weights.yaml").read_text())["variants"]
    for variant in files.values():
        assert variant["entry"] == "onnx/model.onnx"
        assert {file["path"] for file in variant["files"]} == {
            "onnx/model.onnx", "config.json", "preprocessor_config.json"
        }  # fmt: skip


def test_upstream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = upstream_rtdetr(tmp_path / "m.onnx")  # class 1 with 0.9 in a quarter
    (found,) = ask(model, monkeypatch).json()
    assert (found["label"], found["confidence"], found["points"]) == ("bicycle", "0.9000", [32, 32, 96, 64])


@pytest.mark.parametrize("backbone", ["hgnetv2", "dinov3"])
def test_upstream_with_the_values_that_its_backbone_takes(tmp_path: Path, backbone: str) -> None:
    path = upstream_rtdetr(tmp_path / "m.onnx")
    file = onnx.load(str(path))
    file.graph.node[0].name = f"/model/backbone/{backbone}/blocks.0/Cast"
    onnx.save(file, str(path))
    model = ExportedModel(path, engine="onnxruntime")
    pixels, sizes = model.prepare(IMAGE, model.fit(IMAGE.shape))
    expected = [100 / 255] * 3 if backbone == "hgnetv2" else [-0.4054, -0.2850, -0.0615]
    np.testing.assert_allclose(pixels[0, :, 5, 5], expected, atol=1e-3)
    assert sizes.tolist() == [[64, 64]]


def test_rfdetr_has_the_categories_of_coco(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = queries(91, {3: {COCO_CATEGORIES.index("toothbrush"): 2.0}})
    model = constant_model(
        tmp_path / "m.onnx", {"dets": found["pred_boxes"], "labels": found["logits"]}, input_name="input"
    )
    assert ask(model, monkeypatch).json() == [box("toothbrush", "0.8808")]


def test_rfdetr_of_other_classes_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = queries(81, {3: {CAT: 2.0}})
    model = constant_model(
        tmp_path / "m.onnx", {"dets": found["pred_boxes"], "labels": found["logits"]}, input_name="input"
    )
    with pytest.raises(
        StartupError, match=r"no class names, and the package rfdetr counts classes from 0 for .*LABELS_BY=id"
    ):
        ask(model, monkeypatch)
    assert ask(model, monkeypatch, LABELS_BY="id").json() == [box("cat", "0.8808")]


@pytest.mark.parametrize("package", ["transformers", "rfdetr"])
def test_masks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    outputs = queries(91, {3: {COCO_CATEGORIES.index("cat"): 2.0}}, masks=True)
    if package == "rfdetr":
        outputs = {"dets": outputs["pred_boxes"], "labels": outputs["logits"], "4245": outputs["pred_masks"]}
    else:
        settings(tmp_path, "rf_detr", list(COCO_CATEGORIES))
    model = constant_model(tmp_path / "m.onnx", outputs, input_name="input")
    (found,) = ask(model, monkeypatch, "segment").json()
    assert (found["label"], found["type"], found["confidence"]) == ("cat", "mask", "0.8808")
    bitmap = mask_to_bitmap(flat_to_mask(found["mask"]), IMAGE.shape[:2])
    rows, columns = np.nonzero(bitmap)
    # Columns 2 to 6 and rows 4 to 12 of 16.
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (16, 48, 16, 48)
    # The function for boxes takes the file too.
    boxes = ask(model, monkeypatch, TASK="detect").json()
    assert boxes == [box("cat", "0.8808")]


@pytest.mark.parametrize(
    ("left_out", "options", "message"),
    [
        ("config.json", {}, r"of an unknown kind: put its config\.json and preprocessor_config\.json beside"),
        (
            "preprocessor_config.json",
            {},
            r"nothing says how images are prepared.*preprocessor_config\.json.*MEAN and STD",
        ),
        ("config.json", {"LAYOUT": "detr-sigmoid", "LABELS_BY": "id"}, ""),
        ("preprocessor_config.json", {"MEAN": "0,0,0", "STD": "255,255,255"}, ""),
    ],
)
def test_what_must_be_beside_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left_out: str, options: dict[str, str], message: str
) -> None:
    model = constant_model(tmp_path / "m.onnx", queries(80, {3: {CAT: 2.0}}), input_name="pixel_values")
    settings(tmp_path, "rt_detr")
    (tmp_path / left_out).unlink()
    if message:
        with pytest.raises(StartupError, match=message):
            ask(model, monkeypatch, **options)
    else:
        assert ask(model, monkeypatch, **options).json() == [box("cat", "0.8808")]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"size": {"max_height": 64}}, "size: expected height and width, or shortest_edge and longest_edge"),
        ({"do_resize": False}, "do_resize: expected true"),
        ({"rescale_factor": 1.0}, "do_rescale, rescale_factor: expected true and 1/255"),
        ({"image_mean": [0.5], "do_normalize": True}, "image_mean: expected three numbers"),
        ({"resample": 9}, "resample: expected a number from 0 to 5"),
    ],
)
def test_settings_that_cannot_be_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any], message: str
) -> None:
    model = constant_model(tmp_path / "m.onnx", queries(80, {3: {CAT: 2.0}}), input_name="pixel_values")
    settings(tmp_path, "rt_detr", **wrong)
    with pytest.raises(StartupError, match=rf"preprocessor_config\.json: {message}"):
        ask(model, monkeypatch)
