"""PyTorch's index of CPU wheels: with it an image lacks the libraries of CUDA that PyPI's torch can't do without."""

from __future__ import annotations

import http.client
import os
import queue
import threading
import urllib.request
from collections.abc import Mapping, Sequence

from deploy.base_image import TORCH_LABEL, BaseImage
from deploy.commands import Commands
from deploy.console import Console
from deploy.host.local_images import find_image

CPU_WHEELS = "https://download.pytorch.org/whl/cpu"
VARIABLE = "TORCH_INDEX_URL"
"""The build argument of deploy/Dockerfile, and the variable with which a person names another index, or none."""
_TIMEOUT_S = 5.0


def choose(
    bases: Sequence[BaseImage],
    commands: Commands,
    console: Console,
    *,
    environment: Mapping[str, str] = os.environ,
    index: str = CPU_WHEELS,
) -> str:
    """Chooses the index that images for the CPU take torch from; reports when PyTorch's can't be reached.

    An image that was built with an index keeps it, whether or not the index answers now: nothing is built anew then.

    Args:
        bases: The base images to build.
        commands: Runs docker.
        console: Where it is reported.
        environment: pip's own settings in it take precedence; no index is added to them.
        index: PyTorch's.

    Returns:
        The index; "" where torch comes from the same index as all other packages.
    """
    needing = [base for base in bases if base.has_torch and base.device == "cpu"]
    if not needing:
        return ""
    if VARIABLE in environment:
        return environment[VARIABLE]
    if environment.get("PIP_INDEX_URL") or environment.get("PIP_EXTRA_INDEX_URL"):
        return ""
    here = find_image(needing[0].name, commands)
    known = here.labels.get(TORCH_LABEL, "") if here else ""
    if known or is_reachable(index):
        return known or index
    console.note(
        f"PyTorch's index of CPU wheels ({index}) can't be reached: the image of {needing[0].framework} gets PyPI's torch "
        "with CUDA, about 2 GB larger",
        f"behind a proxy: HTTPS_PROXY=...; a mirror of that index: {VARIABLE}=URL",
    )
    return ""


def is_reachable(url: str, timeout_s: float = _TIMEOUT_S) -> bool:
    """Whether a server answers, by the environment's proxy as pip would ask it.

    Args:
        url: The address.
        timeout_s: How long to wait, for the name, the connection and the reply together.
    """
    answers: queue.Queue[bool] = queue.Queue()

    def ask() -> None:
        request = urllib.request.Request(url.rstrip("/") + "/", method="HEAD")  # noqa: S310 - http or https by its user
        try:
            with urllib.request.urlopen(request, timeout=timeout_s) as reply:  # noqa: S310
                answers.put(200 <= reply.status < 300)
        except (
            OSError,
            ValueError,
            http.client.HTTPException,
        ):  # also urllib's own errors, and a status of 400 or more
            answers.put(False)

    threading.Thread(target=ask, daemon=True).start()
    try:
        return answers.get(timeout=timeout_s)
    except queue.Empty:
        return False
