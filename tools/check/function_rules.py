"""What Nuclio and CVAT make of a function.yaml: the rules that its schema can't say, because they look at several values."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from common.config import KINDS
from common.errors import describe
from tools.check.document import Document
from tools.check.findings import Finding, error, located, warning
from tools.check.interactor_rules import SAM_ID
from tools.check.label_rules import check_labels
from tools.check.schema import compare
from tools.check.tracker_rules import TRACKED_TYPES
from tools.check.values import as_text, did_you_mean, mapping, nearest, quantity, runtime_minor

_NOTES = "metadata.annotations"
_INTERACTOR = (
    "min_pos_points", "min_neg_points", "startswith_box", "startswith_box_optional", "help_message", "animated_gif",
)  # fmt: skip
_KIND_OF_KEY = {**dict.fromkeys(_INTERACTOR, "interactor"), "supported_shape_types": "tracker"}
_ANNOTATIONS = ("type", "name", "spec", "version", "framework", *_KIND_OF_KEY)
_WHOLE = re.compile(r"\s*[+-]?\d+\s*")
_BASE_PYTHON = re.compile(r"(?:.*/)?python:(3\.\d+)(?!\d)")
_REFUSED = "Nuclio refuses the function"
_IGNORED = "CVAT ignores it"
_LEAST_MEMORY = 6 * 2**20


def check_function_yaml(document: Document, file: str = "function.yaml") -> list[Finding]:
    """Checks a function.yaml by all rules of Nuclio and CVAT but those that need other files.

    Args:
        document: The file's content and lines.
        file: The file's name, for the findings.

    Returns:
        What is wrong with it, in the order of the rules.
    """
    given = {key: value for key, value in document.content.items() if value is not None}
    content, findings = compare({"metadata": {}, "spec": {}, **given}, "function")
    metadata, spec = mapping(mapping(content).get("metadata")), mapping(mapping(content).get("spec"))
    notes = mapping(metadata.get("annotations"))
    for rule in _ANNOTATION_RULES:
        findings += rule(metadata, notes)
    if notes and all(finding.field != f"{_NOTES}.spec" or finding.severity == "warning" for finding in findings):
        findings += check_labels(notes.get("spec", ""), notes.get("type", ""), document)
    for spec_rule in _SPEC_RULES:
        findings += spec_rule(spec)
    return located(findings, file, document.line_of)


# --- annotations: what CVAT reads


def _unknown_keys(metadata: Mapping[str, Any], notes: Mapping[str, Any]) -> Iterator[Finding]:
    kind = notes.get("type")
    for key in notes:
        if kind in KINDS and _KIND_OF_KEY.get(key, kind) != kind:
            got = f"{key}, which is for a function of type {_KIND_OF_KEY[key]}"
            yield warning("annotations.other-kind", f"{_NOTES}.{key}", f"no such key for a {kind}", got, _IGNORED)
        elif key not in _ANNOTATIONS and (meant := nearest(key, _ANNOTATIONS)):
            remedy = did_you_mean(key, _ANNOTATIONS)
            yield warning("annotations.unknown-key", f"{_NOTES}.{key}", meant, key, _IGNORED, remedy)


def _box_alone(metadata: Mapping[str, Any], notes: Mapping[str, Any]) -> Iterator[Finding]:
    starts_with_box = notes.get("startswith_box") or notes.get("startswith_box_optional")
    value = notes.get("min_pos_points")
    positive = value is None or (_WHOLE.fullmatch(value) is not None and int(value) > 0)
    if notes.get("type") == "interactor" and starts_with_box and positive:
        why = "CVAT's canvas sends no request before that many clicks are there: a box alone does nothing"
        expected, got = '"0", as it can start from a box', "nothing, which is 1" if value is None else describe(value)
        yield error("annotations.box-alone", f"{_NOTES}.min_pos_points", expected, got, why)


def _shape_types(metadata: Mapping[str, Any], notes: Mapping[str, Any]) -> Iterator[Finding]:
    if notes.get("type") != "tracker" or "supported_shape_types" not in notes:
        return
    rule, field, value = "annotations.shape-types", f"{_NOTES}.supported_shape_types", notes["supported_shape_types"]
    names = [name.strip() for name in value.split(",") if name.strip()]
    if not names:
        expected = "a list such as rectangle, polygon, or no such key"
        yield error(rule, field, expected, describe(value), "CVAT leaves the function out of its list")
    for name in names:
        if name not in TRACKED_TYPES:
            why = "no shape of CVAT has this type, so the function is never called for one"
            expected, remedy = f"some of {', '.join(TRACKED_TYPES)}", did_you_mean(name, TRACKED_TYPES)
            yield error(rule, field, expected, describe(name), why, remedy)
    if names and set(names) <= set(TRACKED_TYPES) - {"rectangle"}:
        why = "CVAT's tools panel offers only trackers of rectangles: the function does not appear there"
        yield warning(rule, field, "rectangle among the types", describe(value), why)


def _sam_id(metadata: Mapping[str, Any], notes: Mapping[str, Any]) -> Iterator[Finding]:
    why = "CVAT's UI decodes the reply of this id in the browser with SAM ViT-H's decoder, as an embedding"
    if metadata.get("name") == SAM_ID and notes.get("type") != "interactor":
        yield error("annotations.sam-id", "metadata.name", "another name", SAM_ID, f"{why}, whatever it is")
    elif metadata.get("name") == SAM_ID:
        expected = 'another name, unless the reply is {"blob": ...} made by SAM ViT-H'
        yield warning("annotations.sam-id", "metadata.name", expected, SAM_ID, why)


_ANNOTATION_RULES: tuple[Callable[[Mapping[str, Any], Mapping[str, Any]], Iterator[Finding]], ...] = (
    _unknown_keys,
    _box_alone,
    _shape_types,
    _sam_id,
)


# --- spec: what Nuclio reads


def _variables_twice(spec: Mapping[str, Any]) -> Iterator[Finding]:
    names = [mapping(variable).get("name") for variable in spec.get("env", ())]
    for i, name in enumerate(names):
        if name and name in names[:i]:
            why = "the last one takes effect, and nothing is said about the others"
            yield warning("env.twice", f"spec.env[{i}].name", "each variable once", f"{name} again", why)


def _trigger_names(spec: Mapping[str, Any]) -> Iterator[Finding]:
    for name, trigger in mapping(spec.get("triggers")).items():
        given = mapping(trigger).get("name")
        if given not in (None, "", name):
            why = "Nuclio refuses a trigger whose name is not its key"
            yield error("trigger.name", f"spec.triggers.{name}.name", f"{name}, or nothing", describe(given), why)


def _one_http_trigger(spec: Mapping[str, Any]) -> Iterator[Finding]:
    triggers = mapping(spec.get("triggers"))
    names = [name for name, trigger in triggers.items() if mapping(trigger).get("kind") == "http"]
    expected = "one trigger of kind http"
    if not names:
        why = "Nuclio adds one with a single worker that refuses requests over 4 MiB, which is an image of 3 MB"
        yield warning("trigger.missing", "spec.triggers", expected, "none", why)
    if len(names) > 1:
        why = "Nuclio refuses a function with more than one"
        yield error("trigger.several", "spec.triggers", expected, ", ".join(names), why)


def _build(spec: Mapping[str, Any]) -> Iterator[Finding]:
    build = mapping(spec.get("build"))
    if build.get("commands") and build.get("directives"):
        why = "Nuclio builds with the commands alone and says nothing about the directives"
        yield error("build.commands", "spec.build.commands", "either commands or directives", "both", why)
    base, field = build.get("baseImage", ""), "spec.build.baseImage"
    minor, python = runtime_minor(spec.get("runtime")), _BASE_PYTHON.match(base)
    if not base and not any(build.get(key) for key in ("directives", "commands", "dependencies")):
        expected = "an image that holds the function's packages, or directives that install them"
        why = "the function runs in a bare Python image, without any package"
        yield warning("build.base-image", field, expected, "nothing", why)
    elif minor is not None and python is not None and python.group(1) != f"3.{minor}":
        why = "Nuclio installs its wrapper's wheels for the runtime's version into the base image's Python"
        yield error("build.python", field, f"Python 3.{minor}, as spec.runtime says", describe(base), why)


def _gpu_limit(spec: Mapping[str, Any]) -> Iterator[Finding]:
    gpu, resources = "nvidia.com/gpu", mapping(spec.get("resources"))
    if mapping(resources.get("requests")).get(gpu) and not mapping(resources.get("limits")).get(gpu):
        why = "on Docker only the limit gives the container a GPU"
        field, expected = f"spec.resources.requests.{gpu}", f"spec.resources.limits.{gpu}"
        yield warning("resources.gpu", field, expected, "a request without a limit", why)


def _limits(spec: Mapping[str, Any]) -> Iterator[Finding]:
    resources = mapping(spec.get("resources"))
    limits = mapping(resources.get("limits"))
    for name, request in mapping(resources.get("requests")).items():
        wanted, limit = quantity(request), quantity(limits.get(name))
        if wanted is not None and limit is not None and wanted > limit:
            expected, why = f"at most {as_text(limits[name])}, the limit", "Kubernetes refuses the function's pods"
            yield error("resources.request", f"spec.resources.requests.{name}", expected, as_text(request), why)
    memory = quantity(limits.get("memory"))
    if memory is not None and 0 < memory < _LEAST_MEMORY:
        got, field = as_text(limits["memory"]), "spec.resources.limits.memory"
        remedy = "m is a thousandth, here of a byte: write Mi" if got.endswith("m") else ""
        why = "Docker refuses a container with a limit of less than 6 MiB"
        yield error("resources.memory-limit", field, "an amount such as 512Mi or 2Gi", got, why, remedy)


def _replicas(spec: Mapping[str, Any]) -> Iterator[Finding]:
    lowest, highest = spec.get("minReplicas"), spec.get("maxReplicas")
    if lowest == 0 and highest is None:
        yield error("spec.replicas", "spec.minReplicas", "maxReplicas beside a 0", "none", _REFUSED)
    elif lowest is not None and highest and lowest > highest:
        expected = f"at most {highest}, the maxReplicas"
        yield error("spec.replicas", "spec.minReplicas", expected, str(lowest), _REFUSED)


def _volumes(spec: Mapping[str, Any]) -> Iterator[Finding]:
    for i, entry in enumerate(spec.get("volumes", ())):
        volume, mount = mapping(mapping(entry).get("volume")), mapping(mapping(entry).get("volumeMount"))
        names = [name for name in (volume.get("name"), mount.get("name")) if name]
        if len(set(names)) != 1:
            expected, got = "one name for volume and volumeMount", " and ".join(names) or "none"
            yield error("volumes.name", f"spec.volumes[{i}].volume.name", expected, got, _REFUSED)
        if volume and "hostPath" not in volume:
            got = ", ".join(key for key in volume if key != "name") or "nothing"
            why = "on Docker Nuclio mounts only volumes of hostPath, and ignores the others"
            yield warning("volumes.kind", f"spec.volumes[{i}].volume", "hostPath", got, why)


_SPEC_RULES: tuple[Callable[[Mapping[str, Any]], Iterator[Finding]], ...] = (
    _variables_twice,
    _trigger_names,
    _one_http_trigger,
    _build,
    _gpu_limit,
    _limits,
    _replicas,
    _volumes,
)
