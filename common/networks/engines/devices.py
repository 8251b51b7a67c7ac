"""Devices by the values of the option DEVICE."""

from __future__ import annotations

import re
from typing import Any

from common.errors import StartupError, describe


def cuda_index(device: str) -> int | None:
    """The number of a CUDA device.

    Args:
        device: The option DEVICE: "cpu", "cuda" or "cuda:<number>".

    Returns:
        The number, None for the CPU.

    Raises:
        StartupError: The name is not one of these.
    """
    match = re.fullmatch(r"(cpu)|cuda(?::(\d+))?", device.strip().lower())
    if match is None:
        raise StartupError(f"DEVICE: expected cpu, cuda or cuda:<number>, got {describe(device)}")
    return None if match[1] else int(match[2] or 0)


def torch_device(name: str) -> Any:
    """A device of torch.

    Args:
        name: The option DEVICE: "cpu", "cuda" or "cuda:<number>".

    Raises:
        StartupError: The machine has no such device; with what to do about it.
    """
    import torch

    index = cuda_index(name)
    if index is None:
        return torch.device("cpu")
    if not torch.cuda.is_available() or index >= torch.cuda.device_count():
        raise StartupError(
            f"DEVICE={name}: torch sees {torch.cuda.device_count()} GPUs: deploy the GPU image (deploy_gpu.sh) on a "
            "machine with an NVIDIA driver, let the container see the GPU (resources.limits), or set DEVICE=cpu"
        )
    return torch.device("cuda", index)
