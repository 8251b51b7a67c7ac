"""Workers of one function choose once, and the same."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from common.networks.shared_choice import shared_choice, shared_choices
from tests.common.networks.onnx_files import constant_model

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
    assert sum("another worker measured" in output for output in outputs) == 1, outputs
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
