from pathlib import Path
from typing import Any

import pytest
import yaml

from common.config import FunctionConfig, http_trigger, read_yaml
from common.errors import StartupError

GOOD: dict[str, Any] = {
    "metadata": {
        "name": "onnx-owner-model",
        "annotations": {
            "name": "Model",
            "type": "detector",
            "spec": '[{"id": 0, "name": "cat", "type": "rectangle"}, {"id": 1, "name": "dog"}]',
            "version": 2,
            "startswith_box": True,
            "help_message": None,
        },
    },
    "spec": {
        "description": "Finds cats",
        "env": [
            {"name": "THRESHOLD", "value": "0.3"},
            {"name": "TOP", "value": 5},
            {"name": "FAST", "value": True},
            {"name": "EMPTY", "value": None},
            {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}},
        ],
        "triggers": {
            "timer": {"kind": "cron"},
            "web": {"kind": "http", "numWorkers": 3},
        },
    },
}


def written(directory: Path, content: Any) -> Path:
    text = content if isinstance(content, str) else yaml.safe_dump(content)
    (directory / "function.yaml").write_text(text, encoding="utf-8")
    return directory


def changed(path: str, value: Any) -> dict[str, Any]:
    """GOOD with the value at a dotted path replaced."""
    content = yaml.safe_load(yaml.safe_dump(GOOD))
    *parents, last = path.split(".")
    place = content
    for parent in parents:
        place = place[parent]
    place[last] = value
    return content


class TestLoad:
    def test_every_field(self, tmp_path: Path) -> None:
        config = FunctionConfig.load(written(tmp_path, GOOD))
        assert config.directory == tmp_path.resolve()
        assert (config.name, config.kind, config.description, config.workers) == (
            "onnx-owner-model",
            "detector",
            "Finds cats",
            3,
        )
        assert list(config.labels) == ["cat", "dog"]
        assert config.environment == {"THRESHOLD": "0.3", "TOP": "5", "FAST": "true", "EMPTY": "", "SECRET": ""}
        assert config.annotations["version"] == "2"
        assert config.annotations["startswith_box"] == "true"
        assert config.annotations["help_message"] == ""

    @pytest.mark.parametrize("kind", ["detector", "interactor", "tracker", "reid"])
    @pytest.mark.parametrize("spec", ["", None, "[]"])
    def test_each_kind_without_labels(self, tmp_path: Path, kind: str, spec: str | None) -> None:
        content = changed("metadata.annotations", {"type": kind, "spec": spec})
        config = FunctionConfig.load(written(tmp_path, content))
        assert (config.kind, len(config.labels)) == (kind, 0)

    @pytest.mark.parametrize(
        "triggers",
        [
            None,
            {},
            {"web": {"kind": "http"}},
            {"web": {"kind": "http", "numWorkers": None}},
            {"timer": {"kind": "cron"}},
        ],
    )
    def test_one_worker_unless_more_are_wanted(self, tmp_path: Path, triggers: Any) -> None:
        assert FunctionConfig.load(written(tmp_path, changed("spec.triggers", triggers))).workers == 1

    @pytest.mark.parametrize(
        ("path", "value", "message"),
        [
            ("metadata", None, "metadata: expected an object, got null"),
            ("metadata.annotations", [], "metadata.annotations: expected an object, got []"),
            ("spec", "x", "spec: expected an object, got the text 'x'"),
            ("metadata.name", "", "metadata.name: expected a text, got the text ''"),
            ("metadata.name", 5, "metadata.name: expected a text, got 5"),
            ("metadata.annotations.type", "segmenter", "metadata.annotations.type: expected one of detector, interactor, tracker, reid, got the text 'segmenter'"),
            ("metadata.annotations.type", None, "metadata.annotations.type: expected one of detector, interactor, tracker, reid, got null"),
            ("metadata.annotations.spec", '[{"name": 5}]', "metadata.annotations.spec[0].name: expected a non-empty text, got 5"),
            ("metadata.annotations.spec", [{"name": "a"}], "metadata.annotations.spec: expected a text that holds a JSON list of labels, got [{...}]"),
            ("spec.env", {"A": "b"}, "spec.env: expected a list of name and value, got an object of 1 field"),
            ("spec.env", ["A=b"], "spec.env[0]: expected an object with a name, got the text 'A=b'"),
            ("spec.env", [{"name": "A", "value": "b"}, {"value": "c"}], "spec.env[1]: expected an object with a name, got an object of 1 field"),
            ("spec.triggers.web.numWorkers", "many", "numWorkers of the http trigger: expected a whole number of 1 or more, got the text 'many'"),
            ("spec.triggers.web.numWorkers", 0, "numWorkers of the http trigger: expected a whole number of 1 or more, got 0"),
            ("spec.triggers.web.numWorkers", True, "numWorkers of the http trigger: expected a whole number of 1 or more, got true"),
        ],
    )  # fmt: skip
    def test_wrong_fields_are_named(self, tmp_path: Path, path: str, value: Any, message: str) -> None:
        with pytest.raises(StartupError) as caught:
            FunctionConfig.load(written(tmp_path, changed(path, value)))
        assert str(caught.value) == f"{tmp_path.resolve() / 'function.yaml'}: {message}"


class TestReadYaml:
    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(StartupError, match=r"function\.yaml: can't be read: No such file"):
            FunctionConfig.load(tmp_path)

    @pytest.mark.parametrize("content", ["", "- a\n- b", "text", "5"])
    def test_no_object(self, tmp_path: Path, content: str) -> None:
        with pytest.raises(StartupError, match=r"expected an object with metadata and spec, got"):
            FunctionConfig.load(written(tmp_path, content))

    @pytest.mark.parametrize("content", ["a: [", "a: b: c", "\tx: 1", "!!python/object/apply:os.system ['true']"])
    def test_no_yaml(self, tmp_path: Path, content: str) -> None:
        with pytest.raises(StartupError, match=r"function\.yaml: not YAML: ") as caught:
            read_yaml(written(tmp_path, content) / "function.yaml")
        assert "\n" not in str(caught.value)

    def test_no_utf_8(self, tmp_path: Path) -> None:
        (tmp_path / "function.yaml").write_bytes(b"name: \xff\xfe")
        with pytest.raises(StartupError, match="not YAML"):
            FunctionConfig.load(tmp_path)


class TestHttpTrigger:
    @pytest.mark.parametrize("triggers", [None, [], "http", {"a": None}, {"a": "http"}])
    def test_is_empty_where_there_is_none(self, triggers: Any) -> None:
        assert http_trigger({"triggers": triggers}) == {}
        assert http_trigger({}) == {}
