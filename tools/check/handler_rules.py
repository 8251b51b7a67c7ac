"""The module that a function.yaml names as handler, read without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tools.check.findings import Finding, Findings
from tools.check.values import nearest

_NO_START = "Nuclio's wrapper can't call it and ends"
_MANY = 10**6


def handler_file(directory: Path, spec: Mapping[Any, Any]) -> Path | None:
    """The file of the handler's module, there or not; None when the spec does not name one."""
    module, _, function = str(spec.get("handler") or "").partition(":")
    return directory / f"{module.replace('.', '/')}.py" if module and function else None


def check_handler(directory: Path, spec: Mapping[Any, Any], findings: Findings) -> list[Finding]:
    """Whether the handler is there, as far as that can be told by reading. Returns findings in the module's own lines.

    findings: those about function.yaml.
    """
    path = handler_file(directory, spec)
    if path is None:
        return []
    package = path.with_suffix("") / "__init__.py"
    path = package if package.is_file() and not path.is_file() else path
    name, field = str(path.relative_to(directory)), "spec.handler"
    if not path.is_file():
        findings.error(
            "handler.file",
            field,
            expected=f"a file {name}",
            got=f"none; there are {', '.join(sorted(p.name for p in directory.glob('*.py'))) or 'no modules'}",
            why=_NO_START,
        )
        return []
    found = Findings(name)
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        found.add(
            Finding(
                "error", "handler.syntax", name, "", "Python", getattr(error, "msg", str(error)), _NO_START, line=line
            )
        )
        return list(found)
    defined = dict(_definitions(tree.body))
    _check_function(str(spec["handler"]).partition(":")[2], defined, field, name, findings)
    if "init_context" not in defined and "*" not in defined:
        found.warn(
            "handler.init-context",
            "init_context",
            expected="a function init_context(context) that loads the model",
            got="none",
            why="the model is loaded while the module is imported, which Nuclio ends after 2 minutes, or in the first "
            "request, which CVAT ends after 120 s",
        )
    return list(found)


def _check_function(
    function: str, defined: Mapping[str, ast.AST | None], field: str, file: str, findings: Findings
) -> None:
    if function not in defined:
        if "*" not in defined:
            meant = nearest(function, (key for key in defined))
            findings.error(
                "handler.function",
                field,
                expected=f"a function {function} in {file}",
                got="none",
                why=_NO_START,
                remedy=f"did you mean {meant}?" if meant else "",
            )
        return
    node = defined[function]
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        fewest, most = _positional(node.args)
        if not fewest <= 2 <= most:
            findings.error(
                "handler.function",
                field,
                expected=f"{function}(context, event)",
                got=f"{function}({', '.join(argument.arg for argument in node.args.args)})",
                why="Nuclio calls it with two values",
            )


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


def _positional(arguments: ast.arguments) -> tuple[int, int]:
    """The fewest and the most positional values that a function takes."""
    positional = len(arguments.posonlyargs) + len(arguments.args)
    most = _MANY if arguments.vararg else positional
    return positional - len(arguments.defaults), most
