"""The README says what there is, and its commands and code do what it says."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.config import FunctionConfig
from tests.linked_environment import linked_environment
from tools.check import check_function
from tools.collection import COLLECTION, ROOT, function_directories, name_of
from tools.new.__main__ import make
from tools.readme_table import table
from tools.wrapper import LoadedFunction

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"(?ms)^```(\w*)\n(.*?)^```$", README)
COMMANDS = [
    re.sub(r"\s+#.*", "", line).strip()
    for language, text in BLOCKS
    if language == "sh"
    for line in re.sub(r"\\\n\s*", "", text).splitlines()
]
PLACES = {"best.onnx": ROOT / "tests/models/detect.onnx"}  # what the README leaves to the reader
RUN_BY_THE_TESTS_BELOW = {
    "make serve FUNCTIONS=onnx/rapidocr/text",
    next((command for command in COMMANDS if command.startswith("curl ")), "curl"),
    "make new WEIGHTS=best.onnx NAME=my-detector",
    "make new NAME=my-tracker KIND=tracker",
    "make check FUNCTION=serverless/custom/my-detector",
    "make serve FUNCTIONS=serverless/custom/my-detector",
}
NOT_RUN_HERE = {
    "make demo": "tests/tools/test_demo.py runs the demo",
    "make test": "runs this test",
    "make serve": "starts all functions that have their weights; the tests below start one",
    "make serve HOST=0.0.0.0": "opens ports to the network",
    "make weights FUNCTIONS=onnx/yolo/detect": "downloads weights",
    "./deploy_cpu.sh": "needs Docker; tests/deploy runs the scripts with stand-ins",
    "./deploy_cpu.sh serverless/onnx/yolo/segment": "needs Docker",
    "./deploy_gpu.sh serverless/pytorch/facebookresearch/sam2": "needs Docker and a GPU",
}


def test_the_table_of_functions_is_complete() -> None:
    shown = README.split("<!-- functions -->")[1].split("<!-- /functions -->")[0].strip()
    assert shown == table().strip(), "run: python -m tools.readme_table"


@pytest.mark.parametrize("directory", function_directories(), ids=lambda d: str(d.relative_to(COLLECTION)))
def test_a_function_is_named_after_its_path(directory) -> None:
    config = FunctionConfig.load(directory)
    assert config.name == name_of(directory)
    for name in ("main.py", "model_handler.py", "README.md"):
        assert (directory / name).is_file(), f"{directory} has no {name}"
    assert (directory / "main.py").read_text() == (COLLECTION / "opencv/grabcut/main.py").read_text()


def test_targets_that_the_readme_names_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", README, re.M))
    assert named
    assert named <= targets


@pytest.mark.parametrize(
    "path", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda path: path.name
)
def test_links_lead_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", path.read_text()):
        if not link.startswith("http"):
            name, _, section = link.partition("#")
            target = path.parent / name if name else path
            assert target.exists(), link
            assert not section or section in sections(target), link


def sections(path: Path) -> list[str]:
    """The names by which GitHub links to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]


def test_what_the_architecture_names_exists() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    paths = re.findall(r"`([\w.]+(?:/[\w.]+)*(?:/|\.\w+))`", text) + re.findall(r"(\w+(?:/\w+)*\.py)\b", text)
    below_a_function = {"main.py", "model_handler.py", "function.yaml"}
    paths = [path for path in paths if path not in below_a_function]
    assert len(paths) > 40
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_a_kind_is_named_only_where_the_architecture_says() -> None:
    """`reid` stands for a kind: its name is in the modules that a new kind would have to be added to."""
    (row,) = re.findall(r"^\| a new kind of function \|.*", (ROOT / "docs/architecture.md").read_text(), re.M)
    told = set(re.findall(r"`([^`]+)`", row))
    files = [
        path for folder in ("common", "tools/check", "tools/new", "deploy") for path in (ROOT / folder).rglob("*.*")
    ]
    naming = {
        str(path.relative_to(ROOT))
        for path in files
        if path.suffix in (".py", ".sh", ".yaml") and re.search(r"\breid\b", code(path))
    }
    named = {path for path in naming if "reid" not in path and "templates" not in path}
    assert named <= told, named - told


def code(path: Path) -> str:
    """The text of a file without its comments and docstrings."""
    return re.sub(r'"""(?s:.*?)"""|(?m:#.*)', "", path.read_text())


