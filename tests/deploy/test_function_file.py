"""Files that nuctl and the checks read, with PyYAML and without."""

from __future__ import annotations

import json

import pytest
import yaml

from deploy.definition import function_file

CONTENT = {"metadata": {"name": "finder", "annotations": {"name": "Fïnder 🔎", "port": "0123"}}, "spec": {"env": [1]}}


@pytest.mark.parametrize("with_yaml", [True, False])
def test_a_file_is_read_back(with_yaml: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not with_yaml:
        monkeypatch.setattr(function_file, "yaml_module", lambda fetch=True: None)
    text = function_file.text_of(CONTENT)
    assert text.endswith("\n")
    assert yaml.safe_load(text) == CONTENT
    assert text.startswith("{") != with_yaml
    if not with_yaml:
        assert json.loads(text) == CONTENT


def test_a_variable_without_a_value() -> None:
    """It is empty for Nuclio, and not the text "None"."""
    pairs = [{"name": "VARIANT", "value": None}, {"name": "A"}, {"name": "B", "value": 0}, {"name": "C", "value": True}]
    assert function_file.environment({"spec": {"env": pairs}}) == {"VARIANT": "", "A": "", "B": "0", "C": "true"}


@pytest.mark.parametrize("triggers", [None, [], [{"kind": "http"}], "http", {"a": None}, {"a": {"kind": "cron"}}])
def test_no_http_trigger(triggers: object) -> None:
    assert function_file.http_trigger({"spec": {"triggers": triggers}}) is None
