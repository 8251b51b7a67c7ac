"""Reid with folders of the Hugging Face hub, through the real main.py: descriptors are the library's; other folders are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from common.config import FunctionConfig
from common.errors import StartupError
from common.networks.huggingface.embedding import TransformersEmbedding
from common.networks.weights import read_catalog
from tests.serverless import reid_scenes as scenes
from tools.collection import COLLECTION
from tools.wrapper import LoadedFunction

DIRECTORY = COLLECTION / "pytorch/huggingface/reid"
CONFIG = FunctionConfig.load(DIRECTORY)
SIDE = 56
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
VISION = {**SMALL, "image_size": 32, "patch_size": 8}
TEXT = {**SMALL, "vocab_size": 99, "bos_token_id": 0, "eos_token_id": 1}


def dinov2(kind: str = "Dinov2Model") -> Any:
    config = transformers.Dinov2Config(image_size=SIDE, patch_size=14, **{**SMALL, "mlp_ratio": 2})
    return getattr(transformers, kind)(config)


MODELS: dict[str, Callable[[], Any]] = {
    "Dinov2Model": dinov2,
    "Dinov2ForImageClassification": lambda: dinov2("Dinov2ForImageClassification"),
    "DINOv3ViTModel": lambda: transformers.DINOv3ViTModel(
        transformers.DINOv3ViTConfig(**{**VISION, "image_size": 64, "patch_size": 16})
    ),
    "ViTForImageClassification": lambda: transformers.ViTForImageClassification(transformers.ViTConfig(**VISION)),
    "ResNetModel": lambda: transformers.ResNetModel(
        transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1])
    ),
    "CLIPModel": lambda: transformers.CLIPModel(
        transformers.CLIPConfig(vision_config=VISION, text_config=TEXT, projection_dim=16)
    ),
}


def save(model: Any, folder: Path, side: int = SIDE, shortest: int | None = None) -> Path:
    """A model with random weights and its preprocessing, as published on the hub."""
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.15)
    model.eval().save_pretrained(folder)
    crop = {"height": side, "width": side}
    transformers.BitImageProcessor(size={"shortest_edge": shortest or side}, crop_size=crop).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(dinov2(), tmp_path_factory.mktemp("dinov2"))


def handler(path: Path, **options: Any) -> TransformersEmbedding:
    return TransformersEmbedding(CONFIG, model_path=str(path), **options)


def picture(seed: int = 3) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 256, (12, 15, 3), np.uint8)
    return np.array(Image.fromarray(small).resize((150, 120), Image.Resampling.BICUBIC))


BOXES = np.array([[10, 20, 60, 70], [0, 0, 120, 120], [-30, -30, 40, 40], [80.5, 30, 149.5, 99]], np.float64)


def test_descriptors_are_those_of_the_library(folder: Path) -> None:
    """For squares the folder's own preprocessing leaves nothing out, and so has to give the same."""
    image, boxes = picture(), BOXES[:2]
    crops = [Image.fromarray(image[int(t) : int(b), int(l) : int(r)]) for l, t, r, b in boxes]  # noqa: E741
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        expected = model(**processor(crops, return_tensors="pt")).pooler_output.numpy()
    found = handler(folder).embed(image, boxes)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-4)
    assert np.abs(found[0] - found[1]).max() > 0.01


def test_the_whole_box_is_described_not_its_middle(tmp_path: Path) -> None:
    path = save(dinov2(), tmp_path / "model", shortest=SIDE + 20)
    image = picture()
    changed = image.copy()
    changed[:8, :8] = 255 - changed[:8, :8]
    box = np.array([[0, 0, 40, 118.0]])
    embedding = handler(path)
    assert np.abs(embedding.embed(image, box) - embedding.embed(changed, box)).max() > 1e-3


def test_pooling(folder: Path) -> None:
    image = picture()
    rows = {
        pooling: handler(folder, pooling=pooling).embed(image, BOXES) for pooling in ("auto", "pooled", "cls", "mean")
    }
    np.testing.assert_array_equal(rows["auto"], rows["pooled"])
    np.testing.assert_allclose(rows["pooled"], rows["cls"], atol=1e-5)  # DINOv2's own is its class token
    assert np.abs(rows["mean"] - rows["cls"]).max() > 0.01


