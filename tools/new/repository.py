"""A repository around one function: what it needs of this collection, with its test, CI and releases."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from common.config import read_yaml
from tools.collection import ROOT
from tools.new.document import fill, read_template

_COPIED = (
    *("common", "tools", "deploy", "deploy_cpu.sh", "deploy_gpu.sh", "annotate", "compose.yaml"),
    *("LICENSE", ".gitignore", "pyproject.toml", "docs/deploy.md", "docs/annotate.md", ".github/workflows/release.yml"),
)
_NOT_COPIED = (
    "__pycache__",
    "bench",
    "checkpoints",
    "demo",
    "new",
    "export_encoder",
    "readme_table.py",
    "try_images.py",
)
_TARGETS_LEFT_OUT = ("demo", "new", "bench")  # of the Makefile
_TEST_PACKAGES = (
    *("pytest", "pytest-xdist", "execnet", "iniconfig", "packaging", "pluggy", "Pygments", "ruff"),
    *("mypy", "mypy_extensions", "ast_serialize", "librt", "pathspec", "types-PyYAML"),
)


def write_repository(folder: Path, name: str) -> None:
    """Writes everything around a function into a folder that holds it already.

    Args:
        folder: The root of the new repository; the function is in its `serverless/custom/<name>`.
        name: The function's name.
    """
    function = read_yaml(folder / "serverless" / "custom" / name / "function.yaml")
    framework = function["spec"]["build"]["baseImage"].split(".")[1]
    scripts = (ROOT / "serverless").glob("*.py")
    for source in [*(ROOT / path for path in _COPIED), ROOT / "serverless" / framework / "base", *scripts]:
        target = folder / source.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns(*_NOT_COPIED))
        else:
            shutil.copy(source, target)
    (folder / "deploy/ci/release_functions").write_text("# What a release builds, deploys, tries and pushes.\ncustom\n")
    _rewrite(folder / "pyproject.toml", r"(?m)^(name = ).*", rf'\1"{name}"')
    _rewrite(folder / "pyproject.toml", r"(?m)^(files = ).*", r'\1["common", "tools", "deploy"]')
    (folder / "Makefile").write_text(_makefile())
    (folder / "tests").mkdir()
    (folder / "tests/requirements.txt").write_text("\n".join(_pins()) + "\n")
    for template, path in (
        ("README.md", "README.md"),
        ("tests.yml", ".github/workflows/tests.yml"),
        ("test_functions.py", "tests/test_functions.py"),
    ):
        (folder / path).write_text(fill(read_template(f"repository/{template}"), {"name": name}), encoding="utf-8")
    if shutil.which("git"):
        subprocess.run(["git", "init", "--quiet", str(folder)], check=True)  # noqa: S603, S607


def _makefile() -> str:
    """The collection's Makefile without the targets that need its functions."""
    text = re.sub(r"(?m)^\t.* -m tests\..*\n", "", (ROOT / "Makefile").read_text())  # the collection's own checks
    paragraphs = [p for p in text.split("\n\n") if not re.search(rf"(?m)^({'|'.join(_TARGETS_LEFT_OUT)}):", p)]
    # What serves a function is what its base image has.
    packages = "common/requirements.txt tools/requirements.txt $(wildcard serverless/*/base/requirements.txt serverless/*/*/requirements.txt)"
    made, count = re.subn(
        r"(?m)^SERVE_REQUIREMENTS := (?:.*\\\n)*.*$",
        lambda _: f"SERVE_REQUIREMENTS := {packages}",
        "\n\n".join(paragraphs),
    )
    if count != 1:
        raise ValueError("Makefile: expected one definition of SERVE_REQUIREMENTS")
    return made


def _pins() -> Iterator[str]:
    """The lines of the collection's requirement files for what tests and linters need."""
    lines = {
        line
        for path in [*ROOT.glob("serverless/**/requirements.txt"), ROOT / "tests/requirements.txt"]
        for line in path.read_text().splitlines()
    }
    names = {name.lower() for name in _TEST_PACKAGES}
    return (line for line in sorted(lines, key=str.lower) if line.partition("==")[0].lower() in names)


def _rewrite(path: Path, pattern: str, replacement: str) -> None:
    text, count = re.subn(pattern, replacement, path.read_text(encoding="utf-8"), count=1)
    if count != 1:
        raise ValueError(f"{path.name}: expected a line like {pattern}")
    path.write_text(text, encoding="utf-8")
