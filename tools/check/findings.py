"""What a check has found, one value for each finding."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, or likely to be."""

    severity: Severity
    """"error" for what fails or is lost under Nuclio or CVAT, "warning" for what works but not as intended."""

    rule: str
    """A stable id such as `trigger.body-size`, for filters and tests."""

    field: str
    """The path inside the file or the reply, such as `spec.env[0].value` or `reply[2].points`; "" for all of it."""

    expected: str
    got: str

    why: str
    """What Nuclio or CVAT does with it."""

    remedy: str = ""
    """What to do, where `expected` does not say it already."""

    file: str = ""
    """The file, relative to the function's directory; for a reply the handler's module."""

    line: int | None = None
    """The line in that file, from 1, where it is known."""

    request: str = ""
    """The request that the reply was for; empty for findings about files."""

    def to_json(self) -> dict[str, Any]:
        """The finding as JSON values; empty fields are left out."""
        return {key: value for key, value in asdict(self).items() if value not in ("", None)}


error = partial(Finding, "error")
"""Makes a finding about something that fails or is lost; takes the other fields of `Finding` in their order."""

warning = partial(Finding, "warning")
"""Makes a finding about something that works but not as intended; takes the other fields of `Finding` in their order."""


def located(
    findings: Iterable[Finding], file: str, line_of: Callable[[str], int | None] = lambda field: None
) -> list[Finding]:
    """Findings with the place that they are about.

    Args:
        findings: Findings about one file or reply.
        file: What they name as the file.
        line_of: The line of a field in that file, None where it is not known.

    Returns:
        The findings in their order. Those that name a file already stay as they are.
    """
    return [
        finding if finding.file else replace(finding, file=file, line=finding.line or line_of(finding.field))
        for finding in findings
    ]


def merged(findings: Iterable[Finding]) -> list[Finding]:
    """Joins findings that differ only in their request.

    Args:
        findings: Findings about the replies to several requests.

    Returns:
        The findings in their order, each once; it names its requests, the first four of many.
    """
    requests: dict[Finding, list[str]] = {}
    for finding in findings:
        requests.setdefault(replace(finding, request=""), []).append(finding.request)
    return [replace(finding, request=_joined(names)) for finding, names in requests.items()]


def listed(names: Iterable[Any]) -> str:
    """Names as a list for a message.

    Args:
        names: The names; of many the first eight are shown and the others counted.

    Returns:
        The names with commas between them; "none" for no names.
    """
    texts = [str(name) for name in names]
    return ", ".join(texts[:8]) + (f" and {len(texts) - 8} more" if len(texts) > 8 else "") or "none"


def has_errors(findings: Iterable[Finding]) -> bool:
    """Whether a function fails.

    Args:
        findings: What is wrong with it; warnings alone don't count.
    """
    return any(finding.severity == "error" for finding in findings)


def _joined(names: list[str]) -> str:
    different = list(dict.fromkeys(filter(None, names)))
    return "; ".join(different[:4]) + (f"; and {len(different) - 4} more" if len(different) > 4 else "")
