"""Every rule on function.yaml and the files beside it: a good function with one thing changed gives that finding."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from common.cvat.labels import parse_labels
from common.errors import StartupError
from tools.check import Finding, check_function
from tools.check import schema as schema_module
from tools.check.document import Document
from tools.check.function_rules import check_function_yaml
from tools.check.handler_rules import check_handler
from tools.check.label_rules import check_labels
from tools.check.values import mapping

CASES = Path(__file__).parent / "check_cases"
KINDS = ("detector", "interactor", "tracker", "reid")


def copy_of(kind: str, folder: Path) -> Path:
    return Path(shutil.copytree(CASES / kind, folder / kind))


def change(directory: Path, old: str, new: str) -> None:
    path = directory / "function.yaml"
    text = path.read_text()
    assert text.count(old) == 1, f"{old!r} is there {text.count(old)} times"
    path.write_text(text.replace(old, new))


def read(directory: Path) -> list[Finding]:
    return check_function(directory, run=False)


def brief(findings: list[Finding]) -> list[tuple[str, str, str]]:
    return [(finding.severity, finding.rule, finding.field) for finding in findings]


def line_with(directory: Path, text: str) -> int:
    return next(i for i, line in enumerate((directory / "function.yaml").read_text().splitlines(), 1) if text in line)


@pytest.mark.parametrize("kind", KINDS)
def test_a_good_function_has_no_findings(kind: str) -> None:
    assert read(CASES / kind) == []


TRIGGER = "spec.triggers.myHttpTrigger"
NOTES = "metadata.annotations"
# kind, text in the good file, what replaces it, severity, rule, field
BROKEN = [
    ("detector", "name: check-detector", "name: Check_Detector", "error", "metadata.name", "metadata.name"),
    ("detector", "  name: check-detector\n", "", "error", "metadata.name", "metadata.name"),
    ("detector", "name: check-detector", "name: dashboard", "error", "metadata.name-reserved", "metadata.name"),
    ("detector", "name: check-detector", f"name: {'a' * 60}", "warning", "metadata.name-length", "metadata.name"),
    ("detector", "namespace: cvat", "namespace: elsewhere", "warning", "metadata.namespace", "metadata.namespace"),
    (
        "detector",
        "  namespace: cvat",
        "  namespace: cvat\n  labels:\n    nuclio.io/project-name: other",
        "error",
        "metadata.project",
        "metadata.labels.nuclio.io/project-name",
    ),
    # annotations
    ("detector", "type: detector", "type: detectors", "error", "annotations.type", f"{NOTES}.type"),
    ("reid", "    type: reid\n", "", "error", "annotations.type", f"{NOTES}.type"),
    ("reid", "    name: Good reid\n", "", "warning", "annotations.name", f"{NOTES}.name"),
    ("reid", "    name: Good reid\n", '    name: " "\n', "warning", "annotations.name", f"{NOTES}.name"),
    ("interactor", 'version: "2"', 'version: "two"', "error", "annotations.whole-number", f"{NOTES}.version"),
    ("interactor", 'version: "2"', 'version: "2.0"', "error", "annotations.whole-number", f"{NOTES}.version"),
    ("interactor", 'version: "2"', 'version: "1"', "error", "annotations.version", f"{NOTES}.version"),
    ("interactor", '    version: "2"\n', "", "error", "annotations.version", f"{NOTES}.version"),
    ("interactor", 'version: "2"', "version: 2", "warning", "schema.quote", f"{NOTES}.version"),
    ("interactor", 'min_pos_points: "0"', 'min_pos_points: ""', "error", "annotations.whole-number", f"{NOTES}.min_pos_points"),
    ("interactor", 'min_pos_points: "0"', 'min_pos_points: "-1"', "error", "annotations.points", f"{NOTES}.min_pos_points"),
    ("interactor", 'min_pos_points: "0"', 'min_pos_points: "1"', "error", "annotations.box-alone", f"{NOTES}.min_pos_points"),
    ("interactor", '    min_pos_points: "0"\n', "", "error", "annotations.box-alone", f"{NOTES}.min_pos_points"),
    ("interactor", 'min_neg_points: "0"', 'min_neg_points: "1"', "warning", "annotations.points", f"{NOTES}.min_neg_points"),
    ("interactor", 'min_neg_points: "0"', 'min_neg_points: "-2"', "error", "annotations.points", f"{NOTES}.min_neg_points"),
    ("interactor", 'startswith_box: "true"', 'startswith_box: "false"', "error", "annotations.false-is-true", f"{NOTES}.startswith_box"),
    ("interactor", 'startswith_box_optional: "true"', 'startswith_box_optional: "0"', "error", "annotations.false-is-true", f"{NOTES}.startswith_box_optional"),
    ("interactor", 'startswith_box: "true"', 'startswith_box: "1"', "warning", "annotations.false-is-true", f"{NOTES}.startswith_box"),
    ("interactor", "min_pos_points:", "min_pos_point:", "warning", "annotations.unknown-key", f"{NOTES}.min_pos_point"),
    ("interactor", "https://example.com/demo.gif", "demo.gif", "warning", "annotations.gif", f"{NOTES}.animated_gif"),
    ("interactor", "name: check-interactor", "name: pth-facebookresearch-sam-vit-h", "warning", "annotations.sam-id", "metadata.name"),
    ("reid", "name: check-reid", "name: pth-facebookresearch-sam-vit-h", "error", "annotations.sam-id", "metadata.name"),
    ("reid", '    spec: ""', '    spec: ""\n    min_pos_points: "0"', "warning", "annotations.other-kind", f"{NOTES}.min_pos_points"),
    ("tracker", "types: rectangle, ellipse", "types: ellipse", "warning", "annotations.shape-types", f"{NOTES}.supported_shape_types"),
    ("tracker", "points, cuboid, mask", "point, cuboid", "error", "annotations.shape-types", f"{NOTES}.supported_shape_types"),
    ("tracker", "rectangle, ellipse, polygon, polyline, points, cuboid, mask", '" , "', "error", "annotations.shape-types", f"{NOTES}.supported_shape_types"),
    ("reid", '    spec: ""', "    spec: '[{\"name\": \"car\"}]'", "warning", "labels.useless", f"{NOTES}.spec"),
    ("reid", '    spec: ""', '    spec: "[{]"', "error", "labels.json", f"{NOTES}.spec"),
    ("reid", '    spec: ""', "    spec: []", "error", "schema.type", f"{NOTES}.spec"),
    # spec
    ("reid", "description: A reid that keeps every rule", 'description: ""', "error", "spec.description", "spec.description"),
    ("reid", "  description: A reid that keeps every rule\n", "", "error", "spec.description", "spec.description"),
    ("reid", "handler: main:handler", "handler: main", "error", "spec.handler", "spec.handler"),
    ("reid", "  handler: main:handler\n", "", "error", "spec.handler", "spec.handler"),
    ("reid", "handler: main:handler", "handler: mian:handler", "error", "handler.file", "spec.handler"),
    ("reid", "handler: main:handler", "handler: main:handle", "error", "handler.function", "spec.handler"),
    ("reid", "runtime: python:3.11", "runtime: python", "error", "spec.runtime", "spec.runtime"),
    ("reid", "runtime: python:3.11", "runtime: python:3.8", "error", "spec.runtime", "spec.runtime"),
    ("reid", "runtime: python:3.11", "runtime: python:3.12", "warning", "spec.runtime", "spec.runtime"),
    ("reid", "runtime: python:3.11", "runtime: golang", "error", "spec.runtime", "spec.runtime"),
    ("reid", "eventTimeout: 30s", "eventTimeout: 30", "error", "spec.event-timeout", "spec.eventTimeout"),
    ("reid", "eventTimeout: 30s", "eventTimeout: 30 seconds", "error", "spec.event-timeout", "spec.eventTimeout"),
    ("reid", "eventTimeout: 30s", "eventTimeout: 0s", "error", "spec.event-timeout", "spec.eventTimeout"),
    ("reid", "eventTimeout: 30s", "eventTimeout: -1s", "error", "spec.event-timeout", "spec.eventTimeout"),
    ("reid", "eventTimeout: 30s", "eventTimeout: 1s 2ms", "error", "spec.event-timeout", "spec.eventTimeout"),
    ("reid", "eventTimeout: 30s", "eventTimeout: 2m1s", "warning", "spec.event-timeout", "spec.eventTimeout"),
    ("reid", "  eventTimeout: 30s\n", "", "warning", "spec.event-timeout", "spec.eventTimeout"),
    ("reid", "readinessTimeoutSeconds: 60", "readinessTimeoutSeconds: 0", "error", "spec.readiness", "spec.readinessTimeoutSeconds"),
    ("reid", "readinessTimeoutSeconds: 60", "readinessTimeoutSeconds: 60s", "error", "schema.type", "spec.readinessTimeoutSeconds"),
    ("reid", "readinessTimeoutSeconds: 60", "readinessTimeoutSecond: 60", "warning", "schema.unknown-key", "spec.readinessTimeoutSecond"),
    ("reid", "readinessTimeoutSeconds: 60", "readinesstimeoutseconds: 60", "warning", "schema.unknown-key", "spec.readinesstimeoutseconds"),
    ("reid", "readinessTimeoutSeconds: 60", "disable: true", "warning", "spec.disable", "spec.disable"),
    ("reid", "readinessTimeoutSeconds: 60", "maxReplicas: 0", "error", "spec.replicas", "spec.maxReplicas"),
    ("reid", "readinessTimeoutSeconds: 60", "minReplicas: 0", "error", "spec.replicas", "spec.minReplicas"),
    ("reid", "readinessTimeoutSeconds: 60", "minReplicas: 3\n  maxReplicas: 2", "error", "spec.replicas", "spec.minReplicas"),
    # environment
    ("reid", 'value: "1"', 'value: "it\'s"', "error", "env.quote", "spec.env[0].value"),
    ("reid", 'value: "1"', "value: 1", "warning", "schema.quote", "spec.env[0].value"),
    ("reid", 'value: "1"', "value: [1]", "error", "schema.type", "spec.env[0].value"),
    ("reid", 'value: "1"', "valueFrom: {secretKeyRef: {name: a, key: b}}", "warning", "env.value-from", "spec.env[0].valueFrom"),
    ("reid", "name: GREETING", 'name: ""', "error", "env.name", "spec.env[0].name"),
    ("reid", 'value: "1"', 'value: "1"\n    - name: GREETING', "warning", "env.twice", "spec.env[1].name"),
    ("reid", '    - name: GREETING\n      value: "1"', '    GREETING: "1"', "error", "schema.type", "spec.env"),
    # trigger
    ("reid", "kind: http", "kind: htpp", "error", "trigger.kind", f"{TRIGGER}.kind"),
    ("reid", "      kind: http\n", "", "error", "trigger.kind", f"{TRIGGER}.kind"),
    ("reid", "kind: http", "kind: cron", "warning", "trigger.missing", "spec.triggers"),
    ("reid", "kind: http", "kind: http\n      name: other", "error", "trigger.name", f"{TRIGGER}.name"),
    ("reid", "  triggers:", "  triggers:\n    second: {kind: http, attributes: {maxRequestBodySize: 33554432}}", "error", "trigger.several", "spec.triggers"),
    ("reid", "numWorkers: 2", "maxWorkers: 2", "warning", "trigger.max-workers", f"{TRIGGER}.maxWorkers"),
    ("reid", "numWorkers: 2", "numWorkers: 0", "error", "trigger.workers", f"{TRIGGER}.numWorkers"),
    ("reid", "numWorkers: 2", 'numWorkers: "2"', "error", "schema.type", f"{TRIGGER}.numWorkers"),
    ("reid", "numWorkers: 2", "numworker: 2", "warning", "schema.unknown-key", f"{TRIGGER}.numworker"),
    ("reid", "Milliseconds: 10000", "Milliseconds: 0", "warning", "trigger.wait", f"{TRIGGER}.workerAvailabilityTimeoutMilliseconds"),
    ("reid", "Milliseconds: 10000", "Milliseconds: 600000", "warning", "trigger.wait", f"{TRIGGER}.workerAvailabilityTimeoutMilliseconds"),
    ("reid", "maxRequestBodySize: 33554432", "maxRequestBodySize: 1000000", "warning", "trigger.body-size", f"{TRIGGER}.attributes.maxRequestBodySize"),
    ("reid", "        maxRequestBodySize: 33554432\n", "", "warning", "trigger.body-size", f"{TRIGGER}.attributes.maxRequestBodySize"),
    ("reid", "maxRequestBodySize: 33554432", "maxRequestBodySize: 32MB", "error", "schema.type", f"{TRIGGER}.attributes.maxRequestBodySize"),
    ("reid", "port: 32001", 'port: "32001"', "error", "trigger.port", f"{TRIGGER}.attributes.port"),
    ("reid", "port: 32001", "port: 70000", "error", "trigger.port", f"{TRIGGER}.attributes.port"),
    ("reid", "port: 32001", "ports: 32001", "warning", "schema.unknown-key", f"{TRIGGER}.attributes.ports"),
    ("reid", "kind: http", "kind: http\n      batch: {mode: enable, batchSize: 4, timeout: 1s}", "error", "trigger.batch", f"{TRIGGER}.batch.mode"),
    ("reid", "kind: http", "kind: http\n      batch: {mode: disable}", "error", "trigger.batch", f"{TRIGGER}.batch.batchSize"),
    # build
    ("reid", "image: cvat.check.reid", "image: localhost:5000/cvat.check.reid", "error", "build.image", "spec.build.image"),
    ("reid", "image: cvat.check.reid", "image: CVAT.Check", "error", "build.image", "spec.build.image"),
    ("reid", "baseImage: cvat.check.base", "baseImage: python:3.10-slim", "error", "build.python", "spec.build.baseImage"),
    ("reid", "baseImage: cvat.check.base", "baseImage: cvat.check.base\n    commands: [pip install numpy]", "error", "build.commands", "spec.build.commands"),
    ("reid", "postCopy:", "afterCopy:", "error", "build.directives", "spec.build.directives.afterCopy"),
    ("reid", "kind: RUN", "kind: runn", "error", "build.directives", "spec.build.directives.postCopy[0].kind"),
    ("reid", "value: pip install --no-cache-dir -r /opt/nuclio/requirements.txt", 'value: ""', "error", "build.directives", "spec.build.directives.postCopy[0].value"),
    # resources, volumes, platform
    ("reid", "memory: 4Gi", "memory: 4GB", "error", "resources.quantity", "spec.resources.limits.memory"),
    ("reid", "memory: 4Gi", "memory: 512m", "error", "resources.memory-limit", "spec.resources.limits.memory"),
    ("reid", "    limits:", "    requests:\n      memory: 5Gi\n    limits:", "error", "resources.request", "spec.resources.requests.memory"),
    ("reid", "    limits:", "    requests:\n      cpu: 2500m\n    limits:", "error", "resources.request", "spec.resources.requests.cpu"),
    ("reid", "nvidia.com/gpu: 1", "nvidia.com/gpu: 500m", "error", "resources.gpu", "spec.resources.limits.nvidia.com/gpu"),
    ("reid", "    limits:", "    requests:", "warning", "resources.gpu", "spec.resources.requests.nvidia.com/gpu"),
    ("reid", "      volumeMount:\n        name: weights", "      volumeMount:\n        name: other", "error", "volumes.name", "spec.volumes[0].volume.name"),
    ("reid", "path: /srv/weights", "path: srv/weights", "error", "volumes.path", "spec.volumes[0].volume.hostPath.path"),
    ("reid", "        mountPath: /opt/nuclio/weights\n", "", "error", "volumes.path", "spec.volumes[0].volumeMount.mountPath"),
    ("reid", "hostPath:\n          path: /srv/weights", "emptyDir: {}", "warning", "volumes.kind", "spec.volumes[0].volume"),
    ("reid", "name: always", "name: sometimes", "error", "platform.restart-policy", "spec.platform.attributes.restartPolicy.name"),
    ("reid", "      restartPolicy:\n        name: always\n        maximumRetryCount: 3", "      network: cvat_cvat", "warning", "platform.restart-policy", "spec.platform.attributes.restartPolicy"),
    ("reid", "maximumRetryCount: 3", "maximumRetryCount: 3\n      mountMode: volume", "warning", "platform.mount-mode", "spec.platform.attributes.mountMode"),
    ("reid", "maximumRetryCount: 3", "maximumRetryCount: 3\n      healthCheckInterval: soon", "error", "platform.health", "spec.platform.attributes.healthCheckInterval"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "old", "new", "severity", "rule", "field"), BROKEN)
def test_one_change_gives_one_finding(
    kind: str, old: str, new: str, severity: str, rule: str, field: str, tmp_path: Path
) -> None:
    directory = copy_of(kind, tmp_path)
    change(directory, old, new)
    findings = read(directory)
    assert (severity, rule, field) in brief(findings)
    finding = findings[brief(findings).index((severity, rule, field))]
    assert finding.file == "function.yaml"
    assert finding.line is not None
    assert finding.expected
    assert finding.got
    assert finding.why
    # A trigger of another kind leaves the function without one, a misspelt number of clicks without that; a number for a
    # time lacks quotes as well as its unit.
    assert {each.rule for each in findings} - {rule} <= {"trigger.missing", "annotations.box-alone", "schema.quote"}


def test_a_finding_names_the_line_of_its_field_or_of_what_is_around_it(tmp_path: Path) -> None:
    directory = copy_of("reid", tmp_path)
    change(directory, "port: 32001", "port: none")
    (finding,) = read(directory)
    assert finding.line == line_with(directory, "port: none")
    change(directory, "        port: none\n", "")
    change(directory, "        maxRequestBodySize: 33554432\n", "        reduceMemoryUsage: true\n")
    (finding,) = read(directory)
    assert finding.rule == "trigger.body-size"
    assert finding.line == line_with(directory, "      attributes:")


def test_an_unknown_key_comes_with_the_nearest_known_one(tmp_path: Path) -> None:
    directory = copy_of("reid", tmp_path)
    change(directory, "numWorkers: 2", "numWorker: 2")
    (finding,) = read(directory)
    assert finding.expected == "numWorkers"
    assert finding.remedy == "did you mean numWorkers?"
    change(directory, "numWorker: 2", "numWorkers: 2")
    change(directory, "kind: RUN", "kind: RUNN")
    (finding,) = read(directory)
    assert finding.remedy == "did you mean RUN?"
    change(directory, "kind: RUNN", "kind: run")
    assert read(directory) == []


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("metadata:\n  name: a\n\tnamespace: b\n", 3),
        ("metadata:\n  name: [a\nspec:\n  description: b\n", 3),
        ("metadata:\n  name: 'a\n", 3),
        ("metadata: {}\n---\nspec: {}\n", 2),
        ("metadata: !!python/object:os.system {}\n", 1),
    ],
)
def test_what_is_not_yaml_is_found_with_its_line(text: str, line: int, tmp_path: Path) -> None:
    directory = copy_of("reid", tmp_path)
    (directory / "function.yaml").write_text(text)
    (finding,) = read(directory)
    assert (finding.rule, finding.line) == ("yaml.syntax", line)


@pytest.mark.parametrize("content", [b"", b"- a\n- b\n", b"a text", b"\xff\xfe\xfa"])
def test_a_file_without_an_object_is_one_finding(content: bytes, tmp_path: Path) -> None:
    directory = copy_of("reid", tmp_path)
    (directory / "function.yaml").write_bytes(content)
    assert brief(read(directory)) == [("error", "yaml.syntax", "")]


def test_a_directory_without_function_yaml_is_one_finding(tmp_path: Path) -> None:
    (finding,) = read(tmp_path)
    assert (finding.severity, finding.rule, finding.file) == ("error", "yaml.unreadable", "function.yaml")


def test_a_repeated_key_is_found(tmp_path: Path) -> None:
    directory = copy_of("reid", tmp_path)
    change(directory, "numWorkers: 2", "numWorkers: 2\n      numWorkers: 3")
    (finding,) = read(directory)
    assert (finding.rule, finding.field) == ("yaml.duplicate-key", f"{TRIGGER}.numWorkers")
    assert finding.line == line_with(directory, "numWorkers: 3")


@pytest.mark.parametrize("value", ["30s", "1m30s", "0.5m", ".5s", "90000ms", "100us", "+1h"])
def test_times_as_go_writes_them_are_read(value: str, tmp_path: Path) -> None:
    directory = copy_of("reid", tmp_path)
    change(directory, "eventTimeout: 30s", f"eventTimeout: {value}")
    assert {finding.severity for finding in read(directory)} <= {"warning"}


@pytest.mark.parametrize("value", ["2", "500m", "0.5", "1e3", "128M", "4Gi", ".5"])
def test_quantities_as_kubernetes_writes_them_are_read(value: str, tmp_path: Path) -> None:
    directory = copy_of("reid", tmp_path)
    change(directory, "cpu: 2", f"cpu: {value}")
    assert read(directory) == []


# --- labels


def labels_of(directory: Path) -> list[dict]:
    return json.loads(yaml.safe_load((directory / "function.yaml").read_text())["metadata"]["annotations"]["spec"])


def with_labels(labels: object, folder: Path) -> Path:
    directory = copy_of("detector", folder)
    content = yaml.safe_load((directory / "function.yaml").read_text())
    content["metadata"]["annotations"]["spec"] = labels if isinstance(labels, str) else json.dumps(labels)
    (directory / "function.yaml").write_text(yaml.safe_dump(content))
    return directory


ATTRIBUTE = {"name": "age", "input_type": "number", "values": ["0", "10", "1"]}
CIRCLES = "".join(
    f'<circle r="1" cx="{x}" cy="50" data-type="element node" data-element-id="{i}" data-node-id="{i}"'
    f' data-label-name="{name}"></circle>'
    for i, (name, x) in enumerate([("left", 10), ("right", 90)], 1)
)
LINE = '<line x1="10" y1="50" x2="90" y2="50" data-type="edge" data-node-from="1" data-node-to="2"></line>'


def skeleton(svg: str = LINE + CIRCLES, **fields: object) -> dict:
    joints = [{"id": i, "name": name, "type": "points"} for i, name in enumerate(("left", "right"))]
    return {"name": "pair", "type": "skeleton", "sublabels": joints, "svg": svg} | fields


def attribute(**fields: object) -> dict:
    return {"name": "car", "attributes": [{**ATTRIBUTE, **fields}]}


SPEC = "metadata.annotations.spec"
BROKEN_LABELS = [
    ("{not json", "labels.json", SPEC),
    ('{"name": "car"}', "labels.json", SPEC),
    ("[]", "labels.empty", SPEC),
    ("", "labels.empty", SPEC),
    (["car"], "labels.json", f"{SPEC}[0]"),
    ([{"type": "rectangle"}], "labels.name", f"{SPEC}[0].name"),
    ([{"name": ""}], "labels.name", f"{SPEC}[0].name"),
    ([{"name": 7}], "labels.name", f"{SPEC}[0].name"),
    ([{"name": "car"}, {"name": "car"}], "labels.unique", f"{SPEC}[1].name"),
    ([{"name": "car", "type": "box"}], "labels.type", f"{SPEC}[0].type"),
    ([{"name": "car", "id": "0"}], "labels.id", f"{SPEC}[0].id"),
    ([{"name": "car", "id": True}], "labels.id", f"{SPEC}[0].id"),
    ([{"name": "car", "id": 3}, {"name": "bus", "id": 3}], "labels.id", f"{SPEC}[1].id"),
    ([{"name": "car", "id": 1}, {"name": "bus"}], "labels.id", f"{SPEC}[1].id"),
    ([{"name": "car", "attributes": {"age": 1}}], "labels.attributes", f"{SPEC}[0].attributes"),
    ([{"name": "car", "attributes": ["age"]}], "labels.attributes", f"{SPEC}[0].attributes[0]"),
    ([attribute(name="")], "labels.attributes", f"{SPEC}[0].attributes[0].name"),
    ([{"name": "car", "attributes": [ATTRIBUTE, ATTRIBUTE]}], "labels.unique", f"{SPEC}[0].attributes[1].name"),
    ([attribute(input_type="slider")], "labels.input-type", f"{SPEC}[0].attributes[0].input_type"),
    ([attribute(input_type=None)], "labels.input-type", f"{SPEC}[0].attributes[0].input_type"),
    ([attribute(values=None)], "labels.values", f"{SPEC}[0].attributes[0].values"),
    ([attribute(values="0,10,1")], "labels.values", f"{SPEC}[0].attributes[0].values"),
    ([attribute(values=[0, 10, 1])], "labels.values", f"{SPEC}[0].attributes[0].values"),
    ([attribute(values=["0", "10"])], "labels.values", f"{SPEC}[0].attributes[0].values"),
    ([attribute(values=["0", "1", "0.1"])], "labels.values", f"{SPEC}[0].attributes[0].values"),
    ([attribute(values=["10", "0", "1"])], "labels.values", f"{SPEC}[0].attributes[0].values"),
    ([attribute(values=["0", "10", "0"])], "labels.values", f"{SPEC}[0].attributes[0].values"),
    ([attribute(input_type="select", values=[])], "labels.values", f"{SPEC}[0].attributes[0].values"),
    ([skeleton(sublabels=[])], "labels.sublabels", f"{SPEC}[0].sublabels"),
    ([skeleton(sublabels=None)], "labels.sublabels", f"{SPEC}[0].sublabels"),
    ([skeleton(svg="")], "labels.svg", f"{SPEC}[0].svg"),
]
# What only the drawing and CVAT's own rules forbid; a function of the collection starts with it.
BROKEN_FOR_CVAT = [
    ([skeleton(sublabels=[{"name": "left"}, {"name": "right", "type": "points"}])], "labels.type", f"{SPEC}[0].sublabels[0].type"),
    ([skeleton(CIRCLES.replace("right", "rihgt"))], "labels.svg", f"{SPEC}[0].svg"),
    ([skeleton(CIRCLES + CIRCLES)], "labels.svg", f"{SPEC}[0].svg"),
    ([skeleton(CIRCLES.replace('data-label-name="right"', ""))], "labels.svg", f"{SPEC}[0].svg"),
    ([skeleton(CIRCLES.replace('data-node-id="2"', 'data-node-id="1"'))], "labels.svg", f"{SPEC}[0].svg"),
    ([skeleton(CIRCLES.replace('data-element-id="2"', ""))], "labels.svg", f"{SPEC}[0].svg"),
    ([skeleton(CIRCLES.replace('cx="90"', 'cx="190"'))], "labels.svg", f"{SPEC}[0].svg"),
    ([skeleton(CIRCLES.replace("element node", "node"))], "labels.svg", f"{SPEC}[0].svg"),
    ([skeleton(LINE.replace('data-node-to="2"', 'data-node-to="3"') + CIRCLES)], "labels.svg", f"{SPEC}[0].svg"),
    ([skeleton(LINE.replace('x2="90"', "") + CIRCLES)], "labels.svg", f"{SPEC}[0].svg"),
    ([skeleton("<svg></svg>")], "labels.svg", f"{SPEC}[0].svg"),
]  # fmt: skip
SUSPICIOUS_LABELS = [
    ([{"name": " car"}], "labels.name", f"{SPEC}[0].name"),
    ([{"name": "car", "sublabels": [{"name": "wheel"}]}], "labels.sublabels", f"{SPEC}[0].sublabels"),
    ([attribute(input_type="checkbox", values=["yes", "no"])], "labels.values", f"{SPEC}[0].attributes[0].values"),
]


@pytest.mark.parametrize(("labels", "rule", "field"), BROKEN_LABELS + BROKEN_FOR_CVAT)
def test_broken_labels_are_errors(labels: object, rule: str, field: str, tmp_path: Path) -> None:
    assert ("error", rule, field) in brief(read(with_labels(labels, tmp_path)))


@pytest.mark.parametrize(("labels", "rule", "field"), SUSPICIOUS_LABELS)
def test_suspicious_labels_are_warnings(labels: object, rule: str, field: str, tmp_path: Path) -> None:
    assert brief(read(with_labels(labels, tmp_path))) == [("warning", rule, field)]


@pytest.mark.parametrize(("labels", "rule", "field"), BROKEN_LABELS)
def test_the_functions_own_reader_refuses_the_same_labels(labels: object, rule: str, field: str) -> None:
    if rule == "labels.empty":
        assert not parse_labels(str(labels))
        return
    with pytest.raises(StartupError):
        parse_labels(labels if isinstance(labels, str) else json.dumps(labels))


@pytest.mark.parametrize(
    "labels",
    [
        [{"name": "car"}],
        [{"name": "a", "id": 5}, {"name": "b", "id": 2, "type": "mask"}],
        [attribute(values=["-10", "10", "5"])],
        [attribute(input_type="checkbox", values=[])],
        [attribute(input_type="text", values=[])],
        [attribute(input_type="radio", values=["a", "b"])],
        [skeleton()],
        [skeleton(CIRCLES)],
    ],
)
def test_good_labels_have_no_findings(labels: list, tmp_path: Path) -> None:
    assert read(with_labels(labels, tmp_path)) == []


def test_an_error_in_the_json_of_a_block_is_found_on_its_own_line(tmp_path: Path) -> None:
    directory = copy_of("detector", tmp_path)
    change(directory, '{"id": 1, "name": "area", "type": "mask"},', '{"id": 1, "name": "area" "type": "mask"},')
    (finding,) = read(directory)
    assert (finding.rule, finding.line) == ("labels.json", line_with(directory, '"area" "type"'))


# --- files


def test_links_and_odd_files_that_nuclio_can_not_copy_are_errors(tmp_path: Path) -> None:
    directory = copy_of("reid", tmp_path)
    (tmp_path / "shared").mkdir()
    (directory / "common_files").symlink_to(tmp_path / "shared")
    (directory / "lost").symlink_to("nowhere")
    (directory / "notes.txt").symlink_to(directory / "function.yaml")  # the link to a file is copied as the file
    os.mkfifo(directory / "pipe")
    found = {(finding.rule, finding.field): finding.severity for finding in read(directory)}
    assert found == {
        ("files.link", "common_files"): "error",
        ("files.link", "lost"): "error",
        ("files.special", "pipe"): "error",
    }


def test_large_files_and_leftovers_are_warnings(tmp_path: Path) -> None:
    directory = copy_of("reid", tmp_path)
    (directory / ".venv" / "lib").mkdir(parents=True)
    with (directory / "model.onnx").open("wb") as file:
        file.truncate(101 * 2**20)
    found = {(finding.severity, finding.rule, finding.field) for finding in read(directory)}
    assert found == {("warning", "files.size", "model.onnx"), ("warning", "files.leftover", ".venv")}


@pytest.mark.parametrize(
    ("name", "severity"), [("json.py", "error"), ("types.py", "error"), ("queue.py", "warning"), ("cli.py", None)]
)
def test_modules_that_hide_those_of_the_wrapper_or_of_python(name: str, severity: str | None, tmp_path: Path) -> None:
    directory = copy_of("reid", tmp_path)
    (directory / name).write_text("")
    assert brief(read(directory)) == ([(severity, "files.shadow", name)] if severity else [])


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("def handler(context, event:\n", ("error", "handler.syntax", "")),
        ("def handler(context, event): ...\n", ("warning", "handler.init-context", "init_context")),
        ("def init_context(context): ...\n", ("error", "handler.function", "spec.handler")),
        ("def init_context(c): ...\ndef handler(event): ...\n", ("error", "handler.function", "spec.handler")),
        ("def init_context(c): ...\ndef handler(a, b, c): ...\n", ("error", "handler.function", "spec.handler")),
        ("from other import *\n", None),
        ("from other import handler, init_context\n", None),
        ("import other\nhandler, init_context = other.handler, other.init_context\n", None),
        ("try:\n    from a import handler, init_context\nexcept ImportError:\n    handler = None\n", None),
        ("def init_context(c): ...\nasync def handler(*values): ...\n", None),
    ],
)
def test_the_handler_is_looked_up_without_running_it(
    code: str, expected: tuple[str, str, str] | None, tmp_path: Path
) -> None:
    directory = copy_of("reid", tmp_path)
    (directory / "main.py").write_text(code)
    assert brief(read(directory)) == ([expected] if expected else [])


def test_a_syntax_error_is_found_with_file_and_line(tmp_path: Path) -> None:
    directory = copy_of("reid", tmp_path)
    (directory / "main.py").write_text("import json\n\ndef handler(context event): ...\n")
    (finding,) = read(directory)
    assert (finding.file, finding.line) == ("main.py", 3)


def test_a_second_configuration_is_checked_too(tmp_path: Path) -> None:
    directory = copy_of("detector", tmp_path)
    text = (directory / "function.yaml").read_text()
    (directory / "function-gpu.yaml").write_text(text.replace('"disc"', '"disk"').replace("numWorkers", "maxWorkers"))
    found = [(finding.file, finding.rule) for finding in read(directory)]
    assert found == [("function-gpu.yaml", "trigger.max-workers"), ("function-gpu.yaml", "labels.differ")]


def spoiled(value: Any, rng: random.Random) -> Any:
    """A copy of a document in which something, somewhere, is replaced or removed."""
    if isinstance(value, (list, dict)) and value and rng.random() < 0.9:
        key = rng.choice(list(value) if isinstance(value, dict) else range(len(value)))
        copy = dict(value) if isinstance(value, dict) else list(value)
        if rng.random() < 0.1:
            del copy[key]
        else:
            copy[key] = spoiled(copy[key], rng)
        return copy
    return rng.choice(
        [None, True, -1, 1.5, "", "junk", [], {}, [[]], [None], {"a": 1}, {1: 2}, "x" * 100, "[1]", "[{}]"]
    )


def several_times_spoiled(value: Any, rng: random.Random) -> Any:
    for _ in range(rng.randint(1, 4)):
        value = spoiled(value, rng)
    return value


@pytest.mark.parametrize("kind", KINDS)
def test_no_junk_in_a_function_yaml_breaks_the_check(kind: str) -> None:
    content = yaml.safe_load((CASES / kind / "function.yaml").read_text())
    rng = random.Random(kind)
    for _ in range(400):
        document = Document(several_times_spoiled(content, rng))
        if isinstance(document.content, dict):
            check_function_yaml(document)
            list(check_handler(CASES / kind, mapping(document.content.get("spec"))))


def test_no_junk_in_labels_breaks_the_check() -> None:
    rng = random.Random(3)
    good = [attribute(), skeleton(), {"name": "b", "id": 9, "type": "mask"}]
    for _ in range(1500):
        list(check_labels(json.dumps(several_times_spoiled(good, rng)), "detector", Document({})))


# --- the schemas


@pytest.mark.parametrize("name", ["function", "labels"])
def test_the_schemas_are_valid_and_each_rule_says_why(name: str) -> None:
    schema = yaml.safe_load((Path(schema_module.__file__).parent / f"{name}.schema.yaml").read_text())
    Draft202012Validator.check_schema(schema)
    notes = list(notes_in(schema))
    assert len(notes) > 20
    for note in notes:
        assert {"rule", "why"} <= set(note) <= {"rule", "severity", "expected", "why", "remedy"}, note
        assert note.get("severity", "warning") == "warning", note


def notes_in(schema: Any) -> Iterator[dict[str, str]]:
    for key, value in schema.items() if isinstance(schema, dict) else enumerate(schema):
        if key in ("finding", "missing", "unknown", "mismatch") and "rule" in value:
            yield value
        elif isinstance(value, (dict, list)):
            yield from notes_in(value)


@pytest.mark.parametrize("where", [[], ["metadata"], ["metadata", "annotations"], ["spec"], ["spec", "platform"]])
@pytest.mark.parametrize("value", [None, {}, [], "text", 1])
def test_any_value_of_a_section_has_a_finding(where: list[str], value: object) -> None:
    content: Any = value
    for key in reversed(where):
        content = {key: content}
    findings = check_function_yaml(Document(content if isinstance(content, dict) else {}))
    assert findings
    assert all(finding.rule and finding.expected and finding.got and finding.why for finding in findings)


def test_a_value_of_another_type_is_one_finding(tmp_path: Path) -> None:
    directory = copy_of("reid", tmp_path)
    change(directory, "numWorkers: 2", "numWorkers: [2]")
    assert brief(read(directory)) == [("error", "schema.type", f"{TRIGGER}.numWorkers")]


def test_an_anchor_inside_itself_is_a_finding(tmp_path: Path) -> None:
    directory = copy_of("reid", tmp_path)
    path = directory / "function.yaml"
    path.write_text("metadata: &a\n  name: x\n  labels: *a\n")
    assert brief(read(directory)) == [("error", "yaml.syntax", "")]
