"""`make new` with folders of transformers and names on the Hugging Face hub."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.torch import load_file

from common.config import FunctionConfig
from common.errors import StartupError
from common.networks import weights
from tests.common.networks.huggingface.tiny_models import save_tiny
from tests.hub_server import HubServer, hub_server
from tools.check import check_function
from tools.collection import ROOT
from tools.new.__main__ import make
from tools.new.hub import is_hub_name, read_published
from tools.wrapper import LoadedFunction

PHOTO = ROOT / "tools" / "demo" / "cat_mug.jpg"
MODELS = {
    "detector": "DetrForObjectDetection",
    "segmenter": "OneFormerForUniversalSegmentation",
    "classifier": "ViTForImageClassification",
}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders below someone/."""
    root = tmp_path_factory.mktemp("hub")
    for name, architecture in MODELS.items():
        save_tiny(architecture, root / "someone" / name)
    return root


@pytest.fixture
def hub(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub of copies of them, which is asked in place of the real one."""
    root = tmp_path / "hub"
    shutil.copytree(published, root)
    with hub_server(root) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url + "/")
        yield server


def body() -> dict[str, Any]:
    return {"image": base64.b64encode(PHOTO.read_bytes()).decode(), "threshold": 0.001}


@pytest.mark.parametrize(("name", "task", "label_type"), [
    ("detector", "detect", "rectangle"), ("segmenter", "segment", "mask"), ("classifier", "classify", "tag"),
])  # fmt: skip
def test_a_name_on_the_hub_becomes_a_function_with_its_commit_and_digests(
    hub: HubServer, tmp_path: Path, name: str, task: str, label_type: str
) -> None:
    place = tmp_path / "made"
    made = make({"WEIGHTS": f"someone/{name}", "NAME": "from-hub", "OUT": str(place)})
    assert made.directory == place
    assert "weights are fetched when the image is built" in made.untried
    assert not list(place.rglob("*.safetensors"))
    variant = yaml.safe_load((place / "weights.yaml").read_text())["variants"]["own"]
    files = {file["path"]: file for file in variant["files"]}
    assert {"config.json", "preprocessor_config.json", "model.safetensors"} <= set(files)
    assert ("vocab.json" in files) == (name == "segmenter")
    for file in files.values():
        assert file["url"] == f"{hub.url}/someone/{name}/resolve/{hub.commit}/{file['path']}"
        assert file["size"] > 0
    assert all(
        len(files[each]["sha256"]) == 64 for each in ("config.json", "preprocessor_config.json", "model.safetensors")
    )
    config = FunctionConfig.load(place)
    assert [(label.name, label.type) for label in config.labels.values()] == [
        (each, label_type) for each in ("person", "car", "dog")
    ]
    readme = (place / "README.md").read_text()
    assert f"someone/{name}@0123456" in readme
    assert "apache-2.0" in readme
    assert f"serverless/pytorch/huggingface/{task}" in readme
    assert "python -m common.networks.weights /opt/nuclio" in (place / "function.yaml").read_text()
    weights.fetch(place)  # as when the image is built
    reply = LoadedFunction(place, unique=True)(body())
    assert reply.status == 200
    assert {shape["label"] for shape in reply.json()} <= {"person", "car", "dog"}
    assert reply.json() or name == "segmenter", "its queries find nothing in this photograph"
    assert check_function(place, run=False) == []


def test_another_revision_is_asked_for_and_its_commit_kept(hub: HubServer) -> None:
    model = read_published("someone/detector@refs/pr/1")
    assert model.commit == hub.commit
    assert hub.asked[0] == "/api/models/someone/detector/revision/refs%2Fpr%2F1?blobs=true"
    assert all(f"/resolve/{hub.commit}/" in str(file.url) for file in model.files)


def test_a_file_that_changed_on_the_way_is_not_used(hub: HubServer, tmp_path: Path) -> None:
    place = make({"WEIGHTS": "someone/detector", "NAME": "changed", "OUT": str(tmp_path / "made")}).directory
    file = tmp_path / "hub/someone/detector/model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(StartupError, match=r"expected SHA-256 .*: not used"):
        weights.fetch(place)


def only_a_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def only_gguf(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-q4.gguf")


def nothing(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def own_code(folder: Path) -> None:
    change(folder, auto_map={"AutoModel": "modeling.Model"})


def language_model(folder: Path) -> None:
    change(folder, architectures=["LlamaForCausalLM"])


def pose_network(folder: Path) -> None:
    change(folder, architectures=["VitPoseForPoseEstimation"])


def embedding_network(folder: Path) -> None:
    change(folder, architectures=["Dinov2Model"])


def no_architecture(folder: Path) -> None:
    change(folder, architectures=None)


def no_preprocessing(folder: Path) -> None:
    (folder / "preprocessor_config.json").unlink()


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def broken_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def change(folder: Path, **entries: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (only_a_pickle, r"has no model\.safetensors, only pytorch_model\.bin, which are not read here.*@refs/pr/1"),
        (only_gguf, r"has no model\.safetensors, only model-q4\.gguf"),
        (nothing, r"has no model\.safetensors; it has config\.json, preprocessor_config\.json"),
        (own_code, "code of its own"),
        (language_model, "got LlamaForCausalLM, which is not served; served are detect: models of ConditionalDetr"),
        (pose_network, "finds the joints of what is in a box: it needs a detector in front of it"),
        (embedding_network, "set KIND=reid"),
        (no_architecture, "got nothing, which is not served"),
        (no_preprocessing, r"preprocessor_config\.json is missing"),
        (no_config, r"has no config\.json: it is not a model of transformers"),
        (broken_config, "not JSON"),
    ],
)
def test_wrong_repositories_are_refused_and_leave_nothing(
    hub: HubServer, tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(tmp_path / "hub/someone/detector")
    with pytest.raises(StartupError, match=message):
        make({"WEIGHTS": "someone/detector", "NAME": "wrong", "OUT": str(tmp_path / "made")})
    assert not (tmp_path / "made").exists()
    assert not any(path.endswith(".safetensors") for path in hub.asked)


def test_what_the_hub_does_not_give_is_explained(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        StartupError, match="there is no file someone/else here, and no such model or revision on the hub"
    ):
        read_published("someone/else")
    with pytest.raises(StartupError, match="no such model or revision"):
        read_published("someone/detector@v9")
    hub.gated = True
    with pytest.raises(StartupError, match="it is private or gated: accept its terms on its page and set HF_TOKEN"):
        read_published("someone/detector")
    monkeypatch.setenv("OFFLINE", "1")
    with pytest.raises(StartupError, match="the hub is not asked: OFFLINE is set"):
        read_published("someone/detector")
    monkeypatch.delenv("OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(StartupError, match="is not a file here, and the hub does not answer"):
        read_published("someone/detector")
    monkeypatch.setenv("HF_ENDPOINT", "http://example.org")
    with pytest.raises(StartupError, match="expected https, got http"):
        read_published("someone/detector")


def test_names_on_the_hub() -> None:
    assert all(map(is_hub_name, ["facebook/detr-resnet-50", "PekingU/rtdetr_v2_r18vd@main", "a/b@refs/pr/1"]))
    assert not any(
        map(is_hub_name, ["best.onnx", "../models/best.onnx", "/a/b", "a/b/c", "a b/c", "a/b@", "./a", "käse/b"])
    )


def test_a_folder_here_becomes_a_function_that_is_tried(published: Path, tmp_path: Path) -> None:
    given = {"WEIGHTS": str(published / "someone/detector"), "NAME": "own-detr", "OUT": str(tmp_path / "own-detr")}
    with pytest.raises(
        StartupError, match=r"TASK: the model's task is detect .DetrForObjectDetection., got the text 'segment'"
    ):
        make(given | {"TASK": "segment"})
    with pytest.raises(StartupError, match="IMAGE_SIZE: for exported files"):
        make(given | {"IMAGE_SIZE": "640"})
    made = make(given)
    assert not made.untried
    assert list(FunctionConfig.load(made.directory).labels) == ["person", "car", "dog"]
    copied = load_file(made.directory / "model.safetensors")
    assert all(
        np.array_equal(copied[name], value)
        for name, value in load_file(published / "someone/detector/model.safetensors").items()
    )
    reply = LoadedFunction(made.directory, unique=True)(body())
    assert reply.status == 200
    assert reply.json()


def test_without_torch_a_folder_becomes_a_function_that_is_not_tried(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.collection.missing_packages", lambda _: ["torch", "transformers"])
    place = tmp_path / "made"
    made = make({"WEIGHTS": str(published / "someone/classifier"), "NAME": "untried", "OUT": str(place)})
    assert made.untried.startswith("packages are missing here: torch, transformers; pip install --no-deps -r ")
    assert made.untried.endswith("serverless/pytorch/base/requirements.txt")
    assert {"config.json", "preprocessor_config.json", "model.safetensors", "weights.yaml"} <= {
        path.name for path in place.iterdir()
    }


@pytest.mark.parametrize("spoil", [only_a_pickle, own_code, language_model])
def test_wrong_folders_leave_nothing(published: Path, tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    folder = tmp_path / "model"
    shutil.copytree(published / "someone/detector", folder)
    spoil(folder)
    with pytest.raises(StartupError, match=r"a pickle|code of its own|not served"):
        make({"WEIGHTS": str(folder), "NAME": "wrong", "OUT": str(tmp_path / "made")})
    assert not (tmp_path / "made").exists()


def test_classes_without_names_get_those_of_labels(published: Path, tmp_path: Path, hub: HubServer) -> None:
    change(tmp_path / "hub/someone/detector", id2label={"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"})
    given = {"WEIGHTS": "someone/detector", "NAME": "nameless", "OUT": str(tmp_path / "made")}
    with pytest.raises(StartupError, match="LABELS: the file has no names for its 3 classes"):
        make(given)
    config = FunctionConfig.load(make(given | {"LABELS": "a,b,c"}).directory)
    assert list(config.labels) == ["a", "b", "c"]
    assert config.environment["LABELS_BY"] == "id"


def test_gaps_between_classes_get_no_label(tmp_path: Path, hub: HubServer) -> None:
    change(tmp_path / "hub/someone/detector", id2label={"0": "N/A", "1": "person", "2": "car"})
    made = make({"WEIGHTS": "someone/detector", "NAME": "gaps", "OUT": str(tmp_path / "made")})
    labels = FunctionConfig.load(made.directory).labels
    assert {label.id: label.name for label in labels.values()} == {1: "person", 2: "car"}
