"""deploy.nuclio against a nuctl that prints what a test says."""

from __future__ import annotations

import json

import pytest

from deploy.console import DeploymentError
from deploy.definition.deployment import Deployment
from deploy.nuclio import Nuclio
from tests.deploy.programs import Programs

FINDER = {"metadata": {"name": "finder", "annotations": None}, "spec": {"image": "cvat.finder:1"}, "status": None}
OTHER = {"metadata": {"name": "other"}}
WARNING = '25.11.21 20:00:00.000 (W)         nuctl Docker command outputted to stderr {"cmd": "docker ps"}\n'


@pytest.fixture
def programs(tmp_path, monkeypatch) -> Programs:
    programs = Programs(tmp_path)
    monkeypatch.setenv("PATH", f"{programs.bin}:/usr/bin:/bin")
    return programs


def nuclio(programs, output: str) -> Nuclio:
    (programs.scratch / "output").write_text(output)
    programs.write("nuctl", f"cat '{programs.scratch / 'output'}'")
    return Nuclio(programs.commands, "nuctl", "local", "nuclio")


@pytest.mark.parametrize("before", ["", WARNING, 2 * WARNING])
@pytest.mark.parametrize("after", ["", WARNING])
def test_warnings_around_the_json(programs, before, after):
    """nuctl writes its log to stdout: taken for "nothing is deployed", it would cost the way back to the old version."""
    alone = nuclio(programs, f"{before}{json.dumps(FINDER, indent=2)}\n{after}")
    assert [record.name for record in alone.functions()] == ["finder"]
    several = nuclio(programs, f"{before}{json.dumps([OTHER, FINDER])}\n{after}")
    assert [record.name for record in several.functions()] == ["other", "finder"]
    found = several.function("finder")
    assert found is not None
    assert found.image == "cvat.finder:1"


def test_no_functions(programs):
    assert nuclio(programs, "No functions found\n").functions() == []
    assert nuclio(programs, f"{WARNING}No functions found\n").function("finder") is None


def test_what_ends_in_the_middle(programs):
    with pytest.raises(DeploymentError, match="nuctl's list of functions is not JSON"):
        nuclio(programs, json.dumps(FINDER, indent=2)[:40]).functions()


def test_a_record_that_lacks_fields(programs):
    found = nuclio(programs, json.dumps(FINDER)).function("finder")
    assert found is not None
    assert (found.state, found.port, found.deployment) == ("unknown", None, None)
    assert found.to_deploy_again()["spec"] == {"image": "cvat.finder:1", "build": {"codeEntryType": "image"}}


@pytest.mark.parametrize("annotation", ["", "{", "[]", '{"environment": null}', '{"node_selector": []}'])
def test_an_annotation_that_cannot_be_used(programs, annotation):
    metadata = {"name": "finder", "annotations": {"cvat-functions/deployment": annotation}}
    found = nuclio(programs, json.dumps({"metadata": metadata})).function("finder")
    assert found is not None
    assert found.deployment is None


def test_options_as_one_would_give_them():
    words = Deployment(environment={"A": "1", "B": "two words"}, gpus=2, weights="/my weights").words
    assert words == "--env A=1 --env 'B=two words' --weights '/my weights' --gpus 2"


def test_secrets_are_not_printed():
    words = Deployment(environment={"HF_TOKEN": "hf_123", "MODEL_PATH": "/m"}).words
    assert words == "--env 'HF_TOKEN=***' --env MODEL_PATH=/m"