def test_every_block_is_run_or_has_a_reason_not_to_be() -> None:
    assert set(COMMANDS) == RUN_BY_THE_TESTS_BELOW | NOT_RUN_HERE.keys()
    assert sorted(language for language, _ in BLOCKS if language != "sh") == ["json", "python"]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return linked_environment(tmp_path_factory.mktemp("readme") / "environment")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Path:
    """The folder with what the README's `make new` commands made."""
    folder = tmp_path_factory.mktemp("custom")
    for command in (command for command in COMMANDS if command.startswith("make new")):
        name = re.findall(r"NAME=(\S+)", command)[0]
        run(f"{command} OUT={folder / name}", environment)
    return folder


def substituted(command: str, made: Path | None = None) -> str:
    for name, path in PLACES.items():
        command = command.replace(name, str(path))
    return command.replace("serverless/custom", str(made)) if made else command


def run(command: str, environment: dict[str, str]) -> str:
    done = subprocess.run(
        ["bash", "-c", substituted(command)], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def served(command: str, environment: dict[str, str]) -> Iterator[str]:
    """Runs a `make serve`, on free ports; gives the address of its one function."""
    with subprocess.Popen(
        ["bash", "-c", f"{command} PORT=0"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as server:
        try:
            assert server.stdout is not None
            yield next(match[1] for line in server.stdout if (match := re.search(r" ready +http://(\S+)", line)))
        finally:
            os.killpg(server.pid, signal.SIGINT)
            server.communicate(timeout=30)


def test_curl_gets_the_reply_that_the_readme_shows(environment: dict[str, str]) -> None:
    start, curl = (c for c in COMMANDS if c.startswith("curl ") or c.endswith("rapidocr/text"))
    (expected,) = (json.loads(text) for language, text in BLOCKS if language == "json")
    for address in served(start, environment):
        reply = json.loads(run(curl.replace("localhost:8071", address), environment))
        for one, other in zip(expected, reply, strict=True):
            assert one["points"] == pytest.approx(other["points"], abs=1)
            assert float(one["confidence"]) == pytest.approx(float(other["confidence"]), abs=0.01)
            assert one | {"points": 0, "confidence": 0} == other | {"points": 0, "confidence": 0}
        # And the error that it quotes.
        (error,) = re.findall(r'`(\{"error": .*?\})`', README)
        bad = curl.replace("localhost:8071", address).replace('\\"threshold\\": 0.5', '\\"threshold\\": 7')
        assert json.loads(run(bad, environment)) == json.loads(error)


def test_a_function_for_ones_own_weights_is_made_checked_and_served(made: Path, environment: dict[str, str]) -> None:
    assert sorted(path.name for path in made.iterdir()) == ["my-detector", "my-tracker"]
    check, serve = (command for command in COMMANDS if "serverless/custom/my-detector" in command)
    assert "no findings" in run(substituted(check, made), environment)
    for address in served(substituted(serve, made), environment):
        body = '{"image": "\'$(base64 -w0 tools/demo/cat_mug.jpg)\'", "threshold": 0.05}'
        assert isinstance(json.loads(run(f"curl -s {address} -d '{body}'", environment)), list)


def test_the_handler_that_the_readme_shows_is_a_whole_one(tmp_path: Path) -> None:
    (code,) = (text for language, text in BLOCKS if language == "python")
    function = make({"NAME": "cars", "LABELS": "car", "OUT": str(tmp_path / "cars")}).directory
    (function / "model_handler.py").write_text(code)
    settings = function / "function.yaml"
    settings.write_text(settings.read_text().replace("BRIGHTNESS", "MAX_SIDE").replace('"0.6"', '"512"'))
    assert check_function(function) == []
    (shape,) = LoadedFunction(function, unique=True)({"image": photograph()}).json()
    assert (shape["label"], shape["points"]) == ("car", [10.0, 20.0, 110.0, 80.0])
    (option,) = re.findall(r"# the option (\w+)", code)
    assert option in FunctionConfig.load(function).environment


def photograph() -> str:
    return base64.b64encode((ROOT / "tools/demo/cat_mug.jpg").read_bytes()).decode()


@pytest.mark.parametrize("readme", [ROOT / "README.md", *sorted((ROOT / "serverless").rglob("README.md"))], ids=str)
def test_a_picture_is_no_argument_of_a_command(readme: Path) -> None:
    """Linux allows 128 KB for one argument: the small photograph of the demo fits, a reader's own does not."""
    assert not re.search(r'-d "[^\n]*base64', readme.read_text())
