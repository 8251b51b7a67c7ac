"""What is different on Kubernetes: images come from a registry, and a function may have several replicas."""

from __future__ import annotations

from deploy.definition.deployment import Deployment
from deploy.definition.function_file import Fields, section


def configure(spec: Fields, options: Deployment) -> None:
    """Sets the replicas of a function, and where they may run.

    Args:
        spec: Of its function.yaml, which is changed.
        options: What it is deployed with; what was not given stays as the file has it.
    """
    given = (("minReplicas", options.min_replicas), ("maxReplicas", options.max_replicas))
    for name, value in (*given, ("targetCPU", options.target_cpu)):
        if value is not None:
            spec[name] = value
    if options.node_selector:
        section(spec, "nodeSelector").update(options.node_selector)


def image_to_run(image: str, options: Deployment) -> str:
    """The name under which the cluster pulls an image.

    Args:
        image: Its name without a registry, or with it, as Nuclio keeps it.
        options: What the function is deployed with.
    """
    registry = options.run_registry or options.registry
    return image if not registry or image.startswith(f"{registry}/") else f"{registry}/{image}"
