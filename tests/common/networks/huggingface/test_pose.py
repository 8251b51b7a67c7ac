"""ViTPose's joints are those of the library's own processor, on the same random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import transformers

from common.errors import StartupError
from common.networks.huggingface.pose import VitPose
from common.networks.top_down.network import find_joints

SIZE = {"height": 128, "width": 96}
IMAGE_HW = (300, 400)
BOXES = np.array(
    [
        [120, 80, 200, 230],
        [20, 140, 380, 160],  # wide
        [-30, -20, 70, 90],  # over the corner
        [350, 100, 420, 290],
        [200.3, 100.2, 212.1, 113.9],  # tiny
        [10, 20, 390, 280],
        [-200, -150, 600, 500],  # larger than the image
    ]
)
KINDS: dict[str, dict[str, Any]] = {
    "simple": {"use_simple_decoder": True},
    "classic": {"use_simple_decoder": False},
    "plus": {"use_simple_decoder": True, "num_experts": 3},
}


def save_vitpose(folder: Path, *, joints: int = 5, num_experts: int = 1, seed: int = 0, **config: Any) -> Any:
    """A tiny ViTPose with spread-out random weights and its preprocessing in a folder; the model."""
    backbone = transformers.VitPoseBackboneConfig(
        image_size=tuple(SIZE.values()), patch_size=(16, 16), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        mlp_ratio=2, out_indices=[2], num_experts=num_experts, part_features=8,
    )  # fmt: skip
    torch.manual_seed(seed)
    model = transformers.VitPoseForPoseEstimation(
        transformers.VitPoseConfig(backbone_config=backbone, num_labels=joints, scale_factor=4, **config)
    ).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.1)
    head = model.head.conv  # its maps peak below 1, as trained ones do
    head.weight.data *= 0.03 if config.get("use_simple_decoder", True) else 0.06
    torch.nn.init.constant_(head.bias, 0.2)
    model.save_pretrained(folder)
    transformers.VitPoseImageProcessor(size=SIZE, image_mean=[0.5, 0.4, 0.45]).save_pretrained(folder)
    return model


def picture(seed: int = 0) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 256, (30, 40, 3), np.uint8)
    return cv2.resize(small, IMAGE_HW[::-1], interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize("name", KINDS)
def test_joints_are_those_of_the_library(tmp_path: Path, name: str) -> None:
    model, image = save_vitpose(tmp_path, **KINDS[name]), picture()
    processor = transformers.VitPoseImageProcessor.from_pretrained(tmp_path)
    coco = [np.concatenate([BOXES[:, :2], BOXES[:, 2:] - BOXES[:, :2]], axis=1).tolist()]
    further = {"dataset_index": torch.full((len(BOXES),), 1)} if name == "plus" else {}
    with torch.no_grad():
        outputs = model(**processor(image, boxes=coco, return_tensors="pt"), **further)
    (expected,) = processor.post_process_pose_estimation(outputs, boxes=coco)
    joints = np.stack([each["keypoints"].numpy() for each in expected])
    scores = np.stack([each["scores"].numpy() for each in expected])
    assert scores.min() > 0 and scores.max() < 1

    pose = VitPose(tmp_path, dataset_index=1 if name == "plus" else None)
    (found,) = find_joints(pose, [image], [BOXES])
    assert pose.joints == 5 and found.shape == (len(BOXES), 5, 3)
    inside = ((joints >= 0) & (joints <= IMAGE_HW[::-1])).all(axis=2)
    assert inside.mean() > 0.3
    assert np.abs(found[..., :2] - np.clip(joints, 0, IMAGE_HW[::-1])).max() < 0.5
    assert np.abs(found[..., 2] - scores)[inside].max() < 1e-3
    assert len({tuple(np.round(place, 1)) for place in found[0, :, :2]}) == 5  # not all in one place


def test_images_together_give_what_each_gives_alone(tmp_path: Path) -> None:
    save_vitpose(tmp_path)
    pose, images = VitPose(tmp_path), [picture(1), picture(2), picture(3)]
    boxes = [BOXES[:2], BOXES[:0], np.tile(BOXES[3:5], (12, 1))]  # more than go through the model at once
    together = find_joints(pose, images, boxes)
    assert [len(each) for each in together] == [2, 0, 24]
    for image, of_image, found in zip(images, boxes, together, strict=True):
        (alone,) = find_joints(pose, [image], [of_image])
        np.testing.assert_allclose(found, alone, atol=1e-3)


def test_experts(tmp_path: Path) -> None:
    save_vitpose(tmp_path / "plus", num_experts=3)
    found = [
        find_joints(VitPose(tmp_path / "plus", dataset_index=index), [picture()], [BOXES])[0] for index in (None, 0, 2)
    ]
    np.testing.assert_array_equal(found[0], found[1])
    assert np.abs(found[0] - found[2]).max() > 1e-3
    with pytest.raises(StartupError, match=r"has experts for 3 data sets: expected a number from 0 to 2, got 3"):
        VitPose(tmp_path / "plus", dataset_index=3)


def test_other_models_are_refused(tmp_path: Path) -> None:
    vit = transformers.ViTModel(transformers.ViTConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2))
    vit.save_pretrained(tmp_path / "vit")
    with pytest.raises(StartupError, match="expected VitPoseForPoseEstimation, got the text 'ViTModel'"):
        VitPose(tmp_path / "vit")
    with pytest.raises(StartupError, match=r"PADDING: expected a number from 0\.5 to 4"):
        VitPose(tmp_path / "vit", padding=0)
    with pytest.raises(StartupError, match="PRECISION: expected one of f32, bf16, f16"):
        VitPose(tmp_path / "vit", precision="int8")
