"""Exports of torchvision's own detectors, tiny and with random weights, against the models themselves on the same pictures."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from torchvision.models.detection import FasterRCNN, KeypointRCNN, MaskRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.keypoint_rcnn import KeypointRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNNPredictor
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign

from common.networks.exported.model import ExportedModel
from common.networks.results import Found
from common.vision.mask import mask_to_bitmap

CHANNELS, JOINTS = 16, 4
SIZES = [(90, 140), (200, 120)]
Made = tuple[nn.Module, Path]


def convolutions(count: int, stride: int, channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i in range(count):
        layers += [nn.Conv2d(channels if i == 0 else CHANNELS, CHANNELS, 3, stride, 1), nn.ReLU()]
    return nn.Sequential(*layers)


def network(task: str) -> nn.Module:
    torch.manual_seed(0)
    backbone: Any = convolutions(3, 2, 3)
    backbone.out_channels = CHANNELS
    settings: dict[str, Any] = {
        "rpn_anchor_generator": AnchorGenerator(((16, 32, 64),), ((0.5, 1, 2),)),
        "box_roi_pool": MultiScaleRoIAlign(["0"], 7, 2),
        "box_head": nn.Sequential(nn.Flatten(), nn.Linear(CHANNELS * 49, 32), nn.ReLU()),
        "box_predictor": FastRCNNPredictor(32, 5),
        "min_size": 128,
        "max_size": 256,
        "box_detections_per_img": 20,
        "rpn_pre_nms_top_n_test": 100,
        "rpn_post_nms_top_n_test": 50,
    }
    pool, head = MultiScaleRoIAlign(["0"], 14, 2), convolutions(1, 1, CHANNELS)
    model: Any
    if task == "segment":
        predictor: nn.Module = MaskRCNNPredictor(CHANNELS, CHANNELS, 5)
        model = MaskRCNN(backbone, mask_roi_pool=pool, mask_head=head, mask_predictor=predictor, **settings)
    elif task == "pose":
        predictor = KeypointRCNNPredictor(CHANNELS, JOINTS)
        model = KeypointRCNN(
            backbone, keypoint_roi_pool=pool, keypoint_head=head, keypoint_predictor=predictor, **settings
        )
    else:
        model = FasterRCNN(backbone, **settings)
    with torch.no_grad():
        for name, values in model.named_parameters():
            if name.endswith("weight"):
                values.normal_(0, 2.2 / values[0].numel() ** 0.5)
        model.rpn.head.bbox_pred.weight.mul_(0.02)
        model.rpn.head.cls_logits.weight.mul_(0.2)
        model.roi_heads.box_predictor.cls_score.weight.mul_(0.15)  # so that scores are not all 0 or 1
        model.roi_heads.box_predictor.bbox_pred.weight.mul_(0.1)
    return model.eval()  # type: ignore[no-any-return]


def picture(height: int, width: int) -> NDArray[np.uint8]:
    coarse = np.random.default_rng(1).integers(0, 256, (9, 14, 3), np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))


def planes(image: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1) / 255


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Made]]:
    known: dict[str, Made] = {}
    folder = tmp_path_factory.mktemp("torchvision")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def of(task: str) -> Made:
        if task not in known:
            model, path = network(task), folder / f"{task}.onnx"
            image = planes(picture(*SIZES[0]))
            with torch.inference_mode():
                names = list(model([image])[0])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # those of tracing
                torch.onnx.export(
                    model,
                    ([image],),
                    str(path),
                    input_names=["images"],
                    output_names=names,
                    dynamic_axes={"images": {1: "height", 2: "width"}},
                    opset_version=17,
                    dynamo=False,
                )
            known[task] = model, path
        return known[task]

    yield of
    torch.set_num_threads(threads)


def answers(
    made: Made, image: NDArray[np.uint8], threshold: float, engine: str = "onnxruntime"
) -> tuple[Found, dict[str, Any]]:
    """What is found in the export, and what the model itself says over the threshold."""
    model, path = made
    with torch.inference_mode():
        whole = {name: values.numpy() for name, values in model([planes(image)])[0].items()}
    over = whole["scores"] >= threshold
    assert 5 < over.sum() < 20, "some are under the threshold"
    exported = ExportedModel(path, engine=engine)
    assert (exported.layout.name, exported.dimensions.first_class) == ("torchvision", 1)
    return exported.find(image, threshold), {name: values[over] for name, values in whole.items()}


def threshold_between(made: Made, image: NDArray[np.uint8]) -> float:
    with torch.inference_mode():
        scores = np.sort(made[0]([planes(image)])[0]["scores"].numpy())[::-1]
    gaps = scores[8:16] - scores[9:17]
    place = 8 + int(gaps.argmax())  # between two scores that are well apart
    return float(scores[place] + scores[place + 1]) / 2


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("task", ["detect", "segment", "pose"])
def test_the_export_says_what_the_model_says(made: Callable[[str], Made], task: str, size: tuple[int, int]) -> None:
    image = picture(*size)
    threshold = threshold_between(made(task), image)
    found, expected = answers(made(task), image, threshold)
    if task == "segment":  # what has no pixel over 0.5 is no result
        some = (expected["masks"] > 0.5).any(axis=(1, 2, 3))
        expected = {name: values[some] for name, values in expected.items()}
    assert found.boxes_xyxy is not None and len(found.scores) == len(expected["scores"])
    np.testing.assert_array_equal(found.classes, expected["labels"])
    assert np.abs(found.scores - expected["scores"]).max() < 1e-3
    assert np.abs(found.boxes_xyxy - expected["boxes"]).max() < 0.5
    if task == "segment":
        assert found.masks is not None
        for mask, theirs in zip(found.masks, expected["masks"][:, 0] > 0.5, strict=True):
            ours = mask_to_bitmap(mask, size)
            assert (ours & theirs).sum() > 0.99 * (ours | theirs).sum()
    if task == "pose":
        assert found.joints is not None and found.joints.shape == (len(found.scores), JOINTS, 3)
        assert np.abs(found.joints - expected["keypoints"]).max() < 0.5


def test_in_openvino_and_with_a_fixed_size(made: Callable[[str], Made]) -> None:
    image = picture(*SIZES[1])
    threshold = threshold_between(made("detect"), image)
    found, expected = answers(made("detect"), image, threshold, engine="openvino")
    assert found.boxes_xyxy is not None
    assert np.abs(found.boxes_xyxy - expected["boxes"]).max() < 0.5
    # A square of 224 holds the image whole and at its own scale: everything comes from the same places, if not exactly.
    fixed = ExportedModel(made("detect")[1], engine="onnxruntime", image_size="224")
    assert fixed.fit(image.shape).inner_hw == (224, 134)
    assert fixed.find(image, 0.05).boxes_xyxy is not None
