"""tools.memory, and the memory limit that follows from what it measures."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from common.config import read_yaml
from tools import quantities
from tools.check import inspect_function
from tools.collection import COLLECTION, ROOT, function_directories, name_of
from tools.memory.__main__ import main
from tools.memory.measure import measure
from tools.workers.memory import held, suggested_limit

CASES = Path(__file__).parent / "check_cases"
MI = 2**20

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what a process holds")


def copy_of(kind: str, folder: Path) -> Path:
    return Path(shutil.copytree(CASES / kind, folder / kind))


def change(directory: Path, file: str, old: str, new: str) -> None:
    text = (directory / file).read_text()
    assert text.count(old) == 1
    (directory / file).write_text(text.replace(old, new))


def test_a_process_holds_what_it_has_allocated() -> None:
    # In a process of its own: one that has freed memory takes that again and holds no more than before.
    script = (
        "import os\n"
        "from tools.workers.memory import held\n"
        "before = held(os.getpid())\n"
        f"block = bytearray(b'1') * {50 * MI}\n"
        "after = held(os.getpid())\n"
        "print(before.now, after.now, after.most)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    before, after, most = map(int, done.stdout.split())
    assert before + 40 * MI <= after <= most


def test_no_process_holds_nothing() -> None:
    assert held(2**22 + 1).most == 0


@pytest.mark.parametrize(
    ("workers", "most_mi", "limit"),
    [(1, 0, "512Mi"), (1, 241, "512Mi"), (1, 242, "1Gi"), (2, 200, "1Gi"), (2, 1000, "3584Mi"), (1, 5000, "7680Mi")],
)
def test_the_limit_is_half_as_much_again_in_steps(workers: int, most_mi: int, limit: str) -> None:
    assert suggested_limit(workers, most_mi * MI) == limit


@pytest.mark.parametrize("name", ["grabcut", "opticalflow", "appearance"])
def test_a_large_image_counts(name: str) -> None:
    directory = COLLECTION / "opencv" / name
    small, large = measure(directory, {}, 0.1), measure(directory, {}, 12)
    assert 20 * MI < small.imported <= small.started <= small.most_starting <= small.most_small
    assert large.most_large > small.most_large + 30 * MI
    assert not small.refused
    assert not large.refused


def test_what_a_request_takes_for_a_moment_is_seen(tmp_path: Path) -> None:
    directory = copy_of("detector", tmp_path)
    plain = measure(directory, {}, 0.1).most_large
    text = (directory / "model_handler.py").read_text()
    body = text.index(":\n", text.index("def infer(")) + 2
    (directory / "model_handler.py").write_text(f"{text[:body]}        bytearray(b'1') * {300 * MI}\n{text[body:]}")
    assert measure(directory, {}, 0.1).most_large > plain + 250 * MI


def test_the_table_has_the_limit_and_what_is_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(copy_of("detector", tmp_path)), "--megapixels", "1"]) == 0
    heading, row = (line.split() for line in capsys.readouterr().out.splitlines()[1:3])
    values = dict(zip(heading, row, strict=True))
    assert values["FUNCTION"] == "check-detector"
    assert values["GIVEN"] == "4Gi"
    assert values["LIMIT"] == suggested_limit(int(values["WORKERS"]), int(values["LARGE"]) * MI)


def test_a_function_that_does_not_start_is_said_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = copy_of("detector", tmp_path)
    (directory / "main.py").write_text("import os\nos._exit(3)\n")
    assert main([str(directory)]) == 1
    assert "check-detector: its process: exit status 3" in capsys.readouterr().err


def test_an_answer_that_is_an_error_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(copy_of("detector", tmp_path)), "--megapixels", "2", "--env", "MAX_IMAGE_PIXELS=1000000"]) == 0
    assert "an image of 2 megapixels: 400" in capsys.readouterr().err


def test_check_asks_for_a_limit_with_what_it_measured(tmp_path: Path) -> None:
    directory = copy_of("detector", tmp_path)
    change(directory, "function.yaml", "      memory: 4Gi\n", "")
    (finding,) = inspect_function(directory).findings
    assert (finding.severity, finding.rule) == ("warning", "resources.no-memory-limit")
    assert finding.field == "spec.resources.limits.memory"
    assert finding.expected.startswith("a limit, such as ")


def test_check_says_that_a_limit_is_too_low(tmp_path: Path) -> None:
    directory = copy_of("detector", tmp_path)
    change(directory, "function.yaml", "memory: 4Gi", "memory: 100Mi")
    (finding,) = inspect_function(directory).findings
    assert (finding.severity, finding.rule) == ("warning", "resources.memory-limit")
    assert finding.got == "100Mi"


@pytest.mark.parametrize("directory", function_directories(), ids=name_of)
def test_every_function_of_the_collection_has_a_limit(directory: Path) -> None:
    """In steps of 512Mi, and more than its workers hold when they are idle, which is the request."""
    resources = read_yaml(directory / "function.yaml")["spec"]["resources"]
    limit, request = (quantities.parse(resources[name]["memory"]) for name in ("limits", "requests"))
    assert limit % (512 * MI) == 0
    assert 256 * MI <= request <= limit / 2
