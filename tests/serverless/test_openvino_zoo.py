"""The functions of the Open Model Zoo through their own main.py, with networks that answer by the colours that they see."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from common.config import FunctionConfig
from common.errors import StartupError
from common.networks.embedding import ExportedEmbedding
from common.networks.exported.handler import ExportedDetector
from common.networks.loader import load_handler_class
from common.networks.weights import read_catalog
from common.vision.mask import flat_to_mask, mask_to_bitmap, outline_to_mask
from tests.common.networks.onnx_files import constant_model
from tests.serverless import reid_scenes, zoo_networks
from tools.collection import COLLECTION
from tools.wrapper import LoadedFunction, Reply

ZOO = COLLECTION / "openvino/omz"
FACES, PEOPLE = ZOO / "face-detection-0205", ZOO / "person-reidentification-retail-0277"
MASKS = ZOO / "mask_rcnn_inception_resnet_v2_atrous_coco"
HEIGHT, WIDTH = 480, 640
# In the picture: a high face, a square one, a face in the corner, and something that the detector is not sure of.
FACE_BOXES = [(64, 48, 128, 144), (300, 200, 400, 300), (560, 400, 640, 480), (200, 400, 260, 460)]
# RGB: blue is the score, green the age, red a woman's.
FACE_COLORS = [(255, 64, 200), (0, 166, 230), (255, 128, 160), (0, 0, 90)]


def body(image: NDArray[np.uint8], threshold: float | None = None) -> dict[str, Any]:
    png = cv2.imencode(".png", image[..., ::-1])[1].tobytes()
    return {"image": base64.b64encode(png).decode()} | ({} if threshold is None else {"threshold": threshold})


def faces() -> NDArray[np.uint8]:
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for (left, top, right, bottom), color in zip(FACE_BOXES, FACE_COLORS, strict=True):
        image[top:bottom, left:right] = color
    return image


@pytest.fixture(scope="module")
def face_networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faces")
    scale = np.array([416 / WIDTH, 416 / HEIGHT] * 2)
    boxes = [(np.array(box) * scale).round().astype(int).tolist() for box in FACE_BOXES]
    zoo_networks.face_detector(folder / "face-detection-0205.xml", boxes)
    zoo_networks.age_and_gender(folder / "age-gender-recognition-retail-0013.xml")
    zoo_networks.emotion(folder / "emotions-recognition-retail-0003.xml")
    return folder


def ask_faces(monkeypatch: pytest.MonkeyPatch, folder: Path, image: NDArray[np.uint8], **options: str) -> Reply:
    for name, value in {"MODEL_PATH": str(folder), **options}.items():
        monkeypatch.setenv(name, value)
    return LoadedFunction(FACES, unique=True)(body(image))


def attributes(annotation: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in annotation.get("attributes", [])}


def test_faces_with_their_attributes(monkeypatch: pytest.MonkeyPatch, face_networks: Path) -> None:
    reply = ask_faces(monkeypatch, face_networks, faces())
    assert reply.status == 200, reply.body
    second, first, third = reply.json()  # the highest score first; the fourth is under the threshold
    for annotation, box in zip((first, second, third), FACE_BOXES[:3], strict=True):
        assert (annotation["label"], annotation["type"]) == ("face", "rectangle")
        np.testing.assert_allclose(annotation["points"], box, atol=1)
    scores = [float(each["confidence"]) for each in (first, second, third)]
    np.testing.assert_allclose(scores, [200 / 255, 230 / 255, 160 / 255], atol=0.01)
    assert attributes(first) == {"age": "25", "gender": "female", "emotion": "sad"}
    assert attributes(second) == {"age": "65", "gender": "male", "emotion": "surprise"}
    # A square around the third ends at the image: the face fills more of it.
    assert attributes(third) == {"age": "50", "gender": "female", "emotion": "surprise"}


def test_several_images_at_once(face_networks: Path) -> None:
    handler = load_handler_class(FACES)(FunctionConfig.load(FACES), model_path=str(face_networks))
    upside_down = np.ascontiguousarray(faces()[::-1])
    images = [faces(), np.zeros((200, 300, 3), np.uint8), upside_down]
    together = handler.infer_batch(images, 0.3)
    for image, shapes in zip(images, together, strict=True):
        alone = handler.infer(image, 0.3)
        assert [shape.box_xyxy for shape in shapes] == [shape.box_xyxy for shape in alone]
        assert [shape.attributes for shape in shapes] == [shape.attributes for shape in alone]
    assert len(together[0]) == 4 and not together[1]


def test_the_crop_can_be_the_face_alone(monkeypatch: pytest.MonkeyPatch, face_networks: Path) -> None:
    reply = ask_faces(monkeypatch, face_networks, faces(), CROP_SCALE="1")
    assert [attributes(each)["emotion"] for each in reply.json()] == ["anger", "surprise", "anger"]


def test_attributes_can_be_left_out(monkeypatch: pytest.MonkeyPatch, face_networks: Path, tmp_path: Path) -> None:
    for file in face_networks.glob("face-detection-0205.*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    reply = ask_faces(monkeypatch, tmp_path, faces(), ATTRIBUTES="none")
    assert [attributes(each) for each in reply.json()] == [{}, {}, {}]
    reply = ask_faces(monkeypatch, face_networks, faces(), ATTRIBUTES="Emotion")
    assert [attributes(each) for each in reply.json()] == [
        {"emotion": "surprise"},
        {"emotion": "sad"},
        {"emotion": "surprise"},
    ]
    with pytest.raises(StartupError, match=r"emotions-recognition-retail-0003\.xml: no such file: .*\(ATTRIBUTES\)"):
        ask_faces(monkeypatch, tmp_path, faces(), ATTRIBUTES="emotion")


def labelled(folder: Path, change: Any) -> Path:
    """The function with other attributes in its function.yaml."""
    for file in FACES.iterdir():
        if file.is_file():
            (folder / file.name).write_bytes(file.read_bytes())
    path = folder / "function.yaml"
    content = yaml.safe_load(path.read_text())
    labels = json.loads(content["metadata"]["annotations"]["spec"])
    change(labels[0])
    content["metadata"]["annotations"]["spec"] = json.dumps(labels)
    path.write_text(yaml.safe_dump(content))
    return folder


def test_the_label_decides_too(monkeypatch: pytest.MonkeyPatch, face_networks: Path, tmp_path: Path) -> None:
    monkeypatch.setenv("MODEL_PATH", str(face_networks))

    def only_gender(label: dict[str, Any]) -> None:
        label["attributes"] = [label["attributes"][1]]

    (tmp_path / "one").mkdir()
    reply = LoadedFunction(labelled(tmp_path / "one", only_gender), unique=True)(body(faces()))
    assert [attributes(each) for each in reply.json()] == [
        {"gender": "male"},
        {"gender": "female"},
        {"gender": "female"},
    ]

    def other_words(label: dict[str, Any]) -> None:
        label["attributes"][2]["values"] = ["happy", "sad"]

    (tmp_path / "two").mkdir()
    with pytest.raises(
        StartupError, match="values of the attribute emotion must include neutral, happy, sad, surprise, anger"
    ):
        LoadedFunction(labelled(tmp_path / "two", other_words), unique=True)


def test_networks_in_the_wrong_place(monkeypatch: pytest.MonkeyPatch, face_networks: Path, tmp_path: Path) -> None:
    for file in face_networks.iterdir():
        name = file.name.replace("emotions-recognition-retail-0003", "x").replace(
            "age-gender-recognition-retail-0013", "y"
        )
        name = name.replace("x.", "age-gender-recognition-retail-0013.").replace(
            "y.", "emotions-recognition-retail-0003."
        )
        (tmp_path / name).write_bytes(file.read_bytes())
    with pytest.raises(
        StartupError, match=r"retail-0013\.xml: expected an output with 1 numbers for a face, got \(2, 5, 1, 1\)"
    ):
        ask_faces(monkeypatch, tmp_path, faces())
    with pytest.raises(StartupError, match=r"MODEL_PATH: expected a folder with face-detection-0205\.xml"):
        ask_faces(monkeypatch, face_networks / "face-detection-0205.xml", faces())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ATTRIBUTES": "age, height"}, "ATTRIBUTES: expected names among age, gender, emotion, or none"),
        ({"CROP_SCALE": "0"}, r"CROP_SCALE: expected a number from 0\.5 to 3"),
    ],
)
def test_wrong_options(
    monkeypatch: pytest.MonkeyPatch, face_networks: Path, options: dict[str, str], message: str
) -> None:
    with pytest.raises(StartupError, match=message):
        ask_faces(monkeypatch, face_networks, faces(), **options)


@pytest.fixture(scope="module")
def people_network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return zoo_networks.people(tmp_path_factory.mktemp("people") / "person-reidentification-retail-0277.xml")


def test_people_are_found_again(monkeypatch: pytest.MonkeyPatch, people_network: Path) -> None:
    monkeypatch.setenv("MODEL_PATH", str(people_network))
    assert reid_scenes.part_found_again(LoadedFunction(PEOPLE, unique=True), 6) >= 0.95


def test_the_network_gets_blue_green_red_up_to_255(people_network: Path) -> None:
    config = FunctionConfig.load(PEOPLE)
    options = {name.lower(): config.environment[name] for name in ("COLOR", "MEAN", "STD")}
    handler = ExportedEmbedding(config, model_path=str(people_network), **options)
    image = np.zeros((300, 200, 3), np.uint8)
    image[...] = (255, 127, 0)
    (descriptor,) = handler.embed(image, np.array([[20.0, 30.0, 120.0, 200.0]]))
    expected = np.repeat([-127.0, 0.0, 128.0, 0.0], 64)  # blue, green, red less 127, then zeros
    np.testing.assert_allclose(descriptor, expected / np.linalg.norm(expected), atol=1e-5)


# The input is 800 x 1365: the picture of 400 x 682 is doubled in its corner, and a box of 330 x 330 is one of 165 x 165.
BOX, DISC, RADIUS = (300, 200, 630, 530), (230, 180), 60


def disc() -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    image = np.full((400, 682, 3), (0, 60, 200), np.uint8)
    y, x = np.mgrid[:400, :682] + 0.5
    inside = np.hypot(x - DISC[0], y - DISC[1]) < RADIUS
    image[inside] = (255, 60, 0)
    return image, inside


@pytest.mark.parametrize("channels_last", [True, False])
def test_masks_with_polygons(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, channels_last: bool) -> None:
    car = 3
    path = zoo_networks.mask_rcnn(tmp_path / "m.xml", BOX, car, channels_last=channels_last)
    monkeypatch.setenv("MODEL_PATH", str(path))
    image, inside = disc()
    reply = LoadedFunction(MASKS, unique=True)(body(image))
    assert reply.status == 200, reply.body
    (annotation,) = reply.json()
    assert (annotation["label"], annotation["type"]) == ("car", "mask")
    assert float(annotation["confidence"]) == pytest.approx(0.9)
    found = mask_to_bitmap(flat_to_mask(annotation["mask"]), inside.shape)
    assert (found & inside).sum() > 0.97 * (found | inside).sum()
    outline = np.array(annotation["points"]).reshape(-1, 2)
    polygon = mask_to_bitmap(outline_to_mask(outline, inside.shape), inside.shape)
    assert (polygon & inside).sum() > 0.95 * (polygon | inside).sum()


def test_the_labels_are_numbers_of_coco() -> None:
    labels = FunctionConfig.load(MASKS).labels
    numbers = {label.name: label.id for label in labels.values()}
    assert len(labels) == 80 and {label.type for label in labels.values()} == {"mask"}
    assert {name: numbers[name] for name in ("person", "stop sign", "toothbrush")} == {
        "person": 1,
        "stop sign": 13,
        "toothbrush": 90,
    }


@pytest.mark.parametrize("directory", [FACES, PEOPLE], ids=lambda path: path.name)
def test_the_published_weights(directory: Path) -> None:
    catalog = read_catalog(directory)
    assert catalog is not None and set(catalog.variants) == {"FP32", "FP16"} and catalog.default == "FP32"
    for name, variant in catalog.variants.items():
        paths = {file.path for file in variant.files}
        assert all(path.replace(".xml", ".bin") in paths for path in paths) and variant.entry in ("", *paths)
        for file in variant.files:
            assert file.sha384 and file.size and file.url and file.url.endswith(f"/{name}/{file.path}")
            assert re.match(r"https://storage\.openvinotoolkit\.org/repositories/open_model_zoo/", file.url)


@pytest.mark.parametrize("images", [1, 2])
def test_a_class_without_a_label_is_mentioned_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, images: int
) -> None:
    """A network whose class number is another one than the label's id finds nothing: the log says why."""
    table, classes = np.array([[8, 4, 24, 20, 0.9]], np.float32), np.array([1])
    path = constant_model(tmp_path / "m.onnx", {"boxes": table, "labels": classes})
    config = FunctionConfig.load(FACES)  # its label's id is 0
    handler = ExportedDetector(config, model_path=str(path), engine="onnxruntime")
    for _ in range(2):
        find = handler.infer_batch if images > 1 else lambda given, threshold: [handler.infer(given[0], threshold)]
        assert find([np.zeros((64, 64, 3), np.uint8)] * images, 0.5) == [[]] * images
    # Other tests may have left a handler that repeats everything under a logger of its own.
    records = [record for record in caplog.records if record.name.startswith("common.")]
    lines = [record.message for record in records if "Left out: objects" in record.message]
    assert lines == ["Left out: objects of class 1, for which there is no label; the ids of the labels are 0"]
