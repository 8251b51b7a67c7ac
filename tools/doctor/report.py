"""What a report of the doctor consists of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tools.doctor.dashboard import Trial

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong."""

    severity: Severity
    """"error" for what users of CVAT run into, "warning" for what will cause trouble later."""
    subject: str
    """A function's name, or "Docker", "Nuclio", "CVAT"."""
    what: str
    """The cause, in one sentence."""
    remedy: str = ""
    """What to do, a command where there is one."""


@dataclass(slots=True)
class Row:
    """One function in the report."""

    name: str
    kind: str = "?"
    state: str = "?"
    port: int = 0
    direct: Trial | None = None
    """The request to its own port; None when none was sent."""
    dashboard: Trial | None = None
    """The request through the dashboard; None when none was sent."""


@dataclass(slots=True)
class Report:
    """What was looked at, and what is wrong."""

    lines: list[str] = field(default_factory=list)
    """What is as it should be, a sentence each."""
    rows: list[Row] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def error(self, subject: str, what: str, remedy: str) -> None:
        """Adds a finding that users of CVAT run into.

        Args:
            subject: as in `Finding`.
            what: as in `Finding`.
            remedy: as in `Finding`.
        """
        self.findings.append(Finding("error", subject, what, remedy))

    def warn(self, subject: str, what: str, remedy: str) -> None:
        """Adds a finding that will cause trouble later.

        Args:
            subject: as in `Finding`.
            what: as in `Finding`.
            remedy: as in `Finding`.
        """
        self.findings.append(Finding("warning", subject, what, remedy))
