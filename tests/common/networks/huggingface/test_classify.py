"""Tags against the library's own probabilities of the same weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image as PillowImage
from safetensors.torch import save_file

from common.config import FunctionConfig
from common.errors import StartupError
from common.networks.huggingface.classify import Classification
from common.shapes import Tag
from tests.common.networks.huggingface.tiny_models import NAMES, save_tiny, transformers
from tests.functions import write_function

IMAGE = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)


def config(folder: Path) -> FunctionConfig:
    labels = [{"id": i, "name": name, "type": "tag"} for i, name in enumerate(NAMES)]
    return FunctionConfig.load(write_function(folder, labels=labels))


@pytest.mark.parametrize("architecture", ["ViTForImageClassification", "ConvNextForImageClassification"])
@pytest.mark.parametrize("problem", ["single_label_classification", "multi_label_classification"])
def test_tags_are_the_likeliest_classes(architecture: str, problem: str, tmp_path: Path) -> None:
    model = save_tiny(architecture, tmp_path / "model", problem_type=problem)
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "model")
    with torch.no_grad():
        logits = model(**processor(images=IMAGE, return_tensors="pt")).logits[0]
    scores = logits.softmax(0) if problem.startswith("single") else logits.sigmoid()
    order = scores.argsort(descending=True).tolist()
    handler = Classification(config(tmp_path / "function"), model_path=str(tmp_path / "model"), top=2)
    found = handler.infer(IMAGE, 0.0)
    assert all(isinstance(tag, Tag) for tag in found)
    assert [tag.label for tag in found] == [NAMES[i] for i in order[:2]]
    np.testing.assert_allclose([tag.score for tag in found], scores[order[:2]].numpy(), atol=1e-5)
    between = float(scores[order[:2]].mean())
    assert [tag.label for tag in handler.infer(IMAGE, between)] == [NAMES[order[0]]]
    both = handler.infer_batch([IMAGE, IMAGE[::-1].copy()], 0.0)
    np.testing.assert_allclose([tag.score for tag in both[0]], [tag.score for tag in found], atol=1e-5)
    assert [tag.score for tag in both[1]] != [tag.score for tag in both[0]]


def test_a_folder_of_timms_own_form_gives_timms_classes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = timm.create_model("resnet10t", pretrained=False, num_classes=3).eval()
    torch.nn.init.normal_(model.fc.weight)
    settings = {
        "input_size": [3, 64, 64], "interpolation": "bicubic", "crop_pct": 0.95, "mean": [0.5, 0.4, 0.3],
        "std": [0.2, 0.3, 0.4], "num_classes": 3, "pool_size": [2, 2], "first_conv": "conv1.0", "classifier": "fc",
        "fixed_input_size": False, "tag": "own",
    }  # fmt: skip
    folder = tmp_path / "model"
    folder.mkdir()
    save_file(model.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})
    content = {"architecture": "resnet10t", "num_classes": 3, "label_names": list(NAMES), "pretrained_cfg": settings}
    (folder / "config.json").write_text(json.dumps(content))
    prepare = timm.data.create_transform(**timm.data.resolve_data_config(settings), is_training=False)
    with torch.inference_mode():
        scores = model(prepare(PillowImage.fromarray(IMAGE))[None])[0].softmax(0)
    found = Classification(config(tmp_path / "function"), model_path=str(folder)).infer(IMAGE, 0.0)
    order = scores.argsort(descending=True).tolist()
    assert [tag.label for tag in found] == [NAMES[i] for i in order]
    np.testing.assert_allclose([tag.score for tag in found], scores[order].numpy(), atol=1e-5)


def test_a_model_with_further_inputs_is_refused(tmp_path: Path) -> None:
    save_tiny("ViTForImageClassification", tmp_path / "model")
    transformers.Siglip2ImageProcessor().save_pretrained(tmp_path / "model")
    with pytest.raises(
        StartupError, match="also takes pixel_attention_mask, spatial_shapes: such models are not served"
    ):
        Classification(config(tmp_path / "function"), model_path=str(tmp_path / "model"))


def test_a_model_that_gives_a_number_is_refused(tmp_path: Path) -> None:
    save_tiny("ViTForImageClassification", tmp_path / "model", problem_type="regression")
    with pytest.raises(StartupError, match="trained to give a number"):
        Classification(config(tmp_path / "function"), model_path=str(tmp_path / "model"))
