"""The module that a function.yaml names as handler, read without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tools.check.findings import Finding, error, warning
from tools.check.values import did_you_mean

_NO_START = "Nuclio's wrapper can't call it and ends"


def handler_file(directory: Path, spec: Mapping[Any, Any]) -> Path | None:
    """The file of the handler's module.

    Args:
        directory: The function's directory.
        spec: `spec` of its function.yaml.

    Returns:
        The file's path, whether or not there is such a file; None when the spec does not name a handler.
    """
    module, _, function = str(spec.get("handler") or "").partition(":")
    return directory / f"{module.replace('.', '/')}.py" if module and function else None


def check_handler(directory: Path, spec: Mapping[Any, Any]) -> Iterator[Finding]:
    """Checks whether the handler is there, as far as that can be told by reading.

    Args:
        directory: The function's directory.
        spec: `spec` of its function.yaml.

    Yields:
        What is wrong; findings about the module name it as their file, those about function.yaml name none.
    """
    path = handler_file(directory, spec)
    if path is None:
        return
    package = path.with_suffix("") / "__init__.py"
    path = package if package.is_file() and not path.is_file() else path
    name, function = str(path.relative_to(directory)), str(spec["handler"]).partition(":")[2]
    if not path.is_file():
        modules = ", ".join(sorted(p.name for p in directory.glob("*.py"))) or "no modules"
        yield error("handler.file", "spec.handler", f"a file {name}", f"none; there are {modules}", _NO_START)
        return
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError) as problem:
        line, got = getattr(problem, "lineno", None), getattr(problem, "msg", str(problem))
        yield error("handler.syntax", "", "Python", got, _NO_START, file=name, line=line)
        return
    defined = dict(_definitions(tree.body))
    if "*" in defined:
        return
    if function not in defined:
        expected, remedy = f"a function {function} in {name}", did_you_mean(function, defined)
        yield error("handler.function", "spec.handler", expected, "none", _NO_START, remedy)
    elif isinstance(node := defined[function], (ast.FunctionDef, ast.AsyncFunctionDef)) and not _takes_two(node.args):
        got = f"{function}({', '.join(argument.arg for argument in node.args.args)})"
        why = "Nuclio calls it with two values"
        yield error("handler.function", "spec.handler", f"{function}(context, event)", got, why)
    if "init_context" not in defined:
        expected = "a function init_context(context) that loads the model"
        why = (
            "the model is loaded while the module is imported, which Nuclio ends after 2 minutes, or in the first "
            "request, which CVAT ends after 120 s"
        )
        yield warning("handler.init-context", "init_context", expected, "none", why, file=name)


def _definitions(body: list[ast.stmt]) -> Iterator[tuple[str, ast.AST | None]]:
    """Names that statements of a module bind, with the function where it is one; "*" for an import of everything."""
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name, node
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            for alias in node.names:
                yield (alias.asname or alias.name.partition(".")[0]), None
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                for leaf in ast.walk(target):
                    if isinstance(leaf, ast.Name):
                        yield leaf.id, None
        elif isinstance(node, ast.ClassDef):
            yield node.name, None
        else:
            for name in ("body", "orelse", "finalbody"):
                yield from _definitions(getattr(node, name, []))
            for handler in getattr(node, "handlers", []):
                yield from _definitions(handler.body)


def _takes_two(arguments: ast.arguments) -> bool:
    positional = len(arguments.posonlyargs) + len(arguments.args)
    return positional - len(arguments.defaults) <= 2 and (positional >= 2 or arguments.vararg is not None)
