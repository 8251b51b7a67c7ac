"""Compares a document with a JSON Schema whose parts carry the findings about them (`*.schema.yaml` beside this module)."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from common.errors import describe
from tools import durations
from tools.check.findings import Finding, error, warning
from tools.check.values import CVAT_TIMEOUT, as_text, did_you_mean, nearest, quantity, shown

_TYPES = {
    "string": "a text",
    "integer": "a whole number",
    "boolean": "true or false",
    "object": "an object",
    "array": "a list",
}


def compare(content: object, schema: str, field: str = "") -> tuple[Any, list[Finding]]:
    """Compares what a file or a field holds with a schema.

    Args:
        content: The value as YAML or JSON holds it.
        schema: The schema's name: `function` or `labels`.
        field: The path of the value, which the paths of the findings begin with; "" for a whole file.

    Returns:
        The value as its readers take it, without what they would refuse: keys are texts, a scalar where a text is
        expected is that text, and values of another type and nulls are left out; and what is wrong with it.
    """
    validator = _validator(schema)
    as_nuclio_reads = "mismatch" in validator.schema
    content, findings = _plain(content, nulls=not as_nuclio_reads), []
    for problem in list(validator.iter_errors(content)) if as_nuclio_reads else ():
        if problem.validator == "type" and problem.validator_value == "string" and _is_scalar(problem.instance):
            _put(content, list(problem.absolute_path), as_text(problem.instance))
            findings.append(_unquoted(_path(field, problem.absolute_path), problem.instance))
    problems = sorted(validator.iter_errors(content), key=lambda problem: problem.validator != "type")
    mistyped: set[str] = set()
    for problem in problems:
        place = _path(field, problem.absolute_path)
        if problem.validator == "type":
            mistyped.add(place)
            _put(content, list(problem.absolute_path), None)
        elif place in mistyped:
            continue
        findings.append(_finding(problem, place, validator.schema))
    findings.sort(key=lambda finding: finding.severity)  # errors first: of two about the same they tell more
    return _plain(content, nulls=False), list({(f.rule, f.field): f for f in reversed(findings)}.values())[::-1]


def _finding(problem: Any, place: str, root: Mapping[str, Any]) -> Finding:
    keyword, part, value = problem.validator, problem.schema, problem.instance
    note, expected, got, remedy = part.get("finding", {}), "", shown(value), ""
    if keyword == "required":
        place = _path(place, [problem.message])
        property_schema = part.get("properties", {}).get(problem.message, {})
        note, got = property_schema.get("missing") or property_schema.get("finding", {}), "nothing"
    elif keyword == "additionalProperties":
        known = part.get("properties", {})
        note = dict(part.get("unknown") or root["unknown"])
        expected, got, remedy = nearest(problem.message, known), problem.message, did_you_mean(problem.message, known)
        if expected.lower() == got.lower() and "unknown" not in part:
            note["why"] = "Nuclio reads the key in any case, but other tools, the local server among them, do not"
        place = _path(place, [problem.message])
    elif keyword == "type" and "mismatch" in root:
        note, expected = root["mismatch"], _TYPES[problem.validator_value]
    elif keyword in ("enum", "anyCaseEnum"):
        remedy = did_you_mean(str(value), problem.validator_value)
    report = warning if note.get("severity") == "warning" else error
    return report(note["rule"], place, expected or note["expected"], got, note["why"], remedy or note.get("remedy", ""))


def _unquoted(field: str, value: object) -> Finding:
    why = "YAML reads it as another type; Nuclio turns it back into a text of its own making, and other readers don't"
    return warning("schema.quote", field, "a text, in quotes", f"{describe(value)}, unquoted", why)


@functools.cache
def _validator(name: str) -> Any:
    # Replies are also checked where there is no jsonschema, in a deployed function's own container.
    from jsonschema import Draft202012Validator, FormatChecker, ValidationError, validators

    def required(validator: Any, names: list[str], value: object, schema: Any) -> Iterator[Any]:
        yield from (ValidationError(name) for name in names if isinstance(value, dict) and name not in value)

    def unknown(validator: Any, allowed: Any, value: object, schema: Any) -> Iterator[Any]:
        if allowed is not False:
            yield from Draft202012Validator.VALIDATORS["additionalProperties"](validator, allowed, value, schema)
        elif isinstance(value, dict):
            yield from (ValidationError(key) for key in value if key not in schema.get("properties", ()))

    def any_case_enum(validator: Any, allowed: list[str], value: object, schema: Any) -> Iterator[Any]:
        if isinstance(value, str) and value.upper() not in allowed:
            yield ValidationError(value)

    checker = FormatChecker(formats=())
    for form, accepts in _FORMATS.items():
        checker.checks(form)(accepts)
    keywords = {"required": required, "additionalProperties": unknown, "anyCaseEnum": any_case_enum}
    kind = validators.extend(Draft202012Validator, keywords)
    return kind(yaml.safe_load(Path(__file__).with_name(f"{name}.schema.yaml").read_text()), format_checker=checker)


def _seconds(value: object) -> float | None:
    try:
        return durations.seconds(str(value))
    except ValueError:
        return None


_FORMATS = {
    "quantity": lambda value: quantity(value) is not None,
    "whole-quantity": lambda value: bool(re.fullmatch(r"\d+", as_text(value))),
    "port": lambda value: isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 65535,
    "timeout": lambda value: not isinstance(value, str) or not value or (_seconds(value) or 0) > 0,
    "patience": lambda value: (_seconds(value) or 0) <= CVAT_TIMEOUT,
    "duration-or-number": lambda value: not isinstance(value, str) or _seconds(value) is not None,
}


def _plain(value: object, *, nulls: bool) -> Any:
    """A copy as of JSON: keys are texts. nulls: keep keys without a value, which Nuclio takes for keys that are missing."""
    if isinstance(value, Mapping):
        items = value.items() if nulls else ((key, item) for key, item in value.items() if item is not None)
        return {as_text(key): _plain(item, nulls=nulls) for key, item in items}
    return [_plain(item, nulls=nulls) for item in value] if isinstance(value, list) else value


def _put(content: Any, path: list[str | int], value: object) -> None:
    if path:
        for step in path[:-1]:
            content = content[step]
        content[path[-1]] = value


def _path(field: str, steps: Any) -> str:
    for step in steps:
        field += f"[{step}]" if isinstance(step, int) else f".{step}" if field else step
    return field


def _is_scalar(value: object) -> bool:
    return value is not None and not isinstance(value, (str, dict, list))
