"""The check of one function's directory: its files by reading, then the function by running it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.config import FunctionConfig
from common.errors import StartupError
from tools.check.annotation_rules import check_annotations
from tools.check.directory_rules import check_directory
from tools.check.document import Document, read_document
from tools.check.findings import Finding, Findings, has_errors
from tools.check.handler_rules import check_handler
from tools.check.run import Trial, try_function
from tools.check.values import mapping
from tools.check.yaml_rules import check_configuration

_FILE = "function.yaml"


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of one check.

    name, kind: as function.yaml says, else the directory's name and "". trial: what running it showed, None when it was not run.
    not_run: why it was not run, empty when it was.
    """

    directory: Path
    name: str
    kind: str
    findings: list[Finding]
    trial: Trial | None = None
    not_run: str = ""

    @property
    def errors(self) -> int:
        return sum(finding.severity == "error" for finding in self.findings)

    @property
    def warnings(self) -> int:
        return len(self.findings) - self.errors


def inspect_function(
    directory: str | Path,
    *,
    run: bool = True,
    environment: Mapping[str, str] | None = None,
    timeout: float | None = None,
) -> Report:
    """Checks a function's directory against what Nuclio and CVAT ask of it, ours or not.

    run: also start the function in a process of its own and send it requests.
    environment: variables for that process, before those of function.yaml. timeout: seconds for one request, None as
    function.yaml says.
    """
    directory = Path(directory).resolve()
    files = Findings(".")
    check_directory(directory, files)
    findings = list(files)
    document, found = _check_file(directory / _FILE)
    findings += found
    for other in sorted(directory.glob("function*.y*ml")):
        if other.name != _FILE:
            findings += _check_other(other, document)
    if document is None:
        return Report(directory, directory.name, "", findings, not_run=f"there is no {_FILE} that can be read")
    metadata, spec = mapping(document.content.get("metadata")), mapping(document.content.get("spec"))
    name = str(metadata.get("name") or directory.name)
    kind = str(mapping(metadata.get("annotations")).get("type") or "")
    if not run:
        return Report(directory, name, kind, findings, not_run="as asked")
    config, problem = _load(directory)
    if problem is not None and not has_errors(findings):
        findings.append(problem)
    broken = [f for f in findings if f.severity == "error" and f.rule.startswith(("handler.", "spec.handler"))]
    if config is None or broken:
        return Report(directory, name, kind, findings, not_run="the errors above come first")
    trial = try_function(config, spec, environment=environment, timeout=timeout)
    return Report(directory, name, kind, findings + trial.findings, trial)


def check_function(
    directory: str | Path,
    *,
    run: bool = True,
    environment: Mapping[str, str] | None = None,
    timeout: float | None = None,
) -> list[Finding]:
    """The findings of `inspect_function`: [] for a function that keeps every rule."""
    return inspect_function(directory, run=run, environment=environment, timeout=timeout).findings


def _check_file(path: Path) -> tuple[Document | None, list[Finding]]:
    """Every rule on one function.yaml and on the module that it names."""
    document, found = read_document(path)
    if document is None:
        return None, found
    findings = Findings(path.name, document.line_of)
    check_configuration(document, findings)
    check_annotations(document, findings)
    in_module = check_handler(path.parent, mapping(document.content.get("spec")), findings)
    return document, found + list(findings) + in_module


def _check_other(path: Path, main: Document | None) -> list[Finding]:
    """A second configuration of the function, such as function-gpu.yaml for a GPU."""
    document, findings = _check_file(path)
    if document is None or main is None:
        return findings
    ours, theirs = (_labels(each) for each in (main, document))
    if ours != theirs:
        found = Findings(path.name, document.line_of)
        found.warn(
            "labels.differ",
            "metadata.annotations.spec",
            expected=f"the labels of {_FILE}, or a file without labels of its own",
            got="another list",
            why="the function has other labels on a GPU than on a CPU",
        )
        findings += list(found)
    return findings


def _labels(document: Document) -> Any:
    spec = mapping(mapping(document.content.get("metadata")).get("annotations")).get("spec")
    return "".join(spec.split()) if isinstance(spec, str) else spec


def _load(directory: Path) -> tuple[FunctionConfig | None, Finding | None]:
    try:
        return FunctionConfig.load(directory), None
    except StartupError as error:
        message = str(error).removeprefix(f"{directory / _FILE}: ")
        finding = Finding(
            "error",
            "yaml.form",
            _FILE,
            message.partition(":")[0],
            expected="a function.yaml that can be read",
            got=message,
            why="functions of this collection don't start with it",
        )
        return None, finding
    except Exception:  # a value of a wrong type, which has its own finding
        return None, None
