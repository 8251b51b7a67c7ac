import os
from pathlib import Path

from common.config import FunctionConfig
from tools.collection import ROOT
from tools.workers.environment import worker_environment


def test_settings_take_precedence_over_function_yaml_and_that_over_this_process(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OUTER", "outer")
    monkeypatch.setenv("INNER", "outer")
    config = FunctionConfig(tmp_path, "some-name", "detector", environment={"INNER": "yaml", "SET": "yaml"})
    variables = worker_environment(
        config, {"SET": "set", "PYTHONPATH": "/mine"}, instance="test", import_path=[tmp_path]
    )
    assert [variables[name] for name in ("OUTER", "INNER", "SET")] == ["outer", "yaml", "set"]
    assert variables["NUCLIO_FUNCTION_NAME"] == "some-name"
    assert variables["NUCLIO_FUNCTION_INSTANCE"] == "test"
    assert variables["PYTHONPATH"].split(os.pathsep) == [str(tmp_path), str(ROOT), "/mine"]
