"""The text function through its real main.py: what is written is found where it is, and read."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from common.errors import StartupError
from common.vision.mask import mask_to_bitmap, outline_to_mask
from tools.collection import COLLECTION, ROOT
from tools.wrapper import LoadedFunction, Reply


@pytest.fixture(scope="module")
def text_function() -> LoadedFunction:
    return LoadedFunction(COLLECTION / "onnx/rapidocr/text", unique=True)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_each_engine_reads_the_same(
    text_function: LoadedFunction, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENGINE", engine)
    one = LoadedFunction(COLLECTION / "onnx/rapidocr/text", unique=True)
    body = {"image": base64.b64encode((ROOT / "tools/demo/cat_mug.jpg").read_bytes()).decode()}
    ours, others = written(one(body)), written(text_function(body))
    assert ours.keys() == others.keys()
    for text, annotation in ours.items():
        np.testing.assert_allclose(annotation["points"], others[text]["points"], atol=2)
        assert float(annotation["confidence"]) == pytest.approx(float(others[text]["confidence"]), abs=0.02)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"DEVICE": "cuda"}, "CUDA"),
        ({"DEVICE": "gpu"}, "DEVICE: expected cpu, cuda or cuda:<number>"),
        ({"ENGINE": "tensorflow"}, "ENGINE: expected one of auto, onnxruntime, openvino"),
        ({"DEVICE": "cuda", "ENGINE": "openvino"}, "OpenVINO runs with DEVICE=cpu"),
        ({"MAX_SIDE": "many"}, "MAX_SIDE: expected a whole number"),
    ],
)
def test_what_it_cannot_have_stops_it_at_start(
    variables: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StartupError, match=message):
        LoadedFunction(COLLECTION / "onnx/rapidocr/text", unique=True)


def png(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def written(reply: Reply) -> dict[str, dict]:
    assert reply.status == 200, reply.body
    return {annotation["attributes"][0]["value"]: annotation for annotation in reply.json()}


def page(lines: dict[str, tuple[int, int]], size: tuple[int, int] = (900, 500), font_size: int = 48) -> Image.Image:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(190, 230, (size[1], size[0], 3), dtype=np.uint8))
    draw = ImageDraw.Draw(image)
    for text, place in lines.items():
        draw.text(place, text, (20, 20, 60), ImageFont.load_default(size=font_size))
    return image


def test_reads_a_real_photograph(text_function: LoadedFunction) -> None:
    picture = (ROOT / "tools/demo/cat_mug.jpg").read_bytes()
    found = written(text_function({"image": base64.b64encode(picture).decode()}))
    assert sorted(found) == ["SOCIAL CODING", "github"]
    # Where the words stand on the mug, measured by hand in the picture.
    for text, box in {"github": (136, 254, 268, 314), "SOCIAL CODING": (158, 297, 268, 324)}.items():
        assert iou(found[text]["points"], box, (478, 640)) > 0.6, found[text]["points"]
        assert found[text]["type"] == "polygon"
        assert found[text]["label"] == "text"
        assert len(found[text]["points"]) == 8
        assert float(found[text]["confidence"]) > 0.9


def test_lines_are_found_where_they_are_written(text_function: LoadedFunction) -> None:
    lines = {"Hello CVAT": (60, 50), "Second line 2026": (300, 220), "INVOICE 12345": (150, 390)}
    image = page(lines)
    found = written(text_function({"image": png(image)}))
    assert set(found) == set(lines)
    font = ImageFont.load_default(size=48)
    for text, (x, y) in lines.items():
        left, top, right, bottom = font.getbbox(text)
        assert iou(found[text]["points"], (x + left, y + top, x + right, y + bottom), (500, 900)) > 0.6


def test_a_line_upside_down_is_read(text_function: LoadedFunction) -> None:
    image = page({"Turned around": (200, 200)}).rotate(180)
    assert "Turned around" in written(text_function({"image": png(image)}))


def test_a_slanted_line_gives_a_slanted_polygon(text_function: LoadedFunction) -> None:
    image = page({"Slanted words": (250, 220)}).rotate(15, fillcolor=(210, 210, 210))
    found = written(text_function({"image": png(image)}))
    corners = np.array(found["Slanted words"]["points"]).reshape(4, 2)
    along = corners[1] - corners[0]
    # 15 degrees counter-clockwise on the screen: to the right and up.
    assert np.degrees(np.arctan2(-along[1], along[0])) == pytest.approx(15, abs=3)


def test_the_threshold_is_honoured(text_function: LoadedFunction) -> None:
    # Words of fading contrast: read with falling confidence.
    image = page({})
    draw = ImageDraw.Draw(image)
    for i, grey in enumerate((20, 120, 165, 180, 188)):
        draw.text((60, 20 + 95 * i), f"Line number {i}", (grey, grey, grey), ImageFont.load_default(size=40))
    body = {"image": png(image)}
    everything = [float(a["confidence"]) for a in text_function({**body, "threshold": 0.01}).json()]
    assert min(everything) < 0.99 < max(everything)
    cut = sorted(everything)[len(everything) // 2]
    kept = [float(a["confidence"]) for a in text_function({**body, "threshold": cut - 1e-3}).json()]
    assert sorted(kept) == sorted(c for c in everything if c >= cut - 1e-3)
    assert len(kept) < len(everything)


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (640, 480)])
def test_a_picture_without_text_gives_an_empty_list(text_function: LoadedFunction, size: tuple[int, int]) -> None:
    reply = text_function({"image": png(Image.new("RGB", size, (128, 128, 128)))})
    assert (reply.status, reply.json()) == (200, [])


def test_a_narrow_strip_is_read_in_its_place(text_function: LoadedFunction) -> None:
    strip = page({"A strip of text": (700, 8)}, size=(1600, 60), font_size=40)
    found = written(text_function({"image": png(strip)}))
    left, top, right, bottom = ImageFont.load_default(size=40).getbbox("A strip of text")
    assert iou(found["A strip of text"]["points"], (700 + left, 8 + top, 700 + right, 8 + bottom), (60, 1600)) > 0.6


def test_a_large_picture_keeps_its_coordinates(text_function: LoadedFunction) -> None:
    image = page({"Far away corner": (3000, 2200)}, size=(4000, 2500), font_size=120)
    found = written(text_function({"image": png(image)}))
    left, top, right, bottom = ImageFont.load_default(size=120).getbbox("Far away corner")
    box = (3000 + left, 2200 + top, 3000 + right, 2200 + bottom)
    assert iou(found["Far away corner"]["points"], box, (2500, 4000)) > 0.6


def iou(points: list[float], box: tuple[float, ...], size_hw: tuple[int, int]) -> float:
    left, top, right, bottom = box
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)], float)
    a = mask_to_bitmap(outline_to_mask(np.array(points).reshape(-1, 2), size_hw), size_hw)
    b = mask_to_bitmap(outline_to_mask(corners, size_hw), size_hw)
    return (a & b).sum() / (a | b).sum()
