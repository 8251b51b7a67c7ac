"""SAM of all generations on clicks and boxes, against transformers' own processors and models."""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from common.config import FunctionConfig
from common.errors import BadRequest, StartupError
from common.networks.huggingface.library import offline_transformers
from common.networks.sam.export import export_encoder
from common.networks.sam.interactor import SamInteractor, prompt_tensors
from common.networks.sam.masks import without_small_parts
from common.networks.sam.model import EDGETAM, EDGETAM_VIDEO, SAM, SAM2, SAM2_VIDEO, SAM3, Family
from common.protocol import Prompt
from common.serving.embedding_cache import pack, unpack
from tests.common.networks.sam.tiny_models import (
    SIDE,
    image_processor,
    save_edgetam_as_published,
    save_sam3_whole,
    save_tiny,
)

transformers = offline_transformers()

FAMILIES = {"sam": SAM, "sam2": SAM2, "edgetam": EDGETAM, "sam3": SAM3}
PROCESSORS = {
    "sam": transformers.SamProcessor,
    "sam2": transformers.Sam2Processor,
    "edgetam": transformers.Sam2Processor,
    "sam3": transformers.Sam3TrackerProcessor,
}
SIZES_WH = {"portrait": (113, 200), "landscape": (201, 150), "square": (96, 96), "over 4K": (4100, 2304)}
# Prompts in fractions of the image: positive points, negative points, box.
PROMPTS: dict[str, tuple[list[Any], list[Any], tuple[float, ...] | None]] = {
    "a click": ([(0.31, 0.42)], [], None),
    "clicks": ([(0.31, 0.42), (0.55, 0.4)], [(0.8, 0.9), (0.1, 0.2)], None),
    "a box": ([], [], (0.2, 0.25, 0.7, 0.81)),
    "a box and clicks": ([(0.41, 0.52)], [(0.25, 0.3)], (0.2, 0.25, 0.7, 0.81)),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("tiny")
    return {name: save_tiny(family, root / name) for name, family in FAMILIES.items()}


def handler(family: Family, folder: Path, **options: Any) -> SamInteractor:
    handler_class = type("Handler", (SamInteractor,), {"family": family})
    config = FunctionConfig(directory=folder, name="tiny", kind="interactor", workers=99)  # one thread
    options = {"smallest_part": 0, "embedding_precision": "f32", **options}
    return handler_class(config, model_path=str(folder), **options)


def prompt_for(name: str, width: int, height: int) -> Prompt:
    positive, negative, box = PROMPTS[name]
    size = np.array([width, height])
    return Prompt(
        pos_points_xy=np.array(positive, np.float64).reshape(-1, 2) * size,
        neg_points_xy=np.array(negative, np.float64).reshape(-1, 2) * size,
        box_xyxy=None if box is None else tuple((np.array(box).reshape(2, 2) * size).ravel().tolist()),
    )


def picture(width: int, height: int) -> NDArray[np.uint8]:
    """Coarse random colours, so that the preprocessed image differs from place to place at any size."""
    coarse = np.random.default_rng(width).integers(0, 256, (9, 9, 3), np.uint8)
    rows, columns = np.arange(height) * 9 // height, np.arange(width) * 9 // width
    return coarse[rows][:, columns]


def reference(name: str, folder: Path, image: NDArray[np.uint8], prompt: Prompt) -> NDArray[np.float32]:
    """What transformers makes of it, with its own processor from the picture to the mask's logits (H, W)."""
    family = FAMILIES[name]
    model = getattr(transformers, family.model).from_pretrained(folder, local_files_only=True).eval()
    processor = PROCESSORS[name](image_processor(family))
    points = [*prompt.pos_points_xy.tolist(), *prompt.neg_points_xy.tolist()]
    labels = [1] * len(prompt.pos_points_xy) + [0] * len(prompt.neg_points_xy)
    given: dict[str, Any] = {}
    if points:
        given |= {"input_points": [[points]], "input_labels": [[labels]]}
    if prompt.box_xyxy is not None:
        given["input_boxes"] = [[list(prompt.box_xyxy)]]
    inputs = processor(images=image, return_tensors="pt", **given)
    sizes = {key: inputs.pop(key) for key in ("original_sizes", "reshaped_input_sizes") if key in inputs}
    with torch.inference_mode():
        output = model(**inputs, multimask_output=len(points) == 1 and prompt.box_xyxy is None)
        masks = processor.post_process_masks(output.pred_masks, *sizes.values(), binarize=False)[0][0]
    scores = output.iou_scores[0, 0]
    assert len(scores.unique()) == len(scores), "a tie: the best mask would be chance"
    return masks[int(scores.argmax())].numpy()


@pytest.mark.parametrize("prompt_name", PROMPTS)
@pytest.mark.parametrize("size", SIZES_WH)
@pytest.mark.parametrize("name", FAMILIES)
def test_masks_are_those_of_transformers_to_the_pixel(
    folders: dict[str, Path], name: str, size: str, prompt_name: str
) -> None:
    width, height = SIZES_WH[size]
    image, prompt = picture(width, height), prompt_for(prompt_name, width, height)
    logits = reference(name, folders[name], image, prompt)
    expected = logits > 0
    assert expected.any() and not expected.all(), "a mask of nothing or of everything proves nothing"
    ours = handler(FAMILIES[name], folders[name])
    found = ours.segment(ours.embed(image), prompt)
    assert found.shape == (height, width)
    # Two orders of the same sums differ in the last digit: a logit of 0 up to that may fall on either side.
    other = found != expected
    assert np.count_nonzero(other) <= 3
    assert (np.abs(logits[other]) < 1e-5 * np.abs(logits).max()).all()


def iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return np.count_nonzero(a & b) / max(np.count_nonzero(a | b), 1)


@pytest.mark.parametrize("name", FAMILIES)
def test_embeddings_in_half_precision_give_the_same_object(folders: dict[str, Path], name: str) -> None:
    image, prompt = picture(200, 150), prompt_for("clicks", 200, 150)
    exact, ours = (
        handler(FAMILIES[name], folders[name]),
        handler(FAMILIES[name], folders[name], embedding_precision="f16"),
    )
    assert ours.model_key != exact.model_key
    embedding = ours.embed(image)
    assert {each.dtype for each in embedding.maps} == {np.dtype(np.float16)}
    found = ours.segment(embedding, prompt)
    assert iou(found, exact.segment(exact.embed(image), prompt)) > 0.98
    arrays = unpack(pack(ours.pack(embedding)))
    np.testing.assert_array_equal(ours.segment(ours.unpack(arrays), prompt), found)
    assert ours.image_size_hw(ours.unpack(arrays)) == (150, 200)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_hint_is_the_last_mask_and_is_used(folders: dict[str, Path], name: str) -> None:
    ours = handler(FAMILIES[name], folders[name])
    embedding = ours.embed(picture(200, 150))
    click, clicks = prompt_for("a click", 200, 150), prompt_for("clicks", 200, 150)
    first, hint = ours.refine(embedding, click, None)
    np.testing.assert_array_equal(first, ours.segment(embedding, click))
    assert np.array_equal(hint > 0, ours._decode(embedding, click, None).astype(np.float16) > 0)
    limit = FAMILIES[name].hint_limit
    assert limit is None or np.abs(hint).max() <= limit
    without, _ = ours.refine(embedding, clicks, None)
    with_hint, _ = ours.refine(embedding, clicks, hint)
    assert np.count_nonzero(without != with_hint) > 0
    # As transformers takes it.
    with torch.inference_mode():
        maps = [torch.from_numpy(each) for each in embedding.maps]
        inputs = prompt_tensors(clicks, (150, 200), ours._loaded.side, FAMILIES[name])
        output = ours._loaded.model(
            image_embeddings=maps[0] if len(maps) == 1 else maps,
            input_masks=torch.from_numpy(hint.astype(np.float32))[None, None],
            multimask_output=False,
            **inputs,
        )
    np.testing.assert_array_equal(ours._decode(embedding, clicks, hint), output.pred_masks[0, 0, 0].numpy())


def test_small_parts_are_removed_as_the_option_says(folders: dict[str, Path]) -> None:
    image, prompt = picture(200, 150), prompt_for("clicks", 200, 150)
    whole = handler(SAM2, folders["sam2"])
    embedding = whole.embed(image)
    mask = whole.segment(embedding, prompt)
    cleaned = handler(SAM2, folders["sam2"], smallest_part=400).segment(embedding, prompt)
    assert np.count_nonzero(mask != cleaned) > 0
    np.testing.assert_array_equal(cleaned, without_small_parts(mask, 400))


@pytest.mark.parametrize("name", FAMILIES)
def test_in_bfloat16_the_encoder_gives_much_the_same(folders: dict[str, Path], name: str) -> None:
    image = picture(200, 150)
    exact = handler(FAMILIES[name], folders[name]).embed(image)
    rough = handler(FAMILIES[name], folders[name], precision="bf16").embed(image)
    for ours, theirs in zip(rough.maps, exact.maps, strict=True):
        assert ours.dtype == np.float32
        error = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
        assert 0 < error < 0.1


@pytest.mark.parametrize("name", FAMILIES)
def test_a_folder_without_preprocessing_is_prepared_as_published(tmp_path: Path, name: str) -> None:
    family = FAMILIES[name]
    bare = handler(family, save_tiny(family, tmp_path / "bare", with_processor=False))
    full = handler(family, save_tiny(family, tmp_path / "full"))
    np.testing.assert_array_equal(bare.embed(picture(90, 60)).maps[0], full.embed(picture(90, 60)).maps[0])


def test_preprocessing_for_another_size_stops_the_start(tmp_path: Path) -> None:
    save_tiny(SAM2, tmp_path)
    image_processor(SAM3).save_pretrained(tmp_path)
    with pytest.raises(StartupError, match=r"images are prepared for \{'height': 56.*, the model takes \{'height': 64"):
        handler(SAM2, tmp_path)


def change_weights(folder: Path, change: Any) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


@pytest.mark.parametrize("name", FAMILIES)
def test_missing_and_misshapen_tensors_stop_the_start_by_name(tmp_path: Path, name: str) -> None:
    save_tiny(FAMILIES[name], tmp_path)
    tensor = "mask_decoder.iou_token.weight"
    saved = f"tracker_model.{tensor}" if name == "sam3" else tensor
    change_weights(tmp_path, lambda tensors: tensors.pop(saved))
    with pytest.raises(StartupError, match=f"the weights don't fit .*1 tensors are missing: {tensor}. Use the folder"):
        handler(FAMILIES[name], tmp_path)
    change_weights(tmp_path, lambda tensors: tensors.update({saved: torch.zeros(3, 3)}))
    with pytest.raises(StartupError, match=f"1 tensors have another shape: {tensor}"):
        handler(FAMILIES[name], tmp_path)


def test_a_folder_of_another_model_stops_the_start(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"don't fit|can't be loaded|expected a folder"):
        handler(SAM2, folders["sam"])
    with pytest.raises(StartupError, match="expected a folder as published"):
        handler(SAM2, tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(StartupError, match="can't be loaded"):
        handler(SAM2, tmp_path)


@pytest.fixture
def warned() -> Iterator[list[str]]:
    """What transformers says while it loads a model."""
    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("transformers").addHandler(handler)
    yield messages
    logging.getLogger("transformers").removeHandler(handler)


@pytest.mark.parametrize("name", ["sam2", "edgetam"])
def test_the_folder_of_the_tracker_serves_clicks_too(tmp_path: Path, name: str, warned: list[str]) -> None:
    video = {"sam2": SAM2_VIDEO, "edgetam": EDGETAM_VIDEO}[name]
    save_tiny(video, tmp_path)
    ours = handler(FAMILIES[name], tmp_path)
    clicked = ours.segment(ours.embed(picture(200, 150)), prompt_for("a click", 200, 150))
    assert clicked.any()
    assert not [message for message in warned if "can yield errors" in message]


def test_transformers_warning_of_a_folder_that_is_not_published_like_this_stays(
    folders: dict[str, Path], warned: list[str]
) -> None:
    handler(EDGETAM, folders["sam2"])  # its tensors happen to fit
    assert [message for message in warned if "can yield errors" in message]


def published_sam3(folder: Path) -> Path:
    """A tiny SAM 3 folder with configuration and names of tensors as published: detector and tracker in one."""
    save_tiny(SAM3, folder)
    tracker_config = json.loads((folder / "config.json").read_text())
    config = {"model_type": "sam3_video", "architectures": ["Sam3VideoModel"], "tracker_config": tracker_config}
    (folder / "config.json").write_text(json.dumps(config))

    def rename(tensors: dict[str, torch.Tensor]) -> None:
        for name in list(tensors):
            bare = name.removeprefix("tracker_model.")
            if bare.startswith(("detector_model.", "tracker_neck.")):
                tensors[bare] = tensors.pop(name)
        tensors["detector_model.text_encoder.weight"] = torch.zeros(4)

    change_weights(folder, rename)
    return folder


def test_sam_3_as_published_loads_whole(folders: dict[str, Path], tmp_path: Path) -> None:
    image, prompt = picture(200, 150), prompt_for("clicks", 200, 150)
    published, ours = handler(SAM3, published_sam3(tmp_path)), handler(SAM3, folders["sam3"])
    np.testing.assert_array_equal(
        published.segment(published.embed(image), prompt), ours.segment(ours.embed(image), prompt)
    )


def test_sam_3_saved_again_is_refused_where_transformers_takes_random_numbers(tmp_path: Path) -> None:
    save_sam3_whole(tmp_path)
    with pytest.raises(StartupError, match=r"\d+ tensors are missing: mask_decoder\..* Use the folder as published"):
        handler(SAM3, tmp_path)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "auto"])
