"""The demo as a newcomer runs it: every kind of function answers rightly, pictures are drawn, nothing is left running."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from common.vision.mask import flat_to_mask, mask_to_bitmap
from tools.collection import ROOT
from tools.demo.scenes import HEAD, MUG, PHOTOGRAPH, moved_box
from training.shapes.draw import draw_shapes


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("demo") / "out"
    ended = subprocess.run(
        [sys.executable, "-m", "tools.demo", "--out", str(out), "--montage", str(out / "montage.jpg")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return out, ended.stdout


def reply(demo: tuple[Path, str], function: str):
    return json.loads((demo[0] / f"{function}.reply.json").read_text())


def test_the_photograph_is_read(demo) -> None:
    texts = {a["attributes"][0]["value"] for a in reply(demo, "onnx-rapidocr-text")}
    assert texts == {"github", "SOCIAL CODING"}


def test_the_drawn_shapes_are_found_with_their_masks(demo) -> None:
    truth = draw_shapes(seed=24, size_hw=(480, 640)).things
    found = reply(demo, "onnx-yolo-shapes")
    assert sorted(a["label"] for a in found) == sorted(thing.label for thing in truth)
    for thing in truth:
        overlaps = [iou(mask_to_bitmap(flat_to_mask(a["mask"]), (480, 640)), thing.mask) for a in found]
        best = int(np.argmax(overlaps))
        assert overlaps[best] > 0.85
        assert found[best]["label"] == thing.label


def test_the_mug_is_cut_out(demo) -> None:
    cut = reply(demo, "opencv-grabcut")
    left, top, right, bottom = cut["bounds"]
    rows = np.array(cut["mask"])
    assert rows.shape == (bottom - top + 1, right - left + 1)
    # The mug's body fills most of its box; the tail of the cat below it is none of it.
    assert abs(left - MUG[0]) < 12
    assert abs(right - MUG[2]) < 12
    assert rows[200 - top : 340 - top, 140 - left : 290 - left].mean() > 0.97
    assert bottom < 375


def test_both_objects_are_followed(demo) -> None:
    shapes = reply(demo, "opencv-opticalflow")["shapes"]
    with Image.open(PHOTOGRAPH) as photograph:
        size_hw = photograph.size[::-1]
    for shape, box in zip(shapes, (MUG, HEAD), strict=True):
        truth = np.array(moved_box(box, 12, size_hw))
        assert box_iou(np.array(shape["points"]), truth) > 0.8


def test_the_objects_are_found_again(demo) -> None:
    assert reply(demo, "opencv-appearance") == [1, 3, 0, 2]


def test_it_prints_the_reply_the_times_and_a_curl_line(demo) -> None:
    text = demo[1]
    assert '"value": "SOCIAL CODING"' in text
    assert text.count("time: decode") == 5
    assert len(re.findall(r"inference [\d.]+ ms", text)) == 5
    assert text.count("curl -s localhost:8070/api/function_invocations") == 5
    for name in re.findall(r"-d @(\S+)", text):
        assert Path(name).is_file()


def test_pictures_are_drawn(demo) -> None:
    pictures = sorted(path.name for path in demo[0].glob("*.png"))
    assert pictures == [
        f"{name}.png"
        for name in (
            "onnx-rapidocr-text",
            "onnx-yolo-shapes",
            "opencv-appearance",
            "opencv-grabcut",
            "opencv-opticalflow",
        )
    ]
    with Image.open(PHOTOGRAPH) as photograph, Image.open(demo[0] / "onnx-rapidocr-text.png") as picture:
        changed = (np.array(photograph) != np.array(picture)).any(axis=2)
    assert 0.005 < changed.mean() < 0.2
    assert changed[254:324, 134:270].any()


def test_the_picture_in_the_readme_is_what_the_demo_shows(demo) -> None:
    shown = ROOT / "docs/results.jpg"
    assert shown.stat().st_size < 300_000
    with Image.open(shown) as kept, Image.open(demo[0] / "montage.jpg") as made:
        assert kept.size == made.size
        changed = np.abs(np.array(kept, int) - np.array(made, int)).max(axis=2) > 40
    # JPEG encoders and engines differ in a few pixels at edges.
    assert changed.mean() < 0.002, "run: python -m tools.demo --montage docs/results.jpg"


def test_nothing_is_left_running(demo) -> None:
    assert "The server is stopped." in demo[1]
    for process in psutil.process_iter(["cmdline"]):
        assert str(demo[0]) not in " ".join(process.info["cmdline"] or [])


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def box_iou(a: np.ndarray, b: np.ndarray) -> float:
    overlap = np.prod(np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None))
    return float(overlap / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - overlap))
