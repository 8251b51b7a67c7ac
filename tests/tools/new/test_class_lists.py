"""LABELS: class names on the command line and in the files that people have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.errors import StartupError
from tools.new.class_lists.class_list import ClassList
from tools.new.class_lists.reading import read_class_list

PAIR = ("cat", "dog")
COCO = {
    "info": {"description": "drawings"},
    "images": [{"id": 1, "file_name": "a.jpg"}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [0, 0, 1, 1]}],
    "categories": [{"id": 3, "name": "dog", "supercategory": "animal"}, {"id": 1, "name": "cat"}],
}
HUGGING_FACE = {"model_type": "detr", "id2label": {"0": "cat", "1": "dog"}, "label2id": {"cat": 0, "dog": 1}}
CVAT = [
    {"id": 1043, "name": "cat", "color": "#ff0000", "type": "any", "attributes": [{"name": "age", "values": ["1"]}]},
    {"id": 1042, "name": "dog", "color": "#00ff00", "type": "rectangle", "attributes": []},
]
FUNCTION = [{"id": 1, "name": "dog", "type": "rectangle"}, {"id": 0, "name": "cat", "type": "rectangle"}]
DETECTRON = [{"color": [220, 20, 60], "isthing": 1, "id": i, "name": name} for i, name in ((1, "cat"), (3, "dog"))]
MMDET = "class Pets(CocoDataset):\n    METAINFO = {'classes': ('cat', 'dog'), 'palette': [(1, 2, 3), (4, 5, 6)]}\n"
MMDET_CONFIG = (
    "import os\nnum = 2\nmetainfo = dict(classes=('cat', 'dog'), palette=[(1, 2, 3)])\nmodel = dict(type='X')\n"
)
VOC = "CLASSES = (  # always index 0\n    'cat',\n    'dog',\n)\n"
PBTXT = 'item {\n  id: 1\n  name: \'cat\'\n}\nitem {\n  name: "/m/1"\n  id: 2\n  display_name: "dog"\n}\n'
LABEL_STUDIO = {"categories": [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}], "info": {"year": 2026}}


@pytest.mark.parametrize(
    ("name", "content", "ids"),
    [
        ("classes.txt", "cat\ndog\n", None),
        ("classes.txt", "cat\r\ndog", None),
        ("classes.txt", "\ufeffcat\n\n dog \n", None),
        ("classes.txt", "# made by a tool\ncat\ndog\n", None),
        ("classes.txt", "cat, dog\n", None),
        ("classes.txt", "'cat',\n'dog'\n", None),
        ("classes.txt", '"cat",\n"dog",\n', None),
        ("classes.txt", "cat,\ndog\n", None),
        ("classes.txt", "0: cat\n1: dog\n", (0, 1)),
        ("classes.txt", "0 cat\n1 dog\n", (0, 1)),
        ("labelmap.txt", "1\tcat\n2\tdog\n", (1, 2)),
        ("classes.txt", "{0: 'cat',\n 1: 'dog'}", (0, 1)),
        ("classes.txt", '["cat", "dog"]', None),
        ("classes.TXT", "cat\ndog\n", None),
        ("obj.names", "cat\ndog\n", None),
        ("classes", "cat\ndog\n", None),
        ("labels.lst", "cat\ndog\n", None),
        ("data.yaml", "path: ../pets\ntrain: images/train\nnames:\n  1: dog\n  0: cat\n", (0, 1)),
        ("data.yaml", "train: ../train/images\nnc: 2\nnames: ['cat', 'dog']\nroboflow:\n  version: 3\n", None),
        ("data.yml", "- cat\n- dog\n", None),
        ("data.yaml", "\ufeffnames: [cat, dog]\r\n", None),
        ("classes.py", VOC, None),
        ("classes.py", MMDET, None),
        ("config.py", MMDET_CONFIG, None),
        ("classes.py", "names = ['cat', 'dog']\n", None),
        ("classes.py", "class Names:\n    def __init__(self):\n        self.classes = ['cat', 'dog']\n", None),
        ("classes.py", "CLASSES: tuple[str, ...] = ('cat', 'dog')\nNUM_CLASSES = 2\n", None),
        ("classes.py", "COCO_CATEGORIES = [{'id': 2, 'name': 'dog'}, {'id': 1, 'name': 'cat'}]", (1, 2)),
        ("classes.py", "CLASSES = ['cat', 'dog']\nclass_names = CLASSES\nlabels = ('cat', 'dog')\n", None),
        ("classes.json", json.dumps(PAIR), None),
        ("classes.json", '{"0": "cat", "1": "dog"}', (0, 1)),
        ("classes.json", '{"1": "cat", "2": "dog"}', (1, 2)),
        ("classes.json", '{"10": "dog", "9": "cat"}', (9, 10)),
        ("classes.json", '{"dog": 1, "cat": 0}', (0, 1)),
        ("classes.json", '{"classes": ["cat", "dog"]}', None),
        ("class_to_idx.json", '{"class_to_idx": {"cat": 0, "dog": 1}}', (0, 1)),
        ("classes.json", '{"0": {"name": "cat"}, "1": {"name": "dog"}}', (0, 1)),
        ("notes.json", json.dumps(LABEL_STUDIO), (0, 1)),
        ("instances_val.json", json.dumps(COCO), (1, 3)),
        ("categories.json", json.dumps(DETECTRON), (1, 3)),
        ("config.json", json.dumps(HUGGING_FACE), (0, 1)),
        ("config.json", json.dumps({"architecture": "resnet18", "label_names": PAIR}), None),
        ("labels.json", json.dumps(CVAT), None),
        ("task.json", json.dumps({"name": "a task", "labels": CVAT, "version": "1.0"}), None),
        ("labels.json", json.dumps({"count": 2, "next": None, "results": CVAT}), None),
        ("labels.json", json.dumps(FUNCTION), (0, 1)),
        ("_classes.csv", "filename, cat, dog\na.jpg, 0, 1\nb.jpg, 1, 1\n", None),
        ("_classes.csv", "Pixel Value, Class\n0, cat\n1, dog\n", (0, 1)),
        ("classes.csv", "cat\ndog\n", None),
        ("classes.csv", "cat,dog\n", None),
        ("classes.csv", "name\ncat\ndog\n", None),
        ("classes.csv", "id,name,colour\n2,dog,red\n1,cat,blue\n", (1, 2)),
        ("classes.csv", "id;name\n0;cat\n1;dog\n", (0, 1)),
        ("classes.csv", 'cat,0\n"dog",1\n', (0, 1)),
        ("classes.tsv", "0\tcat\n1\tdog\n", (0, 1)),
        ("label_map.pbtxt", PBTXT, (1, 2)),
    ],
)
def test_files_of_every_form(tmp_path: Path, name: str, content: str, ids: tuple[int, ...] | None) -> None:
    (tmp_path / name).write_bytes(content.encode())
    found = read_class_list(str(tmp_path / name))
    assert (found.names, found.ids) == (PAIR, ids)


@pytest.mark.parametrize(
    ("name", "content", "names"),
    [
        ("classes.txt", "tench, Tinca tinca\ngoldfish\n", ("tench, Tinca tinca", "goldfish")),
        ("classes.txt", "1 euro\n2 euro\n", ("1 euro", "2 euro")),
        ("classes.txt", "0\n1\n2\n", ("0", "1", "2")),
        ("classes.txt", "don't\nit's\n", ("don't", "it's")),
        ("data.yaml", "names: [yes, no, 1.0, ~]\n", ("yes", "no", "1.0", "~")),
        ("data.yaml", "names: {0: on, 1: off}\n", ("on", "off")),
        ("classes.json", "[0, 1, 2]", ("0", "1", "2")),
        ("classes.json", '{"0": "1", "1": "0"}', ("1", "0")),
        ("classes.csv", "tench, 0\n", ("tench", "0")),
        ("classes.py", "CLASSES = ('face')\n", ("face",)),
        ("classes.txt", "Löwe\n熊\n", ("Löwe", "熊")),
    ],
)
def test_names_are_taken_as_they_are(tmp_path: Path, name: str, content: str, names: tuple[str, ...]) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert read_class_list(str(tmp_path / name)).names == names


def test_a_text_of_powershell_is_read(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_bytes("cat\r\nLöwe\r\n".encode("utf-16"))
    assert read_class_list(str(tmp_path / "classes.txt")).names == ("cat", "Löwe")


@pytest.mark.parametrize(
    ("folder", "entry"),
    [("", "data/obj.names"), ("data", "data/obj.names"), ("data", "obj.names"), ("x", "build/obj.names")],
)
def test_darknets_file_names_another(tmp_path: Path, folder: str, entry: str) -> None:
    (tmp_path / folder).mkdir(exist_ok=True)
    names = tmp_path / entry if folder != "x" else tmp_path / "x" / "obj.names"
    names = tmp_path / "data/obj.names" if (folder, entry) == ("data", "obj.names") else names
    names.parent.mkdir(exist_ok=True)
    names.write_text("cat\ndog\n")
    given = tmp_path / folder / "obj.data"
    given.write_text(f"classes = 2\ntrain  = data/train.txt\nnames = {entry}\nbackup = backup/\n")
    assert read_class_list(str(given)).names == PAIR
    given.write_text(f"classes = 3\nnames = {entry}\n")
    with pytest.raises(StartupError, match=r"classes is 3, but .*obj\.names has 2 names"):
        read_class_list(str(given))


def test_names_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_class_list("cat, dog").names == read_class_list("cat,dog,").names == PAIR
    assert read_class_list("and/or, x").names == ("and/or", "x")
    assert read_class_list("St.Bernard").names == ("St.Bernard",)
    assert read_class_list(",".join(f"class number {i}" for i in range(1000))).names[-1] == "class number 999"
    # A path that exists is a file, whatever it is called.
    (tmp_path / "cat").write_text("lion\ntiger\n")
    assert read_class_list("cat").names == ("lion", "tiger")
    (tmp_path / "cat,dog").write_text("wolf\n")
    assert read_class_list("cat,dog").names == ("wolf",)
    (tmp_path / "pets").mkdir()
    assert read_class_list("pets,").names == ("pets",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected names with commas between them or a file with names"),
        (",", "expected names with commas between them or a file with names"),
        ("classes.json", "no such file: classes.json"),
        ("my/classes", "no such file: my/classes"),
        ("~/nowhere/classes", "no such file: ~/nowhere/classes"),
        ("C:\\data\\classes.txt", r"no such file: C:\\data\\classes.txt"),
        ("cat,dog.txt", "no such file: dog.txt; a file can't be combined with names"),
        ("a.txt,b.txt", "no such file: a.txt; a file can't be combined"),
        ("best.onnx", "no such file: best.onnx"),
        ("folder", "folder is a folder, .* name the file in it, such as folder/data.yaml"),
        ("nothing", "nothing is a folder, .* for a class of that name write nothing,"),
    ],
)
def test_what_is_no_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "data.yaml").write_text("names: [cat]")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(StartupError, match=message):
        read_class_list(text)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("classes.txt", b"", "expected class names: .*; found none"),
        ("classes.txt", b"# only a comment\n", "found none"),
        ("classes.txt", "cat\nLöwe\n".encode("cp1252"), "line 2 is not UTF-8: .* UTF-8; elsewhere: iconv"),
        ("classes.txt", b"\xff\xd8\xff\xe0\x00\x10JFIF", "not a text; expected class names"),
        ("classes.txt", b"cat\x00dog", "not a text"),
        ("classes.txt", b"<!DOCTYPE html>\n<html></html>", "found the text '<!DOCTYPE html>'"),
        ("classes.txt", b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\n", "found a text of"),
        ("classes.txt", b"x" * 500, "found a text of 500 characters"),
        ("classes.txt", b"[cat, dog", "begins as a list or map, but is neither JSON nor Python"),
        ("classes.json", b"{", "classes.json: not JSON: "),
        ("classes.json", b"cat\ndog\n", "classes.json: not JSON: "),
        ("classes.json", b"[]", "found none"),
        ("classes.json", b"{}", "expected a list of class names, .* got an object of 0 fields"),
        ("classes.json", b'"cat"', "expected a list of class names, or ids with names, got the text 'cat'"),
        ("classes.json", b'{"a": "b"}', "expected a list of class names, ids with names, or one of these under names"),
        ("classes.json", b'["cat", null]', "item 2 of the list: expected a text, got null"),
        ("classes.json", b'["cat", ""]', "item 2 of the list is empty"),
        ("classes.json", b'["cat", ["dog"]]', "item 2 of the list: expected a text, got"),
        ("classes.json", b'[{"id": 1}, {"id": 2}]', "the name of item 1: expected a text, got null"),
        ("classes.json", b'{"cat": 0, "dog": 0}', "two names have the same id"),
        ("classes.json", b'{"0": "cat", "00": "dog"}', "two names have the same id"),
        ("classes.json", b'{"-1": "cat", "0": "dog"}', "expected ids of 0 or more, got -1"),
        ("classes.json", b"[" * 100000, "not JSON"),
        ("data.yaml", b"names: [cat", "not YAML"),
        ("data.yaml", b"train: images\n", "expected a list of class names, ids with names"),
        ("data.yaml", b"nc: 3\nnames: [cat, dog]\n", "nc is 3, but there are 2 names"),
        (
            "data.yaml",
            b"!!python/object/apply:os.system ['touch ran']\n",
            "not YAML: could not determine a constructor",
        ),
        ("data.yaml", b"names: 2\n", "names: expected a list, or ids with names, got the text '2'"),
        ("classes.py", b"CLASSES = (", "not Python source"),
        (
            "classes.py",
            b"CLASSES = tuple(open('names.txt'))\n",
            "expected a variable such as CLASSES .* is read, not run",
        ),
        ("classes.py", b"classes = ['a', 'b']\nnames = ['c', 'd']\n", "classes, names are different lists"),
        ("classes.csv", b"", "the table is empty"),
        ("classes.csv", b"a,b,c\nd,e,f\n", "expected a column called name, class or label"),
        ("classes.csv", b"id,name\n0,cat\n0,dog\n", "expected a whole number of its own in each row of the column id"),
        ("classes.csv", b"id,name\n0,cat\n1\n", "a row has fewer columns than the first"),
        ("label_map.pbtxt", b"item { name: 'cat' }", "expected items with an id of their own and a name"),
        ("label_map.pbtxt", b"nothing", "found none"),
        ("obj.data", b"classes = 2\n", "expected a line such as names = obj.names"),
        ("obj.data", b"names = gone.names\n", "no such file: gone.names, which it says has the names"),
    ],
)
def test_files_that_are_not_understood_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(StartupError, match=message) as caught:
        read_class_list(name)
    assert str(caught.value).startswith("LABELS: ")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_source_is_not_run(tmp_path: Path) -> None:
    trap = tmp_path / "ran"
    (tmp_path / "classes.py").write_text(f"open({str(trap)!r}, 'w')\nCLASSES = ('cat', 'dog')\n")
    assert read_class_list(str(tmp_path / "classes.py")).names == PAIR
    assert not trap.exists()


@pytest.mark.parametrize(
    ("ids", "classes", "expected"),
    [
        (None, 2, {0: "cat", 1: "dog"}),
        (None, None, {0: "cat", 1: "dog"}),
        ((0, 1), None, {0: "cat", 1: "dog"}),
        ((1, 2), 2, {0: "cat", 1: "dog"}),  # counted from 1
        ((1, 3), 2, {0: "cat", 1: "dog"}),  # COCO's ids, which have gaps, and a model that counts what there is
        ((1, 2), 3, {1: "cat", 2: "dog"}),  # a model whose class 0 is the background
        ((1, 3), 91, {1: "cat", 3: "dog"}),  # a model whose classes are COCO's ids
    ],
)
def test_ids_are_class_indices_or_an_order(
    ids: tuple[int, ...] | None, classes: int | None, expected: dict[int, str]
) -> None:
    assert ClassList(PAIR, ids).for_model(classes) == expected


@pytest.mark.parametrize(
    ("ids", "classes", "message"),
    [
        (None, 3, "the model has 3 classes, got 2 names"),
        ((0, 1), 3, "the model has 3 classes, got 2 names"),
        (None, 1, "the model has 1 class, got 2 names"),
        ((1, 3), 3, "the model has 3 classes, got 2 names with the ids 1 to 3"),
        ((1, 2), None, "the ids 1 to 2 are not 0 to 1, and the model doesn't say how many"),
    ],
)
def test_lists_of_another_model_are_refused(ids: tuple[int, ...] | None, classes: int | None, message: str) -> None:
    with pytest.raises(StartupError, match=message):
        ClassList(PAIR, ids).for_model(classes)


def test_names_that_are_listed_twice() -> None:
    twice = ("crane", "dog", "crane")
    assert ClassList(twice, source="LABELS: imagenet.txt").for_model(3) == dict(enumerate(twice))
    for names in (ClassList(twice), ClassList(twice, source="LABELS: classes.txt")):
        with pytest.raises(StartupError, match=r"LABELS.*: crane is listed more than once"):
            names.for_model(None)
    with pytest.raises(StartupError, match="crane is listed more than once"):
        ClassList(twice).for_model(3)


def test_classes_behind_the_background() -> None:
    """Class 0 of a model can be the background: the names begin with class 1."""
    assert ClassList(("cat", "dog")).for_model(None, 1) == {1: "cat", 2: "dog"}
    assert ClassList(("cat", "dog")).for_model(2, 1) == {1: "cat", 2: "dog"}
    for name in ("background", "__background__", "BACKGROUND"):
        assert ClassList((name, "cat", "dog")).for_model(2, 1) == {1: "cat", 2: "dog"}
    assert ClassList(("background", "cat")).for_model(2) == {0: "background", 1: "cat"}
    coco = ClassList(("person", "toothbrush"), (1, 90))
    assert coco.for_model(90, 1) == coco.for_model(None, 1) == {1: "person", 90: "toothbrush"}
    with pytest.raises(StartupError, match="the model has 80 classes"):
        coco.for_model(80, 1)
