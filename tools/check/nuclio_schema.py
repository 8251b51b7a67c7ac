"""The fields of Nuclio's function configuration and their types, and the comparison of a document with them.

After Nuclio's `functionconfig.Config`; where that holds objects of Kubernetes, as far down as functions for CVAT go.
Nuclio ignores keys that it does not know, and stops at a value of another type.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from common.errors import describe
from tools.check.findings import Findings
from tools.check.values import nearest


@dataclass(frozen=True, slots=True)
class MapOf:
    """An object with any keys, all of whose values have one schema."""

    values: Any


# A schema is a type (`object` stands for anything), a one-element list of a schema, a MapOf, or a dict of known keys.
_ENVIRONMENT_VARIABLE = {"name": str, "value": str, "valueFrom": MapOf(object)}
_CONTAINER = MapOf(object)
_BATCH = {"mode": str, "batchSize": int, "timeout": str}
_TRIGGER = {
    "class": str,
    "kind": str,
    "name": str,
    "disabled": bool,
    "numWorkers": int,
    "url": str,
    "paths": [str],
    "username": str,
    "password": str,
    "secret": str,
    "partitions": [MapOf(object)],
    "annotations": MapOf(str),
    "workerTerminationTimeout": str,
    "workerAvailabilityTimeoutMilliseconds": int,
    "workerAllocatorName": str,
    "explicitAckMode": str,
    "waitExplicitAckDuringRebalanceTimeout": str,
    "batch": _BATCH,
    "total_tasks": int,
    "max_task_allocation": int,
    "attributes": MapOf(object),
    "maxWorkers": int,
}
_BUILD = {
    "path": str,
    "functionSourceCode": str,
    "functionConfigPath": str,
    "tempDir": str,
    "registry": str,
    "baseImageRegistry": str,
    "image": str,
    "noBaseImagesPull": bool,
    "noCache": bool,
    "noCleanup": bool,
    "baseImage": str,
    "commands": [str],
    "directives": MapOf([{"kind": str, "value": str}]),
    "scriptPaths": [str],
    "addedPaths": MapOf(str),
    "dependencies": [str],
    "onbuildImage": str,
    "offline": bool,
    "runtimeAttributes": MapOf(object),
    "codeEntryType": str,
    "codeEntryAttributes": MapOf(object),
    "timestamp": int,
    "buildTimeoutSeconds": int,
    "mode": str,
    "args": MapOf(str),
    "flags": [str],
    "builderServiceAccount": str,
}
_SECURITY_CONTEXT = {
    "runAsUser": int,
    "runAsGroup": int,
    "fsGroup": int,
    "runAsNonRoot": bool,
    "supplementalGroups": [int],
    "supplementalGroupsPolicy": str,
    "fsGroupChangePolicy": str,
    "seLinuxOptions": MapOf(object),
    "windowsOptions": MapOf(object),
    "sysctls": [MapOf(str)],
    "seccompProfile": MapOf(object),
    "appArmorProfile": MapOf(object),
}
_VOLUME_MOUNT = {
    "name": str,
    "mountPath": str,
    "subPath": str,
    "subPathExpr": str,
    "readOnly": bool,
    "recursiveReadOnly": str,
    "mountPropagation": str,
}
SPEC = {
    "description": str,
    "disable": bool,
    "publish": bool,
    "handler": str,
    "runtime": str,
    "env": [_ENVIRONMENT_VARIABLE],
    "envFrom": [MapOf(object)],
    "resources": {"limits": MapOf(object), "requests": MapOf(object), "claims": [MapOf(object)]},
    "image": str,
    "imageHash": str,
    "replicas": int,
    "minReplicas": int,
    "maxReplicas": int,
    "targetCPU": int,
    "dataBindings": MapOf(MapOf(object)),
    "triggers": MapOf(_TRIGGER),
    "volumes": [{"volume": MapOf(object), "volumeMount": _VOLUME_MOUNT}],
    "version": int,
    "alias": str,
    "build": _BUILD,
    "runRegistry": str,
    "imagePullSecrets": str,
    "runtimeAttributes": MapOf(object),
    "loggerSinks": [{"level": str, "sink": str}],
    "dealerURI": str,
    "platform": {"attributes": MapOf(object)},
    "readinessTimeoutSeconds": int,
    "serviceType": str,
    "imagePullPolicy": str,
    "securityContext": _SECURITY_CONTEXT,
    "serviceAccount": str,
    "scaleToZero": MapOf(object),
    "disableDefaultHTTPTrigger": bool,
    "disableSensitiveFieldsMasking": bool,
    "devices": [str],
    "affinity": MapOf(object),
    "nodeSelector": MapOf(str),
    "nodeName": str,
    "tolerations": [MapOf(object)],
    "priorityClassName": str,
    "preemptionPolicy": str,
    "deploymentStrategy": MapOf(object),
    "hostIPC": bool,
    "customScalingMetricSpecs": [MapOf(object)],
    "autoScaleMetrics": [MapOf(object)],
    "waitReadinessTimeoutBeforeFailure": bool,
    "eventTimeout": str,
    "preemptionMode": str,
    "sidecars": [_CONTAINER],
    "initContainers": [_CONTAINER],
}
CONFIGURATION = {
    "apiVersion": str,
    "kind": str,
    "metadata": {
        "name": str,
        "namespace": str,
        "labels": MapOf(str),
        "annotations": MapOf(str),
        "resourceVersion": str,
    },
    "spec": SPEC,
    "status": MapOf(object),
}
HTTP_ATTRIBUTES = {
    "port": object,  # of another type it is passed over, which is a finding of its own
    "ingresses": MapOf(MapOf(object)),
    "readBufferSize": int,
    "maxRequestBodySize": int,
    "reduceMemoryUsage": bool,
    "cors": MapOf(object),
    "serviceType": str,
    "disablePortPublishing": bool,
    "mode": str,
}
PLATFORM_ATTRIBUTES = {
    "restartPolicy": {"name": str, "maximumRetryCount": int},
    "network": str,
    "healthCheckInterval": object,
    "mountMode": object,
}
TRIGGER_KINDS = (
    "http", "cron", "kafka-cluster", "kafka", "kickstart", "kinesis", "mqtt", "iotCoreMqtt", "nats", "eventhub",
    "v3ioItemPoller", "pubsub", "rabbit-mq", "rabbitMq", "v3ioStream",
)  # fmt: skip

_WORDS = {str: "a text", int: "a whole number", bool: "true or false"}


def compare(value: Any, schema: Any, field: str, findings: Findings) -> None:
    """Finds unknown keys and values of another type in what stands at `field`."""
    if value is None or schema is object:
        return
    if isinstance(schema, (MapOf, dict)):
        if isinstance(value, Mapping):
            _compare_keys(value, schema, field, findings)
        else:
            _mismatch(value, "an object", field, findings)
    elif isinstance(schema, list):
        if isinstance(value, list):
            for i, item in enumerate(value):
                compare(item, schema[0], f"{field}[{i}]", findings)
        else:
            _mismatch(value, "a list", field, findings)
    else:
        _compare_scalar(value, schema, field, findings)


def _compare_keys(value: Mapping[Any, Any], schema: MapOf | dict[str, Any], field: str, findings: Findings) -> None:
    for key, item in value.items():
        inner = f"{field}.{key}" if field else str(key)
        if isinstance(schema, MapOf):
            compare(item, schema.values, inner, findings)
        elif key in schema:
            compare(item, schema[key], inner, findings)
        else:
            _unknown(key, schema, inner, findings)


def _compare_scalar(value: Any, schema: type, field: str, findings: Findings) -> None:
    if schema is str:
        if isinstance(value, (Mapping, list)):
            _mismatch(value, "a text", field, findings)
        elif not isinstance(value, str):
            findings.warn(
                "schema.quote",
                field,
                expected="a text, in quotes",
                got=f"{describe(value)}, unquoted",
                why="YAML reads it as another type; Nuclio turns it back into a text of its own making, and other readers don't",
            )
    elif schema is int:
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        if isinstance(value, bool) or not whole:
            _mismatch(value, "a whole number", field, findings)
    elif not isinstance(value, bool):
        _mismatch(value, _WORDS[bool], field, findings)


def _mismatch(value: Any, expected: str, field: str, findings: Findings) -> None:
    findings.error(
        "schema.type",
        field,
        expected=expected,
        got=describe(value),
        why="Nuclio stops at a value of another type: nothing is deployed",
    )


def _unknown(key: Any, schema: Mapping[str, Any], field: str, findings: Findings) -> None:
    meant = nearest(str(key), schema)
    if meant.lower() == str(key).lower() and meant:
        why = "Nuclio reads the key in any case, but other tools, the local server among them, do not"
    else:
        why = "Nuclio ignores keys that it does not know, without a word"
    findings.warn(
        "schema.unknown-key",
        field,
        expected=meant or "a key that Nuclio knows",
        got=str(key),
        why=why,
        remedy=f"did you mean {meant}?" if meant else "",
    )
