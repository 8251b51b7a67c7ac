"""Says what is wrong with a running installation, and what to do: `python -m tools.doctor`, or `make doctor`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict

from tools.doctor import cvat_functions
from tools.doctor.containers import Host, look
from tools.doctor.dashboard import Trial
from tools.doctor.examine import Report, examine


def main(arguments: Sequence[str] | None = None) -> int:
    """Examines the installation on this host. Returns 1 when there is an error, else 0."""
    options = _parser().parse_args(arguments)
    host = Host(problem="not asked (--no-docker)") if options.no_docker else look()
    show = sys.stderr.isatty() and not options.json
    report, functions = examine(
        host,
        options.dashboard,
        options.namespace,
        send=not options.no_send,
        progress=lambda name: print(f"\r\033[Ktrying {name} ...", end="", file=sys.stderr) if show else None,
    )
    if show:
        print("\r\033[K", end="", file=sys.stderr)
    if options.no_docker:
        report.findings = [finding for finding in report.findings if finding.subject != "Docker"]
    if options.cvat:
        known, findings = cvat_functions.listed(options.cvat, options.token)
        report.findings += findings
        if known is not None:
            report.lines.append(f"CVAT at {options.cvat} lists {len(known)} functions")
            report.findings += cvat_functions.compare(functions, known)
    errors = sum(finding.severity == "error" for finding in report.findings)
    if options.json:
        print(json.dumps({**asdict(report), "errors": errors}, indent=2))
    else:
        _print(report, errors)
    return 1 if errors else 0


def _print(report: Report, errors: int) -> None:
    for line in report.lines:
        print(line)
    if report.rows:
        rows = [("FUNCTION", "KIND", "STATE", "PORT", "ON ITS PORT", "BY DASHBOARD")]
        rows += [
            (r.name, r.kind, r.state, str(r.port or "-"), _word(r.direct), _word(r.dashboard)) for r in report.rows
        ]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        print()
        for row in rows:
            print("  " + "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    for finding in sorted(report.findings, key=lambda a: (a.severity, a.subject)):
        print(f"\n{finding.severity:8}{finding.subject}: {finding.what}")
        if finding.remedy:
            print(f"        {finding.remedy}")
    warnings = len(report.findings) - errors
    print(f"\n{_count(errors, 'error')}, {_count(warnings, 'warning')}" if report.findings else "\nAll is well.")


def _word(trial: Trial | None) -> str:
    if trial is None:
        return "-"
    return "FAILED" if trial.problem else f"{trial.seconds:.2f} s"


def _count(number: int, one: str) -> str:
    return f"{number} {one}{'' if number == 1 else 's'}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.doctor",
        description="Says what is wrong with a running installation of Nuclio for CVAT, and what to do about it.",
        epilog="Ends with status 1 when there is an error; warnings alone end with 0.",
    )
    parser.add_argument(
        "--dashboard", help="Nuclio's dashboard; default: found by its container, or port 8070 of this host"
    )
    parser.add_argument("--namespace", default="nuclio", help="of the functions in Nuclio (default: nuclio)")
    parser.add_argument(
        "--cvat", metavar="URL", default=os.environ.get("CVAT_URL"), help="CVAT's address, to see its own list"
    )
    parser.add_argument("--token", default=os.environ.get("CVAT_TOKEN", ""), help="a CVAT access token, or CVAT_TOKEN")
    parser.add_argument("--no-send", action="store_true", help="don't send sample images to the functions")
    parser.add_argument("--no-docker", action="store_true", help="don't ask Docker: for a cluster")
    parser.add_argument("--json", action="store_true", help="write the report as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
