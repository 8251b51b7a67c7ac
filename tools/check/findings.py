"""What a check has found, one value for each finding."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, or likely to be.

    severity: "error" for what fails or is lost under Nuclio or CVAT, "warning" for what works but not as meant.
    rule: a stable id such as `trigger.body-size`, for filters and tests.
    file: relative to the function's directory. line: in that file, from 1, where it is known.
    field: the path inside the file or the reply, such as `spec.env[0].value` or `reply[2].points`.
    why: what Nuclio or CVAT does with it. remedy: what to do, where `expected` does not say it already.
    request: which request the reply was for; empty for findings about files.
    """

    severity: Severity
    rule: str
    file: str
    field: str
    expected: str
    got: str
    why: str
    remedy: str = ""
    request: str = ""
    line: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The finding as JSON values; empty fields are left out."""
        return {key: value for key, value in asdict(self).items() if value not in ("", None)}


class Findings:
    """The findings about one file or reply, in the order in which they were made.

    line_of: the line of a field, where the file has lines.
    """

    def __init__(self, file: str, line_of: Callable[[str], int | None] | None = None):
        self.file, self._line_of = file, line_of
        self._found: list[Finding] = []

    def error(self, rule: str, field: str, *, expected: str, got: str, why: str, remedy: str = "") -> None:
        self._add("error", rule, field, expected, got, why, remedy)

    def warn(self, rule: str, field: str, *, expected: str, got: str, why: str, remedy: str = "") -> None:
        self._add("warning", rule, field, expected, got, why, remedy)

    def add(self, finding: Finding) -> None:
        self._found.append(finding)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def _add(self, severity: Severity, rule: str, field: str, expected: str, got: str, why: str, remedy: str) -> None:
        line = self._line_of(field) if self._line_of else None
        self._found.append(
            Finding(severity, rule, self.file, field, expected=expected, got=got, why=why, remedy=remedy, line=line)
        )


def merged(findings: list[Finding]) -> list[Finding]:
    """The findings in order, those that differ in their request only as one, which names these requests."""
    requests: dict[Finding, list[str]] = {}
    for finding in findings:
        requests.setdefault(replace(finding, request=""), []).append(finding.request)
    return [replace(finding, request=_requests(names)) for finding, names in requests.items()]


def listed(names: Iterable[Any]) -> str:
    """Names in a row, the first eight of many."""
    texts = [str(name) for name in names]
    return ", ".join(texts[:8]) + (f" and {len(texts) - 8} more" if len(texts) > 8 else "") or "none"


def _requests(names: list[str]) -> str:
    different = list(dict.fromkeys(filter(None, names)))
    return "; ".join(different[:4]) + (f"; and {len(different) - 4} more" if len(different) > 4 else "")


def has_errors(findings: list[Finding]) -> bool:
    return any(finding.severity == "error" for finding in findings)