def test_less_precise_arithmetic(folder: Path) -> None:
    image = picture()
    exact, fast = handler(folder).embed(image, BOXES), handler(folder, precision="bf16").embed(image, BOXES)
    assert 1e-5 < np.abs(exact - fast).max() < 0.1


def test_other_sizes(folder: Path) -> None:
    image = picture()
    wide, usual = handler(folder, image_size="28x84").embed(image, BOXES), handler(folder).embed(image, BOXES)
    assert wide.shape == usual.shape and np.abs(wide - usual).max() > 0.01


@pytest.mark.parametrize("name", MODELS)
def test_models_of_many_kinds(tmp_path: Path, name: str) -> None:
    path = save(
        MODELS[name](), tmp_path / "model", 64 if name.startswith("DINOv3") else 32 if name != "Dinov2Model" else SIDE
    )
    found = handler(path, **({"image_size": str(SIDE)} if name.startswith("Dinov2") else {})).embed(picture(), BOXES)
    assert len(found) == len(BOXES) and np.isfinite(found).all()
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    apart = 1 - found @ found.T
    assert apart[np.triu_indices(len(BOXES), 1)].min() > 1e-5


def test_shuffled_boxes_are_found_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_PATH", str(folder))
    reid = LoadedFunction(DIRECTORY, unique=True)
    assert scenes.part_found_again(reid, 3, threshold=1) >= 0.8  # random weights
    before, boxes = scenes.frame(1, scenes.things(1, 3), np.arange(3))
    odd = [[-50, -40, -10, -5], [700, 500, 800, 600], [10, 10, 10, 10], [5, 5, 5.4, 5.2], [-10, -10, 650, 490]]
    reply = reid(scenes.request(before, before, [*boxes, *odd], [*boxes, *odd]))
    assert reply.status == 200, reply.body
    assert reply.json()[:3] == [0, 1, 2]


def test_hundreds_of_boxes_go_through_in_batches(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embedding = handler(folder)
    counts = []
    describe = embedding._describe
    monkeypatch.setattr(embedding, "_describe", lambda parts: counts.append(len(parts)) or describe(parts))
    found = embedding.embed(picture(), np.tile(BOXES, (10, 1)))
    assert counts == [16, 16, 8]
    np.testing.assert_allclose(found, np.tile(found[:4], (10, 1)), atol=1e-5)


def test_folders_that_describe_nothing(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(StartupError, match="POOLING: expected one of auto, pooled, cls, mean"):
        handler(folder, pooling="max")
    with pytest.raises(StartupError, match="can't describe pictures of 3 x 3"):
        handler(folder, image_size="3")
    masked = transformers.ViTMAEModel(transformers.ViTMAEConfig(**VISION))  # masks other patches in every run
    with pytest.raises(StartupError, match="the same in every run"):
        handler(save(masked, tmp_path / "mae", 32))
    text = transformers.BertModel(transformers.BertConfig(**SMALL, vocab_size=99))
    with pytest.raises(StartupError, match="BertModel takes no images"):
        handler(save(text, tmp_path / "text"))
    pose = transformers.VitPoseForPoseEstimation(
        transformers.VitPoseConfig(
            backbone_config=transformers.VitPoseBackboneConfig(
                hidden_size=32, num_hidden_layers=1, num_attention_heads=2
            )
        )
    )
    with pytest.raises(StartupError, match="expected a model that describes images, such as Dinov2Model"):
        handler(save(pose, tmp_path / "pose"))
    resnet = save(MODELS["ResNetModel"](), tmp_path / "resnet", 32)
    with pytest.raises(StartupError, match="POOLING: ResNetModel has no class token: expected pooled or mean"):
        handler(resnet, pooling="cls")
    (tmp_path / "empty").mkdir()
    with pytest.raises(StartupError, match="expected a folder as published on the Hugging Face hub"):
        handler(tmp_path / "empty")


def test_the_published_weights() -> None:
    catalog = read_catalog(DIRECTORY)
    assert catalog is not None and CONFIG.environment["VARIANT"] == catalog.default
    for name, variant in catalog.variants.items():
        assert [file.url for file in variant.files] == [
            f"https://huggingface.co/facebook/{name}/resolve/main/{file}"
            for file in ("config.json", "preprocessor_config.json", "model.safetensors")
        ]
    with pytest.raises(StartupError, match=r"python -m common\.networks\.weights"):
        LoadedFunction(DIRECTORY, unique=True)
