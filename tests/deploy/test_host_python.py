"""The deployment runs on the Python that a distribution has: 3.9 or newer, with the standard library and PyYAML."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.host import REPOSITORY

OLDEST = (3, 9)
NEWER_MODULES = {"tomllib"}  # than OLDEST, of the standard library
NEWER_ARGUMENTS = {("zip", "strict"), ("dataclass", "slots"), ("dataclass", "kw_only")}
ELSEWHERE = {
    "deploy/check_reply.py": "runs in the image of a function",
    "deploy/base_packages.py": "runs where a base image is built",
    "deploy/samples/make.py": "development",
}
MOST_LINES = 60


def is_first_party(name: str) -> bool:
    return name.partition(".")[0] in ("deploy", "tools", "serverless", "common", "training", "tests")


def files_of(name: str) -> Iterator[Path]:
    """The files that an import of a module of this repository runs."""
    parts = name.split(".")
    for length in range(1, len(parts) + 1):
        path = REPOSITORY.joinpath(*parts[:length])
        for file in (path / "__init__.py", path.with_suffix(".py")):
            if file.is_file():
                yield file


def imports_of(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            yield str(node.module)
            if is_first_party(str(node.module)):
                yield from (f"{node.module}.{each.name}" for each in node.names)


def host_files() -> list[Path]:
    """All files that the host's Python runs: those of deploy/, and what they import."""
    waiting = [
        path for path in (REPOSITORY / "deploy").rglob("*.py") if str(path.relative_to(REPOSITORY)) not in ELSEWHERE
    ]
    found: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        for name in filter(is_first_party, imports_of(ast.parse(path.read_text(encoding="utf-8")))):
            waiting += files_of(name)
    return sorted(found)


FILES = host_files()


def shown(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def test_the_files_are_those_of_the_deployment() -> None:
    names = {shown(path) for path in FILES}
    assert {"deploy/__main__.py", "deploy/run.py", "deploy/ci/start_nuclio.py"} <= names
    others = {name for name in names if not name.startswith("deploy/")}
    assert others <= {
        "serverless/collection.py",
        "tools/__init__.py",
        "tools/durations.py",
        "tools/quantities.py",
    }, "what the deployment imports must run on the host"
    assert all((REPOSITORY / name).is_file() for name in ELSEWHERE)


@pytest.mark.parametrize("path", FILES, ids=shown)
def test_the_oldest_python_reads_it(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=OLDEST)
    annotations = [
        node
        for each in ast.walk(tree)
        for node in (getattr(each, "annotation", None), getattr(each, "returns", None))
        if node is not None
    ]
    if annotations:
        imported = {each.name for node in tree.body if isinstance(node, ast.ImportFrom) for each in node.names}
        assert "annotations" in imported, "from __future__ import annotations"
    inside = {id(node) for annotation in annotations for node in ast.walk(annotation)}
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr) and id(node) not in inside:
            operands = {ast.unparse(node.left), ast.unparse(node.right)}
            assert not operands & {"None", "str", "int", "float", "bytes", "Path"}, (
                f"line {node.lineno}: X | Y at run time"
            )
        if isinstance(node, ast.Call):
            given = {(ast.unparse(node.func), each.arg) for each in node.keywords}
            assert not given & NEWER_ARGUMENTS, f"line {node.lineno}: {given & NEWER_ARGUMENTS}"


@pytest.mark.parametrize("path", FILES, ids=shown)
def test_it_imports_the_standard_library_and_pyyaml_alone(path: Path) -> None:
    names = {name.partition(".")[0] for name in imports_of(ast.parse(path.read_text(encoding="utf-8")))}
    others = {name for name in names if not is_first_party(name)} - {"yaml"}
    assert others <= sys.stdlib_module_names - NEWER_MODULES


@pytest.mark.parametrize("path", sorted({*FILES, *(REPOSITORY / name for name in ELSEWHERE)}), ids=shown)
def test_functions_are_short(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            lines = (node.end_lineno or 0) - node.lineno + 1
            assert lines <= MOST_LINES, f"{node.name} has {lines} lines"


@pytest.fixture(scope="module")
def oldest() -> str:
    """The oldest Python that the deployment runs on, where there is one: PYTHON39, or python3.9 of the path."""
    name = os.environ.get("PYTHON39") or shutil.which("python3.9")
    program = f"import sys; sys.exit(sys.version_info[:2] != {OLDEST})"
    if not name or subprocess.run([name, "-c", program], capture_output=True).returncode:
        pytest.skip("there is no Python 3.9 here: PYTHON39=/path/to/python3.9")
    return name


def test_the_oldest_python_runs_it(oldest: str, tmp_path: Path) -> None:
    modules = [shown(path)[: -len(".py")].replace("/", ".").removesuffix(".__init__") for path in FILES]
    importing = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)\n"
    done = subprocess.run(
        [oldest, "-B", "-W", "error", "-c", importing, *modules], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for device in ("cpu", "gpu"):
        done = subprocess.run(
            [str(REPOSITORY / "deploy/start.sh"), device, "--help"],
            env={"PATH": os.defpath, "PYTHON": oldest},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"deploy_{device}.sh [options] [functions...]\n")