@pytest.mark.parametrize("name", FAMILIES)
def test_an_exported_encoder_gives_the_same_masks(tmp_path: Path, name: str, engine: str) -> None:
    family = FAMILIES[name]
    save_tiny(family, tmp_path)
    image, prompt = picture(200, 150), prompt_for("clicks", 200, 150)
    torch_made = handler(family, tmp_path)
    export_encoder(tmp_path, family)
    if (name, engine) == ("sam3", "openvino"):  # OpenVINO computes something else, and that is noticed
        with pytest.raises(StartupError, match="gives other results than torch"):
            handler(family, tmp_path, engine=engine)
        return
    ours = handler(family, tmp_path, engine=engine)
    assert ours._loaded.encoder.name == "exported"
    assert ours._loaded.model.vision_encoder is None
    embedding, expected = ours.embed(image), torch_made.embed(image)
    for exported, own in zip(embedding.maps, expected.maps, strict=True):
        np.testing.assert_allclose(exported, own, atol=1e-4 * np.abs(own).max())
    assert iou(ours.segment(embedding, prompt), torch_made.segment(expected, prompt)) > 0.999
    assert handler(family, tmp_path, engine="torch")._loaded.encoder.name == "torch"


def test_the_published_backbone_is_exported_as_it_runs(tmp_path: Path) -> None:
    folder = save_edgetam_as_published(tmp_path)
    export_encoder(folder, EDGETAM)
    image = picture(200, 150)
    exported, own = (handler(EDGETAM, folder, engine=engine).embed(image) for engine in ("onnxruntime", "torch"))
    for ours, theirs in zip(exported.maps, own.maps, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())


