"""The functions of torchvision's models: the same results as CVAT's SDK's own functions on the same weights."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from cvat_sdk.auto_annotation.functions import (
    torchvision_classification,
    torchvision_detection,
    torchvision_instance_segmentation,
    torchvision_keypoint_detection,
)
from cvat_sdk.masks import decode_mask
from PIL import Image
from torchvision import models

from common.config import FunctionConfig
from common.cvat.annotation import as_polygon
from common.cvat.skeleton import COCO_JOINTS
from common.errors import StartupError
from common.networks.torchvision import Detection
from common.networks.weights import read_catalog
from common.serving import native
from common.vision.mask import rle_to_mask
from tests.scenes import png
from tools.collection import COLLECTION
from tools.memory.measure import measure
from tools.wrapper import LoadedFunction
from training.shapes.draw import draw_shapes

DIRECTORY = COLLECTION / "pytorch/torchvision"
# The smallest model of each kind, and the SDK's function for it.
KINDS: dict[str, tuple[str, Any]] = {
    "classification": ("mobilenet_v3_small", torchvision_classification),
    "detection": ("fasterrcnn_mobilenet_v3_large_320_fpn", torchvision_detection),
    "instance_segmentation": ("maskrcnn_resnet50_fpn", torchvision_instance_segmentation),
    "keypoint_detection": ("keypointrcnn_resnet50_fpn", torchvision_keypoint_detection),
}
SIZE_HW = (120, 160)
MIN_SIZE = 160


def random_state(name: str, weights: Any) -> dict[str, torch.Tensor]:
    """Weights under which a network of this name finds things: random ones, its heads drawn with more spread."""
    torch.manual_seed(3)
    is_detection = name in models.list_models(module=models.detection)
    more = {"weights_backbone": None} if is_detection else {}
    model = models.get_model(name, weights=None, num_classes=len(weights.meta["categories"]), **more)
    generator = torch.Generator().manual_seed(4)
    spreads = {"cls_score": 3.0 if name.startswith("fasterrcnn") else 0.35, "mask_fcn_logits": 0.35, "bbox_pred": 0.02}
    with torch.no_grad():
        for key, value in model.named_parameters():
            for part, spread in spreads.items():
                if value.ndim > 1 and part in key:
                    value.copy_(torch.randn(value.shape, generator=generator) * spread)
        if not is_detection:
            for module in model.modules():  # its normalizations are filled with what pictures give
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.momentum = None
            model(
                torch.rand((16, 3, 7, 7), generator=generator).repeat_interleave(32, 2).repeat_interleave(32, 3) * 4 - 2
            )
        for key, value in model.named_buffers():  # as if it had been trained: no normalization is the identity
            if is_detection and key.endswith("running_mean"):
                value.copy_(torch.randn(value.shape, generator=generator) * 0.05)
            if is_detection and key.endswith("running_var"):
                value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
    return {k: v for k, v in model.state_dict().items() if not (is_detection and k.endswith("num_batches_tracked"))}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """The path of a file of random weights for a model, where torchvision looks for the ones it would fetch."""
    folder = tmp_path_factory.mktemp("hub")
    before = torch.hub.get_dir()
    torch.hub.set_dir(str(folder))

    def path(name: str) -> Path:
        weights = models.get_model_weights(name).DEFAULT
        made = folder / "checkpoints" / weights.url.rsplit("/", 1)[1]
        if not made.exists():
            made.parent.mkdir(exist_ok=True)
            torch.save(random_state(name, weights), made)
        return made

    yield path
    torch.hub.set_dir(before)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return draw_shapes(11, SIZE_HW).image


def context(threshold: float, polygons: bool = False) -> SimpleNamespace:
    return SimpleNamespace(frame_name="", conf_threshold=threshold, conv_mask_to_poly=polygons)


def ours_and_theirs(kind: str, files: Callable[[str], Path]) -> tuple[native.Detection, Any]:
    name, module = KINDS[kind]
    options = {"variant": name, "model_path": str(files(name))}
    more = {} if kind == "classification" else {"min_size": MIN_SIZE}  # for speed
    return native.create(DIRECTORY / kind, {**options, **more}), module.create(name, **more)


def test_classification_is_that_of_the_sdk(files: Callable[[str], Path]) -> None:
    ours, theirs = ours_and_theirs("classification", files)
    seen = set()
    noise = np.random.default_rng(1).integers(0, 255, (240, 300, 3), np.uint8)
    colours = [np.full((240, 300, 3), colour, np.uint8) for colour in ((250, 20, 20), (20, 250, 250))]
    for image in (noise, *colours, draw_shapes(1, (240, 300)).image):
        picture = Image.fromarray(image)
        (tag,) = ours.detect(context(0.0), picture)
        (expected,) = theirs.detect(context(0.0), picture)
        assert tag.label_id == expected.label_id
        seen.add(tag.label_id)
    assert len(seen) > 1
    assert ours.detect(context(1.0), picture) == theirs.detect(context(1.0), picture) == []


@pytest.mark.parametrize("kind", ["detection", "instance_segmentation", "keypoint_detection"])
def test_results_are_those_of_the_sdk(kind: str, files: Callable[[str], Path], image: np.ndarray) -> None:
    ours, theirs = ours_and_theirs(kind, files)
    picture = Image.fromarray(image)
    with torch.inference_mode():
        (raw,) = theirs._model([theirs._transforms(picture)])
    # Half of what it finds at all; N/A and the background are no labels of the function.
    known = {label.id for label in ours.spec.labels}
    threshold = float(raw["scores"].median())
    found = ours.detect(context(threshold), picture)
    expected = [s for s in theirs.detect(context(threshold), picture) if s.label_id in known]
    if kind == "instance_segmentation":  # the SDK gives masks without a pixel, which CVAT can't show
        expected = [s for s in expected if decode_mask(s.points, image_width=160, image_height=120).any()]
    assert len(found) == len(expected) >= 5
    for mine, other in zip(found, expected, strict=True):
        assert (mine.type.value, mine.label_id) == (other.type.value, other.label_id)
        if kind == "detection":
            np.testing.assert_allclose(mine.points, other.points, atol=0.005)
        elif kind == "instance_segmentation":
            masks = [decode_mask(s.points, image_width=160, image_height=120) for s in (mine, other)]
            np.testing.assert_array_equal(*masks)
        else:
            assert [e.label_id for e in mine.elements] == [e.label_id for e in other.elements] == list(range(17))
            for a, b in zip(mine.elements, other.elements, strict=True):
                inside = np.clip(b.points, 0, (SIZE_HW[1], SIZE_HW[0]))
                np.testing.assert_allclose(a.points, inside, atol=0.006)
                assert not a.outside


def test_polygons_are_those_beside_the_masks(files: Callable[[str], Path], image: np.ndarray) -> None:
    name, _ = KINDS["instance_segmentation"]
    ours = native.create(
        DIRECTORY / "instance_segmentation", {"variant": name, "model_path": str(files(name)), "min_size": MIN_SIZE}
    )
    picture = Image.fromarray(image)
    masks, polygons = (ours.detect(context(0.05, p), picture) for p in (False, True))
    assert len(masks) == len(polygons) > 3
    for mask, polygon in zip(masks, polygons, strict=True):
        assert polygon.type.value == "polygon"
        assert polygon.points == as_polygon(rle_to_mask(mask.points), 1.0).points_xy.round(2).ravel().tolist()


def test_masks_of_a_large_picture_take_little_memory(files: Callable[[str], Path], image: np.ndarray) -> None:
    """Torchvision holds a picture-sized float mask of each of up to 100 things at a time: here 4.8 GB, twice."""
    name, _ = KINDS["instance_segmentation"]
    settings = {"MODEL_PATH": str(files(name)), "VARIANT": name, "MIN_SIZE": str(MIN_SIZE), "THREADS": "1"}
    measured = measure(DIRECTORY / "instance_segmentation", {**settings, "THRESHOLD": "0.05"}, 12)
    assert not measured.refused
    assert measured.most_large - measured.started < 1.5e9


def test_pictures_together_give_what_each_gives_alone(files: Callable[[str], Path]) -> None:
    name, _ = KINDS["detection"]
    config = FunctionConfig.load(DIRECTORY / "detection")
    handler = Detection(config, variant=name, model_path=str(files(name)), min_size=MIN_SIZE)
    images = [draw_shapes(seed, size).image for seed, size in enumerate([SIZE_HW, SIZE_HW, (90, 200), SIZE_HW])]
    together = handler.infer_batch(images, 0.02)
    for one, shapes in zip(images, together, strict=True):
        alone = handler.infer(one, 0.02)
        assert [s.label for s in alone] == [s.label for s in shapes]
        np.testing.assert_allclose([s.box_xyxy for s in alone], [s.box_xyxy for s in shapes], atol=1e-3)
        assert shapes


def test_through_the_json_door(
    files: Callable[[str], Path], image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, _ = KINDS["keypoint_detection"]
    monkeypatch.setenv("MODEL_PATH", str(files(name)))
    monkeypatch.setenv("JOINT_THRESHOLD", "0")
    monkeypatch.setenv("MIN_SIZE", str(MIN_SIZE))
    function = LoadedFunction(DIRECTORY / "keypoint_detection", unique=True)
    reply = function({"image": base64.b64encode(png(image)).decode(), "threshold": 0.05})
    assert reply.status == 200
    figures = reply.json()
    assert {f["label"] for f in figures} == {"person"}
    assert tuple(e["label"] for e in figures[0]["elements"]) == COCO_JOINTS
    outside = [e["outside"] for f in figures for e in f["elements"]]
    assert 0 < sum(outside) < len(outside)


def test_weights_with_classes_of_ones_own(tmp_path: Path, image: np.ndarray) -> None:
    torch.manual_seed(0)
    name = "fasterrcnn_mobilenet_v3_large_320_fpn"
    model = models.get_model(name, weights=None, weights_backbone=None, num_classes=3)
    torch.save({"model": model.state_dict(), "epoch": 3}, tmp_path / "own.pth")
    directory = tmp_path / "function"
    directory.mkdir()
    original = DIRECTORY / "detection"
    labels = [{"id": 1, "name": "cat", "type": "rectangle"}, {"id": 2, "name": "dog", "type": "rectangle"}]
    head, tail = (original / "function.yaml").read_text().split("spec: |", 1)
    (directory / "function.yaml").write_text(f"{head}spec: '{json.dumps(labels)}'\n\n{tail[tail.index('spec:') :]}")
    for file in ("weights.yaml", "model_handler.py"):
        (directory / file).write_text((original / file).read_text())
    function = native.create(directory, {"model_path": str(tmp_path / "own.pth"), "classes": 3})
    found = function.detect(context(0.0), Image.fromarray(image))
    assert found
    assert {shape.label_id for shape in found} <= {1, 2}
    with pytest.raises(StartupError, match=r"not the weights of .* with this number of classes \(CLASSES\)"):
        native.create(directory, {"model_path": str(tmp_path / "own.pth"), "classes": 4})
    two = models.get_model(name, weights=None, weights_backbone=None, num_classes=2)
    torch.save(two.state_dict(), tmp_path / "two.pth")
    with pytest.raises(StartupError, match="the labels dog have ids beyond the model's 2 classes"):
        native.create(directory, {"model_path": str(tmp_path / "two.pth"), "classes": 2})


def test_files_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(b"no weights")
    options = {"model_path": str(path)}
    with pytest.raises(StartupError, match="not a file of weights"):
        native.create(DIRECTORY / "detection", options)
    torch.save([1, 2], path)
    with pytest.raises(StartupError, match="expected a state dict"):
        native.create(DIRECTORY / "detection", options)
    torch.save({"a": torch.zeros(3)}, path)
    with pytest.raises(StartupError, match="not the weights of"):
        native.create(DIRECTORY / "detection", options)
    with pytest.raises(StartupError, match="torchvision has no model"):
        native.create(DIRECTORY / "detection", {**options, "variant": "yolo"})
    with pytest.raises(StartupError, match=r"expected one of fasterrcnn_resnet50_fpn\.COCO_V1, got the text"):
        native.create(DIRECTORY / "detection", {**options, "variant": "fasterrcnn_resnet50_fpn.COCO_V9"})
    with pytest.raises(StartupError, match=r"fetch: \S*python -m common\.networks\.weights"):
        native.create(DIRECTORY / "detection", {})


@pytest.mark.parametrize("kind", KINDS)
def test_variants_and_labels_are_those_of_torchvision(kind: str) -> None:
    """Fails when torchvision publishes other weights: then weights.yaml wants them too."""
    detection = models.list_models(module=models.detection)
    names = {
        "classification": models.list_models(module=models),
        "detection": [n for n in detection if not n.startswith(("mask", "keypoint"))],
        "instance_segmentation": [n for n in detection if n.startswith("mask")],
        "keypoint_detection": [n for n in detection if n.startswith("keypoint")],
    }[kind]
    expected = {}
    labels = FunctionConfig.load(DIRECTORY / kind).labels.names_by_id
    for name in names:
        weights = models.get_model_weights(name)
        for one in weights:
            if not one.meta.get("categories"):  # features alone
                continue
            expected[name if one is weights.DEFAULT else f"{name}.{one.name}"] = one.url
            categories = one.meta["categories"]
            assert all(categories[index] == label for index, label in labels.items())
            left_out = {c for i, c in enumerate(categories) if i not in labels}
            assert left_out <= {"__background__", "N/A", "no person"}
            if kind == "keypoint_detection":
                joints = FunctionConfig.load(DIRECTORY / kind).labels["person"].sublabels
                assert [joint.name for joint in joints] == one.meta["keypoint_names"]
    catalog = read_catalog(DIRECTORY / kind)
    assert catalog is not None
    assert {name: variant.files[0].url for name, variant in catalog.variants.items()} == expected
