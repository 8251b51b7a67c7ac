"""What a function's container may use: the limits of its function.yaml, changed by a deployment."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from deploy.definition.function_file import Fields, at, section
from tools import quantities

GPU = "nvidia.com/gpu"
CUDA_MEMORY = 4 * 2**30
"""Bytes of the host's memory that a container gets on a GPU, beside its limit: CUDA's libraries and buffers are in it."""


def limit(content: Fields, limits: Mapping[str, object]) -> None:
    """Sets limits; requests above them are lowered, as Kubernetes refuses them.

    Args:
        content: The function.yaml, which is changed.
        limits: Quantities by name, such as cpu and memory.
    """
    if not limits:
        return
    section(content, "spec", "resources", "limits").update(limits)
    requests = at(content, "spec", "resources", "requests") or {}
    for name, value in limits.items():
        highest, requested = _number(value), _number(requests.get(name))
        if requested is not None and highest is not None and requested > highest:
            requests[name] = value


def give_gpus(content: Fields, count: int) -> None:
    """Lets a function have GPUs, and raises a limit of memory that was set for the CPU.

    Args:
        content: The function.yaml, which is changed.
        count: The number of GPUs, which Docker ignores: there a function gets all of them.
    """
    limits = section(content, "spec", "resources", "limits")
    memory = _number(limits.get("memory"))
    if GPU not in limits and memory is not None:
        limits["memory"] = quantities.memory(int(memory) + CUDA_MEMORY)
    limits[GPU] = count


def _number(value: object) -> Fraction | None:
    """The number of a quantity; None without one, and for an invalid one, which Nuclio refuses itself."""
    try:
        return quantities.parse(str(value))
    except ValueError:
        return None
