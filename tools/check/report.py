"""Reports as text for people and as JSON for programs."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any, TextIO

from tools.check.findings import Finding
from tools.check.function import Report
from tools.collection import shown

_COLOURS = {"error": "31", "warning": "33", "good": "32", "bold": "1", "dim": "2"}
_WIDEST = 110
_MOST_OF_A_RULE = 5


class Printer:
    """Writes reports as text.

    Args:
        stream: Where to.
        colour: Whether the stream shows colours.
    """

    def __init__(self, stream: TextIO, *, colour: bool):
        self._stream, self._colour = stream, colour
        self._width = min(shutil.get_terminal_size((_WIDEST, 24)).columns, _WIDEST)

    def write(self, report: Report) -> None:
        """Writes one function: a heading, what running it showed, and the findings, errors first.

        Args:
            report: The outcome of its check.
        """
        outcome = self._paint("good", "no findings") if not report.findings else _counts(report.errors, report.warnings)
        heading = self._paint("bold", shown(report.directory))
        function = f" · {report.kind} {report.name}" if report.kind else ""
        print(f"{heading}{function} · {outcome}", file=self._stream)
        print(self._paint("dim", f"  {_trial_line(report)}"), file=self._stream)
        for group in _grouped(report.findings):
            self._write_group(group)
        print(file=self._stream, flush=True)

    def write_summary(self, reports: Sequence[Report]) -> None:
        """Writes the last line: how many functions, and how much was found in all of them.

        Args:
            reports: The outcomes of all checks.
        """
        errors, warnings = sum(r.errors for r in reports), sum(r.warnings for r in reports)
        colour = "error" if errors else "warning" if warnings else "good"
        functions = f"{len(reports)} function{'s' if len(reports) != 1 else ''} checked"
        print(f"{functions}: {self._paint(colour, _counts(errors, warnings))}", file=self._stream, flush=True)

    def _write_group(self, group: Sequence[Finding]) -> None:
        first = group[0]
        print(file=self._stream)
        print(
            f"  {self._paint(first.severity, first.severity)}  {_place(first)}  {self._paint('dim', first.rule)}",
            file=self._stream,
        )
        self._line("expected", first.expected)
        for finding in group[:_MOST_OF_A_RULE]:
            aside = [finding.request] if finding.request else []
            if finding is not first and _place(finding) != _place(first):
                aside.append(_place(finding))
            self._line("got", finding.got + (f"   [{', '.join(aside)}]" if aside else ""))
        if len(group) > _MOST_OF_A_RULE:
            self._line("", f"... and {len(group) - _MOST_OF_A_RULE} more of this kind")
        self._line("why", first.why)
        if first.remedy:
            self._line("hint", first.remedy)

    def _line(self, name: str, text: str) -> None:
        indent = " " * 19
        wrapped = textwrap.wrap(text, self._width - len(indent), break_long_words=False, break_on_hyphens=False)
        print(f"         {name:<10}" + f"\n{indent}".join(wrapped or [""]), file=self._stream)

    def _paint(self, colour: str, text: str) -> str:
        return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if self._colour else text


def to_json(reports: Iterable[Report]) -> dict[str, Any]:
    """Reports as one JSON value.

    Args:
        reports: The outcomes of all checks.
    """
    items = [_report_to_json(report) for report in reports]
    return {
        "functions": items,
        "errors": sum(item["errors"] for item in items),
        "warnings": sum(item["warnings"] for item in items),
    }


def wants_colour(stream: TextIO, environment: dict[str, str]) -> bool:
    """Whether to write in colour.

    Args:
        stream: Where the text goes; only a terminal shows colours.
        environment: Variables that may say otherwise: NO_COLOR, and TERM=dumb.
    """
    return stream.isatty() and "NO_COLOR" not in environment and environment.get("TERM") != "dumb"


def _report_to_json(report: Report) -> dict[str, Any]:
    trial = asdict(report.trial) if report.trial else None
    if trial:
        del trial["findings"]
    return {
        "directory": str(report.directory),
        "name": report.name,
        "kind": report.kind,
        "errors": report.errors,
        "warnings": report.warnings,
        "findings": [finding.to_json() for finding in report.findings],
        "run": trial,
        "not_run": report.not_run,
    }


def _grouped(findings: Sequence[Finding]) -> list[list[Finding]]:
    """Findings of one rule that say the same but for what came, together; errors before warnings."""
    groups: dict[Finding, list[Finding]] = {}
    for severity in ("error", "warning"):
        for finding in findings:
            if finding.severity == severity:
                same = replace(finding, got="", request="", line=None, field="")
                groups.setdefault(same, []).append(finding)
    return list(groups.values())


def _place(finding: Finding) -> str:
    line = f":{finding.line}" if finding.line else ""
    return f"{finding.file}{line}  {finding.field}".rstrip()


def _trial_line(report: Report) -> str:
    trial = report.trial
    if trial is None:
        return f"not run: {report.not_run}"
    parts = []
    if trial.import_seconds is not None:
        parts.append(f"imported in {trial.import_seconds:.2f} s")
    if trial.start_seconds is not None:
        parts.append(f"started in {trial.start_seconds:.2f} s")
    if trial.requests:
        parts.append(f"answered {trial.requests} requests, the slowest in {trial.slowest_seconds:.2f} s")
    if trial.most_bytes:
        parts.append(f"held {trial.most_bytes / 2**20:.0f} MiB of memory")
    if not trial.finished:
        parts.append("then stopped" if parts else "could not be started")
    return ", ".join(parts)


def _counts(errors: int, warnings: int) -> str:
    parts = [f"{n} {word}{'s' if n != 1 else ''}" for n, word in ((errors, "error"), (warnings, "warning")) if n]
    return ", ".join(parts) or "no findings"


def print_progress(text: str) -> None:
    """Shows what is going on, on a terminal only; the next output overwrites it.

    Args:
        text: One line, "" to remove the last one.
    """
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
