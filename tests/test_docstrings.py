"""Docstrings: public functions describe each of their parameters in a line of `Args:`, as Google's style has it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tools.collection import ROOT

FOLDERS = ("common", "tools", "serverless", "deploy", "training")
# Methods that other packages' classes and protocols define, where they are documented.
DEFINED_ELSEWHERE = {"emit", "forward", "detect", "preprocess_image", "init_tracking_state"}
# What Nuclio calls in every main.py: `start` and `answer` in common/serving/nuclio.py describe them.
NUCLIO = {"init_context", "handler"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """A file of the project, parsed."""

    path: Path
    tree: ast.Module

    @property
    def name(self) -> str:
        """Its path below the root, with slashes."""
        return self.path.relative_to(ROOT).as_posix()


def modules() -> list[Module]:
    paths = (path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py")))
    return [
        Module(path, ast.parse(path.read_text(encoding="utf-8"))) for path in paths if "templates" not in path.parts
    ]


MODULES = modules()
CLASSES = {node.name: node for module in MODULES for node in ast.walk(module.tree) if isinstance(node, ast.ClassDef)}


def base_names(node: ast.ClassDef) -> list[str]:
    bases = [base.value if isinstance(base, ast.Subscript) else base for base in node.bases]
    return [
        base.attr if isinstance(base, ast.Attribute) else base.id
        for base in bases
        if isinstance(base, (ast.Attribute, ast.Name))
    ]


def methods_of(node: ast.ClassDef) -> list[Function]:
    return [child for child in node.body if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef))]


PROTOCOLS = [node for node in CLASSES.values() if "Protocol" in base_names(node)]
VERBS = {method.name for protocol in PROTOCOLS for method in methods_of(protocol)}


def is_override(node: ast.ClassDef, name: str) -> bool:
    """Whether a base class of the project, or of another package, says what the method takes."""
    if name in DEFINED_ELSEWHERE or (node not in PROTOCOLS and name in VERBS):
        return True
    bases = [CLASSES[base] for base in base_names(node) if base in CLASSES and CLASSES[base] is not node]
    return any(name in {m.name for m in methods_of(base)} or is_override(base, name) for base in bases)


def public_functions(module: Module) -> Iterator[tuple[str, Function]]:
    """Each public function and method with parameters that no other place documents, with its name."""
    for node in module.tree.body:
        is_public = not getattr(node, "name", "_").startswith("_")
        if is_public and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name not in NUCLIO:
            yield node.name, node
        if is_public and isinstance(node, ast.ClassDef):
            for method in methods_of(node):
                if not method.name.startswith("_") and not is_override(node, method.name):
                    yield f"{node.name}.{method.name}", method


def parameters(function: Function) -> list[str]:
    given = function.args
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs, *filter(None, (given.vararg, given.kwarg))]
    return [
        argument.arg for argument in named if argument.arg not in ("self", "cls") and not argument.arg.startswith("_")
    ]


def documented(docstring: str) -> list[str]:
    """The names in the section `Args:` of a docstring."""
    _, _, section = docstring.partition("Args:\n")
    section = re.split(r"^\S", section, maxsplit=1, flags=re.M)[0]
    return re.findall(r"^ {4}\*{0,2}(\w+)(?: \([^)]*\))?: \S", section, re.M)


def undocumented(module: Module) -> list[str]:
    found = []
    for name, function in public_functions(module):
        text = ast.get_docstring(function) or ""
        missing = [parameter for parameter in parameters(function) if parameter not in documented(text)]
        unknown = [parameter for parameter in documented(text) if parameter not in parameters(function)]
        if missing or unknown:
            found.append(
                f"{module.name}:{function.lineno} {name}: missing {missing}"
                + (f", no such {unknown}" if unknown else "")
            )
    return found


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_each_parameter_has_a_line(module: Module) -> None:
    found = undocumented(module)
    assert not found, "\n".join(found)


def test_the_rule_sees_what_is_missing(tmp_path: Path) -> None:
    text = '''
def good(a, *, b=1):
    """Adds.

    Args:
        a: A number.
        b: Another
            one.

    Returns:
        The sum.
    """

def bad(a, b):
    """Adds.

    Args:
        a: A number.
        c: Nothing.
    """

def none(a):
    """Nothing."""
'''
    module = Module(ROOT / "common/x.py", ast.parse(text))
    assert undocumented(module) == [
        "common/x.py:14 bad: missing ['b'], no such ['c']",
        "common/x.py:22 none: missing ['a']",
    ]
