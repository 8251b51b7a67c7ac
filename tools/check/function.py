"""The check of one function's directory: its files by reading, then the function by running it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.config import FunctionConfig
from common.errors import StartupError
from tools.check.directory_rules import check_directory
from tools.check.document import Document, read_document
from tools.check.findings import Finding, error, has_errors, located, warning
from tools.check.function_rules import check_function_yaml
from tools.check.handler_rules import check_handler
from tools.check.run import Trial, try_function
from tools.check.values import mapping

_FILE = "function.yaml"


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of one check."""

    directory: Path

    name: str
    """As function.yaml says, else the directory's name."""

    kind: str
    """As function.yaml says, else ""."""

    findings: list[Finding]

    trial: Trial | None = None
    """What running the function showed, None when it was not run."""

    not_run: str = ""
    """Why it was not run, empty when it was."""

    @property
    def errors(self) -> int:
        """How many of the findings are errors."""
        return sum(finding.severity == "error" for finding in self.findings)

    @property
    def warnings(self) -> int:
        """How many of the findings are warnings."""
        return len(self.findings) - self.errors


def inspect_function(
    directory: str | Path,
    *,
    run: bool = True,
    environment: Mapping[str, str] | None = None,
    timeout: float | None = None,
) -> Report:
    """Checks a function's directory, of this collection or not, against what Nuclio and CVAT ask of it.

    Args:
        directory: The directory with the function.yaml.
        run: Also start the function in a process of its own and send it requests.
        environment: Variables for that process; they take precedence over those of function.yaml.
        timeout: Seconds for one request, None for the eventTimeout of function.yaml.

    Returns:
        The findings, and what running the function showed.
    """
    directory = Path(directory).resolve()
    findings = located(check_directory(directory), ".")
    document, found = _check_file(directory / _FILE)
    findings += found
    for other in sorted(directory.glob("function*.y*ml")):
        if other.name != _FILE:
            findings += _check_other(other, document)
    if document is None:
        return Report(directory, directory.name, "", findings, not_run=f"there is no readable {_FILE}")
    metadata, spec = mapping(document.content.get("metadata")), mapping(document.content.get("spec"))
    name = str(metadata.get("name") or directory.name)
    kind = str(mapping(metadata.get("annotations")).get("type") or "")
    if not run:
        return Report(directory, name, kind, findings, not_run="as asked")
    config = None
    try:
        config = FunctionConfig.load(directory)
    except StartupError as problem:
        if not has_errors(findings):
            got = str(problem).removeprefix(f"{directory / _FILE}: ")
            field, why = got.partition(":")[0], "functions of this collection don't start with it"
            findings += located([error("yaml.form", field, "a readable function.yaml", got, why)], _FILE)
    except Exception:  # noqa: S110 - a value of a wrong type, which has its own finding
        pass
    broken = [f for f in findings if f.severity == "error" and f.rule.startswith(("handler.", "spec.handler"))]
    if config is None or broken:
        return Report(directory, name, kind, findings, not_run="the errors above come first")
    trial = try_function(config, spec, environment=environment, timeout=timeout)
    return Report(directory, name, kind, findings + trial.findings, trial)


def check_function(directory: str | Path, *, run: bool = True) -> list[Finding]:
    """The findings of `inspect_function` alone, with the function's own settings.

    Args:
        directory: The directory with the function.yaml.
        run: Also start the function in a process of its own and send it requests.

    Returns:
        The findings: [] for a function that keeps every rule.
    """
    return inspect_function(directory, run=run).findings


def _check_file(path: Path) -> tuple[Document | None, list[Finding]]:
    """Every rule on one function.yaml and on the module that it names."""
    document, findings = read_document(path)
    if document is not None:
        findings += check_function_yaml(document, path.name)
        in_module = check_handler(path.parent, mapping(document.content.get("spec")))
        findings += located(in_module, path.name, document.line_of)
    return document, findings


def _check_other(path: Path, main: Document | None) -> list[Finding]:
    """A second configuration of the function, such as function-gpu.yaml for a GPU."""
    document, findings = _check_file(path)
    if document is not None and main is not None and _labels(main) != _labels(document):
        expected = f"the labels of {_FILE}, or a file without labels of its own"
        why = "the function has other labels on a GPU than on a CPU"
        found = warning("labels.differ", "metadata.annotations.spec", expected, "another list", why)
        findings += located([found], path.name, document.line_of)
    return findings


def _labels(document: Document) -> Any:
    spec = mapping(mapping(document.content.get("metadata")).get("annotations")).get("spec")
    return "".join(spec.split()) if isinstance(spec, str) else spec
