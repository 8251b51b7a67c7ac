"""What Nuclio makes of a function.yaml: metadata, handler, trigger, build, environment, resources, platform."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from common.errors import describe
from tools import durations
from tools.check.build_rules import check_build
from tools.check.document import Document
from tools.check.findings import Findings
from tools.check.nuclio_schema import CONFIGURATION, PLATFORM_ATTRIBUTES, compare
from tools.check.trigger_rules import check_triggers
from tools.check.values import CVAT_TIMEOUT, as_text, event_timeout, mapping, runtime_minor

_LONGEST_NAME = 63 - len("nuclio-")
_RESERVED_NAMES = ("dashboard", "controller", "dlx", "scaler")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_HANDLER = re.compile(r"[\w-]+(\.[\w-]+)*:\w+")
_QUANTITY = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?\d+)?")
_RESTART_POLICIES = ("always", "no", "on-failure", "unless-stopped")
_OLDEST_MINOR, _NEWEST_MINOR = 9, 12


def check_configuration(document: Document, findings: Findings) -> None:
    """All rules of Nuclio on a function.yaml, except those that need other files."""
    content = document.content
    compare(content, CONFIGURATION, "", findings)
    _check_metadata(mapping(content.get("metadata")), findings)
    spec = mapping(content.get("spec"))
    _check_basics(spec, findings)
    _check_timeouts(spec, findings)
    _check_environment(spec.get("env"), findings)
    check_triggers(spec, findings)
    check_build(spec, findings)
    _check_resources(mapping(spec.get("resources")), findings)
    _check_replicas(spec, findings)
    _check_volumes(spec.get("volumes"), findings)
    _check_platform(mapping(spec.get("platform")), findings)


def _check_metadata(metadata: Mapping[Any, Any], findings: Findings) -> None:
    name = metadata.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        findings.error(
            "metadata.name",
            "metadata.name",
            expected="lower-case letters, digits and dashes, such as onnx-ultralytics-yolov8",
            got="nothing" if name is None else describe(name),
            why="it names the container and the service, and is the id that CVAT knows the function by",
        )
    elif name in _RESERVED_NAMES:
        findings.error(
            "metadata.name-reserved",
            "metadata.name",
            expected=f"a name other than {', '.join(_RESERVED_NAMES)}",
            got=name,
            why="Nuclio keeps these names for its own services",
        )
    elif len(name) > _LONGEST_NAME:
        findings.warn(
            "metadata.name-length",
            "metadata.name",
            expected=f"at most {_LONGEST_NAME} characters",
            got=f"{len(name)} characters",
            why="on Kubernetes the service is called nuclio-<name>, and such names end at 63 characters",
        )
    namespace = metadata.get("namespace")
    if isinstance(namespace, str) and namespace not in ("", "cvat", "nuclio"):
        findings.warn(
            "metadata.namespace",
            "metadata.namespace",
            expected="cvat, by custom",
            got=describe(namespace),
            why="nuctl replaces it by the one it is given, and CVAT asks for the functions of nuclio",
        )
    project = mapping(metadata.get("labels")).get("nuclio.io/project-name")
    if project is not None and project != "cvat":
        findings.error(
            "metadata.project",
            "metadata.labels.nuclio.io/project-name",
            expected="cvat, or no such label",
            got=describe(project),
            why="CVAT lists the functions of the project cvat only",
        )


def _check_basics(spec: Mapping[Any, Any], findings: Findings) -> None:
    description = spec.get("description")
    if not as_text(description).strip():
        findings.error(
            "spec.description",
            "spec.description",
            expected="a sentence about the function",
            got="nothing" if description is None else describe(description),
            why="an empty one disappears from Nuclio's API, and CVAT then fails on its whole list of functions",
        )
    handler = spec.get("handler")
    if not isinstance(handler, str) or not _HANDLER.fullmatch(handler):
        findings.error(
            "spec.handler",
            "spec.handler",
            expected="module:function, such as main:handler",
            got="nothing" if handler is None else describe(handler),
            why="Nuclio's wrapper finds nothing to call and ends",
        )
    _check_runtime(spec.get("runtime"), findings)
    if spec.get("disable") is True:
        findings.warn(
            "spec.disable",
            "spec.disable",
            expected="false",
            got="true",
            why="Nuclio builds the function but runs no container",
        )


def _check_runtime(runtime: Any, findings: Findings) -> None:
    minor = runtime_minor(runtime)
    if minor is None:
        why = "this check, and functions for CVAT, are Python"
        if runtime == "python":
            why = "without a minor version Nuclio takes 3.9, whatever the base image has"
        findings.error(
            "spec.runtime",
            "spec.runtime",
            expected="python:3.11",
            got="nothing" if runtime is None else describe(runtime),
            why=why,
        )
    elif not _OLDEST_MINOR <= minor <= _NEWEST_MINOR:
        findings.error(
            "spec.runtime",
            "spec.runtime",
            expected="python:3.10 or python:3.11",
            got=describe(runtime),
            why=f"Nuclio 1.14 brings its wrapper for Python 3.{_OLDEST_MINOR} to 3.11, 1.15 for 3.10 to 3.{_NEWEST_MINOR}",
        )
    elif minor in (_OLDEST_MINOR, _NEWEST_MINOR):
        findings.warn(
            "spec.runtime",
            "spec.runtime",
            expected="python:3.10 or python:3.11",
            got=describe(runtime),
            why="only some of Nuclio 1.13 to 1.15 have a wrapper for this version",
        )


def _check_timeouts(spec: Mapping[Any, Any], findings: Findings) -> None:
    field, value = "spec.eventTimeout", spec.get("eventTimeout")
    if value is None or value == "":
        findings.warn(
            "spec.event-timeout",
            field,
            expected="a time such as 30s",
            got="nothing",
            why="a request that hangs keeps its worker for ever",
        )
    else:
        seconds = event_timeout(spec)
        if not seconds:
            findings.error(
                "spec.event-timeout",
                field,
                expected="a time of more than 0 with its unit, such as 30s or 1m30s",
                got=describe(value),
                why="Nuclio's processor refuses it and does not start",
            )
        elif seconds > CVAT_TIMEOUT:
            findings.warn(
                "spec.event-timeout",
                field,
                expected=f"at most {CVAT_TIMEOUT:.0f}s",
                got=describe(value),
                why=f"CVAT gives up after {CVAT_TIMEOUT:.0f} s; the worker stays busy for nobody",
            )
    readiness = spec.get("readinessTimeoutSeconds")
    if isinstance(readiness, int) and not isinstance(readiness, bool) and readiness <= 0:
        findings.error(
            "spec.readiness",
            "spec.readinessTimeoutSeconds",
            expected="1 or more",
            got=describe(readiness),
            why="the deployment gives up before the function can be ready",
        )


def _check_environment(variables: Any, findings: Findings) -> None:
    names: list[str] = []
    for i, variable in enumerate(variables if isinstance(variables, list) else ()):
        field, entry = f"spec.env[{i}]", mapping(variable)
        name = as_text(entry.get("name"))
        if not name or "=" in name:
            findings.error(
                "env.name",
                f"{field}.name",
                expected="a name without =",
                got=describe(name) if name else "nothing",
                why="Nuclio refuses to start the container",
            )
        elif name in names:
            findings.warn(
                "env.twice",
                f"{field}.name",
                expected="each variable once",
                got=f"{name} again",
                why="the last one counts and the others are dropped without a word",
            )
        names.append(name)
        if "'" in as_text(entry.get("value")):
            findings.error(
                "env.quote",
                f"{field}.value",
                expected="a value without single quotes",
                got=describe(entry.get("value")),
                why="Nuclio writes docker run --env 'NAME'='VALUE' as it stands: the quote breaks the command",
            )
        if entry.get("valueFrom") is not None:
            findings.warn(
                "env.value-from",
                f"{field}.valueFrom",
                expected="a plain value",
                got="a reference",
                why="on Docker the variable is empty; only Kubernetes looks references up",
            )


def _check_resources(resources: Mapping[Any, Any], findings: Findings) -> None:
    for part in ("limits", "requests"):
        for name, amount in mapping(resources.get(part)).items():
            field, text = f"spec.resources.{part}.{name}", as_text(amount)
            if not _QUANTITY.fullmatch(text):
                findings.error(
                    "resources.quantity",
                    field,
                    expected="a quantity of Kubernetes, such as 2, 500m or 4Gi",
                    got=describe(amount),
                    why="Nuclio can't read it: nothing is deployed",
                )
            elif str(name).endswith("/gpu") and not re.fullmatch(r"\d+", text):
                findings.error(
                    "resources.gpu",
                    field,
                    expected="a whole number of GPUs",
                    got=describe(amount),
                    why="Kubernetes gives GPUs whole",
                )
    gpu = "nvidia.com/gpu"
    if mapping(resources.get("requests")).get(gpu) and not mapping(resources.get("limits")).get(gpu):
        findings.warn(
            "resources.gpu",
            f"spec.resources.requests.{gpu}",
            expected=f"spec.resources.limits.{gpu}",
            got="a request without a limit",
            why="on Docker only the limit gives the container a GPU",
        )


def _check_replicas(spec: Mapping[Any, Any], findings: Findings) -> None:
    lowest, highest = spec.get("minReplicas"), spec.get("maxReplicas")
    why = "Nuclio refuses the function"
    if highest == 0:
        findings.error("spec.replicas", "spec.maxReplicas", expected="1 or more", got="0", why=why)
    elif lowest == 0 and highest is None:
        findings.error("spec.replicas", "spec.minReplicas", expected="maxReplicas beside a 0", got="none", why=why)
    elif isinstance(lowest, int) and isinstance(highest, int) and lowest > highest:
        findings.error(
            "spec.replicas",
            "spec.minReplicas",
            expected=f"at most {highest}, the maxReplicas",
            got=str(lowest),
            why=why,
        )


def _check_volumes(volumes: Any, findings: Findings) -> None:
    for i, entry in enumerate(volumes if isinstance(volumes, list) else ()):
        field = f"spec.volumes[{i}]"
        volume, mount = mapping(mapping(entry).get("volume")), mapping(mapping(entry).get("volumeMount"))
        names = [name for name in (volume.get("name"), mount.get("name")) if name]
        if not names or len(set(map(str, names))) > 1:
            findings.error(
                "volumes.name",
                f"{field}.volume.name",
                expected="one name for volume and volumeMount",
                got=" and ".join(map(str, names)) or "none",
                why="Nuclio refuses the function",
            )
        host_path = mapping(volume.get("hostPath")).get("path")
        if volume and not volume.get("hostPath"):
            findings.warn(
                "volumes.kind",
                f"{field}.volume",
                expected="hostPath",
                got=", ".join(str(key) for key in volume if key != "name") or "nothing",
                why="on Docker Nuclio mounts volumes of hostPath only, and passes over the others",
            )
        for name, path in (("volume.hostPath.path", host_path), ("volumeMount.mountPath", mount.get("mountPath"))):
            if (path is not None or name == "volumeMount.mountPath") and not as_text(path).startswith("/"):
                findings.error(
                    "volumes.path",
                    f"{field}.{name}",
                    expected="a path that begins with /",
                    got="nothing" if path is None else describe(path),
                    why="Docker refuses the mount",
                )


def _check_platform(platform: Mapping[Any, Any], findings: Findings) -> None:
    attributes = mapping(platform.get("attributes"))
    compare(attributes, PLATFORM_ATTRIBUTES, "spec.platform.attributes", findings)
    field = "spec.platform.attributes.restartPolicy"
    policy = attributes.get("restartPolicy")
    if policy is None or mapping(policy).get("name") == "no":
        findings.warn(
            "platform.restart-policy",
            field,
            expected="{name: always, maximumRetryCount: 3}",
            got="nothing" if policy is None else "no",
            why="a worker that dies ends the container, which Docker then leaves as it is",
        )
    elif (name := mapping(policy).get("name")) not in _RESTART_POLICIES:
        findings.error(
            "platform.restart-policy",
            f"{field}.name",
            expected=", ".join(_RESTART_POLICIES),
            got="nothing" if name is None else describe(name),
            why="Docker refuses to run the container",
        )
    if attributes.get("mountMode") is not None:
        findings.warn(
            "platform.mount-mode",
            "spec.platform.attributes.mountMode",
            expected="no mountMode",
            got=describe(attributes["mountMode"]),
            why="Nuclio no longer reads it: it does nothing",
        )
    interval = attributes.get("healthCheckInterval")
    if isinstance(interval, str) and not _is_duration(interval):
        findings.error(
            "platform.health",
            "spec.platform.attributes.healthCheckInterval",
            expected="a time such as 5s, or a number of seconds",
            got=describe(interval),
            why="Nuclio can't read it: the build fails",
        )


def _is_duration(text: str) -> bool:
    try:
        durations.seconds(text)
    except ValueError:
        return False
    return True
