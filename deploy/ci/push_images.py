"""Pushes the images of the functions that are deployed here: `python3 -m deploy.ci.push_images REGISTRY TAG`.

Each is pushed as REGISTRY/IMAGE:TAG and REGISTRY/IMAGE:latest.
"""

from __future__ import annotations

from collections.abc import Sequence

from deploy.ci.program import must, run
from deploy.console import DeploymentError, count
from deploy.definition.functions import repository_of
from deploy.nuclio import PROJECT


def push(arguments: Sequence[str]) -> None:
    """Pushes the images.

    Args:
        arguments: The registry and the tag.

    Raises:
        DeploymentError: No function is deployed here, or the registry refuses an image.
    """
    registry, tag = arguments
    registry = registry.lower()  # a registry refuses capitals, which the name of an organisation on GitHub may have
    label = f"label=nuclio.io/project-name={PROJECT}"
    images = sorted(set(must("docker", "ps", "--filter", label, "--format", "{{.Image}}").split()))
    if not images:
        raise DeploymentError("no function is deployed: nothing to push")
    for image in images:
        for target in (f"{registry}/{repository_of(image)}:{name}" for name in (tag, "latest")):
            must("docker", "tag", image, target)
            must("docker", "push", "--quiet", target)
    print(f"{count(len(images), 'image')} pushed to {registry}")


if __name__ == "__main__":
    run("push_images", push, "REGISTRY TAG")
