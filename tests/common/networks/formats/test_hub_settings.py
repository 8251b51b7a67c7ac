"""What lies beside a model file, in the forms in which processors have been saved over the years."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as PillowImage

from common.errors import StartupError
from common.networks.formats.hub_settings import HubSettings, settings_files
from common.networks.formats.preparation import Placement, Preparation

BILINEAR = PillowImage.Resampling.BILINEAR
IMAGENET = {"mean": (123.675, 116.28, 103.53), "deviation": (58.395, 57.12, 57.375)}


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("said", "expected", "size_hw"),
    [
        (
            {
                "image_processor_type": "RTDetrImageProcessor",
                "do_normalize": False,
                "size": {"height": 640, "width": 480},
            },
            Preparation(Placement.STRETCHED, resampling=BILINEAR),
            (640, 480),
        ),
        # As facebook/detr-resnet-50 was saved first.
        (
            {"feature_extractor_type": "DetrFeatureExtractor", "do_normalize": True, "max_size": 1333, "size": 800},
            Preparation(Placement.SCALED, resampling=BILINEAR, edges=(800, 1333), **IMAGENET),  # type: ignore[arg-type]
            (800, 800),
        ),
        (
            {
                "image_processor_type": "YolosImageProcessor",
                "size": {"shortest_edge": 512, "longest_edge": 1333},
                "image_mean": [0.5, 0.5, 0.5],
                "image_std": [0.5, 0.5, 0.5],
                "resample": 3,
            },
            Preparation(
                Placement.SCALED,
                mean=(127.5, 127.5, 127.5),
                deviation=(127.5, 127.5, 127.5),
                resampling=PillowImage.Resampling.BICUBIC,
                edges=(512, 1333),
            ),
            (512, 512),
        ),
        # RF-DETR's processor does not average the pixels of a larger image.
        (
            {"image_processor_type": "RfDetrImageProcessor", "size": {"height": 384, "width": 384}},
            Preparation(Placement.STRETCHED, **IMAGENET),  # type: ignore[arg-type]
            (384, 384),
        ),
        (
            {
                "image_processor": {
                    "image_processor_type": "RTDetrImageProcessorFast",
                    "size": {"height": 64, "width": 64},
                }
            },
            Preparation(Placement.STRETCHED, resampling=BILINEAR),
            (64, 64),
        ),
    ],
    ids=["rt-detr", "first detr", "edges", "rf-detr", "nested"],
)
def test_processors(tmp_path: Path, said: dict[str, Any], expected: Preparation, size_hw: tuple[int, int]) -> None:
    name = "processor_config.json" if "image_processor" in said else "preprocessor_config.json"
    write(tmp_path / name, said)
    found = HubSettings.beside(tmp_path / "model.onnx")
    preparation = found.preparation()
    assert preparation is not None and found.size_hw == size_hw
    assert preparation.mean == (None if expected.mean is None else pytest.approx(expected.mean))
    assert preparation.deviation == pytest.approx(expected.deviation)
    assert (preparation.placement, preparation.resampling, preparation.edges) == (
        expected.placement,
        expected.resampling,
        expected.edges,
    )


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"rescale_factor": "1/255"}, "do_rescale, rescale_factor: expected true and 1/255"),
        ({"rescale_factor": None}, "do_rescale, rescale_factor: expected true and 1/255"),
        ({"image_std": [0, 1, 1]}, "image_std: expected numbers above 0"),
        ({"image_processor": "RTDetrImageProcessor"}, "image_processor: expected an object"),
    ],
)
def test_processors_that_make_no_sense_are_refused(tmp_path: Path, said: dict[str, Any], message: str) -> None:
    write(tmp_path / "preprocessor_config.json", {"size": {"height": 64, "width": 64}, **said})
    found = HubSettings.beside(tmp_path / "model.onnx")
    assert found.size_hw is None
    with pytest.raises(StartupError, match=message):
        found.preparation()


def test_which_files_belong_to_a_model(tmp_path: Path) -> None:
    above, beside = tmp_path / "hub/config.json", tmp_path / "hub/onnx/config.json"
    write(above, {"model_type": "detr", "id2label": {"0": "cat", "1": "dog"}})
    assert settings_files(tmp_path / "hub/onnx/model.onnx") == [above]
    assert settings_files(tmp_path / "hub/other/model.onnx") == []
    write(beside, {"model_type": "yolos", "id2label": {"0": "LABEL_0"}})
    assert settings_files(tmp_path / "hub/onnx/model.onnx") == [beside]
    found = HubSettings.beside(tmp_path / "hub/onnx/model.onnx")
    assert (found.model_type, found.names, found.preparation()) == ("yolos", None, None)
    assert HubSettings.beside(tmp_path / "hub/model.onnx").names == ("cat", "dog")


def test_a_config_of_something_else_is_not_read(tmp_path: Path) -> None:
    write(tmp_path / "config.json", {"server": "localhost", "id2label": 3})
    assert HubSettings.beside(tmp_path / "model.onnx") == HubSettings()
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(StartupError, match=r"config\.json: not JSON"):
        HubSettings.beside(tmp_path / "model.onnx")