def test_an_encoder_of_other_weights_is_refused(tmp_path: Path) -> None:
    save_tiny(EDGETAM, tmp_path)
    export_encoder(tmp_path, EDGETAM)
    change_weights(tmp_path, lambda tensors: tensors["mask_decoder.iou_token.weight"].add_(1))
    with pytest.raises(StartupError, match="was exported from other weights than those beside it"):
        handler(EDGETAM, tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "onnxruntime"}, "ENGINE=onnxruntime: there is no .*encoder.onnx; export it"),
        ({"engine": "tensorflow"}, "ENGINE: expected one of auto, torch, onnxruntime, openvino"),
        ({"precision": "f8"}, "PRECISION: expected auto or one of f32, bf16, f16"),
        ({"embedding_precision": "int8"}, "EMBEDDING_PRECISION: expected f16 or f32"),
        ({"smallest_part": -3}, "SMALLEST_PART: expected a number of pixels"),
        ({"device": "gpu"}, "DEVICE: expected cpu, cuda or cuda:<number>"),
    ],
)
def test_options_that_make_no_sense_stop_the_start(
    folders: dict[str, Path], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(StartupError, match=message):
        handler(EDGETAM, folders["edgetam"], **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_stops_the_start(folders: dict[str, Path]) -> None:
    with pytest.raises(StartupError, match="DEVICE=cuda: torch sees 0 GPUs"):
        handler(EDGETAM, folders["edgetam"], device="cuda")


def test_nothing_is_asked_of_the_network(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was asked for something")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for name, family in FAMILIES.items():
        ours = handler(family, folders[name])
        ours.segment(ours.embed(picture(60, 50)), prompt_for("a click", 60, 50))
    assert os.environ["HF_HUB_OFFLINE"] == "1"


@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 700), (700, 3), (1, 5)])
@pytest.mark.parametrize("name", FAMILIES)
def test_images_of_any_shape_get_a_mask_of_their_size(
    folders: dict[str, Path], name: str, width: int, height: int
) -> None:
    ours = handler(FAMILIES[name], folders[name])
    image = picture(width, height)
    if name == "sam" and max(width, height) > 2 * SIDE * min(width, height):
        with pytest.raises(BadRequest, match=f"image: {width} x {height} pixels are too long and narrow"):
            ours.embed(image)
        return
    found = ours.segment(ours.embed(image), prompt_for("a click", width, height))
    assert found.shape == (height, width)
