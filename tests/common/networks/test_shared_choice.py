"""Workers of one function choose once, and the same."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from common.networks.shared_choice import shared_choice, shared_choices, write_choices
from common.serving.choose import choose
from tests.common.networks.onnx_files import constant_model
from tools.wrapper import LoadedFunction

ROOT = Path(__file__).resolve().parents[3]
WORKER = """
import logging, sys
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
from common.networks.engine import open_engine
from common.networks.shared_choice import shared_choices
with shared_choices(2):
    engine = open_engine(sys.argv[1], threads=1)
print("ENGINE", type(engine).__name__)
"""


def test_two_workers_measure_once(tmp_path: Path) -> None:
    model = constant_model(tmp_path / "m.onnx", {"values": np.zeros((1, 2), np.float32)}, brightness=True)
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", WORKER, str(model)]
    workers = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [worker.communicate(timeout=120)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    assert sum("measured here on this model" in output for output in outputs) == 1, outputs
    assert sum("found to be the faster engine before" in output for output in outputs) == 1, outputs
    assert len({output.split("ENGINE ")[1] for output in outputs}) == 1


def test_one_worker_alone_and_other_questions_share_nothing(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with shared_choices(1), shared_choice("a", ("x", "y")) as choice:
        choice.make("x")
    with shared_choices(2):
        with shared_choice("a", ("x", "y")) as choice:
            assert choice.made is None
            choice.make("y")
        with shared_choice("b", ("x", "y")) as choice:
            assert choice.made is None
        with shared_choice("a", ("x", "y")) as choice:
            assert choice.made == "y"
    with shared_choice("a", ("x", "y")) as choice:
        assert choice.made is None


def test_a_choice_that_is_no_answer_is_made_again(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with shared_choices(2):
        with shared_choice("a", ("x", "y")) as choice:
            choice.make("something else")
        with shared_choice("a", ("x", "y")) as choice:
            assert choice.made is None


def test_a_folder_that_cannot_be_used(monkeypatch, tmp_path: Path) -> None:
    (tmp_path / f"cvat-functions-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with shared_choices(2), shared_choice("a", ("x",)) as choice:
        choice.make("x")
        assert choice.made is None
    assert not (tmp_path / "elsewhere").exists()


def test_a_choice_made_beforehand_holds_on_this_kind_of_machine_only(tmp_path: Path) -> None:
    write_choices(tmp_path, {"a": "y"})
    for workers in (1, 2):
        with shared_choices(workers, tmp_path), shared_choice("a", ("x", "y")) as choice:
            assert choice.made == "y"
    file = tmp_path / "choices.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "machine": "another"}))
    with shared_choices(1, tmp_path) as made, shared_choice("a", ("x", "y")) as choice:
        assert choice.made is None
        choice.make("x")
    assert made == {"a": "x"}
    file.write_text("[]")
    with shared_choices(1, tmp_path), shared_choice("a", ("x", "y")) as choice:
        assert choice.made is None


def test_choosing_when_the_image_is_built(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    directory = tmp_path / "shapes"
    shutil.copytree(ROOT / "serverless/onnx/yolo/shapes", directory, ignore=shutil.ignore_patterns("__pycache__"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "common.serving.choose", str(directory)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch("chosen: (onnxruntime|openvino)\n", done.stdout)
    answer = done.stdout.split()[-1]
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="common"):
        LoadedFunction(directory)
    (line,) = {text for text in caplog.messages if "found to be the faster engine before" in text}
    assert {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}[answer] in line


def test_a_function_without_weights_chooses_nothing(tmp_path: Path) -> None:
    directory = tmp_path / "detect"
    shutil.copytree(ROOT / "serverless/onnx/yolo/detect", directory, ignore=shutil.ignore_patterns("weights"))
    assert choose(directory).startswith("nothing chosen: ")
    assert not (directory / "choices.json").exists()
