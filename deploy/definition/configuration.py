"""The function.yaml with which a function is deployed: the file as it was written, and what this deployment sets."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

from deploy import kubernetes
from deploy.definition import resources, weights
from deploy.definition.deployment import ANNOTATION
from deploy.definition.function_file import Fields, http_trigger, run_an_image, section, set_environment
from deploy.definition.functions import Function

USER = "1000:1000"
"""The user that functions run as by default, UID:GID."""
_LARGEST_BODY = 32 * 1024 * 1024


def configured(function: Function, network: str | None, store: Mapping[str, str], *, on_kubernetes: bool) -> Fields:
    """The content of the file that nuctl gets.

    A function that is known from Nuclio alone keeps what it has, but for the options that it is deployed with.

    Args:
        function: The function, with its port and its options; not changed.
        network: The Docker network of CVAT; None without one.
        store: The variables that name CVAT's store for larger states; empty without one.
        on_kubernetes: Whether it goes into a cluster.
    """
    content = copy.deepcopy(function.content)
    options = function.deployment
    spec = section(content, "spec")
    run_an_image(content)
    annotations = section(content, "metadata", "annotations")
    annotations[ANNOTATION] = options.as_annotation()
    if annotations.get("spec") == "":
        # The same to CVAT; with an empty value Nuclio's dashboard refuses to change the function.
        annotations["spec"] = "[]"
    is_new = function.directory is not None
    _set_trigger(content, function, is_new=is_new)
    if is_new:
        set_environment(content, dict(store))
    if options.user or is_new:
        user, group = (options.user or USER).split(":")
        section(spec, "securityContext").update(runAsUser=int(user), runAsGroup=int(group))
    _set_resources(content, function, is_new=is_new)
    if options.weights:
        weights.mount(content, Path(options.weights))
    # Last: what the user has given takes precedence over everything else.
    set_environment(content, options.environment)
    if on_kubernetes:
        kubernetes.configure(spec, options)
    else:
        _set_platform(spec, options.network or (network if is_new else None))
    return content


def _set_trigger(content: Fields, function: Function, *, is_new: bool) -> None:
    found = http_trigger(content)
    if found is None:
        trigger: Fields = {"kind": "http", "attributes": {"maxRequestBodySize": _LARGEST_BODY}}
        section(content, "spec", "triggers")["http"] = trigger
    else:
        trigger = found[1]
    if function.port is not None:
        section(trigger, "attributes")["port"] = function.port
    if is_new and function.device == "gpu":
        # Each worker would load a model of its own onto the same GPU.
        trigger.pop("maxWorkers", None)
        trigger["numWorkers"] = 1


def _set_resources(content: Fields, function: Function, *, is_new: bool) -> None:
    options = function.deployment
    if is_new and function.device == "gpu":
        resources.give_gpus(content, options.gpus or 1)
        set_environment(content, {"DEVICE": "cuda"})
    given = {"cpu": options.cpu, "memory": options.memory}
    resources.limit(content, {name: value for name, value in given.items() if value})


def _set_platform(spec: Fields, network: str | None) -> None:
    attributes = section(spec, "platform", "attributes")
    if network:
        attributes["network"] = network
    # Without a policy a function does not come back after a reboot.
    attributes.setdefault("restartPolicy", {"name": "always"})
