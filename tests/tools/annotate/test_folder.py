"""A folder of images: the three formats read back by the libraries that others use, and what happens on the way."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from datumaro import Dataset
from datumaro.components.annotation import AnnotationType
from PIL import Image
from pycocotools import mask as mask_utils
from pycocotools.coco import COCO

from common.config import FunctionConfig
from common.cvat.conform import conform
from common.cvat.shape_json import shape_points
from common.shapes import Mask, Shape
from common.vision.mask import mask_to_bitmap
from tests.sample_functions.everything.model_handler import shapes_at
from tests.scenes import BLUE, RED, png, red_box, scene
from tests.tools.annotate.conftest import FUNCTIONS, SIZE_HW, box_of
from tools.annotate.__main__ import main
from tools.annotate.errors import CannotRun
from tools.annotate.export import coco_runs
from tools.annotate.image_files import parse_frames
from tools.collection import ROOT

LABELS = FunctionConfig.load(FUNCTIONS / "everything").labels
NAMES = ["a/first.png", "a/second.jpg", "second.png", "third.png"]


def expected(frame: int) -> dict[str, Shape]:
    shapes = conform(shapes_at(red_box(box_of(frame), SIZE_HW), note="ü"), LABELS, SIZE_HW)
    return {shape.label: shape for shape in shapes}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    (folder / "a").mkdir()
    (folder / "notes.txt").write_text("no image")
    for i, name in enumerate(NAMES):
        image = Image.fromarray(red_box(box_of(i), SIZE_HW))
        image.save(folder / name, **({"quality": 100, "subsampling": 0} if name.endswith("jpg") else {}))
    return folder


def run(images: Path, output: Path, *more: object) -> int:
    arguments = ["--images", images, "--output", output, "--function", FUNCTIONS / "everything", "--workers", 0, *more]
    return main([str(a) for a in arguments])


@pytest.fixture(scope="module")
def output(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("output")
    assert run(images, folder, "--threshold", 0.1, "--option", "note=ü") == 0
    return folder


def numbers(text: str) -> list[float]:
    return [float(v) for pair in text.split(";") for v in pair.split(",")]


def test_cvat_xml_has_everything(output: Path) -> None:
    root = ElementTree.parse(output / "cvat/annotations.xml").getroot()
    assert root.findtext("version") == "1.1"
    assert [image.get("name") for image in root.iter("image")] == NAMES
    for frame, image in enumerate(root.iter("image")):
        assert (image.get("id"), image.get("width"), image.get("height")) == (str(frame), "90", "60")
        shapes = expected(frame)
        by_label = {element.get("label"): element for element in image}
        assert by_label.keys() == shapes.keys()
        assert {element.get("source") for element in image} == {"auto"}
        tags = {"scene": "tag", "box": "box", "turned": "box", "disc": "ellipse", "outline": "polygon", "line": "polyline",
                "dots": "points", "region": "mask", "block": "cuboid", "figure": "skeleton"}  # fmt: skip
        assert {label: element.tag for label, element in by_label.items()} == tags
        for label in ("box", "turned"):
            corners = [float(by_label[label].get(name)) for name in ("xtl", "ytl", "xbr", "ybr")]
            assert corners == list(box_of(frame))
        assert float(by_label["turned"].get("rotation")) == 30.25
        for label in ("outline", "line", "dots"):
            assert numbers(by_label[label].get("points")) == shape_points(shapes[label])
        disc = [float(by_label["disc"].get(name)) for name in ("cx", "cy", "rx", "ry")]
        assert disc == [*shapes["disc"].center_xy, *shapes["disc"].radii_xy]
        cuboid = [float(by_label["block"].get(f"{axis}{corner}")) for corner in
                  ("tl1", "bl1", "tr1", "br1", "tl2", "bl2", "tr2", "br2") for axis in "xy"]  # fmt: skip
        assert cuboid == shape_points(shapes["block"])
        region = by_label["region"]
        left, top, width, height = (int(region.get(name)) for name in ("left", "top", "width", "height"))
        runs = [int(v) for v in region.get("rle").split(",")]
        bitmap = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
        assert (left, top, left + width, top + height) == box_of(frame)
        full = np.zeros(SIZE_HW, bool)
        full[top : top + height, left : left + width] = bitmap
        np.testing.assert_array_equal(full, mask_to_bitmap(shapes["region"], SIZE_HW))
        joints = {p.get("label"): (numbers(p.get("points")), p.get("outside")) for p in by_label["figure"]}
        left, top, right, bottom = box_of(frame)
        assert joints["head"] == ([(left + right) / 2, top], "0")
        assert joints["right foot"] == ([right, bottom], "1")
        assert joints["left foot"][1] == "1"
        attributes = {a.get("name"): a.text or "" for a in by_label["box"].iter("attribute")}
        assert attributes == {"side": "left", "wide": "false", "width": "30", "note": "ü"}
        assert by_label["box"].get("group_id") == by_label["turned"].get("group_id") == "1"


def test_cvat_xml_says_what_labels_are(output: Path) -> None:
    root = ElementTree.parse(output / "cvat/annotations.xml").getroot()
    labels = {label.findtext("name"): label for label in root.iter("label")}
    assert {name: label.findtext("type") for name, label in labels.items()} == {
        **{label.name: label.type for label in LABELS.values()},
        **dict.fromkeys(["head", "left foot", "right foot"], "points"),
    }
    assert labels["head"].findtext("parent") == "figure"
    assert "data-label-name" in labels["figure"].findtext("svg")
    side = next(a for a in labels["box"].iter("attribute") if a.findtext("name") == "side")
    assert (side.findtext("input_type"), side.findtext("values")) == ("radio", "left\nright")


def test_datumaro_reads_the_cvat_xml(output: Path, images: Path, tmp_path: Path) -> None:
    shutil.copytree(images, tmp_path / "images")
    shutil.copy(output / "cvat/annotations.xml", tmp_path)
    items = {item.id: item for item in Dataset.import_from(str(tmp_path), "cvat")}
    assert len(items) == len(NAMES)
    kinds = sorted(a.type.name for a in items["a/first"].annotations)
    # It takes the joints of the skeleton for points, and passes over ellipse and cuboid.
    assert kinds == ["bbox", "label", "mask", *["points"] * 4, "polygon", "polyline", "rotated_bbox"]
    labels = Dataset.import_from(str(tmp_path), "cvat").categories()[AnnotationType.label]
    for frame, name in enumerate(NAMES):
        shapes = expected(frame)
        found = {labels[a.label].name: a for a in items[str(Path(name).with_suffix(""))].annotations}
        np.testing.assert_array_equal(found["region"].image, mask_to_bitmap(shapes["region"], SIZE_HW))
        assert found["box"].points == list(box_of(frame))
        left, top, right, bottom = box_of(frame)
        assert found["turned"].points == [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top, 30.25]
        for label in ("outline", "line", "dots"):
            assert found[label].points == shape_points(shapes[label])


def test_datumaro_reads_the_coco_json(output: Path, images: Path, tmp_path: Path) -> None:
    shutil.copytree(output / "coco", tmp_path / "coco")
    shutil.copytree(images, tmp_path / "coco/images")
    dataset = Dataset.import_from(str(tmp_path / "coco"), "coco")
    labels = dataset.categories()[AnnotationType.label]
    items = {item.id: item for item in dataset}
    assert len(items) == len(NAMES)
    for frame, name in enumerate(NAMES):
        shapes = expected(frame)
        # Of each object it makes two annotations, the second one the box around the first.
        annotations = items[str(Path(name).with_suffix(""))].annotations
        found = {(labels[a.label].name, a.type): a for a in annotations}
        assert {label for label, _ in found} == {"box", "turned", "disc", "outline", "region"}
        region = found["region", AnnotationType.mask]
        np.testing.assert_array_equal(region.image, mask_to_bitmap(shapes["region"], SIZE_HW))
        left, top, right, bottom = box_of(frame)
        for label in ("box", "region"):
            assert found[label, AnnotationType.bbox].get_bbox() == [left, top, right - left, bottom - top]
        assert found["outline", AnnotationType.polygon].points == shape_points(shapes["outline"])


def test_coco_instances(output: Path) -> None:
    coco = COCO(output / "coco/annotations/instances_default.json")
    names = {c["id"]: c["name"] for c in coco.loadCats(coco.getCatIds())}
    assert list(names.values()) == list(LABELS)
    images = {image["file_name"]: image for image in coco.loadImgs(coco.getImgIds())}
    assert sorted(images) == sorted(NAMES)
    for frame, name in enumerate(NAMES):
        assert (images[name]["width"], images[name]["height"]) == (90, 60)
        found = {names[a["category_id"]]: a for a in coco.loadAnns(coco.getAnnIds(images[name]["id"]))}
        assert found.keys() == {"box", "turned", "disc", "outline", "region"}
        left, top, right, bottom = box_of(frame)
        assert found["box"]["bbox"] == [left, top, right - left, bottom - top]
        assert found["box"]["score"] == 0.9
        assert found["box"]["attributes"]["note"] == "ü"
        assert {a["iscrowd"] for a in found.values()} == {0}
        mask = expected(frame)["region"]
        assert isinstance(mask, Mask)
        np.testing.assert_array_equal(coco.annToMask(found["region"]), mask_to_bitmap(mask, SIZE_HW))
        # A turned square of 30 pixels has the same area, an ellipse pi times its half axes.
        assert int(coco.annToMask(found["turned"]).sum()) == pytest.approx(900, rel=0.03)
        assert int(coco.annToMask(found["disc"]).sum()) == pytest.approx(np.pi * 15 * 10, rel=0.03)


@pytest.mark.parametrize("seed", range(40))
def test_runs_of_masks_anywhere_are_those_of_coco(seed: int) -> None:
    generator = np.random.default_rng(seed)
    full = np.zeros((7, 9), bool)
    (top, bottom), (left, right) = (np.sort(generator.choice(n + 1, 2, replace=False)) for n in full.shape)
    full[top:bottom, left:right] = generator.random((bottom - top, right - left)) < (0.5, 1.0)[seed % 2]
    if not full.any():
        full[top, left] = True
    runs = coco_runs(Mask.from_full(full), full.shape)
    rle = mask_utils.frPyObjects({"counts": runs, "size": list(full.shape)}, *full.shape)
    np.testing.assert_array_equal(mask_utils.decode(rle), full)
    assert sum(runs) == full.size
    assert all(runs[1:])


def test_coco_keypoints(output: Path) -> None:
    coco = COCO(output / "coco/annotations/person_keypoints_default.json")
    category = next(c for c in coco.dataset["categories"] if c["name"] == "figure")
    assert category["keypoints"] == ["head", "left foot", "right foot"]
    assert category["skeleton"] == [[1, 2]]
    first = next(i for i in coco.dataset["images"] if i["file_name"] == NAMES[0])
    (figure,) = coco.loadAnns(coco.getAnnIds(first["id"]))
    left, top, right, _ = box_of(0)
    assert figure["keypoints"] == [(left + right) / 2, top, 2, 0, 0, 0, 0, 0, 0]
    assert figure["num_keypoints"] == 1


def test_yolo_boxes(output: Path) -> None:
    names = ["a/first", "a/second", "second", "third"]
    # The pictures are not in the folder, so their sizes must be told.
    dataset = Dataset.import_from(str(output / "yolo"), "yolo", image_info=dict.fromkeys(names, SIZE_HW))
    assert (output / "yolo/obj.names").read_text().split() == list(LABELS)
    items = {item.id: item for item in dataset}
    assert sorted(items) == names
    labels = dataset.categories()[AnnotationType.label]
    turned = 30 * (np.cos(np.radians(30.25)) + np.sin(np.radians(30.25)))
    for frame, name in enumerate(names):
        boxes = {labels[a.label].name: a.points for a in items[name].annotations}
        left, top, right, bottom = box_of(frame)
        for label in ("box", "outline", "region", "block"):
            np.testing.assert_allclose(boxes[label], [left, top, right, bottom], atol=1e-3)
        np.testing.assert_allclose(boxes["disc"], [left, top + 5, right, bottom - 5], atol=1e-3)
        assert boxes["turned"][2] - boxes["turned"][0] == pytest.approx(turned, abs=0.02)
        assert boxes.keys() == {"box", "turned", "disc", "outline", "region", "block"}


def test_overlays_show_the_shapes(output: Path, images: Path) -> None:
    for frame, name in enumerate(NAMES):
        drawn = np.asarray(Image.open(output / "overlays" / f"{name.removesuffix('.jpg')}.jpg")).astype(int)
        assert drawn.shape == (*SIZE_HW, 3)
        left, top, right, _ = box_of(frame)
        plain = red_box(box_of(frame), SIZE_HW).astype(int)
        assert (np.abs(drawn - plain)[top : top + 2, left + 5 : right - 5].max(axis=2) > 60).any()


def test_bad_pictures_are_listed_and_resumed(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(5):
        (folder / f"{i}.png").write_bytes(png(red_box(box_of(i), SIZE_HW)))
    (folder / "1.png").write_bytes(png(scene([(box_of(0), RED)], SIZE_HW, corner=BLUE)))
    (folder / "3.png").write_bytes(b"no picture")
    output = tmp_path / "out"
    assert run(folder, output, "--formats", "coco", "--pictures", 0, "--threshold", 0.85) == 1
    said = capsys.readouterr().err
    assert "3 of 5 frames annotated" in said
    assert "frame 1 (1.png): ValueError: this picture is not to be had" in said
    assert "frame 3 (3.png): image: expected an image file" in said
    assert not (output / "overlays").exists()
    assert not (output / "yolo").exists()
    (folder / "3.png").write_bytes(png(red_box(box_of(3), SIZE_HW)))
    arguments = ("--formats", "coco", "--pictures", 0, "--threshold", 0.85)
    assert run(folder, output, *arguments, "--resume") == 1
    content = json.loads((output / "coco/annotations/instances_default.json").read_text())
    assert [image["file_name"] for image in content["images"]] == ["0.png", "2.png", "3.png", "4.png"]
    assert len(content["annotations"]) == 4
    (folder / "5.png").write_bytes(png(red_box(box_of(5), SIZE_HW)))
    assert run(folder, output, *arguments, "--resume") == 2
    assert "names: was" in capsys.readouterr().err


def test_a_run_that_was_killed_goes_on(images: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(60):
        (folder / f"{i:02d}.png").write_bytes(png(red_box(box_of(i), SIZE_HW)))
    arguments = ["--images", folder, "--output", tmp_path / "out", "--function", FUNCTIONS / "everything"]
    arguments += ["--threshold", 0.85, "--workers", 0, "--formats", "coco", "--pictures", 0]
    command = [sys.executable, "-m", "tools.annotate", *map(str, arguments)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    journal = tmp_path / "out/annotate.journal"
    while process.poll() is None and not (journal.exists() and b"done" in journal.read_bytes()):
        pass
    process.kill()
    process.wait()
    results = tmp_path / "out/results.jsonl"
    results.write_bytes(results.read_bytes() + b'{"frame": 59, "name": "59.pn')  # killed while it wrote
    assert run(folder, tmp_path / "out", "--threshold", 0.85, "--formats", "coco", "--pictures", 0, "--resume") == 0
    content = json.loads((tmp_path / "out/coco/annotations/instances_default.json").read_text())
    assert [image["file_name"] for image in content["images"]] == [f"{i:02d}.png" for i in range(60)]
    assert len(content["annotations"]) == 60


def test_polygons_instead_of_masks(images: Path, tmp_path: Path) -> None:
    assert run(images, tmp_path, "--convert-masks", "--formats", "cvat", "--threshold", 0.1) == 0
    root = ElementTree.parse(tmp_path / "cvat/annotations.xml").getroot()
    (image, *_) = root.iter("image")
    kinds = {element.get("label"): element.tag for element in image}
    assert kinds["region"] == "polygon"
    assert (
        next(label for label in root.iter("label") if label.findtext("name") == "region").findtext("type") == "polygon"
    )


def test_a_run_that_could_not_begin_leaves_nothing_to_resume(images: Path, tmp_path: Path) -> None:
    assert run(images, tmp_path, "--option", "bogus=1") == 2
    assert run(images, tmp_path, "--formats", "coco") == 0


def test_overlays_of_pictures_that_are_gone_go_as_well(images: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    shutil.copytree(images, folder)
    output = tmp_path / "out"
    assert run(folder, output, "--formats", "yolo") == 0
    assert len(list((output / "overlays").rglob("*.jpg"))) == 4
    (folder / NAMES[3]).unlink()
    assert run(folder, output, "--formats", "yolo") == 0
    assert len(list((output / "overlays").rglob("*.jpg"))) == 3


def test_weights_that_an_option_names(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """A function whose own weights are not here runs with others."""
    weights = ROOT / "serverless/onnx/yolo/shapes/shapes.onnx"
    function = tmp_path / "function"
    shutil.copytree(ROOT / "serverless/onnx/yolo/shapes", function)
    for name in ("shapes.onnx", "overlay.jpg"):
        (function / name).unlink()
    common = ["--images", str(images), "--output", str(tmp_path / "o"), "--function", str(function), "--workers", "0"]
    assert main(common) == 2
    assert f"{function} can't run here: no weights for shapes" in capsys.readouterr().err
    assert main([*common, "--option", f"model_path={weights}"]) == 0


def test_a_dry_run_leaves_only_pictures(images: Path, tmp_path: Path) -> None:
    assert run(images, tmp_path / "out", "--dry-run", "--pictures", 2) == 0
    assert sorted(p.name for p in (tmp_path / "out").rglob("*") if p.is_file()) == ["second.jpg", "third.jpg"]


def test_what_can_not_begin(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert (
        main(["--images", str(tmp_path), "--output", str(tmp_path / "o"), "--function", str(FUNCTIONS / "everything")])
        == 2
    )
    assert "no images (" in capsys.readouterr().err
    assert (
        main(["--images", str(images), "--output", str(tmp_path / "o"), "--function", str(FUNCTIONS / "colours")]) == 2
    )
    assert main(["--images", str(images), "--output", str(tmp_path / "o"), "--endpoint", "http://127.0.0.1:9"]) == 2
    assert "labels must be known" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert run(images, tmp_path / "file") == 2
    assert "File exists: " in capsys.readouterr().err


def test_results_in_the_folder_of_the_images_are_not_taken_for_images(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = Path(shutil.copytree(images, tmp_path / "images"))
    (folder / "overlays").mkdir()
    for _ in range(2):
        assert run(folder, folder / "out", "--formats", "yolo") == 0
        assert f"{len(NAMES)} images" in capsys.readouterr().err
    # Overlays of an earlier run are deleted: never the images themselves.
    for place, output in ((folder, folder), (folder / "overlays", folder)):
        assert run(place, output) == 2
        assert "expected another folder than that of the images" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "frames"),
    [
        (None, [0, 1, 2, 3, 4, 5]),
        ("2", [2]),
        ("4-,0", [0, 4, 5]),
        ("1 - 3, 2-4", [1, 2, 3, 4]),
    ],
)
def test_frame_ranges(text: str | None, frames: list[int]) -> None:
    assert parse_frames(text, 6) == frames


@pytest.mark.parametrize("text", ["a", "3-1", "0-6", "-2", "1,,2", "6", "1.5"])
def test_frame_ranges_that_are_none(text: str) -> None:
    with pytest.raises(CannotRun, match="--frames"):
        parse_frames(text, 6)
